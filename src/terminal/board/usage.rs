//! What a box uses, from samples.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;

use super::{Shared, lock};
use crate::clock::Reading;
use crate::domain::{BoxUsage, Event, GpuUsage, NoticeKind, duration_words};
use crate::guest::{BoxVitals, Client, GuestError};

/// Time between samples.
const EVERY: Duration = Duration::from_secs(15);

/// The same for a box that can't tell: it may be able to later, such as when another guest has taken over.
const RARELY: Duration = Duration::from_secs(300);

/// Above this a GPU works, in percent.
const GPU_WORKS: f64 = 3.0;

/// A machine that was suspended for less is not worth a word.
const SUSPENDED: Duration = Duration::from_secs(10);

/// The same for a clock that was set.
const SET: Duration = Duration::from_secs(60);

/// Samples, folded.
#[derive(Debug, Default)]
pub(super) struct Samples {
    usage: BoxUsage,
    /// Sums and counts of the GPUs' utilisation.
    gpus: Vec<(f64, u32)>,
}

impl Samples {
    /// Takes a sample in.
    fn take(&mut self, vitals: &BoxVitals) {
        let usage = &mut self.usage;
        // Where a box has no counter of its own it is a sum over processes, of which some may have gone.
        usage.cpu_ms = usage.cpu_ms.max(Some(vitals.cpu_ms));
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(Some(vitals.memory_bytes));
        // The first one is the workspace's.
        let free = vitals.disks.first().map(|disk| disk.free_bytes);
        usage.disk_free_bytes = usage.disk_free_bytes.into_iter().chain(free).min();
        for (nth, gpu) in vitals.gpus.iter().enumerate() {
            if nth == usage.gpus.len() {
                usage.gpus.push(GpuUsage { name: gpu.name.clone(), busy_percent: 0.0, memory_peak_bytes: 0 });
                self.gpus.push((0.0, 0));
            }
            let (sum, count) = &mut self.gpus[nth];
            *sum += gpu.busy_percent;
            *count += 1;
            usage.gpus[nth].busy_percent = *sum / f64::from(*count);
            let peak = &mut usage.gpus[nth].memory_peak_bytes;
            *peak = (*peak).max(gpu.memory_bytes);
        }
    }

    /// What was used over so long.
    pub(super) fn usage(&self, over: Duration) -> BoxUsage {
        BoxUsage { over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX), ..self.usage.clone() }
    }
}

/// Takes samples until the box is gone; tells on the way when the machine was suspended or its clock was set.
pub(super) async fn watch(client: Client, shared: Arc<Shared>) {
    let mut before = Reading::of(&*shared.clock);
    loop {
        let now = Reading::of(&*shared.clock);
        if let Some(text) = jump(&before, &now) {
            shared.news.push(Event::Noticed { kind: NoticeKind::ClockJumped, text });
        }
        before = now;
        let pause = match sample(&client, &shared).await {
            Ok(()) => EVERY,
            Err(GuestError::Refused(_)) => RARELY,
            Err(_) => return,
        };
        shared.clock.sleep(pause).await;
    }
}

/// Takes one sample.
///
/// # Errors
/// When the guest can't tell, or is gone.
pub(super) async fn sample(client: &Client, shared: &Shared) -> Result<(), GuestError> {
    let vitals = client.vitals().await?;
    lock(&shared.samples).take(&vitals);
    let works = vitals.gpus.iter().any(|gpu| gpu.busy_percent > GPU_WORKS);
    shared.gpu_works.store(works, Ordering::Relaxed);
    let finding = lock(&shared.disks).look(shared.clock.monotonic(), &vitals.disks);
    if let Some(finding) = finding {
        // It is about the box; the job that began last is the likeliest to be the cause.
        let job = lock(&shared.jobs).values().rev().find(|entry| entry.end.is_none()).map(|entry| entry.job.id);
        if let Some(job) = job {
            shared.note(job, finding);
        }
    }
    Ok(())
}

/// What happened to the clocks between two readings, in words; None if nothing did.
fn jump(before: &Reading, now: &Reading) -> Option<String> {
    let passed = SignedDuration::try_from(now.since(before)).ok()?;
    let set = now.wall.duration_since(before.wall) - passed;
    let suspended = now.suspended_since(before);
    let date = now.wall.strftime("%Y-%m-%d %H:%M UTC");
    let words = |time: Duration| duration_words(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    if suspended >= SUSPENDED {
        return Some(format!("the machine was suspended for {}; it is now {date}", words(suspended)));
    }
    // Clocks are put right by little all the time.
    let way = if set.is_positive() { "forward" } else { "back" };
    let by = set.unsigned_abs();
    (by >= SET).then(|| format!("the machine's clock was set {way} by {}; it is now {date}", words(by)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{DiskRoom, Gpu};

    #[test]
    fn suspended_machines_and_set_clocks_are_told_and_drift_is_not() {
        let at = |wall: &str, awake: u64, asleep: u64| Reading {
            wall: wall.parse().expect("a timestamp"),
            monotonic: Duration::from_secs(awake),
            since_boot: Duration::from_secs(awake + asleep),
        };
        let before = at("2026-01-01T00:00:00Z", 0, 0);
        let after = |wall: &str, asleep| jump(&before, &at(wall, 15, asleep));
        assert_eq!(after("2026-01-01T00:00:17Z", 0), None);
        let told = after("2026-01-01T08:00:15Z", 8 * 3600).expect("suspended");
        assert_eq!(told, "the machine was suspended for 8 h 00 min; it is now 2026-01-01 08:00 UTC");
        let told = after("2025-12-31T23:00:15Z", 0).expect("set back");
        assert_eq!(told, "the machine's clock was set back by 1 h 00 min; it is now 2025-12-31 23:00 UTC");
    }

    #[test]
    fn samples_become_peaks_and_means() {
        let sample = |cpu_ms, memory_bytes, free_bytes, busy_percent| BoxVitals {
            cpu_ms,
            memory_bytes,
            disks: vec![DiskRoom { path: "/work".to_owned(), free_bytes, size_bytes: 100, free_inodes: 9, inodes: 9 }],
            gpus: vec![Gpu { name: "G".to_owned(), busy_percent, memory_bytes, memory_size_bytes: 99 }],
            ..BoxVitals::default()
        };
        let mut samples = Samples::default();
        for vitals in [sample(5, 10, 50, 0.0), sample(9, 30, 20, 100.0), sample(7, 20, 40, 50.0)] {
            samples.take(&vitals);
        }
        let usage = samples.usage(Duration::from_secs(30));
        let gpus = vec![GpuUsage { name: "G".to_owned(), busy_percent: 50.0, memory_peak_bytes: 30 }];
        let expected =
            BoxUsage { over_ms: 30_000, cpu_ms: Some(9), memory_peak_bytes: Some(30), disk_free_bytes: Some(20), gpus };
        assert_eq!(usage, expected);
    }
}
