//! What is asked of a session and what is reported back.

use std::time::Duration;

use crate::domain::{Exit, SessionName};
use crate::guest::GuestError;

use super::Excerpt;

/// A command for a session.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// The caller's name for it: the same id never runs twice, whatever happens in between.
    pub id: String,
    /// The session; opened if it is new.
    pub session: SessionName,
    /// The command: any bytes but NUL.
    pub command: Vec<u8>,
    /// The directory to change to before, absolute or relative to the session's.
    pub cwd: Option<String>,
    /// When to report although it still runs.
    pub yield_after: Duration,
}

/// How a command stands and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandReport {
    /// The name under which the box knows the command; where another one was in the way, that one's.
    pub id: String,
    /// The beginning of its text.
    pub title: String,
    /// Where it stands.
    pub state: ReportState,
    /// Time since it was started, or how long it took.
    pub duration: Duration,
    /// The session's working directory as last known.
    pub cwd: Option<String>,
    /// Raw bytes it has written.
    pub size_bytes: u64,
    /// The log, relative to the run's directory.
    pub log: String,
    /// Where in the log its output begins.
    pub offset: u64,
    /// What is shown of the output.
    pub excerpt: Excerpt,
}

/// Where a command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportState {
    /// It has ended.
    Ended {
        /// How; `None` where it can't be known because the shell was replaced or an earlier box is gone.
        exit: Option<Exit>,
        /// True when its time ran out and it was killed.
        timed_out: bool,
        /// Whether and why the session has another shell now.
        respawned: Option<String>,
    },
    /// It runs on in its session.
    Running {
        /// What is worth knowing beyond that, such as that a program now stands in the shell's place.
        note: Option<String>,
    },
    /// It was not started: another command runs there.
    Busy {
        /// The beginning of that command.
        command: String,
        /// How long it has been running.
        since: Duration,
    },
}

impl ReportState {
    /// Whether the command that was asked about is still under way.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// No command runs in that session and none has.
    #[error("no command has been run in session `{0}`")]
    NoCommand(SessionName),
    /// The guest refused or is gone; [`GuestError::Refused`] is an outcome for the model, the rest is not.
    #[error(transparent)]
    Guest(#[from] GuestError),
}
