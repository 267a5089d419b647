//! One trait, and whoever answers: a server that speaks Chat Completions or Responses, or a script.
//!
//! History is *our* type ([`Message`]); a vendor's wire type never leaves its file.

mod assemble;
mod breaker;
mod choice;
mod fallbacks;
mod openai;
mod patience;
mod prices;
mod scripted;
mod tokens;

use std::time::Duration;

use serde_json::Value;

use crate::domain::{ToolCall, Usage};

pub use choice::{Fallback, ModelChoice, OPENAI_BASE_URL, SCRIPT_PREFIX, key_variable, open, open_all};
pub use openai::{OpenAi, Wire};
pub use patience::Patience;
pub use prices::{known_price, parse_price};
pub use scripted::{About, Scripted};
pub use tokens::{Gauge, Shortfall, Size, Tokens, known_window};

/// What the model is told a tool is.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// The name the model calls.
    pub name: String,
    /// What it is for, with examples.
    pub description: String,
    /// JSON Schema of the arguments, strict-mode compatible where `strict` holds.
    pub parameters: Value,
    /// Whether the schema is strict-mode compatible.
    pub strict: bool,
}

/// One piece of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The standing instructions; first, and once.
    System(String),
    /// A person's or the harness's words.
    User(String),
    /// What the model answered.
    Assistant {
        /// Its words; may be empty.
        text: String,
        /// Its calls; each is followed by a [`Message::Tool`] with its id.
        calls: Vec<ToolCall>,
        /// What the same server wants back as it came.
        opaque: Option<Value>,
    },
    /// What came of a call.
    Tool {
        /// The call's id.
        call_id: String,
        /// What the model is shown.
        text: String,
    },
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools on offer; the same in every request of a run.
    pub tools: std::sync::Arc<[ToolSpec]>,
    /// What is wanted.
    pub purpose: Purpose,
}

/// What an answer is wanted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The work's next step.
    #[default]
    Turn,
    /// A summary of the conversation: words, and no calls.
    Summary,
}

/// One answer, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its words; may be empty.
    pub text: String,
    /// Its reasoning where the server shows it; may be empty.
    pub reasoning: String,
    /// The calls in order. Arguments are as the model wrote them; ids are never empty and unique within the answer.
    pub calls: Vec<ToolCall>,
    /// Why it ended, in the server's word (`stop`, `tool_calls`, `length`, …).
    pub finish_reason: String,
    /// Tokens, where the server says.
    pub usage: Option<Usage>,
    /// What has to be sent back to the same server, as it came.
    pub opaque: Option<Value>,
    /// The response as received, byte for byte.
    pub raw: Vec<u8>,
    /// From the first byte sent to the last received, without waits between tries.
    pub duration: Duration,
}

/// What passes by while an answer is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More of its words.
    Text(String),
    /// More of its reasoning.
    Reasoning(String),
    /// The server has to be waited for: what is wrong and the time until the next try.
    Delayed {
        /// What is wrong, in words.
        why: String,
        /// Time until the next try.
        wait: Duration,
    },
    /// A try was cut short: what was streamed of it is void.
    Restarted,
    /// Another model is asked from here on; the request is about to be sent to it, in the form that [`Model::render`]
    /// gives from now on.
    Switched(Switch),
}

impl Delta {
    /// Bytes of words that it brings.
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(text) | Self::Reasoning(text) => text.len() as u64,
            Self::Delayed { .. } | Self::Restarted | Self::Switched(_) => 0,
        }
    }
}

/// Another model is asked from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The one before, as it was asked for.
    pub from: String,
    /// The one from here on, as it was asked for.
    pub to: String,
    /// Why, in words.
    pub why: String,
}

/// Takes deltas as they come.
pub type Sink<'a> = &'a mut (dyn FnMut(Delta) + Send);

/// What kind of failure a model's server showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// What was asked for can't be used: no key and no server, a base URL that is none, a key that is no header.
    Setup,
    /// The credentials were refused.
    Auth,
    /// Out of credit: waiting does not help.
    Quota,
    /// There is no such model.
    UnknownModel,
    /// The request was refused as wrong.
    BadRequest,
    /// The conversation does not fit the model's window.
    ContextLength,
    /// The provider will not answer this.
    ContentFilter,
    /// Not reachable, overloaded or broken for longer than patience lasts.
    Unavailable,
    /// It does not speak the protocol.
    Protocol,
    /// A script that does not fit what happened.
    Script,
}

/// Why there is no answer. Says what, because, and a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ModelError {
    /// The kind, which decides the exit code.
    pub kind: ModelErrorKind,
    /// What could not be done: a lower-case fragment.
    pub what: String,
    /// The server's own words or the transport's, cut to a readable length.
    pub because: Option<String>,
    /// What to do about it: a command or a setting; several are set apart by newlines.
    pub hint: Option<String>,
    /// The window's size in tokens, where the conversation did not fit it and the server tells.
    pub window: Option<u64>,
    /// The least time after which the server wants to be asked again, where it tells.
    pub again_after: Option<Duration>,
}

impl ModelError {
    /// An error that tells no more than what could not be done.
    pub(crate) fn new(kind: ModelErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), because: None, hint: None, window: None, again_after: None }
    }
}

/// Whoever answers. Dropping the future of `answer` ends the request at once.
#[async_trait::async_trait]
pub trait Model: Send + Sync {
    /// The request exactly as it will be sent, for the record; without credentials.
    fn render(&self, request: &Request) -> Vec<u8>;

    /// Whether it can be asked for a summary.
    fn sums_up(&self) -> bool {
        true
    }

    /// Decides who is asked next, where there are several; belongs before [`Model::render`]. Some if it is another one than
    /// before.
    fn choose(&self) -> Option<Switch> {
        None
    }

    /// The run was taken up again and has asked this model before; for the request that comes next its server has been
    /// waited for that long already, which counts to the patience with it.
    fn goes_on(&self, _waited: Duration) {}

    /// Asks, waits out what can be waited out, and answers.
    ///
    /// # Errors
    /// A [`ModelError`] when no answer can be had without a change.
    async fn answer(&self, request: &Request, sink: Sink<'_>) -> Result<Answer, ModelError>;
}
