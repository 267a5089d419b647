//! The one list of tools: what the model is told of each, and how its calls become actions.

use serde_json::Value;

use crate::domain::{Outcome, RunMode, Status, ToolCall};

use super::decode::{DecodeError, decode};
use super::schema::parameters;
use super::{ask_human, checkpoint, container, edit_file, finish, read_file, recall, shell, tmux, wait, write_file};

/// What a well-formed call asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run a command, or go on waiting for one.
    Shell(shell::Args),
    /// Drive sessions.
    Tmux(tmux::Args),
    /// Wait for something, at no cost.
    Wait(wait::Args),
    /// Show lines of a file.
    ReadFile(read_file::Args),
    /// Write a whole file.
    WriteFile(write_file::Args),
    /// Replace text in a file.
    EditFile(edit_file::Args),
    /// Keep the box's files, or go back to them.
    Checkpoint(checkpoint::Args),
    /// Look at the box, run services beside it.
    Container(container::Args),
    /// Tell what was done.
    Recall(recall::Args),
    /// Ask a person.
    AskHuman(ask_human::Args),
    /// Claim to be done.
    Finish(finish::Args),
}

/// What an action touches; decides what may run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Footprint {
    Session(String),
    Reads(String),
    Writes(String),
    Run,
}

impl Action {
    /// Whether this action and `other` may run at the same time without one seeing the other's traces.
    pub fn may_run_beside(&self, other: &Self) -> bool {
        match (self.footprint(), other.footprint()) {
            (Footprint::Session(a), Footprint::Session(b)) => a != b,
            (Footprint::Reads(_), Footprint::Reads(_)) => true,
            (Footprint::Reads(a) | Footprint::Writes(a), Footprint::Reads(b) | Footprint::Writes(b)) => a != b,
            (Footprint::Session(_), _) | (_, Footprint::Session(_)) | (Footprint::Run, _) | (_, Footprint::Run) => {
                false
            }
        }
    }

    fn footprint(&self) -> Footprint {
        match self {
            Self::Shell(args) => Footprint::Session(args.session_or_main().to_owned()),
            Self::Tmux(args) => Footprint::Session(args.session_or_none().to_owned()),
            Self::ReadFile(args) => Footprint::Reads(args.path.clone()),
            Self::WriteFile(args) => Footprint::Writes(args.path.clone()),
            Self::EditFile(args) => Footprint::Writes(args.path.clone()),
            Self::Wait(_)
            | Self::Checkpoint(_)
            | Self::Container(_)
            | Self::Recall(_)
            | Self::AskHuman(_)
            | Self::Finish(_) => Footprint::Run,
        }
    }
}

/// The calls of an answer that was not run, with what is wrong.
pub type MalformedCalls = Vec<(ToolCall, Outcome)>;

type Parse = fn(&str, &Value) -> Result<Action, DecodeError>;

/// A tool as the model is told of it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The name it is called by.
    pub name: &'static str,
    /// The manual, as it stands in `tools/`.
    pub manual: &'static str,
    /// JSON Schema of the arguments.
    pub parameters: Value,
    /// Whether the schema is strict-mode compatible.
    pub strict: bool,
    parse: Parse,
}

/// The tools of a run.
#[derive(Debug, Clone)]
pub struct Registry {
    tools: Vec<Tool>,
}

impl Registry {
    /// The tools that a run of this kind has. A chat has no end to claim.
    pub fn for_mode(mode: RunMode) -> Self {
        let mut tools = vec![
            Tool::new::<shell::Args>("shell", include_str!("../../tools/shell.md"), |text, schema| {
                decode(text, schema).map(Action::Shell)
            }),
            Tool::new::<tmux::Args>("tmux", include_str!("../../tools/tmux.md"), |text, schema| {
                decode(text, schema).map(Action::Tmux)
            }),
            Tool::new::<wait::Args>("wait", include_str!("../../tools/wait.md"), |text, schema| {
                decode(text, schema).map(Action::Wait)
            }),
            Tool::new::<read_file::Args>("read_file", include_str!("../../tools/read_file.md"), |text, schema| {
                decode(text, schema).map(Action::ReadFile)
            }),
            Tool::new::<write_file::Args>("write_file", include_str!("../../tools/write_file.md"), |text, schema| {
                decode(text, schema).map(Action::WriteFile)
            }),
            Tool::new::<edit_file::Args>("edit_file", include_str!("../../tools/edit_file.md"), |text, schema| {
                decode(text, schema).map(Action::EditFile)
            }),
            Tool::new::<checkpoint::Args>("checkpoint", include_str!("../../tools/checkpoint.md"), |text, schema| {
                decode(text, schema).map(Action::Checkpoint)
            }),
            Tool::new::<container::Args>("container", include_str!("../../tools/container.md"), |text, schema| {
                decode(text, schema).map(Action::Container)
            }),
            Tool::new::<recall::Args>("recall", include_str!("../../tools/recall.md"), |text, schema| {
                decode(text, schema).map(Action::Recall)
            }),
            Tool::new::<ask_human::Args>("ask_human", include_str!("../../tools/ask_human.md"), |text, schema| {
                decode(text, schema).map(Action::AskHuman)
            }),
        ];
        if mode == RunMode::Goal {
            tools.push(Tool::new::<finish::Args>("finish", include_str!("../../tools/finish.md"), |text, schema| {
                decode(text, schema).map(Action::Finish)
            }));
        }
        Self { tools }
    }

    /// The tools, in the order in which the model sees them.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// Reads every call before any is run.
    ///
    /// A call that can't be read gets an outcome that names the mistake; the others of the same answer then get one that
    /// says they were not run, since an answer with a hole in it may have been cut.
    ///
    /// # Errors
    /// [`MalformedCalls`]: outcomes for all calls, none of which may be run.
    pub fn read(&self, calls: &[ToolCall]) -> Result<Vec<(ToolCall, Action)>, MalformedCalls> {
        let read: Vec<_> = calls.iter().map(|call| (call.clone(), self.read_one(call))).collect();
        if read.iter().all(|(_, action)| action.is_ok()) {
            return Ok(read.into_iter().filter_map(|(call, action)| Some((call, action.ok()?))).collect());
        }
        let whole = "not run: another call of the same answer was malformed; send it again";
        let outcome = |action: Result<Action, Outcome>| match action {
            Ok(_) => Outcome::words(Status::Malformed, whole),
            Err(outcome) => outcome,
        };
        Err(read.into_iter().map(|(call, action)| (call, outcome(action))).collect())
    }

    fn read_one(&self, call: &ToolCall) -> Result<Action, Outcome> {
        let Some(tool) = self.tools.iter().find(|tool| tool.name == call.name) else {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name).collect();
            let text = format!("malformed call: there is no tool `{}`; the tools are {}", call.name, names.join(", "));
            return Err(Outcome::words(Status::Malformed, text));
        };
        (tool.parse)(&call.arguments, &tool.parameters).map_err(|error| {
            let shape = expected_shape(&tool.parameters);
            let text = format!("malformed call of `{}`: {error}\nexpected: {shape}", tool.name);
            Outcome::words(Status::Malformed, text)
        })
    }
}

impl Tool {
    fn new<T: schemars::JsonSchema>(name: &'static str, manual: &'static str, parse: Parse) -> Self {
        let parameters = parameters::<T>();
        Self { name, manual: manual.trim_end(), parameters: parameters.schema, strict: parameters.strict, parse }
    }
}

/// The arguments of a schema in one line: what a model needs to mend its call.
fn expected_shape(schema: &Value) -> String {
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let kind = |property: &Value| match &property["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "see the manual".to_owned(),
    };
    let fields: Vec<_> = properties.iter().map(|(name, property)| format!("\"{name}\": {}", kind(property))).collect();
    format!("{{{}}}", fields.join(", "))
}
