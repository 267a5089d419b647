//! What the model asks for and what came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Failure;

/// One call of a tool, as the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id that the model's server gave the call; unique within a run once the loop has accepted it.
    pub id: String,
    /// The tool's name, not yet known to exist.
    pub name: String,
    /// The arguments as text: JSON if all is well, but not yet parsed.
    pub arguments: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this exit status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// True for exit status 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What became of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Did what was asked.
    Ok,
    /// Was tried and failed: a command with a non-zero exit, a file that is not there.
    Failed,
    /// Still under way: the command runs on in its session.
    Running,
    /// Never tried: the call itself was wrong (JSON, tool name, arguments).
    Malformed,
    /// Not run: a rule or a person does not allow it, or nobody said that it may.
    Refused,
    /// Given up by a person or a limit before its result was known.
    Cancelled,
    /// Under way when the harness died, and its result can't be found out.
    Unknown,
}

impl Status {
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Running => "still running",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a command's output lies and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFacts {
    /// Raw bytes that the command wrote.
    pub size_bytes: u64,
    /// Bytes of the rendered text that `Outcome::text` leaves out.
    pub omitted_bytes: u64,
    /// The session's raw log, relative to the run's directory.
    pub log: String,
    /// Where in that log the output begins.
    pub offset: u64,
}

/// What a tool call led to: data that the model is told and can act on, never an error of the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of it.
    pub status: Status,
    /// How the command ended, where there was one and it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How long it took.
    pub duration_ms: u64,
    /// The session's working directory afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The output's size and place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputFacts>,
    /// What it comes from, where a command has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// Exactly what the model is shown.
    pub text: String,
}

impl Outcome {
    /// An outcome that is only words.
    pub fn words(status: Status, text: impl Into<String>) -> Self {
        Self { status, exit: None, duration_ms: 0, cwd: None, output: None, failure: None, text: text.into() }
    }
}

/// Tokens of one model request, as the server counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Those of the prompt that came from the server's cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}
