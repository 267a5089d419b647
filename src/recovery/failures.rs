//! The failures of a run so far, known again by their marks.

use std::collections::HashMap;

use crate::domain::{Entry, Event, Failure, FailureClass, Outcome};

/// What begins the line in which a result tells of its failure.
pub(super) const LABEL: &str = "[failure: ";

/// The fold.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    /// How often each has come, by its mark.
    seen: HashMap<String, u32>,
}

impl Failures {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        if let Event::ToolEnded { outcome: Outcome { failure: Some(failure), .. }, .. } = &entry.event {
            *self.seen.entry(failure.fingerprint.clone()).or_default() += 1;
        }
    }

    /// How often a failure has come before.
    pub fn before(&self, failure: &Failure) -> u32 {
        self.seen.get(&failure.fingerprint).copied().unwrap_or(0)
    }

    /// The line that tells the model of a failure, without the evidence where `output` shows it; None where there is nothing
    /// to tell beyond the exit code.
    pub fn words(&self, failure: &Failure, output: &str) -> Option<String> {
        let before = self.before(failure);
        if failure.class == FailureClass::Unknown && before == 0 {
            return None;
        }
        let advice = match failure.class {
            FailureClass::Network | FailureClass::LostHost => "may pass by itself",
            FailureClass::RateLimit => "passes with time: wait before the next try",
            FailureClass::Quota | FailureClass::Auth => "does not pass by itself: a person has to help",
            FailureClass::Oom | FailureClass::CudaOom => "the same again fails again: less memory or a higher limit",
            FailureClass::DiskFull => "the same again fails again: make room with what is yours",
            FailureClass::Unknown => "its cause is not known",
            FailureClass::Permission
            | FailureClass::GpuFault
            | FailureClass::ResourceLimit
            | FailureClass::MissingDependency
            | FailureClass::VersionConflict
            | FailureClass::Build
            | FailureClass::NotFound
            | FailureClass::Environment
            | FailureClass::Crash
            | FailureClass::Timeout
            | FailureClass::Hang
            | FailureClass::WrongResult
            | FailureClass::Interrupted => "the same again fails again",
        };
        let before = match before {
            0 => String::new(),
            1 => " · the same failure came once before".to_owned(),
            before => format!(" · the same failure came {before} times before"),
        };
        let evidence = match output.contains(&failure.evidence) {
            true => String::new(),
            false => format!(" · {}", failure.evidence),
        };
        Some(format!("{LABEL}{}{evidence} · {advice}{before}]", failure.class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;

    fn failure(class: FailureClass, fingerprint: &str) -> Failure {
        Failure { class, evidence: "curl: (7) refused".to_owned(), fingerprint: fingerprint.to_owned() }
    }

    #[test]
    fn a_failure_that_came_before_is_told_as_such() {
        let mut failures = Failures::default();
        let first = failure(FailureClass::Network, "a");
        let words = |output: &str| failures.words(&first, output).unwrap();
        assert_eq!(words(""), "[failure: network · curl: (7) refused · may pass by itself]");
        assert_eq!(words("curl: (7) refused\n"), "[failure: network · may pass by itself]");
        for seq in 0..2 {
            let outcome = Outcome { failure: Some(Box::new(first.clone())), ..Outcome::words(Status::Failed, "x") };
            let event = Event::ToolEnded { call_id: format!("c{seq}"), outcome };
            failures.apply(&Entry { seq, time: jiff::Timestamp::UNIX_EPOCH, event });
        }
        assert!(failures.words(&first, "").unwrap().ends_with("· the same failure came 2 times before]"));
        assert_eq!(failures.before(&failure(FailureClass::Network, "b")), 0);
        assert_eq!(failures.words(&failure(FailureClass::Unknown, "b"), ""), None);
    }
}
