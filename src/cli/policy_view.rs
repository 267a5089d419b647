//! `agent policy`: what a run may do unasked here, and what would come of a command.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::{BoxArgs, PolicyArgs};
use super::output::finished;
use super::settings::{Flags, Settings};
use super::{Failure, Place};
use crate::domain::{ActMode, Effect, ExitReason, Permit, Rules, duration_words};
use crate::policy::{self, BUILT_IN, Judgment};
use crate::report::visible_line;

/// `agent policy`.
#[derive(Debug, Args)]
pub struct ShowPolicyArgs {
    /// A command to judge, in one word or several; without it, the rules that hold are shown
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// The project directory, if not the current one
    #[arg(short = 'C', long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs `agent policy`.
///
/// # Errors
/// When the settings make no sense.
pub(super) fn run(args: &ShowPolicyArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let sandbox = BoxArgs { dir: args.dir.clone(), ..BoxArgs::default() };
    let flags = Flags { sandbox: Some(&sandbox), policy: Some(&args.policy), ..Flags::default() };
    let settings = Settings::resolve(&flags, place)?;
    let command = args.command.join(" ");
    let judged = (!command.trim().is_empty()).then(|| judged(&settings, &command));
    let text = match (&judged, args.json) {
        (Some((judgment, effect)), true) => format!("{}\n", judged_json(&command, judgment, *effect)),
        (Some((judgment, effect)), false) => judged_words(judgment, *effect),
        (None, true) => format!("{}\n", rules_json(&settings.rules)),
        (None, false) => rules_words(&settings.rules),
    };
    finished(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map(|()| ExitReason::Done).map_err(Into::into))
}

fn judged(settings: &Settings, command: &str) -> (Judgment, Effect) {
    let (workspace, beside) = (settings.workspace.to_string_lossy(), BTreeSet::new());
    let place = policy::Place { workspace: &workspace, beside: &beside };
    let arguments = json!({ "command": command });
    let judgment = policy::judge(&settings.rules, &[], "shell", &arguments, place);
    (judgment, policy::effect_of("shell", &arguments, place))
}

fn judged_words(judgment: &Judgment, effect: Effect) -> String {
    let mut text = format!("{}  (effect: {})\n", judgment.permit.name(), effect.name());
    for ground in &judgment.grounds {
        text.push_str(&format!("  {}\n    by: {}\n", visible_line(&ground.part), visible_line(&ground.rule)));
    }
    text
}

fn judged_json(command: &str, judgment: &Judgment, effect: Effect) -> serde_json::Value {
    let ground = |ground: &policy::Ground| json!({ "part": ground.part, "rule": ground.rule });
    json!({
        "command": command,
        "permit": judgment.permit,
        "effect": effect,
        "grounds": judgment.grounds.iter().map(ground).collect::<Vec<_>>(),
    })
}

fn rules_words(rules: &Rules) -> String {
    let mode = match rules.mode {
        ActMode::Plan => "nothing is changed",
        ActMode::Ask => "a person is asked before each change",
        ActMode::Auto => "acts in its box; what reaches beyond it is asked for",
    };
    let within = rules.silence.within_s.map(|seconds| format!(" after {}", duration_words(seconds * 1000)));
    let mut text = format!(
        "mode: {} ({mode})\nwhen nobody answers: {}{}\n\nrules, deny before ask before allow:\n",
        rules.mode.name(),
        rules.silence.then.name(),
        within.unwrap_or_default(),
    );
    for permit in [Permit::Deny, Permit::Ask, Permit::Allow] {
        for rule in rules.rules.iter().filter(|rule| rule.permit == permit) {
            let words = format!("  {:<5}  {}  ({})\n", permit.name(), rule.pattern_words(), rule.origin);
            text.push_str(&visible_line(words.trim_end()));
            text.push('\n');
        }
    }
    if rules.rules.is_empty() {
        text.push_str("  none of your own\n");
    }
    text.push_str("\nbuilt in, asked for unless a rule allows the command by name:\n");
    for entry in BUILT_IN {
        text.push_str(&format!("  {}: {}\n", entry.name, entry.why));
    }
    text
}

fn rules_json(rules: &Rules) -> serde_json::Value {
    let entry = |entry: &policy::Entry| json!({ "name": entry.name, "why": entry.why, "permit": Permit::Ask });
    json!({
        "mode": rules.mode,
        "silence": rules.silence,
        "rules": rules.rules,
        "built_in": BUILT_IN.iter().map(entry).collect::<Vec<_>>(),
    })
}
