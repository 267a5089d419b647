//! Who is told what happens: facts after they are on disk, and passing progress that is no fact.

use super::Entry;

/// Something worth showing that is not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More of the model's text.
    Text(String),
    /// More of the model's reasoning.
    Reasoning(String),
    /// The model's server asks for patience: what is wrong and how long until the next try.
    Patience {
        /// What is wrong, in words.
        why: String,
        /// Time until the next try.
        wait_ms: u64,
    },
    /// The box is up: commands by which a person can look into it from another terminal.
    LookIn(Vec<String>),
    /// The last lines of what a running command has printed, rendered.
    Output {
        /// The tool call it belongs to.
        call: String,
        /// Text, at most a few lines.
        tail: String,
    },
    /// A wait goes on. Comes about once a second.
    Waiting(WaitProgress),
}

/// How a wait stands, for a line that people read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitProgress {
    /// What is waited for, in words.
    pub what: String,
    /// The job that is watched, such as `j1 train`; empty if none is.
    pub job: String,
    /// Time since the wait began.
    pub waited_ms: u64,
    /// Time since the job began; the wait's own without one.
    pub elapsed_ms: u64,
    /// Lines that the job has printed.
    pub lines: u64,
    /// The last of them, rendered.
    pub last_line: String,
    /// Progress as the job itself prints it, such as `epoch 3/10, 70 s left`; empty if it prints none.
    pub progress: String,
    /// Time until the wait ends at the latest, if it has a limit.
    pub wakes_in_ms: Option<u64>,
}

/// Sees every entry after it has been recorded. Live view, stream and tests are observers.
pub trait Observer: Send {
    /// A fact was recorded.
    fn entry(&mut self, entry: &Entry);

    /// Something passed by.
    fn progress(&mut self, progress: &Progress);
}
