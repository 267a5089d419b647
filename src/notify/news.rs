//! Which entries of a run a person is told of, and that each is told once.

use std::collections::HashSet;

use super::message::{Message, Subject, What};
use crate::domain::{Entry, Event, Finding, NoticeKind, QuestionId};

/// The fold.
#[derive(Debug, Default)]
pub(super) struct News {
    subject: Subject,
    /// What was told, by the messages' ids.
    told: HashSet<String>,
}

/// What an entry means for whoever tells a person.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// A message.
    Tell(Box<Message>),
    /// A question, which is told and reminded of.
    Ask(QuestionId, Box<Message>),
    /// A question is open no more.
    Settled(QuestionId),
}

impl News {
    /// The run that is told of.
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Takes the next entry in.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<Item> {
        let time = entry.time;
        let item = match &entry.event {
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => {
                self.told.clear();
                self.subject = Subject {
                    run: Some(spec.run.clone()),
                    title: spec.title.clone(),
                    workspace: spec.workspace.clone(),
                };
                return None;
            }
            Event::QuestionAsked { question } => {
                Item::Ask(question.id, Box::new(self.subject.question(question, time)))
            }
            Event::QuestionAnswered { question, .. } | Event::QuestionClosed { question, .. } => {
                return Some(Item::Settled(*question));
            }
            Event::JobNoted { job, finding } if finding.is_problem() => {
                let nth = format!("{job}-{}", kind(finding));
                Item::Tell(Box::new(self.subject.job(*job, finding, &nth, time)))
            }
            Event::Noticed { kind: NoticeKind::BudgetNear, text } => {
                let id = format!("budget-{}", entry.seq);
                Item::Tell(Box::new(self.subject.message(What::Budget, &id, time, text.clone())))
            }
            Event::RunEnded { verdict, reason, why, answer } => {
                Item::Tell(Box::new(self.subject.end((*verdict, *reason), why, answer, time)))
            }
            _ => return None,
        };
        let (Item::Tell(message) | Item::Ask(_, message)) = &item else { return Some(item) };
        self.told.insert(message.id.clone()).then_some(item)
    }
}

fn kind(finding: &Finding) -> &'static str {
    match finding {
        Finding::Ready { .. } => "ready",
        Finding::NotReady { .. } => "not_ready",
        Finding::Stalled { .. } => "stalled",
        Finding::Diverged { .. } => "diverged",
        Finding::RepeatedErrors { .. } => "repeated_errors",
        Finding::DiskFilling { .. } => "disk_filling",
        Finding::NeedsInput { .. } => "needs_input",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{ExitReason, JobId, Question, RunId, RunMode, RunSpec, Silence, Subject as About, Verdict};

    fn told(events: Vec<Event>) -> Vec<String> {
        let mut news = News::default();
        let entries = events.into_iter().zip(0..);
        let items = entries.filter_map(|(event, seq)| news.apply(&Entry { seq, time: Timestamp::UNIX_EPOCH, event }));
        let line = |item| match item {
            Item::Tell(message) | Item::Ask(_, message) => format!("{}: {}", message.event.name(), message.text),
            Item::Settled(question) => format!("settled {question}"),
        };
        items.map(line).collect()
    }

    fn started() -> Event {
        let spec = RunSpec::new(RunId::new("01K00000000000000000000001").unwrap(), RunMode::Goal, "mend it");
        Event::RunStarted { format_major: 1, format_minor: 4, spec }
    }

    fn asked() -> Event {
        let question = Question {
            id: QuestionId(1),
            subject: About::Stuck,
            text: "Go on?".to_owned(),
            background: String::new(),
            evidence: Vec::new(),
            options: Vec::new(),
            recommended: None,
            silence: Silence::default(),
        };
        Event::QuestionAsked { question }
    }

    #[test]
    fn a_person_is_told_once_of_what_needs_them() {
        let stalled =
            || Event::JobNoted { job: JobId(1), finding: Finding::Stalled { silent_ms: 9_000, usual_ms: 1_000 } };
        let ready = Event::JobNoted { job: JobId(1), finding: Finding::Ready { after_ms: 1 } };
        let closed = Event::QuestionClosed {
            question: QuestionId(1),
            end: crate::domain::QuestionEnd::Withdrawn,
            why: String::new(),
        };
        let near = Event::Noticed { kind: NoticeKind::BudgetNear, text: "80 % of the tokens are used".to_owned() };
        assert_eq!(
            told(vec![started(), asked(), stalled(), ready, stalled(), asked(), closed, near]),
            [
                "needs_input: Go on? (agent answer 01K00000000000000000000001 q1 …)",
                "stalled: job j1: stalled: silent for 9.0 s without working, 1.0 s at most before",
                "settled q1",
                "budget: 80 % of the tokens are used",
            ]
        );
    }

    #[test]
    fn an_end_is_told_as_what_it_means_for_a_person() {
        let end = |verdict, reason| {
            let (why, answer) = ("so".to_owned(), String::new());
            told(vec![started(), Event::RunEnded { verdict, reason, why, answer }]).remove(0)
        };
        assert_eq!(end(Verdict::Verified, ExitReason::Done), "done: verified: so");
        assert_eq!(end(Verdict::Failed, ExitReason::Failed), "failed: failed: so");
        assert_eq!(end(Verdict::Blocked, ExitReason::NeedsHuman), "needs_input: blocked: so");
        assert_eq!(end(Verdict::Stopped, ExitReason::Budget), "budget: stopped: so");
    }
}
