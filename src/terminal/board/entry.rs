//! A job as the board knows it, and as others see it.

use std::time::Duration;

use crate::domain::{Finding, Job, JobEnd, JobId};

/// Where the probe of a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyState {
    /// It has not passed yet.
    Trying,
    /// It has passed.
    Ready {
        /// Time since the job's start.
        after: Duration,
    },
    /// It has not passed in time, or the job ended before.
    NotReady {
        /// What the last try met.
        why: String,
    },
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its facts.
    pub job: Job,
    /// Time since its start, or how long it ran.
    pub elapsed: Duration,
    /// Lines that it has printed; an estimate where they pour.
    pub lines: u64,
    /// The last of them.
    pub last_line: String,
    /// Progress as the job itself prints it, in words.
    pub progress: Option<String>,
    /// Its probe, if it has one.
    pub ready: Option<ReadyState>,
    /// How it ended, if it has.
    pub end: Option<JobEnd>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

/// A job and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its facts.
    pub(super) job: Job,
    /// By [`crate::clock::Clock::since_boot`].
    pub(super) began: Duration,
    /// The guest's name of its log.
    pub(super) log: String,
    /// Up to where in the log its output was shown.
    pub(super) seen: u64,
    /// Where in the log its output begins, since that is known: what is before is the shell's.
    pub(super) begins: Option<u64>,
    /// Lines that it has printed.
    pub(super) lines: u64,
    /// The last of them.
    pub(super) last_line: String,
    /// Its progress in words.
    pub(super) progress: Option<String>,
    /// Processor time of its processes as last seen.
    pub(super) cpu: Option<Duration>,
    /// Most memory that they were seen to hold.
    pub(super) memory_peak: Option<u64>,
    /// How it ended.
    pub(super) end: Option<JobEnd>,
    /// The last lines that it printed, where it has failed.
    pub(super) last_lines: String,
    /// Its probe.
    pub(super) ready: Option<ReadyState>,
    /// What was noticed.
    pub(super) findings: Vec<Finding>,
    /// What was noticed, stands, and has ended no wait yet.
    pub(super) untold: Vec<Finding>,
}

/// Where the output of a job is.
#[derive(Debug, Clone)]
pub(in crate::terminal) struct Source {
    /// The job.
    pub(in crate::terminal) job: JobId,
    /// The name under which the box knows it.
    pub(in crate::terminal) work: String,
    /// The guest's name of its log.
    pub(in crate::terminal) log: String,
    /// Up to where in the log its output was shown.
    pub(in crate::terminal) seen: u64,
    /// Where it ends, if it has ended.
    pub(in crate::terminal) end: Option<u64>,
}

impl Entry {
    /// A job that has begun.
    pub(super) fn new(job: Job, began: Duration, log: String, seen: u64) -> Self {
        let ready = job.readiness.as_ref().map(|_| ReadyState::Trying);
        Self {
            job,
            began,
            log,
            seen,
            begins: None,
            lines: 0,
            last_line: String::new(),
            progress: None,
            cpu: None,
            memory_peak: None,
            end: None,
            last_lines: String::new(),
            ready,
            findings: Vec::new(),
            untold: Vec::new(),
        }
    }

    /// How it stands.
    pub(super) fn view(&self, now: Duration) -> JobView {
        let ran = self.end.as_ref().map(|end| Duration::from_millis(end.duration_ms));
        JobView {
            job: self.job.clone(),
            elapsed: ran.unwrap_or_else(|| now.saturating_sub(self.began)),
            lines: self.lines,
            last_line: self.last_line.clone(),
            progress: self.progress.clone(),
            ready: self.ready.clone(),
            end: self.end.clone(),
            findings: self.findings.clone(),
        }
    }

    /// Where its output is.
    pub(super) fn source(&self) -> Source {
        Source {
            job: self.job.id,
            work: self.job.work.clone(),
            log: self.log.clone(),
            seen: self.seen.max(self.begins.unwrap_or(0)),
            end: self.end.as_ref().map(|end| self.job.offset + end.size_bytes),
        }
    }

    /// It has printed something: it neither stands still nor waits for an answer any more.
    pub(super) fn goes_on(&mut self) {
        self.untold.retain(|finding| !matches!(finding, Finding::Stalled { .. } | Finding::NeedsInput { .. }));
    }
}
