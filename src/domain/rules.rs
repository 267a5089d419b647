//! What a run's calls may do: the mode, and rules that allow, ask or deny. Plain data; the judging is `policy`'s.

use serde::{Deserialize, Serialize};

use super::{Effect, Silence};

/// How freely a run acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActMode {
    /// It only looks: what changes anything is denied.
    Plan,
    /// What changes anything is asked for.
    Ask,
    /// It acts in its box; what reaches beyond it or destroys is asked for.
    #[default]
    Auto,
}

/// What a rule says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permit {
    /// It runs.
    Allow,
    /// A person is asked first.
    Ask,
    /// It does not run, in any mode.
    Deny,
}

/// A rule: it matches a call that matches all it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is said of calls that match.
    pub permit: Permit,
    /// A tool's name, `*` in it for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The beginning of a simple command in words, `*` in a word for anything: `terraform destroy`, `git push *force*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// A path that is written or read by a file tool, as a glob over the path in the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A host that a command names, `*` in it for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How far it reaches at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What becomes of its questions while nobody answers; the run's own where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<Silence>,
    /// Who says so: `built in`, or a file and a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// The mode and the rules of a run, beside those that are built in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How freely it acts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ActMode,
    /// The rules, in order of their layers: of those that match a call the strictest of the narrowing layers and the last
    /// of the user's own counts, see `docs/POLICY.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What becomes of questions while nobody answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silence: Silence,
}

impl Rules {
    /// Whether nothing is said beside what is built in.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
