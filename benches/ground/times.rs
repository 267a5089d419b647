//! Times that were measured, and where they lie.

use std::time::Duration;

/// Times, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Sorts them.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time below which that share of them lies, in milliseconds.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let nth = ((self.0.len() - 1) as f64 * share).round() as usize;
        self.0[nth].as_secs_f64() * 1e3
    }
}
