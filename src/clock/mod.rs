//! Where time comes from: the system, or a clock that ticks once per look.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock; it may jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that goes on by one step with each look at the wall time: the same readings on every machine.
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
        let mut ticks = self.ticks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
