//! What a run is to be like: flags over environment over configuration files over defaults.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{BoxArgs, ModelArgs, NotifyArgs, PolicyArgs, ProofArgs, WorkspaceArg};
use super::{Failure, Place, budget, launch};
use crate::config::{self, Config, Key, Origin, OutputFormat, SandboxChoice, Sources, Value, WireChoice};
use crate::domain::{Budget, Check, CheckpointRules, ExitReason, Rules, RunMode, SandboxKind};
use crate::model::{Fallback, ModelChoice, Patience, SCRIPT_PREFIX, Wire, key_variable};
use crate::notify::{Channel, Ground, NotifyPlan};
use crate::policy;
use crate::recovery::{Classifier, SignatureRow, Signatures, check_pattern};
use crate::sandbox::choose::Wanted;
use crate::sandbox::{Limits, Network};
use crate::telemetry::Secret;
use crate::tools::Registry;

/// Processes and threads of a box when nothing is said: enough for a parallel build, too few for a fork bomb to hurt.
const DEFAULT_PIDS: u64 = 4096;

/// The flags that say how a run is to be.
#[derive(Default)]
pub(super) struct Flags<'a> {
    /// Who answers.
    pub(super) model: Option<&'a ModelArgs>,
    /// Where the work happens.
    pub(super) sandbox: Option<&'a BoxArgs>,
    /// What proves the result.
    pub(super) proof: Option<&'a ProofArgs>,
    /// What it may do unasked.
    pub(super) policy: Option<&'a PolicyArgs>,
    /// Most model requests.
    pub(super) max_turns: Option<&'a str>,
    /// Most tries by the harness.
    pub(super) max_retries: Option<&'a str>,
    /// Most time.
    pub(super) max_time: Option<&'a str>,
    /// Most tokens.
    pub(super) max_tokens: Option<&'a str>,
    /// Most money.
    pub(super) max_cost: Option<&'a str>,
    /// The end at the latest.
    pub(super) deadline: Option<&'a str>,
    /// Whether services are left alive at the end.
    pub(super) keep_services: bool,
    /// Whether the model is not shown what the project says of itself.
    pub(super) no_docs: bool,
    /// What goes to stdout.
    pub(super) output_format: Option<&'a str>,
    /// How a person is told.
    pub(super) notify: Option<&'a NotifyArgs>,
}

/// What a run is like.
pub(super) struct Settings {
    /// Who answers.
    pub(super) model: ModelChoice,
    /// Who answers where that one can't.
    pub(super) fallbacks: Vec<Fallback>,
    /// The kind of box.
    pub(super) sandbox: Wanted,
    /// The image, if one was named.
    pub(super) image: Option<String>,
    /// The box's network.
    pub(super) network: Network,
    /// The project directory, absolute and without symbolic links.
    pub(super) workspace: PathBuf,
    /// Whether it is written through.
    pub(super) bind_workspace: bool,
    /// Whether tmux is installed where an image has none.
    pub(super) tmux: bool,
    /// Limits of the box.
    pub(super) limits: Limits,
    /// Most model requests.
    pub(super) max_turns: u32,
    /// Most tries by the harness, where it is said.
    pub(super) max_retries: Option<u32>,
    /// What the box's memory limit may be raised to, where it is said.
    pub(super) memory_max_bytes: Option<u64>,
    /// The model's window in tokens, where it is said.
    pub(super) window_tokens: Option<u64>,
    /// Most time, in seconds.
    pub(super) max_time_s: Option<u64>,
    /// What it may cost.
    pub(super) budget: Budget,
    /// Whether services are left alive at the end.
    pub(super) keep_services: bool,
    /// Whether the model is shown what the project says of itself.
    pub(super) docs: bool,
    /// The image that the box is kept as at the end.
    pub(super) save_image: Option<String>,
    /// When checkpoints are taken unasked.
    pub(super) checkpoints: CheckpointRules,
    /// Whether what is learned about failures is remembered across runs.
    pub(super) lessons: bool,
    /// How a person is told of what needs them.
    pub(super) notify: NotifyPlan,
    /// Knows failures by what they say.
    pub(super) classifier: Arc<Classifier>,
    /// What it may do unasked.
    pub(super) rules: Rules,
    /// The checks that the configuration names.
    pub(super) checks: Vec<Check>,
    /// How long one may take, in seconds.
    pub(super) check_timeout_s: Option<u64>,
    /// Whether they are run before any work, too.
    pub(super) baseline: bool,
    /// Globs of files that the run must leave as they are.
    pub(super) protect: Vec<String>,
    /// What goes to stdout.
    pub(super) output_format: OutputFormat,
}

impl Settings {
    /// Puts the settings together. Says on standard error what was left out of them and why.
    ///
    /// # Errors
    /// Names the setting that makes no sense.
    pub(super) fn resolve(flags: &Flags<'_>, place: &Place) -> Result<Self, Failure> {
        let none = BoxArgs::default();
        let sandbox_flags = flags.sandbox.unwrap_or(&none);
        let workspace = workspace(sandbox_flags, place)?;
        let config = config::load(&sources(flags, &workspace, place)?)
            .map_err(|error| Failure::new(ExitReason::Usage, "the configuration makes no sense").because_of(&error))?;
        let rules = Rules { mode: config.mode.value, rules: config.rules.clone(), silence: config.silence };
        let useless = useless(&rules).map(|(place, why)| format!("the rule at {place} can never match: {why}"));
        for warning in config.warnings.iter().cloned().chain(useless) {
            let _ = writeln!(io::stderr(), "warning: {warning}");
        }
        let sandbox = match config.sandbox.value {
            SandboxChoice::Auto => Wanted::Auto,
            SandboxChoice::Docker => Wanted::Only(SandboxKind::Docker),
            SandboxChoice::Local => Wanted::Only(SandboxKind::Local),
            SandboxChoice::Host => Wanted::Only(SandboxKind::Host),
        };
        let image = image(&config)?;
        let bind = sandbox_flags.workspace == WorkspaceArg::Bind;
        Ok(Self {
            model: model_choice(&config, place),
            fallbacks: fallbacks(&config)?,
            sandbox,
            image,
            network: if config.network.value { Network::Open } else { Network::None },
            tmux: config.tmux.value,
            workspace,
            bind_workspace: bind || sandbox == Wanted::Only(SandboxKind::Host),
            limits: Limits {
                memory_bytes: config.memory_bytes.value,
                pids: config.pids.value.or(Some(DEFAULT_PIDS)),
                cpus: config.cpus.value,
                log_bytes: config.log_cap_bytes.value,
            },
            max_turns: config.max_turns.value,
            max_retries: config.max_retries.value,
            memory_max_bytes: config.memory_max_bytes.value,
            window_tokens: config.window_tokens.value,
            max_time_s: config.max_time_s.value,
            budget: budget::of(&config, &fallbacks(&config)?, flags.deadline)?,
            keep_services: flags.keep_services,
            docs: !flags.no_docs,
            save_image: None,
            checkpoints: checkpoint_rules(&config, sandbox_flags.before_checkpoint.clone()),
            lessons: config.lessons.value,
            notify: notify_plan(&config, place)?,
            classifier: Arc::new(classifier(&config)?),
            rules,
            checks: config.checks.value,
            check_timeout_s: config.check_timeout_s.value,
            baseline: config.baseline.value,
            protect: config.protect.value,
            output_format: config.output_format.value,
        })
    }

    /// What must never be recorded: the models' keys, and addresses that are keys.
    pub(super) fn secrets(&self, place: &Place) -> Vec<Secret> {
        let others = self.other_models(place);
        let all = std::iter::once(&self.model).chain(others.iter().map(|(_, choice)| choice));
        let keys = all.filter_map(|choice| choice.api_key.clone());
        let keys = keys.map(|value| Secret { name: "api_key".to_owned(), value });
        let addresses = self.notify.channels.iter().filter_map(Channel::secret);
        let addresses = addresses.map(|url| Secret { name: "webhook".to_owned(), value: url.to_owned() });
        keys.chain(addresses).collect()
    }

    /// The models that are asked where the first can't answer, each with its name in the record. A key goes to no other
    /// server than the one that it is for.
    pub(super) fn other_models(&self, place: &Place) -> Vec<(String, ModelChoice)> {
        let choice = |fallback: &Fallback| {
            let first = self.model.clone();
            let name = fallback.name.clone();
            match fallback.base_url.clone().filter(|url| Some(url) != first.base_url.as_ref()) {
                None => ModelChoice { name, ..first },
                Some(url) => {
                    let api_key = place.var(&key_variable(&url)).map(str::to_owned);
                    ModelChoice { name, api_key, base_url: Some(url), wire: Wire::Auto, ..first }
                }
            }
        };
        self.fallbacks.iter().map(|fallback| (fallback.shown(), choice(fallback))).collect()
    }
}

/// The models that are asked where the first can't answer. A script is never replaced.
fn fallbacks(config: &Config) -> Result<Vec<Fallback>, Failure> {
    if config.model.value.as_deref().is_some_and(|name| name.starts_with(SCRIPT_PREFIX)) {
        return Ok(Vec::new());
    }
    let read = |text: &String| {
        Fallback::parse(text).map_err(|right| {
            Failure::new(ExitReason::Usage, format!("`{text}` is no model to fall back on"))
                .because(format!("it must be {right}"))
        })
    };
    config.fallbacks.value.iter().map(read).collect()
}

/// What failures say of themselves: as the configuration knows it, before what comes with the program.
fn classifier(config: &Config) -> Result<Classifier, Failure> {
    let no_sense = |what: String, why: String| Failure::new(ExitReason::Usage, what).because(why);
    if config.signatures.is_empty() {
        return Ok(Classifier::builtin());
    }
    for pattern in config.signatures.iter().flat_map(|own| own.patterns.iter().chain(&own.command)) {
        check_pattern(&pattern.text).map_err(|error| {
            no_sense(format!("{}: a signature has no pattern there", pattern.place), error.to_string())
                .hint("write it as a regular expression of https://docs.rs/regex, in single quotes")
        })?;
    }
    let row = |own: &config::OwnSignature| SignatureRow {
        class: own.class,
        patterns: own.patterns.iter().map(|pattern| pattern.text.clone()).collect(),
        command: own.command.as_ref().map(|pattern| pattern.text.clone()),
        exit: own.exit.iter().copied().collect(),
    };
    let rows: Vec<SignatureRow> = config.signatures.iter().map(row).collect();
    let own = Signatures::of(&rows)
        .map_err(|error| no_sense("the signatures make no sense".to_owned(), error.to_string()))?;
    Ok(Classifier::with(own))
}

/// How a person is told. `none` takes back what was said before it.
fn notify_plan(config: &Config, place: &Place) -> Result<NotifyPlan, Failure> {
    let mut channels: Vec<Channel> = Vec::new();
    for text in &config.notify.value {
        if text.trim() == "none" {
            channels.clear();
            continue;
        }
        let channel = text.parse().map_err(|error| {
            Failure::new(
                ExitReason::Usage,
                format!("nobody can be notified as `notify` says ({})", config.notify.origin),
            )
            .because_of(&error)
            .hint("give a command, `desktop`, `bell` or a URL: `agent notify --test --notify bell`")
        })?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(NotifyPlan {
        channels,
        remind_after: Duration::from_secs(config.remind_after_s.value),
        ground: Ground { env: place.vars.clone(), cwd: place.cwd.clone() },
    })
}

fn sources(flags: &Flags<'_>, workspace: &Path, place: &Place) -> Result<Sources, Failure> {
    let user = place.var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let user = user.or_else(|| Some(place.home()?.join(".config")));
    Ok(Sources {
        system: Some(PathBuf::from("/etc/longhaul/config.toml")),
        user: user.map(|dir| dir.join("longhaul/config.toml")),
        project: Some(workspace.join(".longhaul/config.toml")),
        policy: flags.policy.and_then(|flags| flags.policy.as_ref()).map(|file| place.cwd.join(file)),
        variables: launch::utf8_vars(place),
        flags: flag_values(flags)?,
    })
}

fn flag_values(flags: &Flags<'_>) -> Result<Vec<(Key, Value)>, Failure> {
    let (model, sandbox, policy) = (flags.model, flags.sandbox, flags.policy);
    let given = [
        (Key::Model, "--model", model.and_then(|flags| flags.model.as_deref())),
        (Key::BaseUrl, "--base-url", model.and_then(|flags| flags.base_url.as_deref())),
        (Key::Wire, "--wire", model.and_then(|flags| flags.wire.as_deref())),
        (Key::Window, "--window", model.and_then(|flags| flags.window.as_deref())),
        (Key::Patience, "--patience", model.and_then(|flags| flags.patience.as_deref())),
        (Key::Stall, "--stall", model.and_then(|flags| flags.stall.as_deref())),
        (Key::Sandbox, "--sandbox", sandbox.and_then(|flags| flags.sandbox.as_deref())),
        (Key::Image, "--image", sandbox.and_then(|flags| flags.image.as_deref())),
        (Key::Network, "--network", sandbox.and_then(|flags| flags.network.as_deref())),
        (Key::Tmux, "--tmux", sandbox.filter(|flags| flags.tmux).map(|_| "install")),
        (Key::Memory, "--memory", sandbox.and_then(|flags| flags.memory.as_deref())),
        (Key::MemoryMax, "--memory-max", sandbox.and_then(|flags| flags.memory_max.as_deref())),
        (Key::Pids, "--pids", sandbox.and_then(|flags| flags.pids.as_deref())),
        (Key::Cpus, "--cpus", sandbox.and_then(|flags| flags.cpus.as_deref())),
        (Key::LogCap, "--log-cap", sandbox.and_then(|flags| flags.log_cap.as_deref())),
        (Key::Checkpoints, "--checkpoints", sandbox.and_then(|flags| flags.checkpoints.as_deref())),
        (Key::CheckpointCap, "--checkpoint-cap", sandbox.and_then(|flags| flags.checkpoint_cap.as_deref())),
        (Key::CheckTimeout, "--check-timeout", flags.proof.and_then(|flags| flags.check_timeout.as_deref())),
        (Key::Baseline, "--no-baseline", flags.proof.filter(|flags| flags.no_baseline).map(|_| "off")),
        (Key::MaxTurns, "--max-turns", flags.max_turns),
        (Key::MaxRetries, "--max-retries", flags.max_retries),
        (Key::MaxTime, "--max-time", flags.max_time),
        (Key::MaxTokens, "--max-tokens", flags.max_tokens),
        (Key::MaxCost, "--max-cost", flags.max_cost),
        (Key::Price, "--price", model.and_then(|flags| flags.price.as_deref())),
        (Key::RemindAfter, "--remind-after", flags.notify.and_then(|flags| flags.remind_after.as_deref())),
        (Key::Mode, "--mode", policy.and_then(|flags| flags.mode.as_deref())),
        (Key::OnSilence, "--on-silence", policy.and_then(|flags| flags.on_silence.as_deref())),
        (Key::AnswerWithin, "--answer-within", policy.and_then(|flags| flags.answer_within.as_deref())),
        (Key::OutputFormat, "--output-format", flags.output_format),
    ];
    let given = given.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text?)));
    let fallbacks = model.map(|flags| flags.fallback.clone()).filter(|all| !all.is_empty());
    let fallbacks = fallbacks.map(|all| Ok((Key::Fallbacks, Value::List(all))));
    let notify = flags.notify.map(|flags| flags.notify.clone()).filter(|all| !all.is_empty());
    let notify = notify.map(|all| Ok((Key::Notify, Value::List(all))));
    given
        .map(|(key, flag, text)| {
            let value = key.parse(text).map_err(|right| {
                Failure::new(ExitReason::Usage, format!("`{flag} {text}` makes no sense"))
                    .because(format!("it must be {right}"))
            })?;
            Ok((key, value))
        })
        .chain(fallbacks)
        .chain(notify)
        .collect()
}

/// The rules that can never match, each with where it stands and why.
fn useless(rules: &Rules) -> impl Iterator<Item = (String, String)> {
    let registry = Registry::for_mode(RunMode::Goal);
    let tools: Vec<&str> = registry.tools().iter().map(|tool| tool.name).collect();
    policy::useless(&rules.rules, &tools).into_iter()
}

fn model_choice(config: &Config, place: &Place) -> ModelChoice {
    ModelChoice {
        name: config.model.value.clone().unwrap_or_default(),
        base_url: config.base_url.value.clone(),
        api_key: place.var(&config.api_key_env.value).map(str::to_owned),
        wire: match config.wire.value {
            WireChoice::Auto => Wire::Auto,
            WireChoice::Chat => Wire::Chat,
            WireChoice::Responses => Wire::Responses,
        },
        patience: Patience {
            budget: Duration::from_secs(config.patience_s.value),
            stall: Duration::from_secs(config.stall_s.value),
            ..Patience::default()
        },
        seed: fastrand::u64(..),
    }
}

fn checkpoint_rules(config: &Config, before: Option<String>) -> CheckpointRules {
    let (most, most_bytes) = config.checkpoint_cap.value;
    let usual = CheckpointRules::default();
    CheckpointRules {
        auto: config.checkpoints.value,
        most: most.unwrap_or(usual.most),
        most_bytes: most_bytes.unwrap_or(usual.most_bytes),
        before,
    }
}

/// The image. One that is named beside a kind of box without images is a contradiction, unless the kind was said by
/// somebody who has the last word over the image: then the image is left out.
fn image(config: &Config) -> Result<Option<String>, Failure> {
    let without = matches!(config.sandbox.value, SandboxChoice::Local | SandboxChoice::Host);
    if !without || config.image.value.is_none() {
        return Ok(config.image.value.clone());
    }
    if config.sandbox.origin == Origin::Flag && config.image.origin != Origin::Flag {
        return Ok(None);
    }
    Err(Failure::new(ExitReason::Usage, "an image is named together with a box that has none")
        .because("`local` and `host` show this machine's own files; images are for containers")
        .hint("leave `--image` out, or use `--sandbox docker`"))
}

fn workspace(flags: &BoxArgs, place: &Place) -> Result<PathBuf, Failure> {
    let dir = match &flags.dir {
        None => place.cwd.clone(),
        Some(dir) => place.cwd.join(dir),
    };
    let cannot = || Failure::new(ExitReason::Usage, format!("cannot work in {}", dir.display()));
    let dir = dir.canonicalize().map_err(|error| cannot().because_of(&error))?;
    if !dir.is_dir() {
        return Err(cannot().because("it is no directory"));
    }
    if dir.to_str().is_none() {
        return Err(cannot().because("its path is not UTF-8"));
    }
    if dir.parent().is_none() {
        let hint = "change to the project's directory, or name it with `--dir DIR`";
        return Err(cannot().because("the root of the file system is no project").hint(hint));
    }
    Ok(dir)
}
