//! Waiting for what happens in a box: what can be waited for, and what came of it.

mod engine;
mod run;
mod sources;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use regex::Regex;

use super::{Excerpt, JobView};
use crate::clock::Reading;
use crate::domain::{Exit, JobId, SessionName, WakeCause};
use crate::guest::{Condition, FileChange};

/// What is waited for: the first of the conditions that is met ends the wait.
#[derive(Debug, Clone, Default)]
pub struct WaitSpec {
    /// The conditions.
    pub conditions: Vec<WaitFor>,
    /// Time after which it ends at the latest, suspension of the machine included.
    pub deadline: Option<Duration>,
    /// Moment of the wall clock at which it ends at the latest.
    pub until: Option<Timestamp>,
    /// Whether signs of a problem end it, too.
    pub problems: bool,
    /// Whether the end of any job does where the conditions name none.
    pub any_end: bool,
    /// The jobs whose end is no news, for a wait that began earlier; those that have ended without.
    pub ended_before: Option<BTreeSet<JobId>>,
}

/// Something that can be waited for.
#[derive(Debug, Clone)]
pub enum WaitFor {
    /// The end of any of these jobs.
    AnyEnd(BTreeSet<JobId>),
    /// The end of all of them.
    AllEnd(BTreeSet<JobId>),
    /// The probe of a job.
    Ready(JobId),
    /// A line of output, not shown yet, that matches.
    Output {
        /// The expression.
        pattern: Regex,
        /// Whose output.
        jobs: BTreeSet<JobId>,
    },
    /// No output of any of these jobs.
    Silence {
        /// For how long, while the machine is awake.
        lasting: Duration,
        /// Whose output.
        jobs: BTreeSet<JobId>,
    },
    /// The foreground of a session waits for something to be typed.
    Input {
        /// The session.
        session: SessionName,
        /// The job that runs in it.
        job: Option<JobId>,
    },
    /// Something that the guest sees.
    Seen(Condition),
}

impl WaitFor {
    /// The jobs that it is about.
    fn jobs(&self) -> BTreeSet<JobId> {
        match self {
            Self::AnyEnd(jobs) | Self::AllEnd(jobs) => jobs.clone(),
            Self::Output { jobs, .. } | Self::Silence { jobs, .. } => jobs.clone(),
            Self::Ready(job) => BTreeSet::from([*job]),
            Self::Input { job, .. } => job.iter().copied().collect(),
            Self::Seen(_) => BTreeSet::new(),
        }
    }

    /// In words, such as `the end of j1`.
    pub fn words(&self) -> String {
        match self {
            Self::AnyEnd(jobs) => format!("the end of {}", list(jobs, " or ")),
            Self::AllEnd(jobs) => format!("the end of {}", list(jobs, " and ")),
            Self::Ready(job) => format!("{job} to be ready"),
            Self::Output { pattern, jobs } => format!("output of {} that matches `{pattern}`", list(jobs, " or ")),
            Self::Silence { lasting, jobs } => {
                format!("{} s without output of {}", lasting.as_secs_f64(), list(jobs, " and "))
            }
            Self::Input { session, .. } => format!("session {session} to wait for input"),
            Self::Seen(condition) => in_words(condition).0,
        }
    }

    /// What has happened when it is met, in words; `what` was seen.
    fn met_words(&self, what: &str) -> String {
        match self {
            Self::Input { session, .. } => format!("session {session} {what}"),
            Self::Seen(condition) => format!("{} ({what})", in_words(condition).1),
            Self::AnyEnd(_) | Self::AllEnd(_) | Self::Ready(_) | Self::Output { .. } | Self::Silence { .. } => {
                format!("{}: {what}", self.words())
            }
        }
    }
}

fn list(jobs: &BTreeSet<JobId>, between: &str) -> String {
    jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(between)
}

/// A condition as what is waited for, and as what has happened.
fn in_words(condition: &Condition) -> (String, String) {
    let (subject, waited, met) = match condition {
        Condition::Input { session } => (format!("session {session}"), "to wait for input", "waits for input"),
        Condition::Port { host, port } => {
            (format!("port {host}:{port}"), "to accept connections", "accepts connections")
        }
        Condition::Http { url, .. } => (url.clone(), "to answer", "answers"),
        Condition::File { path, change: FileChange::Exists } => (path.clone(), "to be there", "is there"),
        Condition::File { path, change: FileChange::Changes } => (path.clone(), "to change", "has changed"),
        Condition::File { path, change: FileChange::Gone } => (path.clone(), "to be gone", "is gone"),
        Condition::CpuIdle { .. } => ("the processors".to_owned(), "to be idle", "are idle"),
        Condition::GpuIdle { .. } => ("the GPUs".to_owned(), "to be idle", "are idle"),
    };
    (format!("{subject} {waited}"), format!("{subject} {met}"))
}

/// What ended a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The kind.
    pub cause: WakeCause,
    /// What happened, in one line.
    pub what: String,
    /// The job that it happened to, if one.
    pub job: Option<JobId>,
    /// Whether it says that something failed: a job that did, a probe that did not pass.
    pub failed: bool,
    /// The exit of that job, where that ended the wait.
    pub exit: Option<Exit>,
}

/// What came of a wait.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitReport {
    /// What ended it.
    pub fired: Fired,
    /// When it began.
    pub begun: Reading,
    /// When it ended.
    pub ended: Reading,
    /// The jobs that it was about and those to which something happened, with what is new of their output.
    pub watched: Vec<JobNews>,
    /// The other jobs that run.
    pub others: Vec<JobView>,
}

impl WaitReport {
    /// How long it waited while the machine was awake.
    pub fn waited(&self) -> Duration {
        self.ended.awake_since(&self.begun)
    }

    /// How long the machine was suspended meanwhile.
    pub fn suspended(&self) -> Duration {
        self.ended.suspended_since(&self.begun)
    }
}

/// A job and what is new of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct JobNews {
    /// The job.
    pub view: JobView,
    /// Raw bytes that were not shown before.
    pub new_bytes: u64,
    /// What is shown of them.
    pub excerpt: Excerpt,
}
