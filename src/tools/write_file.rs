//! `write_file`: a whole file, all of it or nothing.

use schemars::JsonSchema;
use serde::Deserialize;

/// Arguments of `write_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// The whole new content.
    pub content: String,
    /// Make it executable; null for as it was.
    #[serde(default)]
    pub executable: Option<bool>,
}
