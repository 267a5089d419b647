//! What approvals rest on beside their questions: what a person has allowed for the rest of the run, and which hosts belong
//! to the box. Fed from entries only.

use std::collections::BTreeSet;

use crate::domain::{Effect, Entry, Event, QuestionId, QuestionState, Questions, Scope, Subject};
use crate::policy::MODE_ASK;

/// The option that lets a call run, once.
pub(super) const YES: &str = "yes";
/// The option that lets it run, and all like it.
pub(super) const ALWAYS: &str = "always";
/// The option that lets everything run that stays in the box.
pub(super) const ALL: &str = "all";
/// The option that does not let it run.
pub(super) const NO: &str = "no";

/// The fold.
#[derive(Debug, Clone, Default)]
pub(super) struct Approvals {
    /// What was asked before this one was asked by another run, which this one is a fork of.
    first: Option<QuestionId>,
    beside: BTreeSet<String>,
}

impl Approvals {
    /// Takes the next entry in; `next` is the name that the next question gets.
    pub(super) fn apply(&mut self, entry: &Entry, next: QuestionId) {
        match &entry.event {
            Event::SidecarStarted { name, .. } => drop(self.beside.insert(name.clone())),
            Event::SidecarStopped { name, .. } => drop(self.beside.remove(name)),
            // A fork asks for itself.
            Event::RunForked { .. } => {
                self.first = Some(next);
                self.beside.clear();
            }
            _ => {}
        }
    }

    /// The hosts beside the box that belong to it.
    pub(super) fn beside(&self) -> &BTreeSet<String> {
        &self.beside
    }

    /// Whether this question is one of this run's own.
    pub(super) fn is_own(&self, question: QuestionId) -> bool {
        self.first.is_none_or(|first| question >= first)
    }

    /// What was allowed for the rest of the run.
    pub(super) fn granted(&self, questions: &Questions) -> Vec<Scope> {
        let mut granted = Vec::new();
        for record in questions.all().filter(|record| self.is_own(record.question.id)) {
            let QuestionState::Answered { reply, .. } = &record.state else { continue };
            let Subject::Approval { always, .. } = &record.question.subject else { continue };
            let offers = |name: &str| record.question.options.iter().any(|option| option.name == name);
            if reply.is(ALWAYS) && offers(ALWAYS) {
                granted.extend(always.iter().cloned());
            }
            if reply.is(ALL) && offers(ALL) {
                granted.push(in_the_box());
            }
        }
        granted
    }
}

/// All that the mode `ask` asks for and that stays in the box.
pub(super) fn in_the_box() -> Scope {
    Scope { rule: MODE_ASK.to_owned(), program: None, effect: Effect::Workspace }
}
