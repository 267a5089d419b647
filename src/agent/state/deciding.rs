//! What comes next: the one decision of the loop, made from nothing but what is on record.

use super::ending::verdict_of;
use super::{Floor, MAX_CHECK_ROUNDS, MAX_MALFORMED_ANSWERS, State, Step};
use crate::domain::{ExitReason, RunMode, ToolCall, Verdict};

/// How often a model that goes round in a circle is told so before a person is asked.
const MAX_CIRCLES: u32 = 2;
/// How often in a row the model is asked to go on when it stops talking tools.
const MAX_NUDGES: u32 = 1;

impl State {
    /// What comes next.
    pub fn next(&self) -> Step {
        if let Some(claim) = &self.proof.claim {
            return match (claim.accepted, &self.stop) {
                (true, _) => self.end_of_claim(&claim.claim),
                (false, _) if claim.claim.gave_up => self.next_of_giving_up(claim),
                (false, Some(_)) => Step::AnswerClaim { call_id: claim.call_id().to_owned(), accepted: false },
                (false, None) => self.proof.next(claim, &self.spec),
            };
        }
        if let Some((reason, why)) = &self.stop {
            return self.end(verdict_of(*reason), *reason, why.clone());
        }
        if !self.open.is_empty() {
            return self.next_call();
        }
        if let Some(step) = self.next_of_escalation() {
            return step;
        }
        if self.proof.failed_rounds() >= MAX_CHECK_ROUNDS {
            return Step::Ask(Box::new(self.after_failed_claims()));
        }
        if let Some(why) = self.proof.given_up() {
            return self.end(Verdict::Blocked, ExitReason::NeedsHuman, why);
        }
        if self.malformed_answers >= MAX_MALFORMED_ANSWERS {
            let why =
                format!("the model sent nothing but malformed tool calls {} times in a row", self.malformed_answers);
            return self.end(Verdict::Blocked, ExitReason::NeedsHuman, why);
        }
        match (self.floor, self.spec.mode) {
            (Floor::Person, _) | (Floor::ModelRested, RunMode::Chat) => Step::AwaitPerson,
            (Floor::ModelRested, RunMode::Goal) => self.next_after_rest(),
            (Floor::Model, _) => self.ask(),
        }
    }

    /// The calls before the first one that something stands before. Calls that make no sense are told so first.
    fn next_call(&self) -> Step {
        if let Some(step) = self.proof.before_work(&self.spec) {
            return step;
        }
        let before = |call: &ToolCall| self.after_attempt(call).or_else(|| self.gate(call));
        if self.registry.read(&self.open).is_err() {
            return Step::RunCalls(self.open.clone());
        }
        let first = self.open.iter().enumerate().find_map(|(at, call)| Some((at, before(call)?)));
        match first {
            Some((0, step)) => step,
            Some((at, _)) => Step::RunCalls(self.open[..at].to_vec()),
            None => Step::RunCalls(self.open.clone()),
        }
    }

    fn next_after_rest(&self) -> Step {
        if self.spec.checks.is_empty() && !self.last_text.is_empty() {
            let why = "the model answered; no check was given".to_owned();
            return self.end(Verdict::Unverified, ExitReason::Done, why);
        }
        if self.nudges < MAX_NUDGES {
            return Step::Nudge;
        }
        let open = if self.spec.checks.is_empty() { "the goal was" } else { "checks were" };
        let why = format!("the model stopped without calling a tool while {open} still open");
        self.end(Verdict::Blocked, ExitReason::NeedsHuman, why)
    }

    fn ask(&self) -> Step {
        if self.turn >= self.spec.max_turns {
            let why = format!("the limit of {} model requests was reached", self.spec.max_turns);
            return self.end(Verdict::Stopped, ExitReason::Budget, why);
        }
        if let Some(why) = self.spec.budget.exhausted(&self.spent) {
            return self.end(Verdict::Stopped, ExitReason::Budget, why);
        }
        match self.circles.found() {
            None => Step::AskModel { turn: self.turn + 1 },
            Some(circle) if circle.told < MAX_CIRCLES => Step::TellCircle { what: circle.what, told: circle.told },
            Some(_) if self.spec.mode == RunMode::Chat => Step::AwaitPerson,
            Some(circle) => {
                let what = format!("{}, after it was told so {} times", circle.what, circle.told);
                Step::Ask(Box::new(self.after_circles(&what)))
            }
        }
    }
}
