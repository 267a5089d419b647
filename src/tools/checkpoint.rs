//! `checkpoint`: the box's files kept as they are, and gone back to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Keep the files as they are now.
    Create,
    /// Tell which there are.
    List,
    /// Tell what is known of one.
    Show,
    /// Go back to one; what is there now is kept first.
    Restore,
    /// Remove one.
    Delete,
}

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What to do.
    #[serde(rename = "do")]
    pub doing: Doing,
    /// For create a name of its own, for the others an id such as `k1` or a name; null where none is needed.
    #[serde(default)]
    pub checkpoint: Option<String>,
}
