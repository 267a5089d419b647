//! What shows that a service is ready, as the model asks for it, and how it is told what came of it.

use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{JobId, Outcome, Probe, Progress, Readiness, Status, WakeCause};
use crate::guest::Condition;
use crate::terminal::wait::{WaitFor, WaitReport, WaitSpec};
use crate::terminal::{CommandReport, ReportState, Terminal, TerminalError};

use super::Attention;
use super::facts::{command_outcome, duration};
use super::wait::{heading, new_output, port_number, seconds, status_code, url};

/// The time within which a service must be ready, if none is said.
const DEFAULT_WITHIN_S: f64 = 60.0;

/// What shows that a service is ready: one of `port`, `url`, `pattern`, `command`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// A TCP port that accepts connections.
    pub port: Option<i64>,
    /// The port's host as the box sees it; null for 127.0.0.1.
    pub host: Option<String>,
    /// An `http://` or `https://` URL that answers.
    pub url: Option<String>,
    /// The status it must answer with; null for any 2xx or 3xx.
    pub status: Option<i64>,
    /// A regular expression that a line of its output must match.
    pub pattern: Option<String>,
    /// A command that must exit with 0 in a fresh shell.
    pub command: Option<String>,
    /// Seconds within which it must be ready; null for 60.
    pub within_s: Option<f64>,
}

impl Ready {
    /// The probe that is meant.
    ///
    /// # Errors
    /// Words by which the model can correct itself.
    pub(super) fn read(&self) -> Result<Readiness, String> {
        let probe = match (self.port, &self.url, &self.pattern, &self.command) {
            (Some(port), None, None, None) => Probe::Port {
                host: self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
                port: port_number("ready.port", port)?,
            },
            (None, Some(address), None, None) => Probe::Http {
                url: url("ready.url", address)?,
                status: self.status.map(|status| status_code("ready.status", status)).transpose()?,
            },
            (None, None, Some(pattern), None) => {
                Regex::new(pattern).map_err(|error| format!("ready.pattern: {error}"))?;
                Probe::Output { pattern: pattern.clone() }
            }
            (None, None, None, Some(command)) if command.trim().is_empty() => {
                return Err("ready.command: is empty".to_owned());
            }
            (None, None, None, Some(command)) => Probe::Command { command: command.clone() },
            _ => return Err("ready: takes exactly one of port, url, pattern, command".to_owned()),
        };
        let within_s = self.within_s.unwrap_or(DEFAULT_WITHIN_S);
        seconds("ready.within_s", within_s)?;
        Ok(Readiness { probe, within_s })
    }
}

/// Waits until the probe of a job has passed, or has not in time, or the job has ended.
pub(super) async fn of_job(
    job: JobId,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<Outcome, TerminalError> {
    let spec = WaitSpec { conditions: vec![WaitFor::Ready(job)], ..WaitSpec::default() };
    let report = wait(&spec, terminal, progress, attention).await?;
    let mut lines = vec![format!("[{}]", report.fired.what)];
    for news in &report.watched {
        lines.push(heading(&news.view));
        if news.view.end.is_none() {
            lines.push(format!("[job {job}: it runs on; wait for it with wait]"));
        }
        lines.push(new_output(news));
    }
    let mut outcome = Outcome::words(status(&report), lines.join("\n"));
    outcome.exit = report.fired.exit;
    outcome.duration_ms = u64::try_from(report.waited().as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}

/// The outcome of a command that ended before its probe was tried: where it went well it may have left a service behind,
/// which has the rest of its time.
pub(super) async fn of_ended(
    report: &CommandReport,
    readiness: &Readiness,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<Outcome, TerminalError> {
    let mut outcome = command_outcome(report);
    let condition = match &readiness.probe {
        Probe::Port { host, port } => Condition::Port { host: host.clone(), port: *port },
        Probe::Http { url, status } => Condition::Http { url: url.clone(), status: *status },
        Probe::Output { .. } | Probe::Command { .. } => return Ok(failed(outcome, "not ready: it has ended")),
    };
    if !matches!(report.state, ReportState::Ended { exit: Some(exit), .. } if exit.is_success()) {
        return Ok(failed(outcome, "not ready: it has ended"));
    }
    let deadline = Duration::try_from_secs_f64(readiness.within_s).ok();
    let spec = WaitSpec { conditions: vec![WaitFor::Seen(condition.clone())], deadline, ..WaitSpec::default() };
    let waited = wait(&spec, terminal, progress, attention).await?;
    match waited.fired.cause {
        WakeCause::Condition => {
            let after = duration(report.duration + waited.waited());
            outcome.text = format!("[ready after {after}, though the command has ended]\n{}", outcome.text);
            Ok(outcome)
        }
        WakeCause::Deadline => {
            let tried = terminal.guest().tried(condition).await.map_or(String::new(), |tried| tried.what);
            let within = readiness.within_s;
            let text = format!("not ready: the command has ended, its probe has not passed within {within} s: {tried}");
            Ok(failed(outcome, &text))
        }
        WakeCause::JobEnded | WakeCause::Problem | WakeCause::Person | WakeCause::Budget => {
            Ok(failed(outcome, &format!("not known to be ready: {}", waited.fired.what)))
        }
    }
}

async fn wait(
    spec: &WaitSpec,
    terminal: &Terminal,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<WaitReport, TerminalError> {
    let interrupted = async {
        attention.cancelled().await;
        (WakeCause::Person, "not known to be ready: a person interrupted".to_owned())
    };
    terminal.wait_for(spec, interrupted, &mut |standing| progress(Progress::Waiting(standing))).await
}

fn status(report: &WaitReport) -> Status {
    match (report.fired.failed, report.fired.cause) {
        (true, _) => Status::Failed,
        (false, WakeCause::Condition) => Status::Ok,
        // Whatever else ended it, nothing says that it is ready.
        (false, WakeCause::JobEnded) => Status::Failed,
        (false, WakeCause::Deadline | WakeCause::Problem | WakeCause::Person | WakeCause::Budget) => Status::Running,
    }
}

fn failed(outcome: Outcome, why: &str) -> Outcome {
    let text = format!("[{why}]\n{}", outcome.text);
    Outcome { status: Status::Failed, text, ..outcome }
}
