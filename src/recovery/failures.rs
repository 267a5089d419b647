//! The failures of a run so far, known again by their marks.

use std::collections::{HashMap, VecDeque};

use crate::domain::{Entry, Event, Failure, FailureClass, JobEnd, Outcome, ToolCall};

/// What begins the line in which a result tells of its failure.
pub(super) const LABEL: &str = "[failure: ";

/// What begins a line in which the harness tells what it did about a failure.
pub const NOTE: &str = "[harness: ";
/// So many of the steps that ended with the same failure are named, the last ones.
const MOST_NAMED: usize = 3;
/// Characters of a command that are named.
const NAMED: usize = 60;

/// The fold.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    /// What is known of each, by its mark.
    seen: HashMap<String, Seen>,
    /// The calls of the last answer, each with the number of its step.
    asked: HashMap<String, (u64, ToolCall)>,
    steps: u64,
}

/// A failure that has come.
#[derive(Debug, Clone, Default)]
struct Seen {
    times: u32,
    /// The last steps that ended with it, in words.
    steps: VecDeque<String>,
}

impl Failures {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ModelAnswered { calls, .. } => {
                let numbered = calls.iter().zip(self.steps + 1..);
                self.asked = numbered.map(|(call, number)| (call.id.clone(), (number, call.clone()))).collect();
                self.steps += calls.len() as u64;
            }
            Event::ToolEnded { call_id, outcome: Outcome { failure: Some(failure), .. } } => {
                let seen = self.seen.entry(failure.fingerprint.clone()).or_default();
                seen.times += 1;
                if let Some((number, call)) = self.asked.get(call_id) {
                    seen.steps.push_back(format!("step {number}: {}", named(call)));
                }
                if seen.steps.len() > MOST_NAMED {
                    seen.steps.pop_front();
                }
            }
            Event::JobEnded { end: JobEnd { failure: Some(failure), .. }, .. } => {
                self.seen.entry(failure.fingerprint.clone()).or_default().times += 1;
            }
            _ => {}
        }
    }

    /// How often a failure has come before.
    pub fn before(&self, failure: &Failure) -> u32 {
        self.seen.get(&failure.fingerprint).map_or(0, |seen| seen.times)
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
        let steps: Vec<&str> = self.seen.get(&failure.fingerprint).map_or(Vec::new(), Seen::words);
        let before = match steps.is_empty() {
            true => before,
            false => format!("{before} ({})", steps.join(", ")),
        };
        let evidence = match output.contains(&failure.evidence) {
            true => String::new(),
            false => format!(" · {}", failure.evidence),
        };
        Some(format!("{LABEL}{}{evidence} · {advice}{before}]", failure.class))
    }
}

impl Seen {
    fn words(&self) -> Vec<&str> {
        self.steps.iter().map(String::as_str).collect()
    }
}

/// A call in a few words: its command, or its tool.
fn named(call: &ToolCall) -> String {
    let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap_or_default();
    let command = arguments.get("command").and_then(serde_json::Value::as_str).unwrap_or(&call.name);
    let line = command.trim().lines().next().unwrap_or_default();
    let mut words: String = line.chars().filter(|c| !c.is_control()).take(NAMED).collect();
    if line.chars().nth(NAMED).is_some() {
        words.push('…');
    }
    words
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
        let call =
            ToolCall { id: "c9".to_owned(), name: "shell".to_owned(), arguments: r#"{"command":"curl x"}"#.to_owned() };
        let outcome = Outcome { failure: Some(Box::new(first.clone())), ..Outcome::words(Status::Failed, "x") };
        failures.asked.insert("c9".to_owned(), (12, call));
        let event = Event::ToolEnded { call_id: "c9".to_owned(), outcome };
        failures.apply(&Entry { seq: 2, time: jiff::Timestamp::UNIX_EPOCH, event });
        assert!(failures.words(&first, "").unwrap().ends_with("came 3 times before (step 12: curl x)]"));
        assert_eq!(failures.before(&failure(FailureClass::Network, "b")), 0);
        assert_eq!(failures.words(&failure(FailureClass::Unknown, "b"), ""), None);
    }
}
