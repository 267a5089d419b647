//! `shell`: a command in a session.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Outcome, Progress, Readiness, SessionName, Status};
use crate::terminal::{CommandSpec, JobWish, Terminal, TerminalError};

use super::facts::{command_outcome, job_outcome};
use super::ready::{self, Ready};
use super::wait::seconds;
use super::{Attention, CallNames};

/// Arguments of `shell`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What to run; null to go on waiting for the command that runs in the session.
    #[serde(default)]
    pub command: Option<String>,
    /// The session's name; null for `main`.
    #[serde(default)]
    pub session: Option<String>,
    /// Directory to change to first; null to stay.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Honest estimate of the running time in seconds; null for unknown.
    #[serde(default)]
    pub expected_s: Option<f64>,
    /// Seconds after which to return if the command still runs; null for 120.
    #[serde(default)]
    pub yield_s: Option<f64>,
    /// True for a service: it is not expected to end by itself; null for false.
    #[serde(default)]
    pub service: Option<bool>,
    /// What shows that it is ready; the call returns when that has passed, or has not in time. Null: nothing.
    #[serde(default)]
    pub ready: Option<Ready>,
}

impl Args {
    /// The session that is meant.
    pub fn session_or_main(&self) -> &str {
        self.session.as_deref().unwrap_or("main")
    }
}

const DEFAULT_YIELD: Duration = Duration::from_secs(120);
const LONGEST_YIELD_S: f64 = 86_400.0;

/// Runs the command, or goes on waiting for the one that runs.
pub(super) async fn run(
    args: &Args,
    names: CallNames<'_>,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<Outcome, TerminalError> {
    let asked = match Asked::read(args) {
        Ok(asked) => asked,
        Err(text) => return Ok(Outcome::words(Status::Malformed, text)),
    };
    let Asked { session, yield_after, readiness } = asked;
    let is_service = args.service == Some(true) || readiness.is_some();
    let wish = JobWish { expected_s: args.expected_s, service: is_service, readiness: readiness.clone() };
    let mut tail = |tail| progress(Progress::Output { call: names.call.to_owned(), tail });
    let report = match &args.command {
        None => terminal.resume(&session, yield_after, &mut tail, attention.token()).await?,
        Some(command) => {
            let (id, command, cwd) = (names.work.to_owned(), command.clone().into_bytes(), args.cwd.clone());
            // Whether it is ready is waited for as with any other job.
            let yield_after = if readiness.is_some() { Duration::ZERO } else { yield_after };
            let spec = CommandSpec { id, session: session.clone(), command, cwd, yield_after };
            terminal.run(spec, &mut tail, attention.token()).await?
        }
    };
    match terminal.board().keep(&report, &session, wish) {
        Some(job) if readiness.is_some() && job.readiness == readiness => {
            ready::of_job(job.id, terminal, progress, attention).await
        }
        Some(job) => Ok(job_outcome(&report, job.id)),
        None => match readiness {
            Some(readiness) => ready::of_ended(&report, &readiness, terminal, progress, attention).await,
            None => Ok(command_outcome(&report)),
        },
    }
}

/// What is asked for, checked.
struct Asked {
    session: SessionName,
    yield_after: Duration,
    readiness: Option<Readiness>,
}

impl Asked {
    fn read(args: &Args) -> Result<Self, String> {
        let session = SessionName::new(args.session_or_main()).map_err(|error| format!("session: {error}"))?;
        if args.command.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err("command: is empty; null goes on waiting for the command that runs".to_owned());
        }
        let yield_after = match args.yield_s {
            None => DEFAULT_YIELD,
            Some(seconds) if (0.0..=LONGEST_YIELD_S).contains(&seconds) => Duration::from_secs_f64(seconds),
            Some(seconds) => return Err(format!("yield_s: {seconds} is not between 0 and {LONGEST_YIELD_S}")),
        };
        if let Some(expected) = args.expected_s {
            seconds("expected_s", expected)?;
        }
        let readiness = args.ready.as_ref().map(Ready::read).transpose()?;
        if readiness.is_some() && args.command.is_none() {
            return Err("ready: belongs to the call that starts the command; wait has conditions of its own".to_owned());
        }
        Ok(Self { session, yield_after, readiness })
    }
}
