//! `read_file`: lines of a text file.

use schemars::JsonSchema;
use serde::Deserialize;

/// Arguments of `read_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// First line to show, from 1; negative counts from the end; null for 1.
    #[serde(default)]
    pub first_line: Option<i64>,
    /// How many lines to show; null for 400.
    #[serde(default)]
    pub max_lines: Option<u32>,
}
