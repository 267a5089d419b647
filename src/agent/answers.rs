//! What the model is told of its questions: what came of them, and that there are enough of them. Pure.

use super::state::State;
use crate::domain::{
    Outcome, Question, QuestionEnd, QuestionRecord, QuestionState, Status, Subject, ToolCall, duration_words,
};

/// Most questions that may be open at a time.
const MOST_OPEN: usize = 8;
/// So many of the model's questions in a row that nobody answered in time, and none more is put.
const MOST_UNANSWERED: usize = 3;

/// The outcome of a call that asked, once the question is no longer open.
pub(super) fn outcome_of(record: &QuestionRecord) -> Outcome {
    let id = record.question.id;
    match &record.state {
        QuestionState::Open => Outcome::words(Status::Ok, format!("[asked {id}]")),
        QuestionState::Answered { reply, .. } => {
            let how = match &reply.choice {
                Some(choice) => format!("[answered {id}: {choice}]"),
                None => format!("[answered {id} in words]"),
            };
            Outcome::words(Status::Ok, format!("{how}\n{}", reply.text).trim_end().to_owned())
        }
        QuestionState::Over { end: QuestionEnd::Timeout, time } => {
            let waited = u64::try_from(time.duration_since(record.asked).as_millis()).unwrap_or(0);
            let text = format!(
                "[timeout {id}]\nNobody has answered within {}. That is neither a yes nor a no.",
                duration_words(waited)
            );
            Outcome::words(Status::Refused, text)
        }
        QuestionState::Over { end: QuestionEnd::Withdrawn, .. } => {
            Outcome::words(Status::Cancelled, format!("[withdrawn {id}]\nThe question is no more."))
        }
    }
}

/// The outcome of a call whose answer comes as a message.
pub(super) fn put_aside(question: &Question) -> Outcome {
    let text = format!(
        "[asked {}]\nThe answer comes as a message. Go on with what does not depend on it; `wait` is woken by it.",
        question.id
    );
    Outcome::words(Status::Ok, text)
}

impl State {
    /// The question that this call has put already.
    pub(super) fn asked_by(&self, call: &ToolCall) -> Option<&QuestionRecord> {
        let is_its = |record: &&QuestionRecord| match &record.question.subject {
            Subject::Model { call_id, .. } => *call_id == call.id,
            _ => false,
        };
        self.questions().all().find(is_its)
    }

    /// What a call that asks is told instead of its question being put, where it is not put.
    pub(super) fn not_put(&self, question: &Question) -> Option<Outcome> {
        let of_model =
            || self.questions().all().rev().filter(|record| matches!(record.question.subject, Subject::Model { .. }));
        let is_same = |record: &&QuestionRecord| {
            let (old, new) = (&record.question, question);
            old.text == new.text && old.background == new.background && old.options == new.options
        };
        if let Some(earlier) = of_model().find(is_same) {
            return match &earlier.state {
                QuestionState::Open => {
                    Some(refused(format!("it is the same as {}, which is open", earlier.question.id)))
                }
                QuestionState::Answered { .. } => {
                    let told = outcome_of(earlier).text;
                    Some(refused(format!("it was put before, and this is what came of it:\n{told}")))
                }
                QuestionState::Over { end: QuestionEnd::Timeout, .. } => {
                    Some(refused(format!("it is the same as {}, which nobody answered", earlier.question.id)))
                }
                QuestionState::Over { end: QuestionEnd::Withdrawn, .. } => None,
            };
        }
        let open = self.questions().open().count();
        if open >= MOST_OPEN {
            return Some(refused(format!("{open} questions are open; go on with what needs no answer, or `wait`")));
        }
        let is_late =
            |record: &QuestionRecord| matches!(record.state, QuestionState::Over { end: QuestionEnd::Timeout, .. });
        let unanswered = of_model().take_while(|record| is_late(record)).count();
        (unanswered >= MOST_UNANSWERED).then(|| {
            refused(format!(
                "nobody has answered the last {unanswered} questions; take the way that can be undone, or call `finish` \
                 with `blocked`"
            ))
        })
    }
}

fn refused(why: String) -> Outcome {
    Outcome::words(Status::Failed, format!("not asked: {why}"))
}
