//! When a server that fails is left alone, and for how long: pure, the caller keeps the time.

use std::time::Duration;

/// Failures in a row after which a server is left alone.
const MOST_FAILURES: u32 = 3;
/// For how long a server may fail, whatever the number, before it is left alone.
const SHARE: Duration = Duration::from_secs(60);
/// The longest pause that is chosen here, in first pauses; a server may ask for more.
const LONGEST_PAUSE: u32 = 20;

/// One server's breaker. Moments are given as the time since some beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breaker {
    first_pause: Duration,
    failures: u32,
    failing_since: Option<Duration>,
    pauses: u32,
    until: Option<Duration>,
}

impl Breaker {
    /// Nothing is known against the server. The first pause has this length; each failed probe after it doubles it.
    pub(super) fn new(first_pause: Duration) -> Self {
        Self { first_pause, failures: 0, failing_since: None, pauses: 0, until: None }
    }

    /// Whether a request may be sent: nothing is known against it, or it is time for a probe.
    pub(super) fn lets_through(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// When it lets a request through.
    pub(super) fn opens_at(&self) -> Duration {
        self.until.unwrap_or_default()
    }

    /// The server has answered.
    pub(super) fn answered(&mut self) {
        *self = Self::new(self.first_pause);
    }

    /// A try has failed with what may pass; `asked` is the least wait that the server wants. A failed probe is enough to
    /// leave it alone again, and so is a wait that is longer than its share of time.
    pub(super) fn failed(&mut self, now: Duration, asked: Option<Duration>) {
        self.failures += 1;
        let since = *self.failing_since.get_or_insert(now);
        let is_over = self.failures >= MOST_FAILURES || now.saturating_sub(since) >= SHARE;
        if self.pauses > 0 || is_over || asked.is_some_and(|asked| asked > SHARE) {
            self.pause(now, asked);
        }
    }

    /// A try was refused for a reason that does not pass by itself: credit, credentials, a model that is not there.
    pub(super) fn refused(&mut self, now: Duration) {
        self.failures += 1;
        self.pause(now, Some(self.longest()));
    }

    fn longest(&self) -> Duration {
        self.first_pause.saturating_mul(LONGEST_PAUSE)
    }

    fn pause(&mut self, now: Duration, asked: Option<Duration>) {
        let grown = self.first_pause.saturating_mul(2u32.saturating_pow(self.pauses)).min(self.longest());
        self.pauses += 1;
        self.until = Some(now.saturating_add(grown.max(asked.unwrap_or_default())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_failures_in_a_row_open_it_and_each_failed_probe_doubles_the_pause() {
        let mut breaker = Breaker::new(S * 30);
        breaker.failed(S, None);
        breaker.failed(S * 2, None);
        assert!(breaker.lets_through(S * 2));
        breaker.failed(S * 3, None);
        assert!(!breaker.lets_through(S * 32));
        assert!(breaker.lets_through(S * 33), "a probe");
        breaker.failed(S * 33, None);
        assert_eq!(breaker.opens_at(), S * 93);
        for _ in 0..40 {
            breaker.failed(S * 100, None);
        }
        assert_eq!(breaker.opens_at(), S * 700);
        breaker.answered();
        assert_eq!(breaker, Breaker::new(S * 30));
    }

    #[test]
    fn an_answer_between_failures_makes_good() {
        let mut breaker = Breaker::new(S * 30);
        for _ in 0..20 {
            breaker.failed(S, None);
            breaker.failed(S, None);
            breaker.answered();
        }
        assert!(breaker.lets_through(S));
    }

    #[test]
    fn one_long_failure_or_a_long_wait_is_enough() {
        let mut stalled = Breaker::new(S * 30);
        stalled.failed(S, None);
        stalled.failed(S * 70, None);
        assert!(!stalled.lets_through(S * 71));
        let mut limited = Breaker::new(S * 30);
        limited.failed(S, Some(S * 3600));
        assert_eq!(limited.opens_at(), S * 3601);
        let mut refused = Breaker::new(S * 30);
        refused.refused(S);
        assert_eq!(refused.opens_at(), S * 601);
    }
}
