//! The person beside the run: who may interrupt it, speak to it, or end it.

use crate::domain::{ExitReason, NoticeKind, Question, QuestionId, Reply};

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

/// A limit of what a run may take, on top of which a person may allow more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Model requests.
    Turns,
    /// Tokens.
    Tokens,
    /// Money, in millionths of a US dollar.
    Cost,
    /// Time, in seconds.
    Time,
}

impl Limit {
    /// How a person is asked for more.
    pub fn question(self) -> &'static str {
        match self {
            Self::Turns => "how many more model requests?",
            Self::Tokens => "how many more tokens?",
            Self::Cost => "how many more US dollars?",
            Self::Time => "how much more time, such as 30m?",
        }
    }
}

/// What a person says to a limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// So much more, in the limit's unit.
    More(u64),
    /// No more.
    Nothing,
    /// Something else.
    Word(Word),
}

/// What comes of asking a person.
#[derive(Debug)]
pub enum Heard {
    /// An answer.
    Reply(Reply),
    /// Nobody is there to be asked.
    Nobody,
    /// Something else that the person does.
    Word(Word),
}

/// A person, or what stands for one where nobody is there.
#[async_trait::async_trait]
pub trait Person: Send {
    /// Resolves when the person acts while the model or the box works. May be dropped and called again.
    async fn interrupts(&mut self) -> Word;

    /// It is the person's turn: resolves to what they say. Where nobody is there it must be [`Word::End`].
    async fn speaks(&mut self) -> Word;

    /// A limit was reached, as `why` says: resolves to how much more the run may take. Nothing where nobody is asked.
    async fn grants(&mut self, _limit: Limit, _why: &str) -> Grant {
        Grant::Nothing
    }

    /// Asks the person: resolves to the answer, and never where somebody may still come who answers from elsewhere. May be
    /// dropped and called again with the same question.
    async fn answers(&mut self, _question: &Question) -> Heard {
        Heard::Nobody
    }

    /// This question needs no answer any more: it was answered from elsewhere, or is over. Called for questions that the
    /// person was never asked, too.
    fn put_away(&mut self, _question: QuestionId) {}
}
