//! `container`: what the box is, and services beside it.

mod beside;
mod copy;
mod info;
mod ready;
mod session;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Event, Outcome, Progress, Status};
use crate::guest::GuestError;
use crate::sandbox::{Sandbox, SandboxError, SidecarName, Sidecars};
use crate::terminal::{Terminal, TerminalError};

use super::ready::Ready;
use super::{Attention, CallNames};

/// Arguments of `container`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What to do.
    pub action: Verb,
    /// The sidecar's name, which is also its host name; null only for `info`.
    #[serde(default)]
    pub name: Option<String>,
    /// `start`: the image; null in a box that is no container.
    #[serde(default)]
    pub image: Option<String>,
    /// `start`: what its shell runs; null for what the image runs by itself.
    #[serde(default)]
    pub command: Option<String>,
    /// `start`: variables, each as `NAME=value`; null for none.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// `start`: what shows that it is ready; null: nothing.
    #[serde(default)]
    pub ready: Option<Ready>,
    /// `logs`: how many lines from the end; null for 100.
    #[serde(default)]
    pub lines: Option<i64>,
    /// `copy_in`: a path in the box; `copy_out`: a path in the sidecar.
    #[serde(default)]
    pub from: Option<String>,
    /// `copy_in`: the path it gets in the sidecar; `copy_out`: the path it gets in the box.
    #[serde(default)]
    pub to: Option<String>,
}

/// What `container` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Tells what the box is.
    Info,
    /// Starts a sidecar.
    Start,
    /// Stops a sidecar.
    Stop,
    /// Tells how a sidecar stands.
    Inspect,
    /// Shows what a sidecar has printed.
    Logs,
    /// Copies from the box into a sidecar.
    CopyIn,
    /// Copies from a sidecar into the box.
    CopyOut,
}

/// A call that is under way.
struct Call<'a> {
    args: &'a Args,
    names: CallNames<'a>,
    /// The run, for commands that a person can use.
    run: &'a str,
    workspace: &'a str,
    sandbox: &'a dyn Sandbox,
    terminal: &'a Terminal,
    attention: &'a Attention,
}

/// What came of a call, and what belongs into the record before it.
type Done = Result<(Outcome, Vec<Event>), Stop>;

/// Why a call goes no further.
enum Stop {
    /// The model is told what is wrong.
    Told(Outcome),
    /// What the guest or the channel to it says.
    Terminal(TerminalError),
}

impl From<TerminalError> for Stop {
    fn from(error: TerminalError) -> Self {
        Self::Terminal(error)
    }
}

impl From<GuestError> for Stop {
    fn from(error: GuestError) -> Self {
        Self::Terminal(TerminalError::Guest(error))
    }
}

impl From<SandboxError> for Stop {
    fn from(error: SandboxError) -> Self {
        let because = error.because.map(|because| format!("\nbecause: {because}")).unwrap_or_default();
        let hint = error.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        failed(format!("{}{because}{hint}", error.what))
    }
}

/// Where a call happens.
pub(super) struct Place<'a> {
    /// The run.
    pub(super) run: &'a str,
    /// The project directory.
    pub(super) workspace: &'a str,
    /// The box.
    pub(super) sandbox: &'a dyn Sandbox,
    /// Its sessions.
    pub(super) terminal: &'a Terminal,
}

/// Does what was asked.
pub(super) async fn run(
    args: &Args,
    names: CallNames<'_>,
    place: Place<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
    attention: &Attention,
) -> Result<(Outcome, Vec<Event>), TerminalError> {
    let Place { run, workspace, sandbox, terminal } = place;
    let call = Call { args, names, run, workspace, sandbox, terminal, attention };
    let done = match (args.action, sandbox.sidecars()) {
        (Verb::Info, _) => call.info().await,
        (Verb::Start, Some(beside)) => call.start(beside).await,
        (Verb::Stop, Some(beside)) => call.stop(beside).await,
        (Verb::Inspect, Some(beside)) => call.inspect(beside).await,
        (Verb::Logs, Some(beside)) => call.logs(beside).await,
        (Verb::CopyIn, Some(beside)) => call.copy_in(beside).await,
        (Verb::CopyOut, Some(beside)) => call.copy_out(beside).await,
        (Verb::Start, None) => call.start_session(progress).await,
        (Verb::Stop, None) => call.stop_session().await,
        (Verb::Inspect, None) => call.inspect_session().await,
        (Verb::Logs, None) => call.session_logs().await,
        (Verb::CopyIn | Verb::CopyOut, None) => {
            Err(failed("not copied: this box is no container, its services see the same files as you do"))
        }
    };
    match done {
        Ok(done) => Ok(done),
        Err(Stop::Told(outcome)) => Ok((outcome, Vec::new())),
        Err(Stop::Terminal(error)) => Err(error),
    }
}

/// What came of a call whose driver went before it had an outcome, where that can be seen; what can't is done again.
pub(super) async fn settled(args: &Args, sandbox: &dyn Sandbox) -> Option<Outcome> {
    let name = SidecarName::new(args.name.as_deref()?).ok()?;
    let all = sandbox.sidecars()?.list().await.ok()?;
    let there = all.iter().find(|one| one.name == name);
    match (args.action, there) {
        (Verb::Start, Some(one)) if one.is_up => {
            let text = format!("[sidecar {name} is up; whether it is ready was not seen: the agent was interrupted]");
            Some(Outcome::words(Status::Ok, text))
        }
        (Verb::Stop, None) => Some(Outcome::words(Status::Ok, format!("[sidecar {name} is stopped and removed]"))),
        (
            Verb::Start | Verb::Stop | Verb::Info | Verb::Inspect | Verb::Logs | Verb::CopyIn | Verb::CopyOut,
            Some(_) | None,
        ) => None,
    }
}

impl Call<'_> {
    fn name(&self) -> Result<SidecarName, Stop> {
        let Some(text) = self.args.name.as_deref() else { return Err(malformed("name: is missing")) };
        SidecarName::new(text).map_err(|error| malformed(format!("name: {error}")))
    }

    fn env(&self) -> Result<BTreeMap<String, String>, Stop> {
        let fits = |name: &str| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
        };
        let mut env = BTreeMap::new();
        for pair in self.args.env.iter().flatten() {
            let (name, value) = pair.split_once('=').filter(|(name, _)| fits(name)).ok_or_else(|| {
                let shown: String = pair.escape_debug().take(40).collect();
                malformed(format!("env: `{shown}` is not NAME=value"))
            })?;
            env.insert(name.to_owned(), value.to_owned());
        }
        Ok(env)
    }

    fn lines(&self) -> Result<u32, Stop> {
        const MOST: i64 = 2_000;
        match self.args.lines {
            None => Ok(100),
            Some(lines) if (1..=MOST).contains(&lines) => Ok(u32::try_from(lines).unwrap_or(100)),
            Some(lines) => Err(malformed(format!("lines: {lines} is not between 1 and {MOST}"))),
        }
    }

    async fn find(&self, beside: &dyn Sidecars) -> Result<crate::sandbox::Sidecar, Stop> {
        let name = self.name()?;
        let all = beside.list().await?;
        let names = all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are {names}") };
        let found = all.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| failed(format!("this run has no sidecar `{name}`; {there}")))
    }
}

/// A call that makes no sense as it is.
fn malformed(text: impl Into<String>) -> Stop {
    Stop::Told(Outcome::words(Status::Malformed, text))
}

/// Something that was tried, or would have been, and can't be done.
fn failed(text: impl Into<String>) -> Stop {
    Stop::Told(Outcome::words(Status::Failed, text))
}

/// Words, and nothing for the record.
fn told(text: impl Into<String>) -> Done {
    Ok((Outcome::words(Status::Ok, text), Vec::new()))
}
