//! Waits until the processors or the GPUs have had little to do for some time, by samples.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::guest::facts::{Refusal, RefusalKind};
use crate::guest::supervisor::{Supervisor, refuse};
use crate::guest::{gpu, vitals};

/// The longest time between two samples.
const LONGEST_STEP: Duration = Duration::from_secs(2);

/// The shortest: below it, the clock ticks of `/proc` are coarse.
const SHORTEST_STEP: Duration = Duration::from_millis(250);

/// How little, and for how long.
#[derive(Debug)]
pub(in crate::guest) struct Target {
    gpu: bool,
    below_percent: f64,
    for_time: Duration,
}

impl Target {
    /// The processors: percent of one of them.
    ///
    /// # Errors
    /// For what is no percentage.
    pub(in crate::guest) fn cpu(below_percent: f64, for_time: Duration) -> Result<Self, Refusal> {
        Self::new(false, below_percent, for_time)
    }

    /// All GPUs.
    ///
    /// # Errors
    /// For what is no percentage.
    pub(in crate::guest) fn gpu(below_percent: f64, for_time: Duration) -> Result<Self, Refusal> {
        Self::new(true, below_percent, for_time)
    }

    fn new(gpu: bool, below_percent: f64, for_time: Duration) -> Result<Self, Refusal> {
        if !below_percent.is_finite() || below_percent <= 0.0 {
            let what = format!("idle means less than some percentage above 0, not less than {below_percent}");
            return Err(refuse(RefusalKind::Invalid, what));
        }
        Ok(Self { gpu, below_percent, for_time })
    }

    /// Waits until it is met.
    ///
    /// # Errors
    /// When there is no GPU.
    pub(super) async fn met(self, boss: &Supervisor) -> Result<String, Refusal> {
        let step = (self.for_time / 4).clamp(SHORTEST_STEP, LONGEST_STEP);
        let mut since = Instant::now();
        let (mut last, mut at) = (vitals::cpu_ms(), since);
        let mut most: f64 = 0.0;
        loop {
            sleep(step).await;
            let now = Instant::now();
            let busy = if self.gpu {
                let gpus = gpu::gpus(boss).await;
                let busiest = gpus.iter().map(|gpu| gpu.busy_percent).reduce(f64::max);
                busiest.ok_or_else(|| refuse(RefusalKind::Missing, "the box has no GPU that nvidia-smi tells of"))?
            } else {
                let used = vitals::cpu_ms();
                let share = used.saturating_sub(last) as f64 / (now - at).as_millis().max(1) as f64;
                last = used;
                share * 100.0
            };
            at = now;
            if busy < self.below_percent {
                most = most.max(busy);
            } else {
                (since, most) = (now, 0.0);
            }
            if now - since >= self.for_time {
                let who = if self.gpu { "the GPUs were" } else { "the processes were" };
                return Ok(format!("{who} busy for at most {most:.0} % in {:.1} s", (now - since).as_secs_f64()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_percentage_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(Target::cpu(bad, Duration::ZERO).expect_err("refused").kind, RefusalKind::Invalid);
            assert!(Target::gpu(bad, Duration::ZERO).is_err());
        }
    }
}
