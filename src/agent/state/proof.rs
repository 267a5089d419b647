//! What stands for the result: the claim, the checks before any work and after each claim. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Step;
use crate::domain::{Check, CheckResult, Entry, Event, FileHash, FinishClaim, Outcome, RunSpec, Status};

/// How often the checks of a round are run again because something changed under them.
const MAX_AGAIN: u32 = 2;
/// How often a model may claim to be done with protected files changed before a person is needed.
const MAX_TOUCHED: u32 = 2;

/// A claim to be done that has not been answered, or was accepted.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Claim {
    call_id: String,
    /// What it says.
    pub(in crate::agent) claim: FinishClaim,
    /// Whether it was.
    pub(in crate::agent) accepted: bool,
}

/// The fold.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Proof {
    /// The claim that waits for its answer, or was accepted.
    pub(in crate::agent) claim: Option<Claim>,
    /// The rounds of checks that are over.
    rounds: u32,
    results: Vec<CheckResult>,
    failed_rounds: u32,
    /// The last claim that a check has refused.
    refused: Option<FinishClaim>,
    /// Which of them refused it.
    failed: Vec<CheckResult>,
    /// How the checks went before any work.
    baseline: Vec<CheckResult>,
    /// Whether a call has begun: from then on nothing is as it was.
    has_worked: bool,
    /// What protected files and the checks' programs held before any work.
    seen: Option<Seen>,
    /// The protected files that were found changed with this claim.
    changed: Vec<String>,
    /// How many claims were made with some of them changed.
    touched: u32,
    /// Of what the checks run, what was found made or changed with this claim.
    forged: BTreeSet<String>,
    /// How often the checks of this round were begun anew.
    again: u32,
    outdated: Outdated,
    /// Since when changes beside the checks count, where something could make them.
    watched_since_ns: Option<i64>,
    /// Whether the check that runs will say nothing.
    is_disturbed: bool,
}

/// What was found before any work.
#[derive(Debug, Clone, Default)]
struct Seen {
    files: BTreeMap<String, Option<String>>,
    programs: BTreeMap<String, Option<String>>,
}

/// What changed under the checks.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Outdated {
    /// Paths.
    pub(in crate::agent) paths: Vec<String>,
    /// What may have changed them.
    pub(in crate::agent) running: Vec<String>,
}

impl Proof {
    /// Takes in what happened; `open` is the first call without an outcome.
    pub(in crate::agent) fn apply(&mut self, entry: &Entry, open: Option<&str>) {
        match &entry.event {
            Event::ToolStarted { .. } => self.has_worked = true,
            Event::FinishClaimed { claim } => {
                let Some(call_id) = open else { return };
                self.claim = Some(Claim { call_id: call_id.to_owned(), claim: claim.clone(), accepted: false });
                self.results.clear();
            }
            Event::ProtectedSeen { files, programs } => {
                let by_path = |files: &[FileHash]| files.iter().cloned().map(|file| (file.path, file.sha256)).collect();
                self.seen = Some(Seen { files: by_path(files), programs: by_path(programs) });
            }
            Event::ProtectedChanged { paths, programs } => {
                self.touched += u32::from(self.changed.is_empty() && !paths.is_empty());
                self.changed.clone_from(paths);
                self.forged.extend(programs.iter().cloned());
            }
            Event::CheckStarted { check, watched_since_ns, .. } => {
                self.is_disturbed = false;
                if *check == 0 {
                    self.watched_since_ns = *watched_since_ns;
                }
            }
            Event::ChecksOutdated { paths, running, .. } => {
                self.begin_anew(Outdated { paths: paths.clone(), running: running.clone() });
            }
            Event::PersonTyped { session } if self.is_under_check() => {
                self.is_disturbed = true;
                let running = vec![format!("a person in session {session}")];
                self.begin_anew(Outdated { paths: Vec::new(), running });
            }
            Event::CheckEnded { .. } if self.is_disturbed => {}
            Event::CheckEnded { result } if result.round == 0 => self.baseline.push(result.clone()),
            Event::CheckEnded { result } => self.results.push(result.clone()),
            Event::ToolEnded { call_id, outcome } => self.take_outcome(call_id, outcome),
            _ => {}
        }
    }

    fn is_under_check(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| !claim.accepted && !claim.claim.gave_up)
    }

    fn begin_anew(&mut self, outdated: Outdated) {
        self.results.clear();
        self.again += 1;
        self.outdated = outdated;
    }

    fn take_outcome(&mut self, call_id: &str, outcome: &Outcome) {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.call_id == call_id) else { return };
        if outcome.status == Status::Ok {
            claim.accepted = true;
            return;
        }
        if outcome.status == Status::Failed {
            self.failed_rounds += 1;
            self.refused = Some(claim.claim.clone());
            self.failed = self.results.iter().filter(|result| result.outcome.status != Status::Ok).cloned().collect();
        }
        self.claim = None;
        self.rounds += 1;
        self.results.clear();
        self.changed.clear();
        self.forged.clear();
        self.again = 0;
        self.watched_since_ns = None;
    }

    /// The run's end was recorded and it is taken up all the same: another try.
    pub(in crate::agent) fn try_again(&mut self) {
        self.failed_rounds = 0;
        self.touched = 0;
        self.claim = self.claim.take().filter(|claim| !claim.accepted);
    }

    /// The results of the current round.
    pub(in crate::agent) fn results(&self) -> &[CheckResult] {
        &self.results
    }

    /// The round that is under way or comes next, from 1.
    pub(in crate::agent) fn round(&self) -> u32 {
        self.rounds + 1
    }

    /// How often the model claimed to be done and a check failed.
    pub(in crate::agent) fn failed_rounds(&self) -> u32 {
        self.failed_rounds
    }

    /// The last claim that a check has refused.
    pub(super) fn refused(&self) -> Option<&FinishClaim> {
        self.refused.as_ref()
    }

    /// The checks that refused it.
    pub(super) fn failed(&self) -> &[CheckResult] {
        &self.failed
    }

    /// How often the checks of this round were begun anew.
    pub(in crate::agent) fn again(&self) -> u32 {
        self.again
    }

    /// What changed under the checks, where that happened too often.
    pub(in crate::agent) fn outdated(&self) -> Option<&Outdated> {
        (self.again > MAX_AGAIN).then_some(&self.outdated)
    }

    /// Since when changes beside the checks count.
    pub(in crate::agent) fn watched_since_ns(&self) -> Option<i64> {
        self.watched_since_ns
    }

    /// The protected files that were found changed with this claim.
    pub(in crate::agent) fn changed(&self) -> &[String] {
        &self.changed
    }

    /// Whether anything was looked at before any work.
    pub(in crate::agent) fn has_seen(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| !seen.files.is_empty() || !seen.programs.is_empty())
    }

    /// The programs that were looked at before any work.
    pub(in crate::agent) fn programs(&self) -> Vec<String> {
        self.seen.iter().flat_map(|seen| seen.programs.keys().cloned()).collect()
    }

    /// The protected files that are not as they were: changed, gone, or new.
    pub(in crate::agent) fn differing(&self, files: &[FileHash]) -> Vec<String> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let now: BTreeMap<&str, &Option<String>> =
            files.iter().map(|file| (file.path.as_str(), &file.sha256)).collect();
        let gone_or_changed = seen.files.iter().filter(|(path, hash)| now.get(path.as_str()) != Some(hash));
        let new = now.keys().filter(|path| !seen.files.contains_key(**path));
        let all: BTreeSet<&str> = gone_or_changed.map(|(path, _)| path.as_str()).chain(new.copied()).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    /// Of what the checks run, what the run has made or changed and was not known of. A program that was not there and is
    /// now was installed; a script that was not there was written.
    pub(in crate::agent) fn newly_forged(&self, programs: &[FileHash]) -> Vec<String> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let is_forged = |now: &&FileHash| {
            let before = seen.programs.get(&now.path);
            let is_script = now.path.contains('/');
            match before {
                None | Some(None) => is_script && now.sha256.is_some(),
                Some(Some(before)) => now.sha256.as_ref() != Some(before),
            }
        };
        let forged = programs.iter().filter(is_forged).map(|now| now.path.clone());
        forged.filter(|path| !self.forged.contains(path)).collect()
    }

    /// Why a person is needed, if the model does not leave protected files alone.
    pub(in crate::agent) fn given_up(&self) -> Option<String> {
        (self.claim.is_none() && self.touched >= MAX_TOUCHED)
            .then(|| format!("the model claimed to be done {} times with protected files changed", self.touched))
    }

    /// Whether this check passed before any work.
    pub(in crate::agent) fn passed_before(&self, check: usize) -> bool {
        let before = self.baseline.iter().find(|result| result.check == check);
        before.is_some_and(|result| result.outcome.status == Status::Ok)
    }

    /// What has to be done before the first call takes effect.
    pub(in crate::agent) fn before_work(&self, spec: &RunSpec) -> Option<Step> {
        if self.has_worked {
            return None;
        }
        let runs_programs = spec.baseline && spec.checks.iter().any(|check| matches!(check, Check::Command(_)));
        if self.seen.is_none() && (runs_programs || !spec.protect.is_empty()) {
            return Some(Step::SeeProtected);
        }
        let check = self.baseline.len();
        (spec.baseline && check < spec.checks.len()).then_some(Step::RunCheck { check, round: 0 })
    }

    /// What becomes next of a claim to be done that was not accepted.
    pub(in crate::agent) fn next(&self, claim: &Claim, spec: &RunSpec) -> Step {
        let call_id = claim.call_id.clone();
        let check = self.results.len();
        if !self.changed.is_empty() || self.outdated().is_some() {
            return Step::AnswerClaim { call_id, accepted: false };
        }
        if check == spec.checks.len() {
            let accepted = self.results.iter().all(|result| result.outcome.status == Status::Ok);
            return Step::AnswerClaim { call_id, accepted };
        }
        Step::RunCheck { check, round: self.round() }
    }

    /// What is to be said of checks that have all passed, and whether they prove anything.
    pub(in crate::agent) fn words(&self, spec: &RunSpec) -> (bool, String) {
        let checks = spec.checks.len();
        let before = (0..checks).filter(|check| self.passed_before(*check)).count();
        let passed = match checks {
            1 => "1 check passed".to_owned(),
            many => format!("{many} checks passed"),
        };
        if !self.forged.is_empty() {
            let forged = self.forged.iter().cloned().collect::<Vec<_>>().join(", ");
            return (
                false,
                format!("{passed}, but this run made or changed what they run ({forged}): that proves nothing"),
            );
        }
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
    pub(in crate::agent) fn call_id(&self) -> &str {
        &self.call_id
    }
}
