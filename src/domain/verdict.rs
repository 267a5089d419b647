//! How a run ends, in words and as an exit code.

use serde::{Deserialize, Serialize};

/// The harness's judgment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every check passed.
    Verified,
    /// The model says it is done and there was no check to prove it.
    Unverified,
    /// A check failed, or the model gave up.
    Failed,
    /// A person is needed.
    Blocked,
    /// A limit or a signal ended it.
    Stopped,
    /// The harness or something it rests on failed.
    Error,
}

impl Verdict {
    /// The word that is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

/// Why the program ends: one variant per documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Verified, or unverified when no check was given.
    Done,
    /// A fault of our own.
    Internal,
    /// Wrong arguments or configuration.
    Usage,
    /// The task or a check failed; a transcript does not verify.
    Failed,
    /// A person is needed.
    NeedsHuman,
    /// A budget, turn or time limit was reached.
    Budget,
    /// Refused by policy.
    Refused,
    /// No box can be had.
    SandboxUnavailable,
    /// Done but not proved, with `--require-verified`.
    Unverified,
    /// The model's server can't be used now; later it may.
    ProviderUnavailable,
    /// The model's server refused the credentials.
    Auth,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl ExitReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::Failed,
        Self::NeedsHuman,
        Self::Budget,
        Self::Refused,
        Self::SandboxUnavailable,
        Self::Unverified,
        Self::ProviderUnavailable,
        Self::Auth,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Failed => 3,
            Self::NeedsHuman => 4,
            Self::Budget => 5,
            Self::Refused => 6,
            Self::SandboxUnavailable => 7,
            Self::Unverified => 8,
            Self::ProviderUnavailable => 75,
            Self::Auth => 77,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}
