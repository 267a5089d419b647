//! The questions of a run, folded from its entries: which are open, what was said to the others.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{AnsweredAt, Entry, Event, Question, QuestionEnd, QuestionId, Reply};

/// The fold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    by_id: BTreeMap<QuestionId, QuestionRecord>,
}

/// What is known of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionRecord {
    /// The question.
    pub question: Question,
    /// When it was asked.
    pub asked: Timestamp,
    /// What has come of it.
    pub state: QuestionState,
}

/// What has come of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionState {
    /// Nothing yet.
    Open,
    /// It was answered.
    Answered {
        /// With what.
        reply: Reply,
        /// From where.
        at: AnsweredAt,
        /// When that was recorded.
        time: Timestamp,
    },
    /// It is over without an answer.
    Over {
        /// How that came.
        end: QuestionEnd,
        /// When that was recorded.
        time: Timestamp,
    },
}

impl Questions {
    /// Takes the next entry in. An answer counts once, and only to a question that is open.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::QuestionAsked { question } => {
                let record =
                    QuestionRecord { question: question.clone(), asked: entry.time, state: QuestionState::Open };
                self.by_id.entry(question.id).or_insert(record);
            }
            Event::QuestionAnswered { question, reply, at, .. } => {
                self.close(*question, QuestionState::Answered { reply: reply.clone(), at: *at, time: entry.time });
            }
            Event::QuestionClosed { question, end, .. } => {
                self.close(*question, QuestionState::Over { end: *end, time: entry.time });
            }
            // Another run begins here: whoever was asked was asked by the one before.
            Event::RunForked { .. } => {
                let open: Vec<QuestionId> = self.open().map(|record| record.question.id).collect();
                let over = QuestionState::Over { end: QuestionEnd::Withdrawn, time: entry.time };
                open.into_iter().for_each(|id| self.close(id, over.clone()));
            }
            _ => {}
        }
    }

    fn close(&mut self, id: QuestionId, state: QuestionState) {
        if let Some(record) = self.by_id.get_mut(&id).filter(|record| record.state == QuestionState::Open) {
            record.state = state;
        }
    }

    /// The name that the next one gets.
    pub fn next_id(&self) -> QuestionId {
        QuestionId(self.by_id.last_key_value().map_or(1, |(id, _)| id.0 + 1))
    }

    /// All of them, in order.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &QuestionRecord> {
        self.by_id.values()
    }

    /// Those without an answer, in order.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &QuestionRecord> {
        self.all().filter(|record| record.state == QuestionState::Open)
    }

    /// One of them.
    pub fn get(&self, id: QuestionId) -> Option<&QuestionRecord> {
        self.by_id.get(&id)
    }

    /// The last one that was asked about this call.
    pub fn about_call(&self, call_id: &str) -> Option<&QuestionRecord> {
        self.all().rfind(|record| record.question.subject.call_id() == Some(call_id))
    }
}
