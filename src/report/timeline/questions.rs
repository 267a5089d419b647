//! Questions to a person, and what was said to them.

use super::Timeline;
use crate::domain::{Question, QuestionEnd, QuestionId, Reply};
use crate::report::visible;

impl Timeline {
    /// A question as it is put.
    pub(in crate::report) fn asked(&self, question: &Question) -> String {
        let mut words = format!("{}: {}", question.id, visible(&question.text));
        if !question.background.trim().is_empty() {
            words.push('\n');
            words.push_str(&visible(question.background.trim()));
        }
        for evidence in &question.evidence {
            words.push_str(&visible(&format!("\nsee {evidence}")));
        }
        for (nth, option) in question.options.iter().enumerate() {
            let mark = if question.recommended.as_ref() == Some(&option.name) { " (recommended)" } else { "" };
            words.push_str(&visible(&format!("\n{}. {}{mark}: {}", nth + 1, option.name, option.what)));
        }
        if !question.subject.stops_the_run() {
            words.push_str("\nthe run goes on meanwhile");
        }
        self.trouble("question", &words)
    }

    pub(super) fn replied(&self, question: QuestionId, reply: &Reply) -> String {
        self.said("you", &format!("to {question}: {}", reply.words()))
    }

    pub(super) fn question_closed(&self, question: QuestionId, end: QuestionEnd, why: &str) -> String {
        let how = match end {
            QuestionEnd::Timeout => "nobody answered",
            QuestionEnd::Withdrawn => "withdrawn",
        };
        self.line("question", &visible(&format!("{question}: {how}: {why}")))
    }
}
