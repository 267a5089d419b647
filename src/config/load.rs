//! Puts the layers of settings together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Project;
use super::rules::{self, RawRule};
use super::signatures::{self, OwnSignature};
use super::{Config, Key, Origin, OutputFormat, SandboxChoice, Setting, Value, WireChoice};
use crate::domain::{ActMode, Check, OnSilence, Permit, Silence, most_alike};

/// Where settings may come from; everything is passed in.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The system's file, such as `/etc/longhaul/config.toml`.
    pub system: Option<PathBuf>,
    /// The user's file.
    pub user: Option<PathBuf>,
    /// The project's file.
    pub project: Option<PathBuf>,
    /// A file of rules that a flag names.
    pub policy: Option<PathBuf>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// What the flags say.
    pub flags: Vec<(Key, Value)>,
}

/// Why the settings make no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is there and can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A file has a setting that there isn't.
    #[error("{path}:{line}:{column}: there is no setting `{key}`{}", .meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// As it stands there.
        key: String,
        /// The setting that looks most like it.
        meant: Option<&'static str>,
    },
    /// A value makes no sense.
    #[error("{place}: `{key}` must be {right}")]
    Value {
        /// File, line and column, or the variable.
        place: String,
        /// The setting.
        key: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// A `[[signature]]` table makes no sense.
    #[error("{place}: {why}")]
    Signature {
        /// File and line.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A check makes no sense.
    #[error("{place}: check {nth}: {why}")]
    Check {
        /// File and line.
        place: String,
        /// Which of the list, from 1.
        nth: usize,
        /// What is wrong.
        why: String,
    },
}

/// Reads every layer and tells what holds.
///
/// # Errors
/// [`ConfigError`] for the first thing that makes no sense; a file that is not there is no error.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    for path in [&sources.system, &sources.user].into_iter().flatten() {
        let Some(said) = File::read(path)?.map(|file| file.said(&Key::ALL)).transpose()? else { continue };
        // Whoever speaks later is heard first.
        layers.signatures.splice(0..0, said.signatures);
        for (key, value) in said.settings {
            layers.set(key, value, Origin::File(path.clone()));
        }
        layers.rules.extend(said.rules);
    }
    if let Some(path) = &sources.project
        && let Some(said) = File::read(path)?.map(|file| file.said(&Key::ALL)).transpose()?
    {
        layers.narrow_signatures(said.signatures);
        for (key, value) in said.settings {
            layers.narrow(key, value, path);
        }
        said.rules.into_iter().for_each(|rule| layers.narrow_by(rule));
    }
    if let Some(path) = &sources.policy {
        let missing = || ConfigError::Read { path: path.display().to_string(), source: io::ErrorKind::NotFound.into() };
        layers.rules.extend(File::read(path)?.ok_or_else(missing)?.said(&[])?.rules);
    }
    for key in Key::ALL {
        let set = |name: &&&str| sources.variables.get(**name).is_some_and(|text| !text.is_empty());
        let Some(name) = key.variables().iter().find(set) else { continue };
        let value = key.parse(&sources.variables[*name]).map_err(|right| ConfigError::Value {
            place: (*name).to_owned(),
            key: key.name(),
            right,
        })?;
        layers.set(key, value, Origin::Variable((*name).to_owned()));
    }
    for (key, value) in &sources.flags {
        layers.set(*key, value.clone(), Origin::Flag);
    }
    Ok(layers.into_config())
}

#[derive(Default)]
struct Layers {
    settings: BTreeMap<Key, Setting<Value>>,
    rules: Vec<RawRule>,
    signatures: Vec<OwnSignature>,
    warnings: Vec<String>,
}

impl Layers {
    /// Takes a project's signatures, but for those by which a failed command would be run again.
    fn narrow_signatures(&mut self, own: Vec<OwnSignature>) {
        for signature in own {
            if !signature.class.may_pass() {
                self.signatures.push(signature);
                continue;
            }
            let place = signature.patterns.first().map(|pattern| format!(" in {}", pattern.place)).unwrap_or_default();
            let class = signature.class;
            self.warnings
                .push(format!("a signature of `{class}`{place} is left out: by a project's word nothing is run again"));
        }
    }

    fn set(&mut self, key: Key, value: Value, origin: Origin) {
        self.settings.insert(key, Setting { value, origin });
    }

    /// Takes what the project's file says only where it makes a run narrower.
    fn narrow(&mut self, key: Key, value: Value, path: &Path) {
        let default = match key {
            Key::MaxTurns => Some(Value::Count(u64::from(DEFAULT_MAX_TURNS))),
            Key::MaxRetries => Some(Value::Count(DEFAULT_MAX_RETRIES)),
            _ => None,
        };
        let before = self.settings.get(&key).map(|setting| &setting.value).or(default.as_ref());
        let refused = match (key.project(), before, &value) {
            (Project::Nothing, _, _) => Some("a project may not set it"),
            (Project::Lower, Some(Value::Count(before)), Value::Count(now)) if now > before => Some(HIGHER),
            (Project::Lower, Some(Value::Number(before)), Value::Number(now)) if now > before => Some(HIGHER),
            (Project::SomeBox, _, Value::Sandbox(SandboxChoice::Host)) => Some("a project may not do without a box"),
            (Project::SomeBox, Some(Value::Sandbox(before)), _) if *before != SandboxChoice::Auto => {
                Some("the kind of box is chosen already")
            }
            (Project::Off, _, Value::Network(true)) => Some("a project may only take the network away"),
            (Project::Stricter, before, Value::Mode(now)) if *now > mode_of(before) => {
                Some("a project may only have less done unasked")
            }
            (
                Project::Anything | Project::Add | Project::Lower | Project::SomeBox | Project::Off | Project::Stricter,
                _,
                _,
            ) => None,
        };
        match refused {
            Some(why) => {
                self.warnings.push(format!("`{}` in {} is left out: {why}", key.name(), path.display()));
            }
            None => {
                let value = match (key.project(), self.settings.remove(&key), value) {
                    (Project::Add, Some(Setting { value: Value::List(mut all), .. }), Value::List(more)) => {
                        all.extend(more);
                        Value::List(all)
                    }
                    (_, _, value) => value,
                };
                self.set(key, value, Origin::File(path.to_owned()));
            }
        }
    }

    /// Takes a rule of the project's file, unless it allows something.
    fn narrow_by(&mut self, rule: RawRule) {
        match rule.rule.permit {
            Permit::Allow => self
                .warnings
                .push(format!("the rule at {} is left out: a project may ask and deny, not allow", rule.rule.origin)),
            Permit::Ask | Permit::Deny => self.rules.push(rule),
        }
    }

    fn into_config(mut self) -> Config {
        let silence = Silence {
            then: or(self.take(Key::OnSilence, on_silence), OnSilence::default()).value,
            within_s: self.take(Key::AnswerWithin, count).value,
        };
        let rules = std::mem::take(&mut self.rules).into_iter().map(|rule| rule.with(silence)).collect();
        Config {
            mode: or(self.take(Key::Mode, mode), ActMode::default()),
            silence,
            rules,
            model: self.take(Key::Model, text),
            base_url: self.take(Key::BaseUrl, text),
            api_key_env: or(self.take(Key::ApiKeyEnv, text), "OPENAI_API_KEY".to_owned()),
            wire: or(self.take(Key::Wire, wire), WireChoice::Auto),
            patience_s: or(self.take(Key::Patience, count), DEFAULT_PATIENCE_S),
            stall_s: or(self.take(Key::Stall, count), DEFAULT_STALL_S),
            fallbacks: or(self.take(Key::Fallbacks, list), Vec::new()),
            sandbox: or(self.take(Key::Sandbox, sandbox), SandboxChoice::Auto),
            image: self.take(Key::Image, text),
            network: or(self.take(Key::Network, network), true),
            tmux: or(self.take(Key::Tmux, tmux), false),
            memory_bytes: self.take(Key::Memory, count),
            memory_max_bytes: self.take(Key::MemoryMax, count),
            pids: self.take(Key::Pids, count),
            cpus: self.take(Key::Cpus, number),
            log_cap_bytes: self.take(Key::LogCap, count),
            max_turns: or(self.take(Key::MaxTurns, turns), DEFAULT_MAX_TURNS),
            max_retries: self.take(Key::MaxRetries, turns),
            max_time_s: self.take(Key::MaxTime, count),
            max_tokens: self.take(Key::MaxTokens, count),
            window_tokens: self.take(Key::Window, count),
            max_cost: self.take(Key::MaxCost, number),
            price: self.take(Key::Price, text),
            checks: or(self.take(Key::Checks, checks), Vec::new()),
            check_timeout_s: self.take(Key::CheckTimeout, count),
            baseline: or(self.take(Key::Baseline, baseline), true),
            protect: or(self.take(Key::Protect, list), Vec::new()),
            checkpoints: or(self.take(Key::Checkpoints, checkpoints), true),
            checkpoint_cap: or(self.take(Key::CheckpointCap, cap), (None, None)),
            lessons: or(self.take(Key::Lessons, lessons), true),
            notify: or(self.take(Key::Notify, list), Vec::new()),
            remind_after_s: or(self.take(Key::RemindAfter, count), DEFAULT_REMIND_AFTER_S),
            output_format: or(self.take(Key::OutputFormat, output_format), OutputFormat::Text),
            signatures: self.signatures,
            warnings: self.warnings,
        }
    }

    fn take<T>(&mut self, key: Key, typed: fn(Value) -> Option<T>) -> Setting<Option<T>> {
        match self.settings.remove(&key) {
            Some(setting) => Setting { value: typed(setting.value), origin: setting.origin },
            None => Setting { value: None, origin: Origin::Default },
        }
    }
}

const NOTIFY: &str = "a command, desktop, bell or a URL, or a list of such";
const HIGHER: &str = "a project may only lower it";
const DEFAULT_MAX_TURNS: u32 = 200;
/// How often failed commands are run again where nothing is said: a project may lower it.
const DEFAULT_MAX_RETRIES: u64 = 20;
/// A provider's outages and limits mostly pass within hours, and waiting costs nothing.
const DEFAULT_PATIENCE_S: u64 = 6 * 3600;
/// A model that reasons, or a small machine with a long prompt, may be silent for minutes.
const DEFAULT_STALL_S: u64 = 300;
/// Whoever has seen the first notification and is busy is not told off.
const DEFAULT_REMIND_AFTER_S: u64 = 600;

fn or<T>(setting: Setting<Option<T>>, default: T) -> Setting<T> {
    Setting { value: setting.value.unwrap_or(default), origin: setting.origin }
}

macro_rules! typed {
    ($($name:ident $variant:ident $type:ty,)*) => {
        $(fn $name(value: Value) -> Option<$type> {
            if let Value::$variant(inner) = value { Some(inner) } else { None }
        })*
    };
}

typed! {
    text Text String,
    count Count u64,
    number Number f64,
    list List Vec<String>,
    wire Wire WireChoice,
    sandbox Sandbox SandboxChoice,
    network Network bool,
    tmux Tmux bool,
    checks Checks Vec<Check>,
    baseline Baseline bool,
    checkpoints Checkpoints bool,
    lessons Lessons bool,
    mode Mode ActMode,
    on_silence OnSilence OnSilence,
    output_format OutputFormat OutputFormat,
}

/// The mode that holds where nothing else was said.
fn mode_of(value: Option<&Value>) -> ActMode {
    if let Some(Value::Mode(mode)) = value { *mode } else { ActMode::default() }
}

fn cap(value: Value) -> Option<(Option<u32>, Option<u64>)> {
    if let Value::Cap(most, bytes) = value { Some((most, bytes)) } else { None }
}

fn turns(value: Value) -> Option<u32> {
    count(value).and_then(|turns| u32::try_from(turns).ok())
}

/// A file's text, and where things stand in it.
pub(super) struct File {
    shown: String,
    text: String,
}

/// What a file says.
struct Said {
    settings: Vec<(Key, Value)>,
    rules: Vec<RawRule>,
    signatures: Vec<OwnSignature>,
}

impl File {
    /// Reads a file; None where there is none.
    fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(Self { shown, text })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(ConfigError::Read { path: shown, source }),
        }
    }

    /// Line and column of a byte, from 1.
    pub(super) fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    /// `FILE:LINE`.
    pub(super) fn line(&self, at: usize) -> String {
        format!("{}:{}", self.shown, self.line_and_column(at).0)
    }

    /// `key` at `at` is none of `known`.
    pub(super) fn unknown(&self, key: &str, at: usize, known: impl IntoIterator<Item = &'static str>) -> ConfigError {
        let (line, column) = self.line_and_column(at);
        let (path, meant) = (self.shown.clone(), most_alike(key, known));
        ConfigError::UnknownKey { path, line, column, key: key.to_owned(), meant }
    }

    /// The value at `at` must be `right`.
    pub(super) fn wrong(&self, key: &'static str, at: usize, right: &'static str) -> ConfigError {
        let (line, column) = self.line_and_column(at);
        ConfigError::Value { place: format!("{}:{line}:{column}", self.shown), key, right }
    }

    /// What the file says: these settings, and rules.
    fn said(&self, keys: &[Key]) -> Result<Said, ConfigError> {
        let table = DeTable::parse(&self.text).map_err(|error| ConfigError::Syntax {
            path: self.shown.clone(),
            line: error.span().map_or(1, |span| self.line_and_column(span.start).0),
            message: error.message().to_owned(),
        })?;
        let mut said = Said { settings: Vec::new(), rules: Vec::new(), signatures: Vec::new() };
        for (name, value) in table.get_ref() {
            let at = name.span().start;
            let name: &str = name.get_ref();
            if name == rules::KEY {
                said.rules = rules::read(self, value)?;
                continue;
            }
            // A file of rules alone has none.
            if name == signatures::KEY && !keys.is_empty() {
                said.signatures = signatures::read(self, &self.text)?;
                continue;
            }
            let known = || keys.iter().copied().map(Key::name).chain([rules::KEY]);
            let key = keys.iter().copied().find(|key| key.name() == name);
            let key = key.ok_or_else(|| self.unknown(name, at, known()))?;
            let value = match (key, value.get_ref()) {
                (Key::Checks, DeValue::Array(items)) => super::checks::read(items, &self.line(at))?,
                (key, _) => of_toml(key, value).map_err(|right| self.wrong(key.name(), at, right))?,
            };
            said.settings.push((key, value));
        }
        Ok(said)
    }
}

fn of_toml(key: Key, value: &Spanned<DeValue<'_>>) -> Result<Value, &'static str> {
    match (key, value.get_ref()) {
        (Key::Checks, _) => Err("a list of checks"),
        (Key::Protect, DeValue::Array(items)) => texts(items).ok_or("a list of globs"),
        (Key::Protect, _) => Err("a list of globs"),
        (Key::Baseline, DeValue::Boolean(on)) => Ok(Value::Baseline(*on)),
        (Key::Fallbacks, DeValue::Array(items)) => texts(items).ok_or("a list of models"),
        (Key::Fallbacks, _) => Err("a list of models"),
        (Key::Notify, DeValue::Array(items)) => texts(items).ok_or(NOTIFY),
        (key, DeValue::String(text)) => key.parse(text),
        (
            Key::Memory
            | Key::MemoryMax
            | Key::Pids
            | Key::Cpus
            | Key::LogCap
            | Key::MaxTurns
            | Key::MaxRetries
            | Key::MaxTokens
            | Key::Window
            | Key::MaxCost
            | Key::CheckpointCap,
            DeValue::Integer(number),
        ) => key.parse(number.as_str()),
        (Key::Cpus | Key::MaxCost, DeValue::Float(number)) => key.parse(number.as_str()),
        (key, _) => Err(key.parse("").err().unwrap_or("something else")),
    }
}

fn texts(items: &[Spanned<DeValue<'_>>]) -> Option<Value> {
    items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<_>>().map(Value::List)
}

#[cfg(test)]
mod tests;
