//! Decides when a wait is over. Pure: it is told what was seen and what time it is, and asked when to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Fired, WaitFor, WaitSpec};
use crate::clock::Reading;
use crate::domain::{Exit, Finding, JobId, WakeCause};

/// A sleep does not see that the machine was suspended, nor that the wall clock was set: time that is kept on those
/// clocks is looked at this often at least.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// Something that was seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// A job has ended.
    Ended(JobId, Option<Exit>),
    /// A job has printed something.
    Grew(JobId),
    /// A line of a job's output matches the condition of that number.
    Matched(usize, JobId, String),
    /// The condition of that number is met, and how.
    Met(usize, String),
    /// The condition of that number can't be watched, and why.
    CannotWatch(usize, String),
    /// The probe of a job has passed after so long.
    Ready(JobId, Duration),
    /// The probe of a job has not passed, and why.
    NotReady(JobId, String),
    /// Something was noticed about a job.
    Found(JobId, Finding),
    /// Somebody or something ends the wait.
    Woken(WakeCause, String),
}

/// A wait under way.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    spec: &'a WaitSpec,
    named: BTreeSet<JobId>,
    begun: Reading,
    ended: BTreeMap<JobId, Option<Exit>>,
    printed: BTreeMap<JobId, Duration>,
    fired: Option<Fired>,
}

impl<'a> Engine<'a> {
    /// Begins.
    pub(super) fn new(spec: &'a WaitSpec, now: Reading) -> Self {
        let named = spec.conditions.iter().flat_map(WaitFor::jobs).collect();
        let (ended, printed) = (BTreeMap::new(), BTreeMap::new());
        Self { spec, named, begun: now, ended, printed, fired: None }
    }

    /// What ended the wait, if something has.
    pub(super) fn fired(&self) -> Option<&Fired> {
        self.fired.as_ref()
    }

    /// Takes in what was seen.
    pub(super) fn see(&mut self, seen: Seen, now: &Reading) {
        match seen {
            Seen::Ended(job, exit) => self.job_ended(job, exit),
            Seen::Grew(job) => {
                self.printed.insert(job, now.monotonic);
            }
            Seen::Matched(nth, job, line) => {
                let WaitFor::Output { pattern, .. } = &self.spec.conditions[nth] else { return };
                self.condition(Some(job), format!("output of {job} matches `{pattern}`: {line}"));
            }
            Seen::Met(nth, what) => self.condition(None, self.spec.conditions[nth].met_words(&what)),
            Seen::CannotWatch(nth, why) => {
                let what = format!("cannot wait for {}: {why}", self.spec.conditions[nth].words());
                self.fire(Fired { cause: WakeCause::Problem, what, job: None, failed: true, exit: None });
            }
            Seen::Ready(job, after) => {
                if self.waits_for_ready(job) {
                    self.condition(Some(job), format!("{job} is ready after {:.1} s", after.as_secs_f64()));
                }
            }
            Seen::NotReady(job, why) => {
                // Whoever waits for something else is told by the finding.
                if self.waits_for_ready(job) {
                    let (cause, what) = (WakeCause::Condition, format!("{job} is not ready: {why}"));
                    self.fire(Fired { cause, what, job: Some(job), failed: true, exit: None });
                }
            }
            Seen::Found(job, finding) => self.found(job, &finding),
            Seen::Woken(cause, what) => self.fire(Fired { cause, what, job: None, failed: false, exit: None }),
        }
        self.look(now);
    }

    /// Takes in what time it is.
    pub(super) fn look(&mut self, now: &Reading) {
        if self.silent_for(now).is_some_and(|(left, _)| left.is_zero()) {
            let (_, nth) = self.silent_for(now).expect("it was there a moment ago");
            self.condition(None, self.spec.conditions[nth].words());
        }
        if self.deadline_left(now).is_some_and(|left| left.is_zero()) {
            let what = match self.spec.until.filter(|until| now.wall >= *until) {
                Some(until) => format!("it is {until}"),
                None => "the deadline has come".to_owned(),
            };
            self.fire(Fired { cause: WakeCause::Deadline, what, job: None, failed: false, exit: None });
        }
    }

    /// Time until a look is worth while, even if nothing is seen.
    pub(super) fn next_look(&self, now: &Reading) -> Duration {
        let silence = self.silent_for(now).map_or(LOOK_AT_LEAST, |(left, _)| left);
        self.deadline_left(now).unwrap_or(LOOK_AT_LEAST).min(silence).min(LOOK_AT_LEAST)
    }

    /// Time until the wait ends at the latest, if it has a limit.
    pub(super) fn deadline_left(&self, now: &Reading) -> Option<Duration> {
        let by_time = self.spec.deadline.map(|deadline| deadline.saturating_sub(now.since(&self.begun)));
        let by_wall =
            self.spec.until.map(|until| Duration::try_from(until.duration_since(now.wall)).unwrap_or_default());
        by_time.into_iter().chain(by_wall).min()
    }

    /// The condition of silence that is nearest, and how much is missing.
    fn silent_for(&self, now: &Reading) -> Option<(Duration, usize)> {
        let of = |(nth, condition): (usize, &WaitFor)| {
            let WaitFor::Silence { lasting, jobs } = condition else { return None };
            let last = jobs.iter().filter_map(|job| self.printed.get(job)).max();
            let since = *last.unwrap_or(&self.begun.monotonic);
            Some((lasting.saturating_sub(now.monotonic.saturating_sub(since)), nth))
        };
        self.spec.conditions.iter().enumerate().filter_map(of).min()
    }

    fn job_ended(&mut self, job: JobId, exit: Option<Exit>) {
        self.ended.insert(job, exit);
        let failed = !exit.is_some_and(Exit::is_success);
        let what = format!("{job} ended: {}", exit.map_or("exit unknown".to_owned(), |exit| exit.to_string()));
        let fired = |cause| Fired { cause, what: what.clone(), job: Some(job), failed, exit };
        for condition in &self.spec.conditions {
            match condition {
                WaitFor::AnyEnd(jobs) if jobs.contains(&job) => return self.fire(fired(WakeCause::Condition)),
                WaitFor::AllEnd(jobs) if jobs.contains(&job) && jobs.iter().all(|job| self.ended.contains_key(job)) => {
                    let any_failed = jobs.iter().any(|job| !self.ended[job].is_some_and(Exit::is_success));
                    let what = format!("all have ended: {}", self.ends_of(jobs));
                    return self.fire(Fired { what, failed: any_failed, ..fired(WakeCause::Condition) });
                }
                _ => {}
            }
        }
        // Of what may leave a service behind the probe is the judge.
        let expected = |condition: &WaitFor| match condition {
            WaitFor::AllEnd(jobs) => jobs.contains(&job),
            WaitFor::Ready(of) => *of == job && !failed,
            _ => false,
        };
        let is_expected = self.spec.conditions.iter().any(expected);
        let concerns = if self.named.is_empty() { self.spec.any_end } else { self.named.contains(&job) };
        if concerns && (!is_expected || (failed && self.spec.problems)) {
            self.fire(fired(WakeCause::JobEnded));
        }
    }

    fn found(&mut self, job: JobId, finding: &Finding) {
        let failed = matches!(finding, Finding::NotReady { .. });
        if self.spec.problems && finding.is_problem() && !(failed && self.waits_for_ready(job)) {
            let what = format!("{job}: {}", finding.words());
            self.fire(Fired { cause: WakeCause::Problem, what, job: Some(job), failed, exit: None });
        }
    }

    fn ends_of(&self, jobs: &BTreeSet<JobId>) -> String {
        let of = |job: &JobId| {
            let exit = self.ended[job].map_or("exit unknown".to_owned(), |exit| exit.to_string());
            format!("{job} {exit}")
        };
        jobs.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    fn waits_for_ready(&self, job: JobId) -> bool {
        self.spec.conditions.iter().any(|condition| matches!(condition, WaitFor::Ready(of) if *of == job))
    }

    fn condition(&mut self, job: Option<JobId>, what: String) {
        self.fire(Fired { cause: WakeCause::Condition, what, job, failed: false, exit: None });
    }

    /// The first one counts.
    fn fire(&mut self, fired: Fired) {
        self.fired.get_or_insert(fired);
    }
}

#[cfg(test)]
mod tests;
