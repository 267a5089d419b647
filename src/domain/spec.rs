//! What was asked of a run, and with what.

use serde::{Deserialize, Serialize};

use super::{Budget, Check, CheckpointRules, Parent, Rules, RunId};

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// One goal, worked on until the harness has a verdict.
    Goal,
    /// A person and the model take turns.
    Chat,
}

/// What was asked, with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The run's id.
    pub run: RunId,
    /// Whether one goal is worked on or a person talks with the model.
    pub mode: RunMode,
    /// A few words for lists.
    pub title: String,
    /// The goal as given; empty in a chat.
    pub goal: String,
    /// What decides whether it is done.
    pub checks: Vec<Check>,
    /// How long one of them may take; half an hour where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_timeout_s: Option<u64>,
    /// Whether they are run before any work, too: one that passes then proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub baseline: bool,
    /// Files that must be as they were when the run ends, as globs over paths in the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protect: Vec<String>,
    /// What its calls may do.
    #[serde(default, skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
    /// How often the harness may run failed commands again by itself; None where it is not limited otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// The project directory, absolute.
    pub workspace: String,
    /// The model as asked for, such as `gpt-5` or `script:demo.toml`.
    pub model: String,
    /// The server's base URL without credentials; empty where there is none.
    pub base_url: String,
    /// The program's version.
    pub version: String,
    /// SHA-256 of each prompt template, by name.
    pub prompts: std::collections::BTreeMap<String, String>,
    /// SHA-256 of the tools as the model is told of them.
    pub tools_sha256: String,
    /// Most model requests.
    pub max_turns: u32,
    /// Most time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_s: Option<u64>,
    /// Whether services are left alive at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_services: bool,
    /// The box that was asked for: what a later one is made like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<BoxAsked>,
    /// When checkpoints are taken unasked, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<CheckpointRules>,
    /// What it may cost.
    #[serde(default, skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
    /// The model's window in tokens, where a person says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_tokens: Option<u64>,
    /// The models that are asked, in this order, while those before them can't answer; each as `MODEL` or `MODEL@URL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// What the project says of itself to whoever works on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docs: Vec<ProjectDoc>,
    /// Where it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

impl RunSpec {
    /// The barest run: a goal without checks or limits but its requests, in `/`.
    pub fn new(run: RunId, mode: RunMode, goal: &str) -> Self {
        Self {
            run,
            mode,
            title: goal.lines().next().unwrap_or_default().to_owned(),
            goal: goal.to_owned(),
            checks: Vec::new(),
            check_timeout_s: None,
            baseline: false,
            protect: Vec::new(),
            rules: Rules::default(),
            max_retries: None,
            workspace: "/".to_owned(),
            model: String::new(),
            base_url: String::new(),
            version: String::new(),
            prompts: std::collections::BTreeMap::new(),
            tools_sha256: String::new(),
            max_turns: u32::MAX,
            max_time_s: None,
            keep_services: false,
            asked: None,
            checkpoints: None,
            budget: Budget::default(),
            window_tokens: None,
            fallbacks: Vec::new(),
            docs: Vec::new(),
            parent: None,
        }
    }
}

/// A document in which a project says something of itself to whoever works on it: information, never an order that
/// widens what may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectDoc {
    /// Its path, from the workspace on.
    pub path: String,
    /// SHA-256 of the whole file.
    pub sha256: String,
    /// Size of the whole file.
    pub size_bytes: u64,
    /// What the model is shown of it.
    pub text: String,
}

impl ProjectDoc {
    /// Most bytes of one that the model is shown: some ten thousand tokens, which every request carries.
    pub const MOST_SHOWN: usize = 32 << 10;

    /// Whether there is more in the file than is shown.
    pub fn is_cut(&self) -> bool {
        self.size_bytes > Self::MOST_SHOWN as u64
    }
}

/// The box that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxAsked {
    /// `auto` or a kind.
    pub sandbox: String,
    /// The image, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it sees the world's network.
    pub network: bool,
    /// Whether the workspace is written through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bind_workspace: bool,
    /// Whether tmux is installed where an image has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tmux: bool,
    /// Most memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What that may be raised to when it is not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Most processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Processors, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u64>,
    /// Most bytes of terminal logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// The image that it is kept as at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_image: Option<String>,
}

/// What is asked for otherwise when a run is taken up again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedNew {
    /// Another model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Other models in its place where it can't answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<Vec<String>>,
    /// Another limit of model requests, those before included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Another limit of tries by the harness, those before included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Another window of the model, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_tokens: Option<u64>,
    /// Another limit of driven time in seconds, that before included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_s: Option<u64>,
    /// Another budget, what was spent before included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Another mode, other rules, other silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
}

impl AskedNew {
    /// Whether all stays as it was.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The limits among it, in words.
    pub fn limits_words(&self) -> String {
        let turns = self.max_turns.map(|turns| format!("{turns} model requests"));
        let budget = self.budget.as_ref();
        let tokens = budget.and_then(|budget| Some(format!("{} tokens", budget.max_tokens?)));
        let cost = budget.and_then(|budget| Some(super::money_words(budget.max_cost?)));
        turns.into_iter().chain(tokens).chain(cost).collect::<Vec<_>>().join(", ")
    }

    /// Asks for it.
    pub fn change(&self, spec: &mut RunSpec) {
        let Self { model, base_url, fallbacks, max_turns, max_retries, window_tokens, max_time_s, budget, rules } =
            self.clone();
        // What was said of one model says nothing about another.
        let window_before = spec.window_tokens.filter(|_| model.is_none());
        spec.window_tokens = window_tokens.or(window_before);
        spec.model = model.unwrap_or_else(|| std::mem::take(&mut spec.model));
        spec.base_url = base_url.unwrap_or_else(|| std::mem::take(&mut spec.base_url));
        spec.fallbacks = fallbacks.unwrap_or_else(|| std::mem::take(&mut spec.fallbacks));
        spec.max_turns = max_turns.unwrap_or(spec.max_turns);
        spec.max_retries = max_retries.or(spec.max_retries);
        spec.max_time_s = max_time_s.or(spec.max_time_s);
        spec.budget = budget.unwrap_or_else(|| std::mem::take(&mut spec.budget));
        spec.rules = rules.unwrap_or_else(|| std::mem::take(&mut spec.rules));
    }
}
