//! What was decided about failures, and what the harness did by itself.

use super::{Detail, Timeline};
use crate::domain::{Decision, DecisionId, FileHash, Outcome, Reaction, TurnedOut, size_words};
use crate::report::style::duration;
use crate::report::visible;

/// What has changed under the checks, and what may have done that.
pub(crate) fn outdated_words(paths: &[String], running: &[String]) -> String {
    let paths = if paths.is_empty() { "the workspace".to_owned() } else { paths.join(", ") };
    match running.is_empty() {
        true => paths,
        false => format!("{paths} (beside: {})", running.join(", ")),
    }
}

impl Timeline {
    pub(super) fn attempt_failed(&self, attempt: u32, outcome: &Outcome) -> String {
        let class = outcome.failure.as_ref().map(|failure| format!(" ({})", failure.class)).unwrap_or_default();
        self.line("attempt", &format!("{attempt}: {}{class}", crate::report::outcome::how(outcome)))
    }

    pub(super) fn decided(&self, decision: &Decision) -> String {
        let what = match &decision.chosen {
            Reaction::RetryAsIs { after_ms } => format!("the same again after {}", duration(*after_ms)),
            Reaction::RetryChanged { what } => format!("again with {what}"),
            Reaction::FixForward { from: Some(from) } => format!("the model mends it; {from} is the way back"),
            Reaction::FixForward { from: None } => "the model mends it".to_owned(),
            Reaction::RollBack { to } => format!("back to {to}, then another path"),
            Reaction::Park { until } => format!("again at {until:.0}"),
            Reaction::Ask => "a person is asked".to_owned(),
            Reaction::Abort => "given up".to_owned(),
        };
        let (class, level) = (decision.class, decision.confidence.level.name());
        let mut words = format!("{}: {class}: {what} (confidence {level})", decision.id);
        if self.detail == Detail::Full {
            for signal in &decision.confidence.signals {
                words.push_str(&format!("\n{}: {}, {}", signal.name, signal.level.name(), signal.why));
            }
        }
        self.line("decided", &visible(&words))
    }

    pub(super) fn decision_judged(&self, decision: DecisionId, turned_out: TurnedOut, why: &str) -> String {
        if self.detail == Detail::Live && turned_out == TurnedOut::Unknown {
            return String::new();
        }
        let word = match turned_out {
            TurnedOut::Worked => "worked",
            TurnedOut::Failed => "did not help",
            TurnedOut::Changed => "led to another failure",
            TurnedOut::Unknown => "was not seen to help or not",
        };
        self.line("decided", &visible(&format!("{decision} {word}: {why}")))
    }

    pub(super) fn box_grown(&self, memory_bytes: Option<u64>, why: &str) -> String {
        let memory = memory_bytes.map(|bytes| format!("memory limit {} now; ", size_words(bytes))).unwrap_or_default();
        self.line("box", &visible(&format!("{memory}{why}")))
    }

    pub(super) fn protected_seen(&self, files: &[FileHash]) -> String {
        match self.detail {
            Detail::Normal | Detail::Full if !files.is_empty() => {
                self.line("protected", &format!("{} files", files.len()))
            }
            Detail::Live | Detail::Normal | Detail::Full => String::new(),
        }
    }

    pub(super) fn protected_changed(&self, paths: &[String], programs: &[String]) -> String {
        let mut out = String::new();
        if !paths.is_empty() {
            out.push_str(&self.trouble("protected", &visible(&format!("changed: {}", paths.join(", ")))));
        }
        if !programs.is_empty() {
            let words = format!("what the checks run was made or changed: {}", programs.join(", "));
            out.push_str(&self.trouble("protected", &visible(&words)));
        }
        out
    }

    pub(super) fn checks_outdated(&self, paths: &[String], running: &[String]) -> String {
        let words = format!("{} changed under the checks: they run again", outdated_words(paths, running));
        self.trouble("outdated", &visible(&words))
    }
}
