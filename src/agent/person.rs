//! The person beside the run: who may interrupt it, speak to it, or end it.

use crate::domain::{ExitReason, NoticeKind};

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Interrupts the turn; what runs in the box goes on.
    Interrupt,
    /// Says something to the model.
    Say(String),
    /// Ends the run.
    End {
        /// What the exit code will say.
        reason: ExitReason,
        /// One line.
        why: String,
    },
    /// Does nothing to the run: is only noted, and what is under way goes on.
    Notice {
        /// The kind.
        kind: NoticeKind,
        /// In words.
        text: String,
    },
}

/// A person, or what stands for one where nobody is there.
#[async_trait::async_trait]
pub trait Person: Send {
    /// Resolves when the person acts while the model or the box works. May be dropped and called again.
    async fn interrupts(&mut self) -> Word;

    /// It is the person's turn: resolves to what they say. Where nobody is there it must be [`Word::End`].
    async fn speaks(&mut self) -> Word;
}
