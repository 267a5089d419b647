//! What a failed command comes from: gathered around each call and with the end of each job, told to the model and recorded.

use std::collections::BTreeMap;

use super::driver::Driver;
use super::work::Bench;
use crate::domain::{Event, Job, JobEnd, JobId, Outcome, Status};
use crate::recovery::{Evidence, Full};
use crate::tools::{Action, Counted, FullDisk, Workbench};

/// What the box had counted before some calls.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// None where none of them runs a command.
    counted: Option<Counted>,
    by_jobs: Counts,
}

/// What the box has counted while calls ran.
#[derive(Debug, Default)]
pub(super) struct Meanwhile {
    counts: Counts,
    /// A disk without room.
    full: Option<FullDisk>,
    /// Whether it had room before.
    ran_full: bool,
}

/// What the counters of a box have gone up by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    oom_kills: u64,
    forks_denied: u64,
}

/// Whose doing what the box has counted was: each victim counts once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What the box had counted when each live job began.
    jobs: BTreeMap<JobId, (Job, Counts)>,
    /// What jobs were found to have done.
    by_jobs: Counts,
    /// Failures of jobs that no call has told of, in words.
    untold: Vec<String>,
}

impl Counts {
    fn of(counted: &Counted) -> Self {
        Self { oom_kills: counted.oom_kills.unwrap_or(0), forks_denied: counted.forks_denied.unwrap_or(0) }
    }

    fn since(self, before: Self) -> Self {
        Self {
            oom_kills: self.oom_kills.saturating_sub(before.oom_kills),
            forks_denied: self.forks_denied.saturating_sub(before.forks_denied),
        }
    }

    fn add(&mut self, more: Self) {
        self.oom_kills += more.oom_kills;
        self.forks_denied += more.forks_denied;
    }
}

impl Before {
    /// Looks now, if any of the calls runs a command.
    pub(super) async fn look<'a>(
        bench: &Workbench,
        mut actions: impl Iterator<Item = &'a Action>,
        tally: &Tally,
    ) -> Self {
        match actions.any(|action| command(action).is_some()) {
            true => Self { counted: Some(bench.counted().await), by_jobs: tally.by_jobs },
            false => Self::default(),
        }
    }

    /// What was counted since, but for what jobs have done. No job is taken for it any more.
    pub(super) async fn meanwhile(self, bench: &Workbench, tally: &mut Tally) -> Meanwhile {
        let Some(before) = self.counted else { return Meanwhile::default() };
        let now = bench.counted().await;
        let all = Counts::of(&now).since(Counts::of(&before));
        let counts = all.since(tally.by_jobs.since(self.by_jobs));
        tally.jobs.values_mut().for_each(|(_, baseline)| baseline.add(counts));
        let ran_full = now.full.iter().find(|full| !before.full.contains(full)).cloned();
        let full = ran_full.clone().or_else(|| now.full.first().cloned());
        Meanwhile { counts, full, ran_full: ran_full.is_some() }
    }
}

impl Driver {
    /// The outcome with its failure, if it is one: after the line of facts, so that the output stays as it was.
    pub(super) fn with_failure(&mut self, action: &Action, outcome: Outcome, meanwhile: &Meanwhile) -> Outcome {
        if let Action::Wait(_) = action {
            return self.with_failures_of_jobs(outcome);
        }
        let (Some(command), Some(exit)) = (command(action), outcome.exit) else { return outcome };
        if outcome.status == Status::Running {
            return outcome;
        }
        let (facts, output) = outcome.text.split_once('\n').unwrap_or((&outcome.text, ""));
        let full = meanwhile.full.as_ref();
        let evidence = Evidence {
            command,
            exit: Some(exit),
            output,
            oom_kills: meanwhile.counts.oom_kills,
            forks_denied: meanwhile.counts.forks_denied,
            full: full.map(|full| Full { path: &full.path, of_inodes: full.of_inodes, meanwhile: meanwhile.ran_full }),
        };
        let Some(failure) = self.classifier.classify(&evidence) else { return outcome };
        let text = match self.state.failures().words(&failure, output) {
            Some(words) if output.is_empty() => format!("{facts}\n{words}"),
            Some(words) => format!("{facts}\n{words}\n{output}"),
            None => outcome.text.clone(),
        };
        Outcome { failure: Some(Box::new(failure)), text, ..outcome }
    }

    /// What a wait tells, with what the jobs that have failed meanwhile come from.
    fn with_failures_of_jobs(&mut self, outcome: Outcome) -> Outcome {
        let untold = std::mem::take(&mut self.tally.untold);
        let text = untold.iter().fold(outcome.text.clone(), |text, words| format!("{}\n{words}", text.trim_end()));
        Outcome { text, ..outcome }
    }

    /// The event as it is recorded: the end of a job with what it comes from, where it has failed.
    pub(super) fn with_evidence(&mut self, event: Event) -> Event {
        let counts = || match &self.bench {
            Bench::Open(bench) => Counts::of(&bench.counted_now()),
            Bench::Opening(_) | Bench::Gone => Counts::default(),
        };
        match event {
            Event::JobStarted { job } => {
                let counts = counts();
                self.tally.jobs.insert(job.id, (job.clone(), counts));
                Event::JobStarted { job }
            }
            Event::JobEnded { job, end } => {
                // What ends with its box is ended by whoever closes that.
                let Bench::Open(bench) = &self.bench else { return Event::JobEnded { job, end } };
                let (now, last) = (counts(), bench.terminal().board().last_lines(job));
                Event::JobEnded { job, end: self.with_failure_of_job(job, end, now, &last) }
            }
            event => event,
        }
    }

    fn with_failure_of_job(&mut self, id: JobId, end: JobEnd, now: Counts, output: &str) -> JobEnd {
        // A job that an earlier driver has started: what was counted then is not known.
        let known = self.tally.jobs.remove(&id);
        let known = known.or_else(|| Some((self.state.jobs().get(id)?.job.clone(), now)));
        let (Some((job, baseline)), Some(exit)) = (known, end.exit) else { return end };
        let counts = now.since(baseline);
        // Beside other jobs nobody can tell whose victim it was, unless it has failed.
        if exit.is_success() && !self.tally.jobs.is_empty() {
            return end;
        }
        let Counts { oom_kills, forks_denied } = counts;
        let evidence =
            Evidence { command: &job.command, exit: Some(exit), output, oom_kills, forks_denied, full: None };
        let Some(failure) = self.classifier.classify(&evidence).map(Box::new) else { return end };
        self.tally.by_jobs.add(counts);
        self.tally.jobs.values_mut().for_each(|(_, baseline)| baseline.add(counts));
        let words = self.state.failures().words(&failure, "");
        self.tally.untold.extend(words.map(|words| format!("{id}: {words}")));
        JobEnd { failure: Some(failure), ..end }
    }
}

/// The command that a call runs.
fn command(action: &Action) -> Option<&str> {
    match action {
        Action::Shell(args) => args.command.as_deref(),
        _ => None,
    }
}
