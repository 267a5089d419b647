//! What was tried and failed, and is not shown any more: told for as long as it has not worked after all.

use std::collections::BTreeMap;

use super::Step;
use crate::domain::{Entry, Event};

/// So many are remembered, the newest.
const MOST_KEPT: usize = 64;
/// So many are told.
const MOST_TOLD: usize = 8;

/// The fold.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    /// Calls without a result.
    open: Vec<Step>,
    calls: u64,
    /// By tool and command.
    failed: BTreeMap<(String, String), Attempt>,
    /// What is older than this is not shown any more.
    folded_before: u64,
}

#[derive(Debug, Clone)]
struct Attempt {
    step: u64,
    seq: u64,
    end: String,
    times: u32,
}

impl Attempts {
    /// Takes the next entry in.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ModelAnswered { calls, .. } => {
                self.open =
                    calls.iter().zip(self.calls + 1..).map(|(call, number)| Step::begun(number, call)).collect();
                self.calls += calls.len() as u64;
            }
            Event::ToolEnded { call_id, outcome } => {
                let Some(at) = self.open.iter().position(|step| step.call_id == *call_id) else { return };
                let mut step = self.open.swap_remove(at);
                step.ended(outcome);
                self.take(step, entry.seq);
            }
            Event::ConversationReduced { reduction } => {
                self.folded_before = self.folded_before.max(reduction.fold_before.unwrap_or(0));
            }
            // In another box it may well work.
            Event::CheckpointRestored { .. } => self.failed.clear(),
            _ => {}
        }
    }

    fn take(&mut self, step: Step, seq: u64) {
        let (has_failed, end) = (step.has_failed(), step.end_words());
        let key = (step.tool, step.what);
        if !has_failed {
            self.failed.remove(&key);
            return;
        }
        let times = self.failed.get(&key).map_or(0, |attempt| attempt.times) + 1;
        self.failed.insert(key, Attempt { step: step.number, seq, end, times });
        if self.failed.len() > MOST_KEPT {
            let oldest = self.failed.iter().min_by_key(|(_, attempt)| attempt.step).map(|(key, _)| key.clone());
            oldest.map(|key| self.failed.remove(&key));
        }
    }

    /// The lines, if there are any.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut gone: Vec<_> = self.failed.iter().filter(|(_, attempt)| attempt.seq < self.folded_before).collect();
        gone.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.step));
        if gone.is_empty() {
            return Vec::new();
        }
        let more = gone.len().saturating_sub(MOST_TOLD);
        let one = |((tool, what), attempt): &(&(String, String), &Attempt)| {
            let times = if attempt.times > 1 { format!(", {} times", attempt.times) } else { String::new() };
            let what = if what.is_empty() { tool } else { what };
            format!("- step {} · {what} · {}{times}", attempt.step, attempt.end)
        };
        let told = gone.iter().take(MOST_TOLD).map(one);
        let more = (more > 0).then(|| format!("- and {more} more"));
        std::iter::once("Failed before, and has not worked since:".to_owned()).chain(told).chain(more).collect()
    }
}
