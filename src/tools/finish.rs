//! `finish`: the claim to be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::FinishClaim;

/// How the work ended, in the model's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The goal is reached.
    Done,
    /// It can't go on without a person.
    Blocked,
}

/// Arguments of `finish`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What was done, measured and left undone. Markdown.
    pub summary: String,
    /// Paths to keep with the run; null for none.
    #[serde(default)]
    pub artifacts: Option<Vec<String>>,
    /// `done`, or `blocked` if a person is needed; null for `done`.
    #[serde(default)]
    pub outcome: Option<Ended>,
}

impl From<Args> for FinishClaim {
    fn from(args: Args) -> Self {
        Self {
            summary: args.summary,
            artifacts: args.artifacts.unwrap_or_default(),
            gave_up: args.outcome == Some(Ended::Blocked),
        }
    }
}
