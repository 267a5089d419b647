//! Calls that were tried and have failed, and have no outcome yet: which attempt it was, what was decided, and what comes of
//! that. A fold over the entries, so that whoever takes the run up goes on at the same place.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::state::{State, Step};
use crate::domain::{
    CheckpointId, Choice, Decision, DecisionId, Effect, Entry, Event, Outcome, Question, QuestionEnd, QuestionState,
    Reaction, Subject, ToolCall, size_words,
};
use crate::policy::is_repeatable;
use crate::recovery::{MOST_TRIES, Memory, NOTE};

/// The option that has the harness run a command again.
const RETRY: &str = "retry";
/// The option for a person who says how else it can be done.
const OTHER: &str = "other";
/// The option that leaves it.
const LEAVE: &str = "leave";

/// The fold.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    by_call: BTreeMap<String, Attempt>,
}

/// A call whose last attempt has failed.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// Which it was, from 1.
    pub(super) number: u32,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// What was decided then, and when.
    pub(super) decided: Option<(Decision, Timestamp)>,
    /// Whether what was decided about the box was done: it was given more, or brought back.
    pub(super) is_done: bool,
    /// What those before it came from, in words.
    earlier: Vec<String>,
}

impl Attempts {
    /// Takes the next entry in.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::AttemptFailed { call_id, attempt, outcome } => {
                let mut earlier = self.by_call.remove(call_id).map(|before| before.earlier).unwrap_or_default();
                earlier.push(outcome.failure.as_ref().map_or("failed".to_owned(), |failure| failure.class.to_string()));
                let attempt =
                    Attempt { number: *attempt, outcome: outcome.clone(), decided: None, is_done: false, earlier };
                self.by_call.insert(call_id.clone(), attempt);
            }
            Event::DecisionMade { decision } => {
                let call = decision.call_id.as_ref().and_then(|call| self.by_call.get_mut(call));
                if let Some(attempt) = call {
                    attempt.decided = Some((decision.clone(), entry.time));
                }
            }
            Event::BoxGrown { .. } => self.by_call.values_mut().for_each(Attempt::done),
            Event::CheckpointRestored { checkpoint, .. } => {
                let goes_there = |attempt: &&mut Attempt| attempt.goes_back_to() == Some(*checkpoint);
                self.by_call.values_mut().filter(goes_there).for_each(Attempt::done);
            }
            Event::ToolEnded { call_id, .. } => drop(self.by_call.remove(call_id)),
            _ => {}
        }
    }

    /// The last attempt of a call, if it has failed and nothing has come of it yet.
    pub(super) fn of(&self, call_id: &str) -> Option<&Attempt> {
        self.by_call.get(call_id)
    }
}

impl Attempt {
    fn done(&mut self) {
        self.is_done = self.decided.is_some();
    }

    fn goes_back_to(&self) -> Option<CheckpointId> {
        match &self.decided {
            Some((Decision { chosen: Reaction::RollBack { to }, .. }, _)) => Some(*to),
            _ => None,
        }
    }

    /// What the attempts so far came to, in one line; `last` is how the one after them ended, if there was one.
    pub(super) fn line(&self) -> String {
        let tries = self.earlier.len();
        let causes = match self.earlier.iter().all(|cause| *cause == self.earlier[0]) {
            true => format!("{} each time", self.earlier[0]),
            false => self.earlier.join(", then "),
        };
        match tries {
            1 => format!("{NOTE}tried once before, which failed: {}]", self.earlier[0]),
            _ => format!("{NOTE}tried {tries} times before, which failed: {causes}]"),
        }
    }
}

/// The outcome with `lines` after its line of facts.
pub(super) fn with_lines(outcome: Outcome, lines: &[String]) -> Outcome {
    if lines.is_empty() {
        return outcome;
    }
    let lines = lines.join("\n");
    let text = match outcome.text.split_once('\n') {
        Some((facts, rest)) => format!("{facts}\n{lines}\n{rest}"),
        None => format!("{}\n{lines}", outcome.text),
    };
    Outcome { text, ..outcome }
}

impl State {
    /// The name under which the box knows the attempt of a call that is under way or comes next; None where the call has not
    /// begun.
    pub(super) fn work_of(&self, call_id: &str) -> Option<String> {
        let seq = self.begun_as(call_id)?.seq;
        Some(match self.attempts().of(call_id) {
            None => format!("c{seq}"),
            Some(failed) => format!("c{seq}-{}", failed.number + 1),
        })
    }

    /// What is done about a call whose last attempt has failed; None where there is no such attempt.
    pub(super) fn after_attempt(&self, call: &ToolCall) -> Option<Step> {
        let attempt = self.attempts().of(&call.id)?;
        let call_id = call.id.clone();
        let Some((decision, at)) = &attempt.decided else { return Some(Step::Decide { call_id }) };
        Some(match &decision.chosen {
            Reaction::RetryAsIs { after_ms } => {
                let wait = std::time::Duration::from_millis(*after_ms);
                Step::TryAgain { call_id, not_before: at.checked_add(wait).unwrap_or(*at) }
            }
            Reaction::Park { until } => Step::TryAgain { call_id, not_before: *until },
            Reaction::RetryChanged { .. } => self.after_growing(call, attempt, *at),
            Reaction::RollBack { to } if !attempt.is_done => Step::RollBack { call_id, to: *to },
            Reaction::RollBack { to } => {
                let words = format!("{NOTE}the box is back at {to}: take another path than those that failed]");
                answer(call, attempt, Some(words))
            }
            Reaction::FixForward { from } => answer(call, attempt, from.map(way_back)),
            Reaction::Abort => answer(call, attempt, None),
            Reaction::Ask => self.after_asking(call, attempt, decision),
        })
    }

    /// The box has more memory, or gets it first. What may not be repeated unasked is left to the model then.
    fn after_growing(&self, call: &ToolCall, attempt: &Attempt, decided: Timestamp) -> Step {
        match (attempt.is_done, self.memory()) {
            (false, Memory::Grows { to, .. }) => Step::Grow { call_id: call.id.clone(), memory_bytes: to },
            (false, Memory::Full(why)) => answer(call, attempt, Some(format!("{NOTE}no more memory: {why}]"))),
            (true, _) if self.may_be_run_again(call) => {
                Step::TryAgain { call_id: call.id.clone(), not_before: decided }
            }
            (true, _) => {
                let limit = self.memory_limit().map(size_words).unwrap_or_default();
                let words = format!("{NOTE}the box's memory limit is {limit} now: run it again]");
                answer(call, attempt, Some(words))
            }
        }
    }

    /// Whether a call may be run again as it is: its command may, and it begins where it began.
    pub(super) fn may_be_run_again(&self, call: &ToolCall) -> bool {
        let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        let cwd = arguments.get("cwd").and_then(serde_json::Value::as_str);
        let is_service = arguments.get("service").and_then(serde_json::Value::as_bool) == Some(true);
        let stays = self.effect_of(call) <= Effect::Workspace && cwd.is_none_or(|cwd| cwd.starts_with('/'));
        stays && !is_service && command_of(call).is_some_and(|command| is_repeatable(&command))
    }

    /// The box's memory limit, where it has one.
    fn memory_limit(&self) -> Option<u64> {
        self.grown().or_else(|| self.spec().asked.as_ref()?.memory_bytes)
    }

    /// Whether the box can be given more memory, and how much.
    pub(super) fn memory(&self) -> Memory {
        let Some(from) = self.memory_limit() else {
            return Memory::Full("the box has no limit of its own: it is the machine's memory".to_owned());
        };
        let most = self.spec().asked.as_ref().and_then(|asked| asked.memory_max_bytes).unwrap_or(from);
        match from.saturating_mul(2).min(most) {
            to if to > from => Memory::Grows { from, to },
            _ => Memory::Full(format!("the box's limit of {} can't be raised (`--memory-max`)", size_words(from))),
        }
    }

    fn after_asking(&self, call: &ToolCall, attempt: &Attempt, decision: &Decision) -> Step {
        let is_it = |subject: &Subject| matches!(subject, Subject::Failure { decision: of, .. } if *of == decision.id);
        let Some(record) = self.questions().all().rfind(|record| is_it(&record.question.subject)) else {
            return Step::Ask(Box::new(self.question_about(call, decision)));
        };
        match &record.state {
            QuestionState::Open => Step::AwaitAnswer(record.question.id),
            QuestionState::Answered { reply, time, .. } if reply.is(RETRY) => {
                Step::TryAgain { call_id: call.id.clone(), not_before: *time }
            }
            QuestionState::Answered { reply, .. } => {
                answer(call, attempt, Some(format!("{NOTE}a person was asked and says: {}]", reply.words())))
            }
            QuestionState::Over { end, .. } => {
                let how = match end {
                    QuestionEnd::Timeout => "a person was asked, and nobody answered in time",
                    QuestionEnd::Withdrawn => "the question to a person was withdrawn",
                };
                answer(call, attempt, Some(format!("{NOTE}{how}: find another way, or say that you can't go on]")))
            }
        }
    }

    fn question_about(&self, call: &ToolCall, decision: &Decision) -> Question {
        let command = command_of(call).unwrap_or_else(|| call.name.clone());
        let first = command.trim().lines().next().unwrap_or_default();
        let weighed: Vec<String> =
            decision.options.iter().map(|option| format!("{}: {}", option.reaction.name(), option.why)).collect();
        Question {
            id: self.questions().next_id(),
            subject: Subject::Failure { decision: decision.id, call_id: Some(call.id.clone()) },
            text: format!("`{first}` fails ({}): how is it to go on?", decision.class),
            background: format!("{}\n{}", decision.evidence.first().cloned().unwrap_or_default(), weighed.join("\n")),
            evidence: decision.evidence.iter().skip(1).cloned().collect(),
            options: vec![
                Choice::new(RETRY, "it is run again now: what was in its way is mended"),
                Choice::new(OTHER, "the model takes another way: say which"),
                Choice::new(LEAVE, "the model goes on without it"),
            ],
            recommended: Some(RETRY.to_owned())
                .filter(|_| !decision.class.may_pass())
                .or_else(|| Some(OTHER.to_owned())),
            silence: self.spec().rules.silence,
        }
    }

    /// What a call is told that has no outcome when the run ends.
    pub(super) fn outcome_at_end(&self, call_id: &str) -> Option<Outcome> {
        let attempt = self.attempts().of(call_id)?;
        Some(with_lines(attempt.outcome.clone(), &[format!("{NOTE}not tried again: the run ended before]")]))
    }

    /// The decision by which a call is to be tried again.
    pub(super) fn decided_about(&self, call_id: &str) -> Option<DecisionId> {
        let (decision, _) = self.attempts().of(call_id)?.decided.as_ref()?;
        Some(decision.id)
    }
}

/// The command of a call, where it has one.
pub(super) fn command_of(call: &ToolCall) -> Option<String> {
    let arguments: serde_json::Value = serde_json::from_str(&call.arguments).ok()?;
    Some(arguments.get("command")?.as_str()?.to_owned())
}

/// What the model is told of the checkpoint to which it can go back.
pub(super) fn way_back(to: CheckpointId) -> String {
    format!("{NOTE}if what you try makes it worse, the way back is checkpoint {to}]")
}

/// The words for people about a try that is waited for.
pub(super) fn try_words(attempt: u32, command: &str) -> String {
    let first = command.trim().lines().next().unwrap_or_default();
    format!("try {attempt} of {MOST_TRIES} of `{first}`")
}

fn answer(call: &ToolCall, attempt: &Attempt, words: Option<String>) -> Step {
    let mut lines: Vec<String> = Vec::new();
    if attempt.number > 1 {
        lines.push(attempt.line());
    }
    lines.extend(words);
    let outcome = with_lines(attempt.outcome.clone(), &lines);
    Step::AnswerCall { call_id: call.id.clone(), outcome: Box::new(outcome) }
}
