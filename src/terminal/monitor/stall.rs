//! A job that stands still: silent for longer than its own rhythm explains, while none of its processes works.

use std::time::Duration;

use crate::domain::Finding;

/// Output that comes within this counts as one piece.
const PIECE: Duration = Duration::from_secs(1);

/// Pieces of output that make a rhythm.
const RHYTHM: u32 = 8;

/// Over which time at least they must have come.
const RHYTHM_OVER: Duration = Duration::from_secs(30);

/// A silence is unusual when it is so many times the longest that there was.
const TIMES: u32 = 5;

/// No silence shorter than this is unusual.
const SHORTEST: Duration = Duration::from_secs(120);

/// For so long its processes must have been seen to do nothing, up to now.
const AT_REST: Duration = Duration::from_secs(60);

/// In so many looks at least.
const LOOKS: u32 = 3;

/// Who uses less than this share of a processor does nothing but wake up now and then.
const IDLE_SHARE: f64 = 0.01;

/// Bytes that may be read and written between two looks by who does nothing.
const IDLE_BYTES: u64 = 4 << 10;

/// Told so often at most.
const MOST_TOLD: u32 = 3;

/// What the processes of a job have used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::terminal) struct Work {
    /// Processor time.
    pub(in crate::terminal) cpu: Duration,
    /// Bytes read and written.
    pub(in crate::terminal) io_bytes: u64,
    /// How many there are.
    pub(in crate::terminal) processes: u32,
    /// Whether there is a reason to stand still: it waits for input, or a GPU works.
    pub(in crate::terminal) is_excused: bool,
}

/// Watches the rhythm of a job.
#[derive(Debug)]
pub(super) struct StallWatch {
    is_service: bool,
    first: Option<Duration>,
    last: Duration,
    pieces: u32,
    longest: Duration,
    seen: Option<(Duration, Work)>,
    /// Since when its processes have been at rest, and in how many looks.
    at_rest: Option<(Duration, u32)>,
    told: u32,
    is_told: bool,
}

impl StallWatch {
    /// A job that was alive then.
    pub(super) fn new(now: Duration, is_service: bool) -> Self {
        Self {
            is_service,
            first: None,
            last: now,
            pieces: 0,
            longest: Duration::ZERO,
            seen: None,
            at_rest: None,
            told: 0,
            is_told: false,
        }
    }

    /// It has printed something.
    pub(super) fn printed(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.last);
        if self.first.is_none() {
            self.first = Some(now);
        } else if !self.is_told {
            // A stall that was told is no part of the rhythm, or the next one would have to last longer.
            self.longest = self.longest.max(gap);
        }
        if gap >= PIECE || self.pieces == 0 {
            self.pieces += 1;
        }
        self.last = now;
        self.is_told = false;
        self.at_rest = None;
    }

    /// Its processes were looked at.
    pub(super) fn worked(&mut self, now: Duration, work: Work) -> Option<Finding> {
        let before = self.seen.replace((now, work));
        let rests = before.is_some_and(|(then, before)| is_idle(now.saturating_sub(then), &before, &work));
        self.at_rest = match (rests, self.at_rest, before) {
            (false, ..) => None,
            (true, Some((since, looks)), _) => Some((since, looks + 1)),
            (true, None, before) => Some((before.map_or(now, |(then, _)| then), 1)),
        };
        self.stalls(now)
    }

    fn stalls(&mut self, now: Duration) -> Option<Finding> {
        let has_rhythm =
            self.pieces >= RHYTHM && self.first.is_some_and(|first| self.last.saturating_sub(first) >= RHYTHM_OVER);
        if self.is_service || self.is_told || self.told >= MOST_TOLD || !has_rhythm {
            return None;
        }
        let silent = now.saturating_sub(self.last);
        let usual = (self.longest * TIMES).max(SHORTEST);
        let at_rest = self.at_rest.is_some_and(|(since, looks)| looks >= LOOKS && now.saturating_sub(since) >= AT_REST);
        if silent <= usual || !at_rest {
            return None;
        }
        self.is_told = true;
        self.told += 1;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(Finding::Stalled { silent_ms: milliseconds(silent), usual_ms: milliseconds(self.longest) })
    }
}

fn is_idle(over: Duration, before: &Work, now: &Work) -> bool {
    let cpu = now.cpu.saturating_sub(before.cpu);
    // Who ended took its figures along: something happened.
    let same = now.processes == before.processes && now.cpu >= before.cpu && now.io_bytes >= before.io_bytes;
    let little = cpu.as_secs_f64() <= over.as_secs_f64() * IDLE_SHARE
        && now.io_bytes.saturating_sub(before.io_bytes) <= IDLE_BYTES;
    same && little && !now.is_excused && now.processes > 0 && !over.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn resting(cpu_ms: u64) -> Work {
        Work { cpu: Duration::from_millis(cpu_ms), io_bytes: 1000, processes: 2, is_excused: false }
    }

    /// A job that prints every `gap` for ten times, then is silent; looks at it every 15 s with what it uses then.
    fn told(gap: u32, is_service: bool, silent_s: u32, work: impl Fn(u64) -> Work) -> Vec<(u32, Finding)> {
        let mut watch = StallWatch::new(Duration::ZERO, is_service);
        for nth in 0..10 {
            watch.printed(SECOND * gap * nth);
        }
        let last = gap * 9;
        let looks = (0..silent_s).step_by(15);
        looks.filter_map(|at| Some((at, watch.worked(SECOND * (last + at), work(u64::from(at)))?))).collect()
    }

    #[test]
    fn silence_without_work_beyond_the_rhythm_is_a_stall_told_once() {
        let found = told(10, false, 3600, |_| resting(5000));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0], (135, Finding::Stalled { silent_ms: 135_000, usual_ms: 10_000 }));
        assert_eq!(told(100, false, 3600, |_| resting(5000))[0].0, 510);
    }

    #[test]
    fn a_silent_job_that_works_does_not_stall() {
        assert_eq!(told(10, false, 36_000, |at| resting(at * 1000)), []);
        assert_eq!(told(10, false, 36_000, |at| Work { io_bytes: at * 1_000_000, ..resting(0) }), []);
        let spawns = |at: u64| Work { processes: u32::try_from(at / 15 % 7).unwrap_or(0) + 1, ..resting(0) };
        assert_eq!(told(10, false, 36_000, spawns), []);
    }

    #[test]
    fn services_and_who_waits_for_input_do_not_stall() {
        assert_eq!(told(10, true, 36_000, |_| resting(0)), []);
        assert_eq!(told(10, false, 36_000, |_| Work { is_excused: true, ..resting(0) }), []);
    }

    #[test]
    fn without_a_rhythm_nothing_is_unusual() {
        let mut watch = StallWatch::new(Duration::ZERO, false);
        let looks = (0..10_000).filter_map(|at| watch.worked(SECOND * 15 * at, resting(0)));
        assert_eq!(looks.count(), 0, "a sleep that prints nothing");
        let mut watch = StallWatch::new(Duration::ZERO, false);
        for nth in 0..100 {
            watch.printed(Duration::from_millis(10) * nth);
        }
        let looks = (1..10_000).filter_map(|at| watch.worked(SECOND * 15 * at, resting(0)));
        assert_eq!(looks.count(), 0, "a banner, then silence");
    }

    #[test]
    fn a_job_that_goes_on_can_stall_again() {
        let mut watch = StallWatch::new(Duration::ZERO, false);
        let mut now = Duration::ZERO;
        let mut found = 0;
        for _ in 0..5 {
            for _ in 0..10 {
                now += SECOND * 10;
                watch.printed(now);
            }
            for _ in 0..40 {
                now += SECOND * 15;
                found += u32::from(watch.worked(now, resting(0)).is_some());
            }
        }
        assert_eq!(found, MOST_TOLD);
    }
}
