//! `tmux`: the sessions of the box, opened, driven, read and ended as windows are.

mod keys;
mod look;
mod open;
mod stop;
mod type_in;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Outcome, SessionName, Status};
use crate::guest::SessionInfo;
use crate::terminal::{Terminal, TerminalError};

use super::Attention;

/// Arguments of `tmux`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// What to do.
    pub action: Verb,
    /// The session's name; null only for `list`.
    #[serde(default)]
    pub session: Option<String>,
    /// `open`: a command to start there; null for none.
    #[serde(default)]
    pub command: Option<String>,
    /// `open`: the directory to begin in; null for the project directory.
    #[serde(default)]
    pub cwd: Option<String>,
    /// `open`: further variables, each as `NAME=value`; null for none.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// `open`: columns of the terminal; null for 160.
    #[serde(default)]
    pub cols: Option<i64>,
    /// `open`: rows of the terminal; null for 48.
    #[serde(default)]
    pub rows: Option<i64>,
    /// `send`: text to type.
    #[serde(default)]
    pub text: Option<String>,
    /// `send`: whether Enter is pressed after the text; null for true.
    #[serde(default)]
    pub enter: Option<bool>,
    /// `keys`: names of keys to press, in order.
    #[serde(default)]
    pub keys: Option<Vec<String>>,
    /// `log`: first line, from 1, or from the end where negative.
    #[serde(default)]
    pub from_line: Option<i64>,
    /// `log`: how many lines; null for 200.
    #[serde(default)]
    pub lines: Option<i64>,
    /// `log` and `grep`: first byte, from 0; for `log` from the end where negative.
    #[serde(default)]
    pub from_byte: Option<i64>,
    /// `log`: how many bytes; null for 8192.
    #[serde(default)]
    pub bytes: Option<i64>,
    /// `grep`: regular expression that a line must match.
    #[serde(default)]
    pub pattern: Option<String>,
    /// `grep`: whether upper and lower case are the same; null for false.
    #[serde(default)]
    pub ignore_case: Option<bool>,
    /// `grep`: lines to show around each match, at most 20; null for none.
    #[serde(default)]
    pub context: Option<i64>,
    /// `signal`: which signal; null for `int`.
    #[serde(default)]
    pub signal: Option<Signal>,
}

impl Args {
    /// The name of the session that is meant; empty without.
    pub fn session_or_none(&self) -> &str {
        self.session.as_deref().unwrap_or_default()
    }
}

/// What `tmux` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Opens a session.
    Open,
    /// Types text.
    Send,
    /// Presses keys.
    Keys,
    /// Shows what is new.
    Read,
    /// Shows the screen.
    Screen,
    /// Shows a part of the log.
    Log,
    /// Searches the log.
    Grep,
    /// Signals what runs in the foreground.
    Signal,
    /// Closes the session.
    Close,
    /// Lists the sessions.
    List,
}

/// What is sent to the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// SIGINT, as Ctrl-C.
    Int,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
    /// All of them in this order, a few seconds apart, until it has ended.
    Ladder,
}

/// A call that is under way.
struct Call<'a> {
    args: &'a Args,
    /// The name of the command that it may start.
    work: &'a str,
    /// The run, for commands that a person can use.
    run: &'a str,
    terminal: &'a Terminal,
    attention: &'a Attention,
}

/// Does what was asked.
pub(super) async fn run(
    args: &Args,
    work: &str,
    run: &str,
    terminal: &Terminal,
    attention: &Attention,
) -> Result<Outcome, TerminalError> {
    let call = Call { args, work, run, terminal, attention };
    let done = match args.action {
        Verb::List => call.list().await,
        Verb::Open => call.open().await,
        Verb::Send => call.send().await,
        Verb::Keys => call.keys().await,
        Verb::Read => call.read().await,
        Verb::Screen => call.screen().await,
        Verb::Log => call.log().await,
        Verb::Grep => call.grep().await,
        Verb::Signal => call.signal().await,
        Verb::Close => call.close().await,
    };
    match done {
        Ok(outcome) | Err(Stop::Told(outcome)) => Ok(outcome),
        Err(Stop::Terminal(error)) => Err(error),
    }
}

/// Why a call goes no further.
enum Stop {
    /// The model is told what is wrong.
    Told(Outcome),
    /// What the guest or the channel to it says.
    Terminal(TerminalError),
}

impl<E: Into<TerminalError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Terminal(error.into())
    }
}

type Done = Result<Outcome, Stop>;

/// A call that makes no sense as it is.
fn malformed(text: impl Into<String>) -> Stop {
    Stop::Told(Outcome::words(Status::Malformed, text))
}

/// Something that was tried, or would have been, and can't be done.
fn failed(text: impl Into<String>) -> Stop {
    Stop::Told(Outcome::words(Status::Failed, text))
}

impl Call<'_> {
    /// The session that is meant, by a name that may be one.
    fn name(&self) -> Result<SessionName, Stop> {
        let Some(text) = self.args.session.as_deref() else {
            return Err(malformed("session: is missing; which one is meant? `list` shows those that are open"));
        };
        SessionName::new(text).map_err(|error| malformed(format!("session: {error}")))
    }

    /// The open session that is meant.
    async fn session(&self) -> Result<SessionInfo, Stop> {
        let name = self.name()?;
        let open = self.terminal.sessions().await?;
        if let Some(info) = open.iter().find(|info| info.session == name) {
            return Ok(info.clone());
        }
        let names: Vec<_> = open.iter().map(|info| info.session.as_str()).collect();
        let there = match names.as_slice() {
            [] => "none is open".to_owned(),
            names => format!("open are {}", names.join(", ")),
        };
        Err(failed(format!("there is no session `{name}`; {there}")))
    }

    /// A number that must not be negative.
    fn count(what: &str, given: Option<i64>, default: u64, most: u64) -> Result<u64, Stop> {
        match given.map(u64::try_from) {
            None => Ok(default),
            Some(Ok(count)) if (1..=most).contains(&count) => Ok(count),
            Some(_) => Err(malformed(format!("{what}: {} is not between 1 and {most}", given.unwrap_or_default()))),
        }
    }
}

/// Text that came from elsewhere, short and harmless enough to be repeated.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        format!("`{short}…` ({} bytes)", text.len())
    } else {
        format!("`{short}`")
    }
}
