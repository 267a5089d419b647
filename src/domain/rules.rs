//! What a run's calls may do: the mode, and rules that allow, ask or deny. Plain data; the judging is `policy`'s.

use serde::{Deserialize, Serialize};

use super::{Effect, Silence};

/// How freely a run acts, the strictest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl ActMode {
    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Ask => "ask",
            Self::Auto => "auto",
        }
    }
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

impl Permit {
    /// Its name, as it stands in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
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
    /// A simple command in words, `*` in a word for anything. What asks or denies names the program first and then words
    /// that follow in this order, whatever stands between them: `git push *force*`. What allows is the whole command, a
    /// last `*` standing for any words: `git push origin *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// A path that is read or written, as a glob over the path in the workspace; what is below it is meant, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A host that a command names, `*` in it for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How far it reaches: at least so far where the rule asks or denies, at most so far where it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What becomes of its questions while nobody answers; the run's own where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<Silence>,
    /// Who says so: `built in`, or a file and a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

impl Rule {
    /// A rule that says this of whatever it is told to match next.
    pub fn new(permit: Permit, origin: &str) -> Self {
        Self {
            permit,
            tool: None,
            command: None,
            path: None,
            host: None,
            effect: None,
            silence: None,
            origin: origin.to_owned(),
        }
    }

    /// What it matches, in words: `` `git push` ``, `` `shell` on host `*.example` ``.
    pub fn pattern_words(&self) -> String {
        let quoted =
            |before: &str, pattern: &Option<String>| pattern.as_ref().map(|pattern| format!("{before}`{pattern}`"));
        let effect = self.effect.map(|effect| match self.permit {
            Permit::Allow => format!("an effect up to {}", effect.name()),
            Permit::Ask | Permit::Deny => format!("an effect from {} on", effect.name()),
        });
        let all = [
            quoted("tool ", &self.tool),
            quoted("", &self.command),
            quoted("path ", &self.path),
            quoted("host ", &self.host),
            effect,
        ];
        let words: Vec<String> = all.into_iter().flatten().collect();
        if words.is_empty() { "everything".to_owned() } else { words.join(" with ") }
    }
}

/// Calls that a person has allowed for the rest of a run: all that this rule asks for, done by this program, reaching so
/// far at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The rule, in words.
    pub rule: String,
    /// The program, or the tool; None for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// How far it reaches.
    pub effect: Effect,
}

impl Scope {
    /// Whether all of another one lies within it.
    pub fn covers(&self, other: &Self) -> bool {
        self.rule == other.rule
            && (self.program.is_none() || self.program == other.program)
            && other.effect <= self.effect
    }
}

/// The mode and the rules of a run, beside those that are built in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How freely it acts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ActMode,
    /// The rules, in order of their layers. Of those that match, the strictest counts; see `docs/POLICY.md`.
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
