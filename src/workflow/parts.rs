//! What stages are made of: checks, gates, boxes, resources, retries.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::definition::Scalar;
use super::units::{Size, Time};

/// Limits, looked at before each request. Whoever reaches one stops with all that it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageBudget {
    /// US dollars.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub usd: Option<f64>,
    /// Tokens of prompts and answers.
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// Model requests.
    #[schemars(range(min = 1))]
    pub turns: Option<u32>,
    /// Time by the clock on the wall.
    pub wall: Option<Time>,
}

/// Somebody to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Notify {
    /// `ntfy://topic`, `slack://SECRET`, `webhook://SECRET` or `exec:command`.
    pub to: String,
    /// Of what; of all of it where nothing is said.
    #[serde(default)]
    pub when: Vec<NotifyWhen>,
}

/// What somebody may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyWhen {
    NeedsHuman,
    Failed,
    Succeeded,
    StageDone,
    Recovered,
    #[serde(rename = "budget-80")]
    Budget80,
    Stalled,
    LostHost,
}

/// What is made of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReportTo {
    /// Where the report goes, in the workspace.
    pub path: Option<String>,
    /// Documents that are brought in step, as a change for a person to apply.
    #[serde(default)]
    pub update_docs: Vec<String>,
}

/// What decides that a stage is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Verify {
    /// A command that must exit with 0.
    Command(String),
    /// Something else, or a command with more to say.
    Check(VerifyCheck),
}

/// A check of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VerifyCheck {
    /// For people.
    pub name: Option<String>,
    /// A command that must exit with 0.
    pub run: Option<String>,
    /// Most time that the command may take.
    pub timeout: Option<Time>,
    /// Files that must be there and not be empty.
    #[serde(default)]
    pub files: Vec<String>,
    /// A number that must be good enough.
    pub metric: Option<Metric>,
}

/// A number that a stage is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Metric {
    /// Its name, in tables.
    pub name: String,
    /// `path#/json/pointer`, or `re:path:regex` with one group.
    pub from: String,
    /// The least that is good enough.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
    /// What it is compared with: a number, or `last-success`.
    pub baseline: Option<Scalar>,
    /// How much worse than that it may be.
    pub max_regression: Option<f64>,
}

/// What a stage touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effects {
    None,
    #[default]
    Workspace,
    External,
    Irreversible,
}

/// What happens when a stage fails for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    #[default]
    Escalate,
    Abort,
    Continue,
    Rollback,
}

/// When a person is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Approve {
    At(Border),
    Gate(Gate),
}

/// The two ends of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    Before,
    After,
}

/// A question to a person at a stage's border.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gate {
    pub at: Border,
    /// What is asked.
    pub prompt: Option<String>,
    /// Who may answer; for the record, nobody is known to the program.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// How long an answer is waited for.
    pub timeout: Option<Time>,
    /// What happens then.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

/// What happens when nobody has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    #[default]
    Hold,
    Abort,
    Skip,
}

/// What a stage takes and leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Artifacts {
    /// `stage:path`, or a path of the workspace.
    #[serde(rename = "in", default)]
    pub inward: Vec<String>,
    /// Paths of the workspace.
    #[serde(rename = "out", default)]
    pub outward: Vec<String>,
}

/// Runs a stage once for each combination of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Strategy {
    /// The values, by name; an expression that gives a list is a value, too.
    pub matrix: IndexMap<String, Axis>,
    /// Most of them at once.
    #[schemars(range(min = 1))]
    pub max_parallel: Option<u32>,
    /// Whether the others are ended when one fails; true where nothing is said.
    pub fail_fast: Option<bool>,
}

/// The values of one name of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Axis {
    Values(Vec<Scalar>),
    Expression(String),
}

/// The tools of a stage's model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ToolRules {
    #[serde(default)]
    pub allow: Vec<String>,
    #[serde(default)]
    pub deny: Vec<String>,
}

/// The box of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Container {
    /// An image.
    Image(String),
    /// An image and more.
    Spec(ContainerSpec),
}

/// The box of a stage, with all that can be said of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ContainerSpec {
    pub image: Option<String>,
    /// A Dockerfile, or packages for a derived image.
    pub build: Option<String>,
    pub network: Option<NetworkAccess>,
    #[serde(default)]
    pub volumes: Vec<String>,
    pub user: Option<String>,
}

/// What of the network a box reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NetworkAccess {
    Named(NetworkName),
    /// These hosts.
    Hosts(Vec<String>),
}

/// All or nothing of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    None,
    Open,
}

/// What a stage needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resources {
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cpus: Option<f64>,
    pub memory: Option<Size>,
    pub disk: Option<Size>,
    pub gpus: Option<u32>,
    pub gpu_type: Option<String>,
    /// What it gets more of where it ran out of memory.
    pub grow: Option<Grow>,
}

/// How a stage that ran out of memory grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grow {
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub factor: Option<f64>,
    pub max_memory: Option<Size>,
}

/// What is tried again, and how often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retry {
    /// Tries after the first one.
    #[schemars(range(max = 50))]
    pub max: Option<u32>,
    pub backoff: Option<Backoff>,
    /// Classes of failure that may be tried again.
    pub when: Option<Vec<RetryClass>>,
    /// And those that may not.
    #[serde(default)]
    pub never: Vec<RetryClass>,
}

/// How long is waited between tries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Backoff {
    pub initial: Option<Time>,
    #[schemars(range(min = 1))]
    pub factor: Option<f64>,
    pub max: Option<Time>,
    pub jitter: Option<bool>,
}

/// A class of failure, as workflow files name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryClass {
    Network,
    RateLimit,
    Quota,
    Auth,
    Permission,
    Oom,
    CudaOom,
    GpuFault,
    DiskFull,
    ResourceLimit,
    MissingDependency,
    VersionConflict,
    Syntax,
    Config,
    Flaky,
    Hang,
    Timeout,
    WrongResult,
    LostHost,
    Environment,
    AgentStuck,
    Unknown,
}

/// When the state of a stage is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CheckpointWhen {
    Named(CheckpointName),
    Spec(CheckpointSpec),
}

/// The usual moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointName {
    None,
    Stage,
    Turn,
}

/// Other moments, and what is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckpointSpec {
    /// `stage`, `turn`, `turn:N` or a time.
    #[schemars(regex(pattern = r"^(stage|turn(:[0-9]+)?|([0-9]+(s|m|h))+)$"))]
    pub every: Option<String>,
    pub mode: Option<CheckpointMode>,
    #[serde(default)]
    pub paths: Vec<String>,
    #[schemars(range(min = 1))]
    pub keep: Option<u32>,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// The whole box.
    Image,
    /// Some paths.
    Paths,
}

impl Strategy {
    /// How many combinations there are; None where that is known only when it runs.
    pub fn cells(&self) -> Option<usize> {
        self.matrix.values().try_fold(1_usize, |cells, axis| match axis {
            Axis::Values(values) => cells.checked_mul(values.len()),
            Axis::Expression(_) => None,
        })
    }
}

impl Approve {
    /// At which end.
    pub fn at(&self) -> Border {
        match self {
            Self::At(at) => *at,
            Self::Gate(gate) => gate.at,
        }
    }
}

impl Border {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl Effects {
    /// In a word, where it reaches beyond the box.
    pub fn word_if_far(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Workspace => None,
            Self::External => Some("external"),
            Self::Irreversible => Some("irreversible"),
        }
    }
}
