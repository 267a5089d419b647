//! A clock that stands still until it is moved, so that hours pass in a moment of a test.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Clock;

/// A clock that is moved by hand; who sleeps wakes when it has been moved far enough.
#[derive(Debug)]
pub struct VirtualClock {
    wall: Mutex<Timestamp>,
    suspended: Mutex<Duration>,
    awake: watch::Sender<Duration>,
}

impl VirtualClock {
    /// A clock that shows `wall` until it is moved.
    pub fn new(wall: Timestamp) -> Self {
        Self { wall: Mutex::new(wall), suspended: Mutex::default(), awake: watch::Sender::new(Duration::ZERO) }
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        *lock(&self.wall) += duration;
        self.awake.send_modify(|awake| *awake += duration);
    }

    /// Suspends the machine for so long: wall clock and time since boot go on, [`Clock::monotonic`] does not. As on a real
    /// machine nobody wakes before time passes awake again.
    pub fn suspend(&self, duration: Duration) {
        *lock(&self.wall) += duration;
        *lock(&self.suspended) += duration;
    }

    /// Sets the wall clock; no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        *lock(&self.wall) = wall;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.wall)
    }

    fn monotonic(&self) -> Duration {
        *self.awake.borrow()
    }

    fn since_boot(&self) -> Duration {
        self.monotonic() + *lock(&self.suspended)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut awake = self.awake.subscribe();
        let until = self.monotonic().saturating_add(duration);
        Box::pin(async move {
            if awake.wait_for(|now| *now >= until).await.is_err() {
                // The clock is gone: it will never be moved again.
                std::future::pending::<()>().await;
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::Reading;
    use super::*;

    fn clock() -> VirtualClock {
        VirtualClock::new("2026-01-01T22:00:00Z".parse().expect("a timestamp"))
    }

    #[test]
    fn who_sleeps_wakes_when_the_clock_has_been_moved_far_enough() {
        let clock = clock();
        let mut sleep = clock.sleep(Duration::from_secs(3600));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(3599));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        assert!(sleep.now_or_never().is_some());
    }

    #[test]
    fn a_suspended_machine_ages_without_being_awake() {
        let clock = clock();
        let before = Reading::of(&clock);
        clock.advance(Duration::from_secs(60));
        clock.suspend(Duration::from_secs(8 * 3600));
        let after = Reading::of(&clock);
        assert_eq!(after.awake_since(&before), Duration::from_secs(60));
        assert_eq!(after.since(&before), Duration::from_secs(8 * 3600 + 60));
        assert_eq!(after.suspended_since(&before), Duration::from_secs(8 * 3600));
        assert_eq!(after.wall.to_string(), "2026-01-02T06:01:00Z");
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_no_other_clock() {
        let clock = clock();
        let before = Reading::of(&clock);
        clock.set_wall("2020-01-01T00:00:00Z".parse().expect("a timestamp"));
        let after = Reading::of(&clock);
        assert_eq!((after.since(&before), after.suspended_since(&before)), (Duration::ZERO, Duration::ZERO));
    }
}
