//! A workflow as its file says it. The JSON Schema that editors use is made from these types.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::parts::{
    Approve, Artifacts, CheckpointWhen, Container, Effects, Notify, OnFailure, ReportTo, Resources, Retry, StageBudget,
    Strategy, ToolRules, Verify,
};
use super::units::Time;

/// A workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(extend("x-open" = true))]
pub struct Workflow {
    /// Version of the format. Always 1.
    pub version: u32,
    /// Shown in lists of runs and in notifications.
    #[schemars(length(min = 1))]
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What the whole run must achieve, in words. Every model that works on a stage is told of it.
    pub goal: Option<String>,
    /// Parameters: `--input key=value`, read as `${{ inputs.key }}`.
    #[serde(default)]
    pub inputs: IndexMap<String, Input>,
    /// Variables of every stage's commands.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// Names of secrets, taken from the environment. Their values are never written to the record.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What every stage has unless it says otherwise.
    #[serde(default)]
    pub defaults: Common,
    /// Limits of the whole run.
    #[serde(default)]
    pub budget: StageBudget,
    /// Most stages that run at once.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Who is told what.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// What is made of the results.
    pub report: Option<ReportTo>,
    /// The stages, by id.
    #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": "^[a-z][a-z0-9-]*$" }))]
    pub stages: IndexMap<String, Stage>,
}

/// A parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    /// For people.
    pub description: Option<String>,
    /// Of which type; text where nothing is said.
    #[serde(rename = "type", default)]
    pub kind: InputKind,
    /// Its value where none is given.
    pub default: Option<Scalar>,
    /// Whether one must be given.
    #[serde(default)]
    pub required: bool,
    /// The values of a choice.
    #[serde(default)]
    pub options: Vec<Scalar>,
}

/// Of which type a parameter is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    #[default]
    String,
    Number,
    Boolean,
    Choice,
    Path,
}

/// A single value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

impl Scalar {
    /// As a command sees it.
    pub fn text(&self) -> String {
        match self {
            Self::Bool(is) => is.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// One value, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A stage: a command, a goal, or a command with a goal that repairs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(extend("x-open" = true))]
pub struct Stage {
    /// For people.
    pub name: Option<String>,
    /// A task for the model. Alone: the model does the stage. With `run`: the command is tried first, and the model only
    /// repairs what fails.
    pub goal: Option<String>,
    /// A command, run by bash with `-euo pipefail`.
    pub run: Option<String>,
    /// The stages that must have passed before.
    pub needs: Option<OneOrMany<String>>,
    /// Whether it runs at all; `success()` where nothing is said.
    #[serde(rename = "if")]
    pub condition: Option<String>,
    /// What decides that it is done; run by the harness in a fresh shell.
    pub verify: Option<OneOrMany<Verify>>,
    /// What the model may read and not change, as globs.
    #[serde(default)]
    pub protect: Vec<String>,
    /// What it touches: decides what may be done again after a crash.
    #[serde(default)]
    pub effects: Effects,
    /// Whether its effect has happened already: exit 0 is yes, 1 is no, anything else asks a person.
    pub probe: Option<String>,
    /// What takes its effect back, when a later stage fails and the run rolls back.
    pub undo: Option<String>,
    /// What happens when it fails for good.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether a person is asked before or after.
    pub approve: Option<Approve>,
    /// What it takes from other stages and what it leaves for them.
    #[serde(default)]
    pub artifacts: Artifacts,
    /// Values for later stages, each an expression over what the stage left.
    #[serde(default)]
    pub outputs: IndexMap<String, String>,
    /// Runs it once for each combination of values.
    pub strategy: Option<Strategy>,
    /// Commands that run beside it in sessions of their own, by name.
    #[serde(default)]
    pub sessions: IndexMap<String, String>,
    /// The secrets that its commands see.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// The tools that its model has.
    #[serde(default)]
    pub tools: ToolRules,
    /// What the defaults may say, too.
    #[serde(flatten)]
    pub common: Common,
}

/// What a stage has of its own or from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// The box it runs in.
    pub container: Option<Container>,
    /// Variables of its commands.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// Most time.
    pub timeout: Option<Time>,
    /// Most time without output and without work.
    pub idle_timeout: Option<Time>,
    /// What it needs.
    pub resources: Option<Resources>,
    /// What is tried again, and how often.
    pub retry: Option<Retry>,
    /// When its state is kept.
    pub checkpoint: Option<CheckpointWhen>,
    /// Its limits.
    #[serde(default)]
    pub budget: StageBudget,
    /// The model that works on it.
    pub model: Option<String>,
    /// Where it runs: `local`, or a named backend of the settings.
    pub runs_on: Option<String>,
}

impl Stage {
    /// The ids of the stages that it needs, in order.
    pub fn needs(&self) -> &[String] {
        self.needs.as_ref().map_or(&[], OneOrMany::all)
    }

    /// Its checks, in order.
    pub fn checks(&self) -> &[Verify] {
        self.verify.as_ref().map_or(&[], OneOrMany::all)
    }

    /// Who does it, in words.
    pub fn what(&self) -> &'static str {
        match (&self.run, &self.goal) {
            (Some(_), Some(_)) => "run, repaired by a model",
            (Some(_), None) => "run",
            (None, _) => "goal",
        }
    }
}

/// The JSON Schema of workflow files.
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Workflow>().to_value();
    close(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), Value::String("Longhaul workflow, version 1".to_owned()));
    }
    schema
}

/// A map takes what it names and nothing else, so that a slip of the pen is told; where it is marked as open, what begins
/// with `x-` is left to whoever wrote it.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let is_open = map.remove("x-open").is_some();
            if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
                if is_open {
                    map.insert("patternProperties".to_owned(), serde_json::json!({ "^x-": {} }));
                }
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
