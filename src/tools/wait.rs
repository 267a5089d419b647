//! `wait`: the model sleeps, the harness watches.

mod spec;
mod told;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::domain::{Outcome, Progress, Status, WaitRecord, WakeCause};
use crate::terminal::{JobView, Terminal, TerminalError};

use super::{Attention, Left};

pub(super) use spec::{port_number, seconds, status_code, url};
pub(super) use told::{heading, new_output};

/// Arguments of `wait`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Args {
    /// Jobs of which any must end: ids such as `j1`, or session names; null for none.
    #[serde(deserialize_with = "one_or_many")]
    pub exit: Option<Vec<String>>,
    /// Jobs that must all end; null for none.
    #[serde(deserialize_with = "one_or_many")]
    pub all: Option<Vec<String>>,
    /// A job whose probe must pass; null for none.
    pub ready: Option<String>,
    /// A pattern in new output; null for none.
    pub output: Option<Output>,
    /// No output for some time; null for none.
    pub silence: Option<Silence>,
    /// A job or session that must wait for something to be typed; null for none.
    pub input: Option<String>,
    /// A TCP port that must accept connections; null for none.
    pub port: Option<Port>,
    /// A URL that must answer; null for none.
    pub http: Option<Http>,
    /// A path that must come, change or go; null for none.
    pub file: Option<File>,
    /// The box's processors at rest; null for none.
    pub cpu_idle: Option<Idle>,
    /// The GPUs at rest; null for none.
    pub gpu_idle: Option<Idle>,
    /// Seconds after which to return at the latest; null for no limit.
    pub deadline_s: Option<f64>,
    /// Moment at which to return at the latest, such as `2026-11-23T09:00Z`; null for none.
    pub until: Option<String>,
    /// Honest estimate of how long it will take, in seconds; null for unknown.
    pub expected_s: Option<f64>,
    /// What else wakes; null for `problem`.
    pub wake_on: Option<WakeOn>,
}

/// A pattern in new output.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Regular expression; a line of output that was not shown yet must match.
    pub pattern: String,
    /// Job id or session name; null for all jobs that run.
    #[serde(default)]
    pub job: Option<String>,
}

/// No output for some time.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// For how many seconds.
    pub for_s: f64,
    /// Job id or session name; null for all jobs that run.
    #[serde(default)]
    pub job: Option<String>,
}

/// A TCP port.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// From 1 to 65535.
    pub port: i64,
    /// As the box sees it; null for 127.0.0.1.
    #[serde(default)]
    pub host: Option<String>,
}

/// A URL.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `http://` or `https://`, as the box sees it.
    pub url: String,
    /// The status it must answer with; null for any 2xx or 3xx.
    #[serde(default)]
    pub status: Option<i64>,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// What must become of it; null for `exists`.
    #[serde(default)]
    pub becomes: Option<Becomes>,
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Becomes {
    /// It is there.
    Exists,
    /// It is another than when the wait began.
    Changes,
    /// It is not there.
    Gone,
}

/// Something at rest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// Busy for less than this, in percent of one.
    pub below_percent: f64,
    /// For so many seconds.
    pub for_s: f64,
}

/// What wakes beside the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WakeOn {
    /// A sign of a problem with any job: it stalls, diverges, repeats an error, needs input, a disk runs full.
    Problem,
    /// Nothing but the conditions, the end of jobs that they name, a person, and the run's limits.
    Conditions,
}

/// Waits; returns the outcome and, where it did wait, the record.
pub(super) async fn run(
    args: &Args,
    call: &str,
    left: Option<&Left>,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<(Outcome, Option<WaitRecord>), TerminalError> {
    let mut jobs = terminal.board().jobs();
    if let Some(left) = left {
        // What has ended since the wait began was alive when it did.
        let has_ended = |view: &JobView| left.ended_before.contains(&view.job.id);
        jobs.iter_mut().filter(|view| !has_ended(view)).for_each(|view| view.end = None);
    }
    let sessions: Vec<_> = terminal.sessions().await?.into_iter().map(|info| info.session).collect();
    let known = spec::Known { jobs: &jobs, sessions: &sessions, workspace: terminal.workspace() };
    let mut spec = match spec::spec(args, &known) {
        Ok(spec) => spec,
        Err(text) => return Ok((Outcome::words(Status::Malformed, text), None)),
    };
    if let Some(left) = left {
        let gone = Duration::try_from(terminal.clock().now().duration_since(left.begun)).unwrap_or_default();
        spec.deadline = spec.deadline.map(|deadline| deadline.saturating_sub(gone));
        spec.ended_before = Some(left.ended_before.clone());
    }
    let interrupted = async {
        tokio::select! {
            biased;
            // First, since who ends all calls for a reason gives the reason before.
            woken = attention.woken() => woken,
            () = attention.cancelled() => (WakeCause::Person, "a person interrupted".to_owned()),
        }
    };
    let mut show = |standing| progress(Progress::Waiting(standing));
    let report = terminal.wait_for(&spec, interrupted, &mut show).await?;
    let (outcome, record) = told::outcome(args, call, &report);
    Ok((outcome, Some(record)))
}

/// A list, or its only item.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let given: Option<OneOrMany> = Option::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("expected a list of job ids or session names"))?;
    Ok(given.map(|given| match given {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    }))
}
