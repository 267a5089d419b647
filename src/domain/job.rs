//! Jobs: commands that outlive the call that started them, what is noticed about them, and the waits for them.

use serde::{Deserialize, Serialize};

use super::words::{duration_words, size_words};
use super::{Exit, Failure, JobId, SessionName};

/// A command that outlived its call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// The name under which the box knows the command.
    pub work: String,
    /// The session it runs in.
    pub session: SessionName,
    /// The beginning of the command's text.
    pub command: String,
    /// Where it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// How long the model thought that it would take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_s: Option<f64>,
    /// True for a service: it is not expected to end, and may be kept alive after the run.
    #[serde(default)]
    pub service: bool,
    /// How to learn that it is ready, where that is more than its being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// The session's raw log, relative to the run's directory.
    pub log: String,
    /// Where in that log the output begins.
    pub offset: u64,
}

impl Job {
    /// The name of the work with which its call began: later attempts of the same call have a number after it.
    pub fn call_work(&self) -> &str {
        call_work(&self.work)
    }
}

/// See [`Job::call_work`].
pub fn call_work(work: &str) -> &str {
    work.split_once('-').map_or(work, |(call, _)| call)
}

/// How to learn that a service is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is tried.
    pub probe: Probe,
    /// The time within which it must have passed, in seconds since the job's start.
    pub within_s: f64,
}

/// What shows that a service is ready. Ports and URLs are those that the box sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A TCP port that accepts connections.
    Port {
        /// The host, as the box sees it.
        host: String,
        /// The port.
        port: u16,
    },
    /// A URL that answers a GET.
    Http {
        /// `http://` or `https://`; a certificate is not checked.
        url: String,
        /// The status it must answer with; any 2xx or 3xx without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// A line of output that matches a regular expression.
    Output {
        /// The expression.
        pattern: String,
    },
    /// A command that exits with 0 in a fresh shell.
    Command {
        /// The command.
        command: String,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Its exit; None where it can't be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How long it ran.
    pub duration_ms: u64,
    /// Raw bytes that it wrote.
    pub size_bytes: u64,
    /// Processor time of its processes as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Most memory that its processes were seen to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// What else is to be known, such as that the session has another shell now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it comes from, where it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
}

/// Something noticed about a job that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Its probe has passed.
    Ready {
        /// Time since its start.
        after_ms: u64,
    },
    /// Its probe has not passed in time.
    NotReady {
        /// What the last try met.
        why: String,
    },
    /// It is silent for longer than its rhythm explains, and none of its processes works.
    Stalled {
        /// Time since its last output.
        silent_ms: u64,
        /// The longest silence that its rhythm explains.
        usual_ms: u64,
    },
    /// A metric that it prints is no longer a number or runs away.
    Diverged {
        /// The metric's name as printed.
        metric: String,
        /// The line.
        line: String,
    },
    /// The same error comes again and again.
    RepeatedErrors {
        /// How often so far.
        count: u64,
        /// The line as it first came.
        line: String,
    },
    /// A disk that the box writes to runs full.
    DiskFilling {
        /// A path on it.
        path: String,
        /// What is left.
        free_bytes: u64,
        /// Time until it is full if it goes on like this, where it can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        full_in_s: Option<u64>,
    },
    /// It waits for something to be typed.
    NeedsInput {
        /// What for.
        kind: InputKind,
        /// What stands on the screen where the cursor is.
        prompt: String,
    },
}

impl Finding {
    /// Whether it is a reason to wake whoever waits for problems. Readiness is not; that a service is not ready is.
    pub fn is_problem(&self) -> bool {
        !matches!(self, Self::Ready { .. })
    }

    /// In words, on one line as far as what it quotes is.
    pub fn words(&self) -> String {
        match self {
            Self::Ready { after_ms } => format!("ready after {}", duration_words(*after_ms)),
            Self::NotReady { why } => format!("not ready in time: {why}"),
            Self::Stalled { silent_ms, usual_ms } => format!(
                "stalled: silent for {} without working, {} at most before",
                duration_words(*silent_ms),
                duration_words(*usual_ms)
            ),
            Self::Diverged { metric, line } => format!("{metric} diverges: {line}"),
            Self::RepeatedErrors { count, line } => format!("the same error {count} times: {line}"),
            Self::DiskFilling { path, free_bytes, full_in_s } => {
                let full =
                    full_in_s.map(|seconds| format!(", full in {}", duration_words(seconds.saturating_mul(1000))));
                format!("disk of {path} fills up: {} left{}", size_words(*free_bytes), full.unwrap_or_default())
            }
            Self::NeedsInput { kind, prompt } => format!("waits for {}: {prompt}", kind.words()),
        }
    }
}

/// What a program that waits for input wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Yes or no.
    YesNo,
    /// A password or passphrase: only a person types that.
    Password,
    /// A key for the next page.
    Pager,
    /// The next line of an interactive language or client.
    Repl,
    /// Keys for an editor.
    Editor,
    /// Something else.
    Other,
}

impl BoxUsage {
    /// In words: `cpu 42.0 s, memory up to 1.0 GB, 107.3 GB of disk left, GPU Some GPU 88 % busy, up to 4.2 GB`.
    pub fn words(&self) -> String {
        let cpu = self.cpu_ms.map(|cpu| format!("cpu {}", duration_words(cpu)));
        let memory = self.memory_peak_bytes.map(|bytes| format!("memory up to {}", size_words(bytes)));
        let disk = self.disk_free_bytes.map(|bytes| format!("{} of disk left", size_words(bytes)));
        let gpus = self.gpus.iter().map(|gpu| {
            format!("GPU {} {:.0} % busy, up to {}", gpu.name, gpu.busy_percent, size_words(gpu.memory_peak_bytes))
        });
        [cpu, memory, disk].into_iter().flatten().chain(gpus).collect::<Vec<_>>().join(", ")
    }
}

impl InputKind {
    /// In words, after "waits for".
    pub fn words(self) -> &'static str {
        match self {
            Self::YesNo => "a yes or no",
            Self::Password => "a password",
            Self::Pager => "a key (pager)",
            Self::Repl => "the next line (interactive program)",
            Self::Editor => "keys (editor)",
            Self::Other => "input",
        }
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeCause {
    /// A condition that was asked for is met.
    Condition,
    /// The deadline has come.
    Deadline,
    /// A watched job has ended, though another condition was waited for.
    JobEnded,
    /// Something was found that may be a problem.
    Problem,
    /// A person said something, or interrupted.
    Person,
    /// The run's time is over.
    Budget,
}

impl WakeCause {
    /// In a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Self::Condition => "condition met",
            Self::Deadline => "deadline",
            Self::JobEnded => "job ended",
            Self::Problem => "problem",
            Self::Person => "person",
            Self::Budget => "time is over",
        }
    }
}

/// What is recorded of a wait: no model request was made while it lasted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitRecord {
    /// The call that waited.
    pub call_id: String,
    /// Why it ended.
    pub cause: WakeCause,
    /// What happened, in one line.
    pub what: String,
    /// How long it waited while the machine was awake.
    pub waited_ms: u64,
    /// How long the machine was suspended meanwhile.
    #[serde(default)]
    pub suspended_ms: u64,
    /// How long the model thought that it would take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_s: Option<f64>,
}

/// What a box has used, from samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoxUsage {
    /// Over which time.
    pub over_ms: u64,
    /// Processor time of all its processes, where it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Most memory that was seen in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The least room that was seen on the workspace's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// Its GPUs; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuUsage>,
}

/// What a GPU was used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuUsage {
    /// Its name.
    pub name: String,
    /// Mean of the samples of its utilisation, in percent.
    pub busy_percent: f64,
    /// Most memory that was seen in use.
    pub memory_peak_bytes: u64,
}

/// What kind of thing the harness noticed about itself or its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The terminal is gone; the run goes on without it.
    Headless,
    /// The channel to the box broke and is there again.
    Reconnected,
    /// Output could not be kept: a log is at its limit, or the disk is full.
    OutputLost,
    /// The machine was suspended, or its clock was set.
    ClockJumped,
    /// Services were left running at the end.
    ServicesKept,
    /// A checkpoint could not be taken.
    CheckpointFailed,
    /// Most of the budget is spent.
    BudgetNear,
    /// A document of the project is not shown to the model, or not all of it.
    DocLeftOut,
    /// The model's server counts fewer tokens than it was sent.
    TokensMissing,
    /// Files were to be protected, and there are none.
    NothingProtected,
    /// A person asked for a smaller conversation, and there was nothing to leave out.
    NothingToReduce,
    /// An answer that lay in the inbox answers nothing.
    AnswerUnused,
    /// What was learned can't be kept, or could not be read.
    LessonsLost,
}
