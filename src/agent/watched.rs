//! A command that takes long, for people who watch.

use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{Progress, WaitProgress};

/// People are told this often that a command goes on.
pub(super) const WATCH_STEP: Duration = Duration::from_secs(1);
/// A command that takes less is not worth a word.
const SHORT: Duration = Duration::from_secs(3);

/// The command that is waited for, if that is what is done.
pub(super) struct Watched {
    what: Option<String>,
    /// By [`Clock::since_boot`].
    began: Duration,
    last_line: String,
}

impl Watched {
    /// It begins now.
    pub(super) fn new(command: Option<&str>, clock: &dyn Clock) -> Self {
        let what = command.map(|command| command.trim().lines().next().unwrap_or_default().to_owned());
        Self { what, began: clock.since_boot(), last_line: String::new() }
    }

    /// Takes in what passes by.
    pub(super) fn see(&mut self, progress: &Progress) {
        if let Progress::Output { tail, .. } = progress {
            let last = tail.lines().rfind(|line| !line.trim().is_empty());
            self.last_line = last.unwrap_or_default().to_owned();
        }
    }

    /// How it stands, once it has taken a while.
    pub(super) fn standing(&self, clock: &dyn Clock) -> Option<WaitProgress> {
        let elapsed = clock.since_boot().saturating_sub(self.began);
        let what = self.what.clone().filter(|_| elapsed >= SHORT)?;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let last_line = self.last_line.clone();
        Some(WaitProgress { what, waited_ms: elapsed_ms, elapsed_ms, last_line, ..WaitProgress::default() })
    }
}
