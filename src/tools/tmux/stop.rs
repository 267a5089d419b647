//! Ending: signals to what runs in the foreground, one or a ladder of them, and the closing of a session.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Call, Done, Signal, failed};
use crate::domain::{Outcome, Status};
use crate::guest::{SessionInfo, Signalled, Stop};
use crate::terminal::{CommandReport, TerminalError};
use crate::tools::facts::command_outcome;

/// The rungs of the ladder, and how long each may take.
const LADDER: [(Stop, Duration); 3] = [
    (Stop::Interrupt, Duration::from_secs(3)),
    (Stop::Terminate, Duration::from_secs(4)),
    (Stop::Kill, Duration::from_secs(4)),
];

/// How long the end is waited for after a single signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a program that was typed by hand is looked at when it prints nothing: the kernel tells only its parent
/// that it has ended.
const LOOK_STEP: Duration = Duration::from_millis(100);

impl Call<'_> {
    pub(super) async fn signal(&self) -> Done {
        let info = self.session().await?;
        let foreground = self.terminal.guest().foreground(&info.session).await?;
        if foreground.at_prompt && info.command.is_none() {
            let name = &info.session;
            return Err(failed(format!("not sent: nothing runs in session {name}, its shell is at its prompt")));
        }
        let rungs: &[(Stop, Duration)] = match self.args.signal.unwrap_or(Signal::Int) {
            Signal::Int => &[(Stop::Interrupt, PATIENCE)],
            Signal::Term => &[(Stop::Terminate, PATIENCE)],
            Signal::Kill => &[(Stop::Kill, PATIENCE)],
            Signal::Ladder => &LADDER,
        };
        let mut steps = Vec::new();
        let mut ended = false;
        for (stop, patience) in rungs {
            let signalled = self.terminal.guest().signal(&info.session, *stop).await?;
            let begun = Instant::now();
            ended = self.ends_within(&info, *patience).await?;
            steps.push(step(*stop, &signalled, ended, begun.elapsed()));
            if ended || self.attention.is_cancelled() {
                break;
            }
        }
        Ok(self.after(&info, &steps, ended).await?)
    }

    /// Whether the command of a session, or what was started there by hand, ends in that time.
    async fn ends_within(&self, info: &SessionInfo, patience: Duration) -> Result<bool, TerminalError> {
        let guest = self.terminal.guest();
        let until = Instant::now() + patience;
        if let Some(command) = &info.command {
            return tokio::select! {
                ended = timeout_at(until, guest.ended(&command.id)) => Ok(ended.is_ok()),
                () = self.attention.cancelled() => Ok(false),
            };
        }
        let mut size = info.log_size;
        while Instant::now() < until {
            if guest.foreground(&info.session).await?.at_prompt {
                return Ok(true);
            }
            let next = (Instant::now() + LOOK_STEP).min(until);
            if let Ok(grown) = timeout_at(next, guest.growth(&info.log, size)).await {
                size = grown?;
            }
        }
        Ok(false)
    }

    async fn after(&self, info: &SessionInfo, steps: &[String], ended: bool) -> Result<Outcome, TerminalError> {
        let steps = steps.iter().map(|step| format!("[{step}]\n")).collect::<String>();
        let Some(command) = info.command.as_ref().filter(|_| ended) else {
            let status = if ended { Status::Ok } else { Status::Running };
            return Ok(Outcome::words(status, steps.trim_end()));
        };
        let report = self.terminal.look_up(&command.id, Duration::ZERO, &mut |_| {}, self.attention.token()).await?;
        Ok(ended_by_wish(&steps, &report))
    }

    pub(super) async fn close(&self) -> Done {
        let info = self.session().await?;
        let closed = self.terminal.guest().close(&info.session).await?;
        let mut text = format!("[session {} is closed]", info.session);
        if let Some(command) = &info.command {
            text.push_str(&format!("\n[it ended `{}`]", command.title));
        }
        if !closed.ended.is_empty() {
            text.push_str(&format!("\n[ended: {}]", closed.ended.join(", ")));
        }
        if !closed.left.is_empty() {
            text.push_str(&format!("\n[runs on, for it ignored the hang-up: {}]", closed.left.join(", ")));
        }
        Ok(Outcome::words(Status::Ok, text))
    }
}

/// The end of a command that was wanted is no failure of the call.
fn ended_by_wish(steps: &str, report: &CommandReport) -> Outcome {
    let outcome = command_outcome(report);
    Outcome { status: Status::Ok, text: format!("{steps}{}", outcome.text), ..outcome }
}

fn step(stop: Stop, to: &Signalled, ended: bool, took: Duration) -> String {
    let name = match stop {
        Stop::Interrupt => "SIGINT",
        Stop::Terminate => "SIGTERM",
        Stop::Kill => "SIGKILL",
    };
    let whom = match to.shell {
        true => format!("the shell itself (process group {})", to.group),
        false => format!("`{}` (process group {})", to.program, to.group),
    };
    let seconds = took.as_secs_f64();
    let then = if ended { format!("ended after {seconds:.2} s") } else { format!("still runs after {seconds:.1} s") };
    format!("{name} to {whom}: {then}")
}
