//! `shell`: a command in a session.

use schemars::JsonSchema;
use serde::Deserialize;

/// Arguments of `shell`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What to run; null to go on waiting for the command that runs in the session.
    #[serde(default)]
    pub command: Option<String>,
    /// The session's name; null for `main`.
    #[serde(default)]
    pub session: Option<String>,
    /// Directory to change to first; null to stay.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Honest estimate of the running time in seconds; null for unknown.
    #[serde(default)]
    pub expected_s: Option<f64>,
    /// Seconds after which to return if the command still runs; null for 120.
    #[serde(default)]
    pub yield_s: Option<f64>,
}

impl Args {
    /// The session that is meant.
    pub fn session_or_main(&self) -> &str {
        self.session.as_deref().unwrap_or("main")
    }
}
