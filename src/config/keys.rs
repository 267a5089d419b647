//! The settings that there are, what values they take, and what the project's file may say.

use super::units::{parse_duration, parse_size};
use crate::domain::{ActMode, Check, OnSilence};

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named like the field of `Config` that documents it")]
pub enum Key {
    Model,
    BaseUrl,
    ApiKeyEnv,
    Wire,
    Patience,
    Stall,
    Fallbacks,
    Sandbox,
    Image,
    Network,
    Tmux,
    Memory,
    MemoryMax,
    Pids,
    Cpus,
    LogCap,
    MaxTurns,
    MaxRetries,
    MaxTime,
    MaxTokens,
    Window,
    MaxCost,
    Price,
    Checks,
    CheckTimeout,
    Baseline,
    Protect,
    Checkpoints,
    CheckpointCap,
    Lessons,
    Notify,
    RemindAfter,
    Mode,
    OnSilence,
    AnswerWithin,
    OutputFormat,
}

/// Which API a model's server is asked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireChoice {
    /// Whichever fits.
    Auto,
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

/// Which kind of box is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxChoice {
    /// Whatever fits.
    Auto,
    /// A container.
    Docker,
    /// Namespaces.
    Local,
    /// No box.
    Host,
}

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// The answer.
    Text,
    /// One object at the end.
    Json,
    /// An object per line.
    StreamJson,
}

/// The value of a setting, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number above zero, a size in bytes, or a time in seconds.
    Count(u64),
    /// A number above zero.
    Number(f64),
    /// Several words.
    List(Vec<String>),
    /// Which API.
    Wire(WireChoice),
    /// Which kind of box.
    Sandbox(SandboxChoice),
    /// Whether there is a network.
    Network(bool),
    /// Whether tmux is installed.
    Tmux(bool),
    /// What proves that a goal is reached.
    Checks(Vec<Check>),
    /// Whether the checks are run before any work, too.
    Baseline(bool),
    /// Whether checkpoints are taken unasked.
    Checkpoints(bool),
    /// Most checkpoints that were taken unasked, and most bytes of them; what was not said is as it is.
    Cap(Option<u32>, Option<u64>),
    /// Whether what is learned is remembered.
    Lessons(bool),
    /// How freely a run acts.
    Mode(ActMode),
    /// What becomes of a question that nobody answers.
    OnSilence(OnSilence),
    /// What standard output gets.
    OutputFormat(OutputFormat),
}

/// The least memory in which a box's first process, a shell and a command have room.
const LEAST_MEMORY: u64 = 32 << 20;
/// The least room for logs in which the output of ordinary commands can be seen.
const LEAST_LOG_CAP: u64 = 1 << 20;
/// The fewest processes and threads with which they come up.
const LEAST_PIDS: u64 = 16;

/// What the project's file may do to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Project {
    /// Nothing.
    Nothing,
    /// Say anything: it can't widen what a run may do.
    Anything,
    /// Add to it.
    Add,
    /// Lower it.
    Lower,
    /// Ask for a box, not for none.
    SomeBox,
    /// Switch it off.
    Off,
    /// Have less done without a person.
    Stricter,
}

impl Key {
    /// Every setting.
    pub const ALL: [Self; 36] = [
        Self::Model,
        Self::BaseUrl,
        Self::ApiKeyEnv,
        Self::Wire,
        Self::Patience,
        Self::Stall,
        Self::Fallbacks,
        Self::Sandbox,
        Self::Image,
        Self::Network,
        Self::Tmux,
        Self::Memory,
        Self::MemoryMax,
        Self::Pids,
        Self::Cpus,
        Self::LogCap,
        Self::MaxTurns,
        Self::MaxRetries,
        Self::MaxTime,
        Self::MaxTokens,
        Self::Window,
        Self::MaxCost,
        Self::Price,
        Self::Checks,
        Self::CheckTimeout,
        Self::Baseline,
        Self::Protect,
        Self::Checkpoints,
        Self::CheckpointCap,
        Self::Lessons,
        Self::Notify,
        Self::RemindAfter,
        Self::Mode,
        Self::OnSilence,
        Self::AnswerWithin,
        Self::OutputFormat,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::BaseUrl => "base_url",
            Self::ApiKeyEnv => "api_key_env",
            Self::Wire => "wire",
            Self::Patience => "patience",
            Self::Stall => "stall",
            Self::Fallbacks => "fallbacks",
            Self::Sandbox => "sandbox",
            Self::Image => "image",
            Self::Network => "network",
            Self::Tmux => "tmux",
            Self::Memory => "memory",
            Self::MemoryMax => "memory_max",
            Self::Pids => "pids",
            Self::Cpus => "cpus",
            Self::LogCap => "log_cap",
            Self::MaxTurns => "max_turns",
            Self::MaxRetries => "max_retries",
            Self::MaxTime => "max_time",
            Self::MaxTokens => "max_tokens",
            Self::Window => "window",
            Self::MaxCost => "max_cost",
            Self::Price => "price",
            Self::Checks => "checks",
            Self::CheckTimeout => "check_timeout",
            Self::Baseline => "baseline",
            Self::Protect => "protect",
            Self::Checkpoints => "checkpoints",
            Self::CheckpointCap => "checkpoint_cap",
            Self::Lessons => "lessons",
            Self::Notify => "notify",
            Self::RemindAfter => "remind_after",
            Self::Mode => "mode",
            Self::OnSilence => "on_silence",
            Self::AnswerWithin => "answer_within",
            Self::OutputFormat => "output_format",
        }
    }

    /// The environment variables that set it, the strongest first.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["LONGHAUL_MODEL"],
            Self::BaseUrl => &["LONGHAUL_BASE_URL", "OPENAI_BASE_URL"],
            Self::ApiKeyEnv => &["LONGHAUL_API_KEY_ENV"],
            Self::Wire => &["LONGHAUL_WIRE"],
            Self::Patience => &["LONGHAUL_PATIENCE"],
            Self::Stall => &["LONGHAUL_STALL"],
            Self::Fallbacks => &["LONGHAUL_FALLBACKS"],
            Self::Sandbox => &["LONGHAUL_SANDBOX"],
            Self::Image => &["LONGHAUL_IMAGE"],
            Self::Network => &["LONGHAUL_NETWORK"],
            Self::Tmux => &["LONGHAUL_TMUX"],
            Self::Memory => &["LONGHAUL_MEMORY"],
            Self::MemoryMax => &["LONGHAUL_MEMORY_MAX"],
            Self::Pids => &["LONGHAUL_PIDS"],
            Self::Cpus => &["LONGHAUL_CPUS"],
            Self::LogCap => &["LONGHAUL_LOG_CAP"],
            Self::MaxTurns => &["LONGHAUL_MAX_TURNS"],
            Self::MaxRetries => &["LONGHAUL_MAX_RETRIES"],
            Self::MaxTime => &["LONGHAUL_MAX_TIME"],
            Self::MaxTokens => &["LONGHAUL_MAX_TOKENS"],
            Self::Window => &["LONGHAUL_WINDOW"],
            Self::MaxCost => &["LONGHAUL_MAX_COST"],
            Self::Price => &["LONGHAUL_PRICE"],
            Self::Checkpoints => &["LONGHAUL_CHECKPOINTS"],
            Self::CheckpointCap => &["LONGHAUL_CHECKPOINT_CAP"],
            Self::Lessons => &["LONGHAUL_LESSONS"],
            Self::Notify => &["LONGHAUL_NOTIFY"],
            Self::RemindAfter => &["LONGHAUL_REMIND_AFTER"],
            Self::Mode => &["LONGHAUL_MODE"],
            Self::OnSilence => &["LONGHAUL_ON_SILENCE"],
            Self::AnswerWithin => &["LONGHAUL_ANSWER_WITHIN"],
            Self::OutputFormat => &["LONGHAUL_OUTPUT_FORMAT"],
            Self::CheckTimeout => &["LONGHAUL_CHECK_TIMEOUT"],
            Self::Baseline => &["LONGHAUL_BASELINE"],
            Self::Checks | Self::Protect => &[],
        }
    }

    /// What the project's file may do to it.
    pub(super) fn project(self) -> Project {
        match self {
            Self::Model
            | Self::BaseUrl
            | Self::ApiKeyEnv
            | Self::Wire
            | Self::Patience
            | Self::Stall
            | Self::Fallbacks
            | Self::Price
            | Self::Image
            | Self::Tmux
            | Self::MemoryMax
            | Self::Baseline
            | Self::Checkpoints
            | Self::CheckpointCap
            | Self::Lessons
            | Self::Notify
            | Self::RemindAfter
            | Self::OnSilence
            | Self::AnswerWithin
            | Self::OutputFormat => Project::Nothing,
            Self::CheckTimeout
            | Self::Memory
            | Self::Pids
            | Self::Cpus
            | Self::LogCap
            | Self::MaxTurns
            | Self::MaxRetries
            | Self::MaxTime
            | Self::MaxTokens
            | Self::Window
            | Self::MaxCost => Project::Lower,
            Self::Sandbox => Project::SomeBox,
            Self::Network => Project::Off,
            Self::Mode => Project::Stricter,
            Self::Checks => Project::Anything,
            Self::Protect => Project::Add,
        }
    }

    /// Reads a value from text, as in a variable or a flag.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(self, text: &str) -> Result<Value, &'static str> {
        match self {
            Self::Model | Self::BaseUrl | Self::ApiKeyEnv | Self::Image if text.is_empty() => Err("some text"),
            Self::Model | Self::Image => Ok(Value::Text(text.to_owned())),
            Self::BaseUrl => match text.starts_with("http://") || text.starts_with("https://") {
                true => Ok(Value::Text(text.trim_end_matches('/').to_owned())),
                false => Err("a URL that begins with http:// or https://"),
            },
            Self::ApiKeyEnv => match text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                true => Ok(Value::Text(text.to_owned())),
                false => Err("the name of an environment variable"),
            },
            Self::Sandbox => sandbox(text).map(Value::Sandbox).ok_or("auto, docker, local or host"),
            Self::Network => match text {
                "open" => Ok(Value::Network(true)),
                "none" => Ok(Value::Network(false)),
                _ => Err("open or none"),
            },
            Self::Tmux => match text {
                "install" => Ok(Value::Tmux(true)),
                "image" => Ok(Value::Tmux(false)),
                _ => Err("install, or image for what the image has"),
            },
            Self::Memory | Self::MemoryMax => parse_size(text)
                .filter(|size| *size >= LEAST_MEMORY)
                .map(Value::Count)
                .ok_or("a size such as 512MiB or 4GiB, and 32MiB at least"),
            Self::LogCap => parse_size(text)
                .filter(|size| *size >= LEAST_LOG_CAP)
                .map(Value::Count)
                .ok_or("a size such as 512MiB or 4GiB, and 1MiB at least"),
            Self::Pids => above_zero(text)
                .filter(|pids| *pids >= LEAST_PIDS)
                .map(Value::Count)
                .ok_or("a whole number, and 16 at least"),
            Self::MaxTurns => above_zero(text)
                .filter(|turns| u32::try_from(*turns).is_ok())
                .map(Value::Count)
                .ok_or("a whole number above zero"),
            Self::MaxRetries => {
                let retries: Option<u32> = text.parse().ok();
                retries.map(|retries| Value::Count(u64::from(retries))).ok_or("a whole number, 0 for none")
            }
            Self::Wire => wire(text).map(Value::Wire).ok_or("auto, chat or responses"),
            Self::Mode => mode(text).map(Value::Mode).ok_or("plan, ask or auto"),
            Self::OnSilence => on_silence(text).map(Value::OnSilence).ok_or("wait, pause or fail"),
            Self::MaxTime
            | Self::Patience
            | Self::Stall
            | Self::CheckTimeout
            | Self::RemindAfter
            | Self::AnswerWithin => {
                parse_duration(text).map(Value::Count).ok_or("a time such as 90s, 45m, 2h or 1h30m, and at most 366d")
            }
            Self::MaxTokens | Self::Window => {
                above_zero(text).map(Value::Count).ok_or("a whole number of tokens above zero")
            }
            Self::MaxCost => {
                let dollars: Option<f64> = text.trim_start_matches('$').parse().ok();
                let dollars = dollars.filter(|dollars| (0.000_001..=1e9).contains(dollars));
                dollars.map(Value::Number).ok_or("an amount in US dollars above zero, such as 2.50")
            }
            Self::Price => match text.split(',').all(|part| part.trim().parse::<f64>().is_ok_and(|price| price >= 0.0))
            {
                true => Ok(Value::Text(text.to_owned())),
                false => Err("US dollars per million tokens as INPUT,CACHED,OUTPUT, such as 1.25,0.125,10"),
            },
            Self::Cpus => {
                let number: Option<f64> = text.parse().ok().filter(|cpus| (0.01..=100_000.0).contains(cpus));
                number.map(Value::Number).ok_or("a number above zero such as 1.5")
            }
            // Prices in them hold commas.
            Self::Fallbacks => Ok(Value::List(text.split_whitespace().map(str::to_owned).collect())),
            Self::Checks => Ok(Value::Checks(vec![Check::Command(text.to_owned())])),
            // A command is taken as it stands.
            Self::Protect | Self::Notify => Ok(Value::List(vec![text.to_owned()])),
            Self::Baseline => match text {
                "on" => Ok(Value::Baseline(true)),
                "off" => Ok(Value::Baseline(false)),
                _ => Err("on or off"),
            },
            Self::Checkpoints => match text {
                "auto" => Ok(Value::Checkpoints(true)),
                "off" => Ok(Value::Checkpoints(false)),
                _ => Err("auto or off"),
            },
            Self::CheckpointCap => cap(text)
                .map(|(most, bytes)| Value::Cap(most, bytes))
                .ok_or("a number, a size, or both, such as 20,8GiB"),
            Self::Lessons => match text {
                "on" => Ok(Value::Lessons(true)),
                "off" => Ok(Value::Lessons(false)),
                _ => Err("on or off"),
            },
            Self::OutputFormat => output_format(text).map(Value::OutputFormat).ok_or("text, json or stream-json"),
        }
    }
}

fn above_zero(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn sandbox(text: &str) -> Option<SandboxChoice> {
    match text {
        "auto" => Some(SandboxChoice::Auto),
        "docker" => Some(SandboxChoice::Docker),
        "local" => Some(SandboxChoice::Local),
        "host" => Some(SandboxChoice::Host),
        _ => None,
    }
}

/// Reads a number, a size with its unit, or both with a comma between them.
fn cap(text: &str) -> Option<(Option<u32>, Option<u64>)> {
    let (mut most, mut bytes) = (None, None);
    for part in text.split(',').map(str::trim) {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match (is_number, most, bytes) {
            (true, None, _) => most = Some(u32::try_from(above_zero(part)?).ok()?),
            (false, _, None) => bytes = Some(parse_size(part)?),
            (true, Some(_), _) | (false, _, Some(_)) => return None,
        }
    }
    Some((most, bytes))
}

fn wire(text: &str) -> Option<WireChoice> {
    match text {
        "auto" => Some(WireChoice::Auto),
        "chat" => Some(WireChoice::Chat),
        "responses" => Some(WireChoice::Responses),
        _ => None,
    }
}

fn mode(text: &str) -> Option<ActMode> {
    [ActMode::Plan, ActMode::Ask, ActMode::Auto].into_iter().find(|mode| mode.name() == text)
}

/// Reads what becomes of a question that nobody answers.
pub(super) fn on_silence(text: &str) -> Option<OnSilence> {
    [OnSilence::Wait, OnSilence::Pause, OnSilence::Fail].into_iter().find(|then| then.name() == text)
}

fn output_format(text: &str) -> Option<OutputFormat> {
    match text {
        "text" => Some(OutputFormat::Text),
        "json" => Some(OutputFormat::Json),
        "stream-json" => Some(OutputFormat::StreamJson),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_number_a_size_or_both() {
        assert_eq!(cap("20"), Some((Some(20), None)));
        assert_eq!(cap("8GiB"), Some((None, Some(8 << 30))));
        assert_eq!(cap("8g, 5"), Some((Some(5), Some(8 << 30))));
        for bad in ["", ",", "0", "5,6", "1g,2g", "x", "5,"] {
            assert_eq!(cap(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_key_refuses_nonsense_with_what_is_right() {
        for (key, bad) in [
            (Key::Wire, "websocket"),
            (Key::Patience, "long"),
            (Key::CheckTimeout, "0s"),
            (Key::Baseline, "sometimes"),
            (Key::Sandbox, "vm"),
            (Key::Network, "yes"),
            (Key::Memory, "much"),
            (Key::LogCap, "10kB"),
            (Key::Pids, "0"),
            (Key::Cpus, "NaN"),
            (Key::MaxTurns, "4294967296"),
            (Key::MaxRetries, "-1"),
            (Key::MemoryMax, "1kB"),
            (Key::MaxTime, "90"),
            (Key::MaxTokens, "-1"),
            (Key::Window, "128k"),
            (Key::MaxCost, "0"),
            (Key::Price, "-1,2"),
            (Key::BaseUrl, "ftp://x"),
            (Key::ApiKeyEnv, "A B"),
            (Key::OutputFormat, "xml"),
            (Key::Mode, "yolo"),
            (Key::OnSilence, "allow"),
            (Key::AnswerWithin, "soon"),
            (Key::Checkpoints, "sometimes"),
            (Key::CheckpointCap, "0"),
            (Key::CheckpointCap, "1GiB,2GiB"),
            (Key::Model, ""),
        ] {
            assert!(key.parse(bad).is_err(), "{key:?}");
        }
    }
}
