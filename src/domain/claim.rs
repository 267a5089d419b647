//! A claim to be done, and what it is held against.

use serde::{Deserialize, Serialize};

use super::Outcome;

/// What the model says when it claims to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishClaim {
    /// What was achieved, in words.
    pub summary: String,
    /// Paths to collect.
    pub artifacts: Vec<String>,
    /// True where the model says that it could not do it.
    pub gave_up: bool,
    /// What was asked, as the model understood it, and what shows each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
}

/// Something that was asked, and what shows that it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// What was asked.
    pub requirement: String,
    /// What shows it: files, steps, figures.
    pub evidence: String,
    /// The check that stands behind it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<u32>,
    /// Files that the evidence names and that were not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Index into [`super::RunSpec::checks`].
    pub check: usize,
    /// The round of checks, from 1; 0 is before any work.
    pub round: u32,
    /// How it went; passed if the exit is 0.
    pub outcome: Outcome,
}

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Its path in the workspace.
    pub path: String,
    /// SHA-256 of its content in lower-case hex; None where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}
