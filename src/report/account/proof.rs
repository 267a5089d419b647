//! What stands behind a result: checks, requirements, files that had to stay, and what there is to doubt.

use std::sync::LazyLock;

use regex::Regex;

use super::{CheckRow, ProtectedRow, RequirementRow, Standing};
use crate::domain::{CheckResult, Event, Outcome, Requirement, RunSpec, Status, ToolCall, Verdict};
use crate::report::outcome::how;
use crate::report::totals::has_failed;

/// A step that a text names.
static STEP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)\bstep\s+#?(\d{1,9})\b").expect("it is tested"));

/// What the entries so far have told of it.
#[derive(Debug, Default)]
pub(super) struct Proof {
    results: Vec<CheckResult>,
    claimed: Vec<Requirement>,
    pub(super) protected: ProtectedRow,
    forged: Vec<String>,
    outdated: u32,
}

impl Proof {
    /// Takes the next event in.
    pub(super) fn add(&mut self, event: &Event) {
        match event {
            Event::CheckEnded { result } => self.results.push(result.clone()),
            Event::FinishClaimed { claim } => {
                self.claimed.clone_from(&claim.requirements);
                self.forged.clear();
            }
            Event::ProtectedSeen { files, .. } => self.protected.files = files.len(),
            Event::ProtectedChanged { paths, programs } => {
                let new = paths.iter().filter(|path| !self.protected.changed.contains(path));
                let new: Vec<String> = new.cloned().collect();
                self.protected.changed.extend(new);
                self.forged.extend(programs.iter().cloned());
            }
            Event::ChecksOutdated { .. } => self.outdated += 1,
            _ => {}
        }
    }

    /// The checks, each with how it stands.
    pub(super) fn checks(&self, spec: Option<&RunSpec>) -> Vec<CheckRow> {
        let standing = |result: Option<&CheckResult>| match result.map(|result| result.outcome.status) {
            Some(Status::Ok) => Standing::Passed,
            Some(Status::Failed) => Standing::Failed,
            _ => Standing::NotKnown,
        };
        let row = |(at, check): (usize, &crate::domain::Check)| {
            let of = |is: fn(u32) -> bool| self.results.iter().rfind(|result| result.check == at && is(result.round));
            let (last, before) = (of(|round| round > 0), standing(of(|round| round == 0)));
            CheckRow {
                number: at + 1,
                check: check.to_string(),
                last: standing(last),
                round: last.map_or(0, |result| result.round),
                before,
                proves: standing(last) == Standing::Passed && before != Standing::Passed && self.forged.is_empty(),
            }
        };
        spec.iter().flat_map(|spec| spec.checks.iter().enumerate()).map(row).collect()
    }

    /// What the model says was asked, held against the checks and what it names.
    pub(super) fn requirements(
        &self,
        checks: &[CheckRow],
        verdict: Option<Verdict>,
        steps: &[(ToolCall, Option<Outcome>)],
    ) -> Vec<RequirementRow> {
        let row = |claimed: &Requirement| {
            let mut notes: Vec<String> = claimed.missing.iter().map(|path| format!("{path} is not there")).collect();
            notes.extend(step_notes(&claimed.evidence, steps));
            let check = claimed.check.map(|number| checks.iter().find(|check| check.number == number as usize));
            match check {
                Some(None) => notes.push(format!("there is no check {}", claimed.check.unwrap_or_default())),
                Some(Some(check)) if !check.proves => notes.push(not_proving(check)),
                Some(Some(_)) | None => {}
            }
            let proved = check.flatten().is_some_and(|check| check.proves);
            RequirementRow {
                requirement: claimed.requirement.clone(),
                evidence: claimed.evidence.clone(),
                check: claimed.check,
                verified: proved && notes.is_empty() && verdict == Some(Verdict::Verified),
                notes,
            }
        };
        self.claimed.iter().map(row).collect()
    }

    /// What to know before the result is trusted.
    pub(super) fn doubts(&self, checks: &[CheckRow], requirements: &[RequirementRow]) -> Vec<String> {
        let mut doubts = Vec::new();
        let before = checks.iter().filter(|check| check.before == Standing::Passed);
        doubts.extend(before.map(|check| format!("check {} passed before any work, too", check.number)));
        if !self.forged.is_empty() {
            doubts.push(format!("this run made or changed what the checks run: {}", self.forged.join(", ")));
        }
        if !self.protected.changed.is_empty() {
            doubts.push(format!("protected files were changed: {}", self.protected.changed.join(", ")));
        }
        if self.outdated > 0 {
            doubts.push(format!("what the checks look at changed under them, times: {}", self.outdated));
        }
        let open = requirements.iter().filter(|row| !row.verified).count();
        if open > 0 {
            doubts.push(format!("requirements that no check proves: {open} of {}", requirements.len()));
        }
        doubts
    }
}

fn not_proving(check: &CheckRow) -> String {
    match (check.last, check.before) {
        (Standing::Passed, Standing::Passed) => format!("check {} passed before any work, too", check.number),
        (Standing::Passed, _) => format!("this run made or changed what check {} runs", check.number),
        (last, _) => format!("check {}: {}", check.number, last.words()),
    }
}

/// What is not as the evidence has it of the steps that it names.
fn step_notes(evidence: &str, steps: &[(ToolCall, Option<Outcome>)]) -> Vec<String> {
    let numbers = STEP.captures_iter(evidence).filter_map(|found| found[1].parse::<usize>().ok());
    let note = |number: usize| match number.checked_sub(1).and_then(|at| steps.get(at)) {
        None => Some(format!("there is no step {number}")),
        Some((_, None)) => Some(format!("step {number} has no result")),
        Some((_, Some(outcome))) => has_failed(outcome).then(|| format!("step {number}: {}", how(outcome))),
    };
    numbers.filter_map(note).collect()
}
