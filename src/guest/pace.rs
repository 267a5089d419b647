//! How fast floods may go while more than one session is at work. What is not read stays in the terminal, whose program
//! waits then, and leaves the processors to the others.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What all floods of the box together may print in a second.
const BYTES_PER_S: f64 = 24e6;

/// What one look at a terminal brings if it is flooded; less is no flood.
pub(super) const FLOOD: usize = 16 << 10;

/// When what was read so far is paid for.
#[derive(Debug)]
pub(super) struct Pace {
    due: Cell<Instant>,
}

impl Pace {
    /// Nothing was read yet.
    pub(super) fn new() -> Self {
        Self { due: Cell::new(Instant::now()) }
    }

    /// Waits for as long as so many bytes take at the pace that is allowed, behind all others who wait.
    pub(super) async fn keep(&self, bytes: usize) {
        let due = self.due.get().max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / BYTES_PER_S);
        self.due.set(due);
        tokio::time::sleep_until(due.into()).await;
    }
}
