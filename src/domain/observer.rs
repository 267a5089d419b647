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
}

/// Sees every entry after it has been recorded. Live view, stream and tests are observers.
pub trait Observer: Send {
    /// A fact was recorded.
    fn entry(&mut self, entry: &Entry);

    /// Something passed by.
    fn progress(&mut self, progress: &Progress);
}
