//! Checkpoints: a box's files at one instant, with what has to be known to go on from there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CheckpointId, JobId, RunId, SandboxKind, SessionName};

/// Longest name of a checkpoint.
const LONGEST_NAME: usize = 64;

/// Says what keeps a text from being the name of a checkpoint: names are told from ids, and need no quoting anywhere.
///
/// # Errors
/// What is wrong, in words.
pub fn checkpoint_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins_well || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        return Err(format!(
            "a checkpoint's name is 1 to {LONGEST_NAME} of A-Z a-z 0-9 _ - . and begins with a letter or digit"
        ));
    }
    match name.parse::<CheckpointId>() {
        Ok(_) => Err(format!("`{name}` would be taken for an id; ids are given by the harness")),
        Err(_) => Ok(()),
    }
}

/// Why a checkpoint was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointReason {
    /// The model asked for it.
    Model,
    /// A person asked for it.
    Person,
    /// The next call may destroy much.
    Risk,
    /// A check or a stage has passed.
    Passed,
    /// Another one is restored: this is what it replaces.
    Restore,
    /// The run ends, and may be taken up again.
    End,
}

impl CheckpointReason {
    /// In words, after "taken".
    pub fn words(self) -> &'static str {
        match self {
            Self::Model => "as the model asked",
            Self::Person => "as a person asked",
            Self::Risk => "before a risky step",
            Self::Passed => "after checks passed",
            Self::Restore => "before another was restored",
            Self::End => "at the end of the run",
        }
    }
}

/// What may be said of the files of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Consistency {
    /// Nothing ran but idle shells, which were ended.
    Stopped,
    /// All processes were held: the files are as if every one had been killed at one instant.
    Frozen {
        /// By what: `signals`, `cgroup v2`, `container pause`.
        by: String,
        /// For how long.
        held_ms: u64,
    },
    /// Processes ran on: files may be of different instants.
    Unfrozen {
        /// Why they could not be held.
        why: String,
    },
}

/// A box's files, kept beside the box. Nothing of it is ever changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The kind of box that it was taken of, and that can be made from it.
    pub kind: SandboxKind,
    /// Its layers in the store of all runs, from the top down; below them is what the box was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// The image that holds the rest, for containers: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What may be said of its files.
    pub consistency: Consistency,
    /// How long it took.
    pub took_ms: u64,
    /// Files that were kept anew.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// What belongs to the box and is not in it, such as a workspace that is written through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A snapshot, and what has to be known to go on from there. The sessions' directories and variables are in a file of
/// their own below `checkpoints/`, whose hash is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its name.
    pub id: CheckpointId,
    /// What it was called by whoever asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it was taken.
    pub reason: CheckpointReason,
    /// The last entry before it: the conversation up to there belongs to these files.
    pub seq: u64,
    /// The files.
    pub snapshot: Snapshot,
    /// The sessions that were open.
    pub sessions: Vec<SessionName>,
    /// The jobs that ran; they are not in it, but services can be started again.
    pub jobs: Vec<JobId>,
    /// SHA-256 of its file.
    pub sha256: String,
}

impl Checkpoint {
    /// Its id, with the name in backquotes where it has one.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} `{name}`", self.id),
            None => self.id.to_string(),
        }
    }

    /// Whether nobody asked for it, so that it may go when there are too many.
    pub fn is_automatic(&self) -> bool {
        let by_itself = match self.reason {
            CheckpointReason::Risk | CheckpointReason::Passed | CheckpointReason::Restore => true,
            CheckpointReason::Model | CheckpointReason::Person | CheckpointReason::End => false,
        };
        by_itself && self.name.is_none()
    }
}

/// A session as it was when a checkpoint was taken: enough to open one like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// Its name.
    pub session: SessionName,
    /// Its shell, as a path inside the box.
    pub shell: String,
    /// Its directory as last known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// What its shell exported; where a command ran, what the shell was started with.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The beginning of the command that ran in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its raw log, relative to the run's directory.
    pub log: String,
    /// The log's size: what the terminal had shown by then.
    pub log_offset: u64,
}

/// When checkpoints are taken unasked, and how many of those are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRules {
    /// Whether any are taken unasked.
    pub auto: bool,
    /// Most of them that are kept.
    pub most: u32,
    /// Most bytes that they may have kept anew.
    pub most_bytes: u64,
    /// A command that has programs write down what they hold in memory; it runs before each checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl Default for CheckpointRules {
    fn default() -> Self {
        Self { auto: true, most: 20, most_bytes: 16 << 30, before: None }
    }
}

/// Where a run was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: RunId,
    /// The last entry that both have.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
    /// The checkpoint that the fork's box was made from; None where it began with the host's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointId>,
}

/// How a run found its box when it was taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxReturn {
    /// As it was, with everything that ran in it.
    Adopted,
    /// Its files are there; what ran in it has ended.
    Restarted,
    /// Made anew from a checkpoint.
    Restored,
    /// Nothing of it is left: a new one will be made.
    Lost,
    /// There was none.
    None,
}

impl BoxReturn {
    /// In words, after "the box ".
    pub fn words(self) -> &'static str {
        match self {
            Self::Adopted => "is as it was, and what ran in it ran on",
            Self::Restarted => "was started again with its files; what ran in it has ended",
            Self::Restored => "was made anew from a checkpoint; what ran in it has ended",
            Self::Lost => "is gone; a new one was made from the host's files",
            Self::None => "had not been made",
        }
    }
}

/// What reaches how far: decides what may be repeated when nobody knows whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It changes nothing.
    None,
    /// It changes the box and nothing else.
    Workspace,
    /// It may change something outside the box.
    External,
    /// It may do so in a way that nothing undoes.
    Irreversible,
}

impl Effect {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::None, Self::Workspace, Self::External, Self::Irreversible];

    /// Its name, as it stands in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Workspace => "workspace",
            Self::External => "external",
            Self::Irreversible => "irreversible",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_no_id() {
        for good in ["a", "before-upgrade", "v1.2_x", "9"] {
            assert_eq!(checkpoint_name(good), Ok(()), "{good}");
        }
        for bad in ["", "k3", "a b", "-a", "x@y", "ä", &"x".repeat(65)] {
            assert!(checkpoint_name(bad).is_err(), "{bad}");
        }
    }
}
