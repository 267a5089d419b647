//! What can be told of a job from its output and from what its processes use. Pure: fed by the board.
//!
//! A false alarm costs more than a miss, since it wakes the model for nothing: each part says nothing where it is not
//! sure, and each finding is told once until what it was about is over.

mod disk;
mod errors;
mod metrics;
mod progress;
mod stall;

use std::time::Duration;

use super::lines::Line;
use crate::domain::{Finding, InputKind};

pub(super) use disk::DiskWatch;
pub(super) use progress::Progress;
pub(super) use stall::Work;

/// Watches one job. All times are readings of [`crate::clock::Clock::monotonic`].
#[derive(Debug)]
pub(super) struct Monitor {
    progress: Progress,
    metrics: metrics::Metrics,
    errors: errors::RepeatedErrors,
    stall: stall::StallWatch,
    asked: Option<(InputKind, String)>,
}

impl Monitor {
    /// A job that was alive then; of a service no rhythm is expected.
    pub(super) fn new(now: Duration, is_service: bool) -> Self {
        Self {
            progress: Progress::default(),
            metrics: metrics::Metrics::default(),
            errors: errors::RepeatedErrors::default(),
            stall: stall::StallWatch::new(now, is_service),
            asked: None,
        }
    }

    /// Takes in lines that have just come.
    pub(super) fn printed(&mut self, now: Duration, lines: &[Line]) -> Vec<Finding> {
        self.stall.printed(now);
        // What is asked next is asked anew.
        self.asked = None;
        let mut findings = Vec::new();
        for line in lines {
            self.progress.look(now, &line.text);
            findings.extend(self.metrics.look(&line.text));
            if !line.is_redrawn {
                findings.extend(self.errors.look(now, &line.text));
            }
        }
        findings
    }

    /// Takes in the beginning of a line that has not ended yet, such as a progress bar without line feeds.
    pub(super) fn rests(&mut self, now: Duration, line: &str) {
        self.progress.look(now, line);
    }

    /// Takes in what its processes have used so far.
    pub(super) fn worked(&mut self, now: Duration, work: Work) -> Option<Finding> {
        self.stall.worked(now, work)
    }

    /// Takes in that it waits for input, and for what. Each question is told once.
    pub(super) fn asks(&mut self, kind: InputKind, prompt: String) -> Option<Finding> {
        let asked = Some((kind, prompt.clone()));
        if self.asked == asked {
            return None;
        }
        self.asked = asked;
        Some(Finding::NeedsInput { kind, prompt })
    }

    /// How far it is by its own account, in words.
    pub(super) fn progress_words(&self) -> Option<String> {
        self.progress.words()
    }
}

#[cfg(test)]
mod tests;
