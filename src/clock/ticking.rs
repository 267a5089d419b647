//! A clock that goes on by one step with each look: the same readings on every machine.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Clock;

/// A clock that goes on by one step with each look at the wall time. Sleeping takes real time, which it does not show.
#[derive(Debug)]
pub struct TickingClock {
    start: Timestamp,
    step: Duration,
    ticks: Mutex<u32>,
}

impl TickingClock {
    /// A clock that shows `start` first and `step` more each further time.
    pub fn new(start: Timestamp, step: Duration) -> Self {
        Self { start, step, ticks: Mutex::new(0) }
    }

    fn passed(&self, looks: u32) -> Duration {
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.step * *ticks;
        *ticks += looks;
        passed
    }
}

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        self.start + self.passed(1)
    }

    fn monotonic(&self) -> Duration {
        self.passed(0)
    }

    fn since_boot(&self) -> Duration {
        self.passed(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticking_clock_goes_on_by_one_step_per_look() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        let clock = TickingClock::new(start, Duration::from_secs(2));
        assert_eq!(clock.now(), start);
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:02Z");
        assert_eq!(clock.monotonic(), Duration::from_secs(4));
        assert_eq!(clock.monotonic(), Duration::from_secs(4));
    }
}
