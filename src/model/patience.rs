//! How long a server is waited for, and how the waits grow: pure, the caller keeps the time.

use std::time::Duration;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Most time from the first failure of a request to giving up; what the server asks for counts towards it.
    pub budget: Duration,
    /// The same for a server that was never reached: it is more likely named wrongly than down.
    pub first_contact: Duration,
    /// Wait before the second try; doubled for each further one.
    pub first_wait: Duration,
    /// Longest wait that is chosen here; a server may ask for more.
    pub longest_wait: Duration,
    /// Time without any data of the answer after which a try is cut.
    pub stall: Duration,
    /// Time after which an answer that goes on and on is cut.
    pub answer: Duration,
    /// How long a server that keeps failing is left alone at first, where another one can answer.
    pub pause: Duration,
    /// Time to connect.
    pub connect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(15 * 60),
            first_contact: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(300),
            answer: Duration::from_secs(3600),
            pause: Duration::from_secs(30),
            connect: Duration::from_secs(20),
        }
    }
}

/// The waits between the tries of one request.
#[derive(Debug)]
pub(super) struct Waits {
    patience: Patience,
    rng: fastrand::Rng,
    /// Tries that failed so far.
    pub(super) failed: u32,
}

impl Waits {
    /// Begins with no try made.
    pub(super) fn new(patience: Patience, seed: u64) -> Self {
        Self { patience, rng: fastrand::Rng::with_seed(seed), failed: 0 }
    }

    /// The wait after one more failure: at least what the server `asked` for, doubling and spread otherwise.
    ///
    /// `spent` is the time since the first failure. None when it would end beyond the `budget`.
    pub(super) fn next(&mut self, spent: Duration, asked: Option<Duration>, budget: Duration) -> Option<Duration> {
        let doubled = 2u32.saturating_pow(self.failed.min(31));
        self.failed += 1;
        let grown = self.patience.first_wait.saturating_mul(doubled).min(self.patience.longest_wait);
        let spread = grown.mul_f64(0.5 + 0.5 * self.rng.f64());
        let wait = asked.map_or(spread, |asked| spread.max(asked.saturating_add(spread.mul_f64(0.1))));
        spent.checked_add(wait).filter(|end| *end <= budget).map(|_| wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn waits(seed: u64) -> Waits {
        Waits::new(Patience::default(), seed)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let mut all = waits(1);
        let got: Vec<_> = (0..12).map(|_| all.next(Duration::ZERO, None, S * 900).unwrap()).collect();
        for (n, wait) in got.iter().enumerate() {
            let most = (S * 2u32.pow(u32::try_from(n).unwrap())).min(S * 60);
            assert!((most / 2..=most).contains(wait), "{n}: {wait:?}");
        }
        assert_ne!(waits(1).next(Duration::ZERO, None, S * 9), waits(2).next(Duration::ZERO, None, S * 9));
    }

    #[test]
    fn what_the_server_asks_for_is_the_least() {
        let wait = waits(1).next(Duration::ZERO, Some(S * 30), S * 900).unwrap();
        assert!((S * 30..S * 31).contains(&wait), "{wait:?}");
        assert_eq!(waits(1).next(Duration::ZERO, Some(Duration::MAX), S * 900), None);
    }

    #[test]
    fn a_wait_never_ends_beyond_the_budget() {
        assert_eq!(waits(1).next(S * 899, Some(S * 2), S * 900), None);
        assert_eq!(waits(1).next(Duration::ZERO, Some(S * 3600), S * 900), None);
        assert!(waits(1).next(S * 890, Some(S * 2), S * 900).is_some());
    }
}
