//! `edit_file`: one exact piece of text replaced.

use schemars::JsonSchema;
use serde::Deserialize;

/// Arguments of `edit_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// The text as it stands in the file.
    pub old: String,
    /// What to put there.
    pub new: String,
    /// Replace every occurrence; null for exactly one.
    #[serde(default)]
    pub all: Option<bool>,
}
