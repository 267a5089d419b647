//! `finish`: the claim to be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{FinishClaim, Requirement};

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
    /// What was asked, point by point, and what shows each; null for none.
    #[serde(default)]
    pub requirements: Option<Vec<Shown>>,
    /// `done`, or `blocked` if a person is needed; null for `done`.
    #[serde(default)]
    pub outcome: Option<Ended>,
}

/// A point of what was asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// What was asked.
    pub requirement: String,
    /// What shows it: a file, a step such as `step 12`, a figure.
    pub evidence: String,
    /// The number of the check that stands behind it, from 1; null for none.
    #[serde(default)]
    pub check: Option<u32>,
}

impl From<Args> for FinishClaim {
    fn from(args: Args) -> Self {
        Self {
            summary: args.summary,
            artifacts: args.artifacts.unwrap_or_default(),
            gave_up: args.outcome == Some(Ended::Blocked),
            requirements: args.requirements.unwrap_or_default().into_iter().map(Requirement::from).collect(),
        }
    }
}

impl From<Shown> for Requirement {
    fn from(shown: Shown) -> Self {
        let Shown { requirement, evidence, check } = shown;
        Self { requirement, evidence, check, missing: Vec::new() }
    }
}
