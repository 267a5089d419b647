//! Settings, each with where it comes from: defaults < system file < user file < project file < environment < flags.
//!
//! The project's file is input from whoever wrote the project: it may make a run narrower (less network, smaller limits,
//! more checks), never wider, and never says where requests or credentials go.

mod checks;
mod keys;
mod load;
mod rules;
mod signatures;
mod units;

use std::fmt;
use std::path::PathBuf;

use crate::domain::Check;
use crate::domain::{ActMode, Rule, Silence};

pub use keys::{Key, OutputFormat, SandboxChoice, Value, WireChoice};
pub use load::{ConfigError, Sources, load};
pub use signatures::{OwnSignature, Placed};
pub use units::{parse_duration, parse_size};

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A setting and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    /// What holds.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

/// All settings. What is None was said by nobody and has no default here.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model's name, or `script:FILE`.
    pub model: Setting<Option<String>>,
    /// The server's base URL.
    pub base_url: Setting<Option<String>>,
    /// The variable that holds the key.
    pub api_key_env: Setting<String>,
    /// Which API its server is asked over.
    pub wire: Setting<WireChoice>,
    /// How long a server that does not answer is waited for, in seconds.
    pub patience_s: Setting<u64>,
    /// How long an answer may bring nothing before it is cut and asked for again, in seconds.
    pub stall_s: Setting<u64>,
    /// The models that are asked while those before them can't answer, each as `MODEL[@URL][=PRICE]`.
    pub fallbacks: Setting<Vec<String>>,
    /// Which kind of box.
    pub sandbox: Setting<SandboxChoice>,
    /// The image for a container.
    pub image: Setting<Option<String>>,
    /// Whether the box may reach the network.
    pub network: Setting<bool>,
    /// Whether tmux is installed where an image has none.
    pub tmux: Setting<bool>,
    /// Memory limit of the box.
    pub memory_bytes: Setting<Option<u64>>,
    /// What that limit may be raised to.
    pub memory_max_bytes: Setting<Option<u64>>,
    /// Most processes and threads in the box.
    pub pids: Setting<Option<u64>>,
    /// Processors that the box may use.
    pub cpus: Setting<Option<f64>>,
    /// Most bytes of all terminal logs of a run.
    pub log_cap_bytes: Setting<Option<u64>>,
    /// Most model requests of a run.
    pub max_turns: Setting<u32>,
    /// How often a run's harness may run failed commands again.
    pub max_retries: Setting<Option<u32>>,
    /// Most time of a run, in seconds.
    pub max_time_s: Setting<Option<u64>>,
    /// Most tokens of a run.
    pub max_tokens: Setting<Option<u64>>,
    /// The model's window in tokens.
    pub window_tokens: Setting<Option<u64>>,
    /// Most money of a run, in US dollars.
    pub max_cost: Setting<Option<f64>>,
    /// What the model's tokens cost, where the table is not to be asked.
    pub price: Setting<Option<String>>,
    /// What decides whether a run is done.
    pub checks: Setting<Vec<Check>>,
    /// How long a check may take, in seconds.
    pub check_timeout_s: Setting<Option<u64>>,
    /// Whether the checks are run before any work, too.
    pub baseline: Setting<bool>,
    /// Globs of files that a run must leave as they are.
    pub protect: Setting<Vec<String>>,
    /// Whether checkpoints are taken unasked.
    pub checkpoints: Setting<bool>,
    /// Most checkpoints taken unasked that are kept, and most bytes of them.
    pub checkpoint_cap: Setting<(Option<u32>, Option<u64>)>,
    /// Whether what is learned about failures is remembered across runs.
    pub lessons: Setting<bool>,
    /// The ways in which a person is told of what needs them.
    pub notify: Setting<Vec<String>>,
    /// How long a question is open before a person is reminded of it, in seconds.
    pub remind_after_s: Setting<u64>,
    /// How freely a run acts.
    pub mode: Setting<ActMode>,
    /// What becomes of questions while nobody answers.
    pub silence: Silence,
    /// The rules, in order of their layers, each with where it stands.
    pub rules: Vec<Rule>,
    /// What standard output gets.
    pub output_format: Setting<OutputFormat>,
    /// What failures say of themselves, as users know it: the first that fits decides.
    pub signatures: Vec<OwnSignature>,
    /// What was left out and why, in words.
    pub warnings: Vec<String>,
}
