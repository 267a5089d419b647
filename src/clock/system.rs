//! The clock of this machine.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Clock;

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

    fn since_boot(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a timespec that the call may write, and outlives it.
        let read = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        match (read, u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
            (0, Ok(seconds), Ok(nanoseconds)) => Duration::new(seconds, nanoseconds),
            // A kernel without that clock: suspension goes unnoticed.
            _ => self.monotonic(),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_goes_on_with_the_monotonic_clock() {
        let clock = SystemClock::new();
        let (boot, awake) = (clock.since_boot(), clock.monotonic());
        while clock.monotonic() - awake < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(clock.since_boot() - boot >= Duration::from_millis(20));
    }
}
