//! `shell`: a command in a session.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::domain::{Outcome, SessionName, Status};
use crate::terminal::{CommandSpec, JobWish, Terminal, TerminalError};

use super::facts::{command_outcome, job_outcome};

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
    id: &str,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(String) + Send),
    cancel: &CancellationToken,
) -> Result<Outcome, TerminalError> {
    let (session, yield_after) = match (SessionName::new(args.session_or_main()), yield_after(args)) {
        (Ok(session), Ok(yield_after)) => (session, yield_after),
        (Err(error), _) => return Ok(Outcome::words(Status::Malformed, format!("session: {error}"))),
        (_, Err(text)) => return Ok(Outcome::words(Status::Malformed, text)),
    };
    let report = match &args.command {
        None => terminal.resume(&session, yield_after, progress, cancel).await?,
        Some(command) if command.trim().is_empty() => {
            let text = "command: is empty; null goes on waiting for the command that runs";
            return Ok(Outcome::words(Status::Malformed, text));
        }
        Some(command) => {
            let (id, command, cwd) = (id.to_owned(), command.clone().into_bytes(), args.cwd.clone());
            terminal
                .run(CommandSpec { id, session: session.clone(), command, cwd, yield_after }, progress, cancel)
                .await?
        }
    };
    let wish = JobWish { expected_s: args.expected_s, service: args.service == Some(true), readiness: None };
    Ok(match terminal.board().keep(&report, &session, wish) {
        Some(job) => job_outcome(&report, job.id),
        None => command_outcome(&report),
    })
}

fn yield_after(args: &Args) -> Result<Duration, String> {
    match args.yield_s {
        None => Ok(DEFAULT_YIELD),
        Some(seconds) if (0.0..=LONGEST_YIELD_S).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Some(seconds) => Err(format!("yield_s: {seconds} is not between 0 and {LONGEST_YIELD_S}")),
    }
}
