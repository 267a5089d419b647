//! Where time comes from: the system, a clock that ticks once per look, or one that a test moves.

mod system;
mod ticking;
mod virtual_clock;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

pub use system::SystemClock;
pub use ticking::TickingClock;
pub use virtual_clock::VirtualClock;

/// Tells the time and lets wait for it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock; it may jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment while the machine was awake; it never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since some fixed moment, suspension included; it never goes back.
    fn since_boot(&self) -> Duration;

    /// Resolves when so much of [`Clock::monotonic`] has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The three clocks, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// Time awake.
    pub monotonic: Duration,
    /// Time, suspension included.
    pub since_boot: Duration,
}

impl Reading {
    /// Reads `clock`.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic(), since_boot: clock.since_boot() }
    }

    /// Time awake since an earlier reading.
    pub fn awake_since(&self, earlier: &Self) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }

    /// Time since an earlier reading, suspension included.
    pub fn since(&self, earlier: &Self) -> Duration {
        self.since_boot.saturating_sub(earlier.since_boot)
    }

    /// How long the machine was suspended since an earlier reading. The two clocks are read one after the other, and so
    /// less than a second is taken for none.
    pub fn suspended_since(&self, earlier: &Self) -> Duration {
        let suspended = self.since(earlier).saturating_sub(self.awake_since(earlier));
        if suspended < Duration::from_secs(1) { Duration::ZERO } else { suspended }
    }
}
