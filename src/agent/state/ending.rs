//! How a run ends: the judgment, what the exit code says, and what is left to bring out. Pure.

use super::{State, Step};
use crate::agent::claim;
use crate::domain::{ExitReason, FinishClaim, Verdict};

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The judgment.
    pub verdict: Verdict,
    /// What the exit code says.
    pub reason: ExitReason,
    /// What decided, in one line.
    pub why: String,
    /// What goes to stdout.
    pub answer: String,
    /// What to bring out of the box first.
    pub artifacts: Vec<String>,
}

impl State {
    /// The end that an accepted claim leads to.
    pub(super) fn end_of_claim(&self, claim: &FinishClaim) -> Step {
        let checks = self.spec.checks.len();
        let (verdict, reason, mut why) = if claim.gave_up {
            (Verdict::Blocked, ExitReason::NeedsHuman, "the model says it can't go on without help".to_owned())
        } else if checks == 0 {
            (Verdict::Unverified, ExitReason::Done, "the model says it is done; no check was given".to_owned())
        } else {
            let (proves, why) = self.proof.words(&self.spec);
            (if proves { Verdict::Verified } else { Verdict::Unverified }, ExitReason::Done, why)
        };
        let ending = claim::ending_jobs(self);
        if !ending.is_empty() {
            why.push_str(&format!("; with the run end {ending}"));
        }
        Step::End(Ending { verdict, reason, why, answer: claim.summary.clone(), artifacts: claim.artifacts.clone() })
    }

    /// The model's last words are an answer only where it came to an end by itself.
    pub(super) fn end(&self, verdict: Verdict, reason: ExitReason, why: String) -> Step {
        let by_itself = self.stop.is_none() && verdict != Verdict::Stopped;
        let answer = if by_itself { self.last_text.clone() } else { String::new() };
        Step::End(Ending { verdict, reason, why, answer, artifacts: Vec::new() })
    }
}

/// The verdict of a run that was stopped for `reason`.
pub(super) fn verdict_of(reason: ExitReason) -> Verdict {
    match reason {
        ExitReason::Done | ExitReason::Unverified => Verdict::Unverified,
        ExitReason::Failed => Verdict::Failed,
        ExitReason::NeedsHuman | ExitReason::Refused => Verdict::Blocked,
        ExitReason::Budget | ExitReason::Interrupted | ExitReason::Terminated => Verdict::Stopped,
        ExitReason::Internal
        | ExitReason::Usage
        | ExitReason::SandboxUnavailable
        | ExitReason::ProviderUnavailable
        | ExitReason::Auth => Verdict::Error,
    }
}
