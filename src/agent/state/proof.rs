//! What stands for the result: the claim, the checks before any work and after each claim. Pure.

use super::Step;
use crate::domain::{CheckResult, Entry, Event, FinishClaim, Outcome, RunSpec, Status};

/// A claim to be done that has not been answered, or was accepted.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    call_id: String,
    /// What it says.
    pub(super) claim: FinishClaim,
    /// Whether it was.
    pub(super) accepted: bool,
}

/// The fold.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    /// The claim that waits for its answer, or was accepted.
    pub(super) claim: Option<Claim>,
    /// The rounds of checks that are over.
    rounds: u32,
    results: Vec<CheckResult>,
    failed_rounds: u32,
    /// How the checks went before any work.
    baseline: Vec<CheckResult>,
    /// Whether a call has begun: from then on nothing is as it was.
    has_worked: bool,
}

impl Proof {
    /// Takes in what happened; `open` is the first call without an outcome.
    pub(super) fn apply(&mut self, entry: &Entry, open: Option<&str>) {
        match &entry.event {
            Event::ToolStarted { .. } => self.has_worked = true,
            Event::FinishClaimed { claim } => {
                let Some(call_id) = open else { return };
                self.claim = Some(Claim { call_id: call_id.to_owned(), claim: claim.clone(), accepted: false });
                self.results.clear();
            }
            Event::CheckEnded { result } if result.round == 0 => self.baseline.push(result.clone()),
            Event::CheckEnded { result } => self.results.push(result.clone()),
            Event::ToolEnded { call_id, outcome } => self.take_outcome(call_id, outcome),
            _ => {}
        }
    }

    fn take_outcome(&mut self, call_id: &str, outcome: &Outcome) {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.call_id == call_id) else { return };
        if outcome.status == Status::Ok {
            claim.accepted = true;
            return;
        }
        self.claim = None;
        self.failed_rounds += u32::from(outcome.status == Status::Failed);
        self.rounds += 1;
        self.results.clear();
    }

    /// The run's end was recorded and it is taken up all the same: another try.
    pub(super) fn try_again(&mut self) {
        self.failed_rounds = 0;
        self.claim = self.claim.take().filter(|claim| !claim.accepted);
    }

    /// The results of the current round.
    pub(super) fn results(&self) -> &[CheckResult] {
        &self.results
    }

    /// The round that is under way or comes next, from 1.
    pub(super) fn round(&self) -> u32 {
        self.rounds + 1
    }

    /// How often the model claimed to be done and a check failed.
    pub(super) fn failed_rounds(&self) -> u32 {
        self.failed_rounds
    }

    /// Whether this check passed before any work.
    pub(super) fn passed_before(&self, check: usize) -> bool {
        let before = self.baseline.iter().find(|result| result.check == check);
        before.is_some_and(|result| result.outcome.status == Status::Ok)
    }

    /// What has to be done before the first call takes effect.
    pub(super) fn before_work(&self, spec: &RunSpec) -> Option<Step> {
        let check = self.baseline.len();
        let is_due = spec.baseline && !self.has_worked && check < spec.checks.len();
        is_due.then_some(Step::RunCheck { check, round: 0 })
    }

    /// What becomes next of a claim that was not accepted.
    pub(super) fn next(&self, claim: &Claim, spec: &RunSpec) -> Step {
        let call_id = claim.call_id.clone();
        let check = self.results.len();
        if claim.claim.gave_up || check == spec.checks.len() {
            let passed = self.results.iter().all(|result| result.outcome.status == Status::Ok);
            return Step::AnswerClaim { call_id, accepted: claim.claim.gave_up || passed };
        }
        Step::RunCheck { check, round: self.round() }
    }

    /// What is to be said of checks that have all passed, and whether they prove anything.
    pub(super) fn words(&self, spec: &RunSpec) -> (bool, String) {
        let checks = spec.checks.len();
        let before = (0..checks).filter(|check| self.passed_before(*check)).count();
        let passed = match checks {
            1 => "1 check passed".to_owned(),
            many => format!("{many} checks passed"),
        };
        match before {
            0 => (true, passed),
            1 if checks == 1 => (false, format!("{passed}, but passed before any work too: it proves nothing")),
            all if all == checks => (false, format!("{passed}, but passed before any work too: they prove nothing")),
            some => (true, format!("{passed}, {some} of them before any work too")),
        }
    }
}

impl Claim {
    /// The call that claims it.
    pub(super) fn call_id(&self) -> &str {
        &self.call_id
    }
}
