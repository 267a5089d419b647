//! Puts the layers of settings together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Project;
use super::{Config, Key, Origin, OutputFormat, SandboxChoice, Setting, Value, WireChoice};
use crate::domain::Check;
use crate::domain::most_alike;

/// Where settings may come from; everything is passed in.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The system's file, such as `/etc/longhaul/config.toml`.
    pub system: Option<PathBuf>,
    /// The user's file.
    pub user: Option<PathBuf>,
    /// The project's file.
    pub project: Option<PathBuf>,
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
    #[error("{path}:{line}: there is no setting `{key}`{}", .meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// As it stands there.
        key: String,
        /// The setting that looks most like it.
        meant: Option<&'static str>,
    },
    /// A value makes no sense.
    #[error("{place}: `{key}` must be {right}")]
    Value {
        /// File and line, or the variable.
        place: String,
        /// The setting.
        key: &'static str,
        /// What would be right.
        right: &'static str,
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
        for (key, value) in read_file(path)? {
            layers.set(key, value, Origin::File(path.clone()));
        }
    }
    if let Some(path) = &sources.project {
        for (key, value) in read_file(path)? {
            layers.narrow(key, value, path);
        }
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
    warnings: Vec<String>,
}

impl Layers {
    fn set(&mut self, key: Key, value: Value, origin: Origin) {
        self.settings.insert(key, Setting { value, origin });
    }

    /// Takes what the project's file says only where it makes a run narrower.
    fn narrow(&mut self, key: Key, value: Value, path: &Path) {
        let default = (key == Key::MaxTurns).then_some(Value::Count(u64::from(DEFAULT_MAX_TURNS)));
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
            (Project::Anything | Project::Add | Project::Lower | Project::SomeBox | Project::Off, _, _) => None,
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

    fn into_config(mut self) -> Config {
        Config {
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
            pids: self.take(Key::Pids, count),
            cpus: self.take(Key::Cpus, number),
            log_cap_bytes: self.take(Key::LogCap, count),
            max_turns: or(self.take(Key::MaxTurns, turns), DEFAULT_MAX_TURNS),
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
    output_format OutputFormat OutputFormat,
}

fn cap(value: Value) -> Option<(Option<u32>, Option<u64>)> {
    if let Value::Cap(most, bytes) = value { Some((most, bytes)) } else { None }
}

fn turns(value: Value) -> Option<u32> {
    count(value).and_then(|turns| u32::try_from(turns).ok())
}

fn read_file(path: &Path) -> Result<Vec<(Key, Value)>, ConfigError> {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(ConfigError::Read { path: shown, source }),
    };
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: shown.clone(),
        line: error.span().map_or(1, |span| line_of(span.start)),
        message: error.message().to_owned(),
    })?;
    let mut settings = Vec::new();
    for (name, value) in table.get_ref() {
        let line = line_of(name.span().start);
        let name: &str = name.get_ref();
        let key = Key::ALL.into_iter().find(|key| key.name() == name).ok_or_else(|| ConfigError::UnknownKey {
            path: shown.clone(),
            line,
            key: name.to_owned(),
            meant: most_alike(name, Key::ALL.into_iter().map(Key::name)),
        })?;
        let place = format!("{shown}:{line}");
        let value = match (key, value.get_ref()) {
            (Key::Checks, DeValue::Array(items)) => super::checks::read(items, &place)?,
            (key, _) => of_toml(key, value).map_err(|right| ConfigError::Value { place, key: key.name(), right })?,
        };
        settings.push((key, value));
    }
    Ok(settings)
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
            | Key::Pids
            | Key::Cpus
            | Key::LogCap
            | Key::MaxTurns
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
