//! What the rules of a run say of a call. `docs/POLICY.md` tells the same in words.

use serde_json::Value;

use super::Place;
use super::builtin::BUILT_IN;
use super::commands::commands;
use super::effects::{effect_of, of_command, texts_of};
use super::matching::{Part, matches};
use crate::domain::{ActMode, Effect, Permit, Rule, Rules, Scope, Silence};

/// What is said of a call, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgment {
    /// What is said.
    pub permit: Permit,
    /// What denies it, or asks for it; empty where it is allowed.
    pub grounds: Vec<Ground>,
    /// What becomes of the question while nobody answers, where a rule says so.
    pub silence: Option<Silence>,
}

/// What denies a part of a call or asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The rule and where it stands, in words.
    pub rule: String,
    /// The part, as it was written; empty where the whole call is meant.
    pub part: String,
    /// All calls that a person may allow together with this one.
    pub scope: Scope,
}

impl Judgment {
    /// The rules in one line, each once.
    pub fn why(&self) -> String {
        let mut rules: Vec<&str> = self.grounds.iter().map(|ground| ground.rule.as_str()).collect();
        rules.dedup();
        rules.join("; ")
    }
}

/// The mode `ask`, as a rule.
pub const MODE_ASK: &str = "in mode ask whatever changes anything is asked for";
const MODE_AUTO: &str = "what reaches beyond the box is asked for (mode auto)";
const MODE_PLAN: &str = "in mode plan nothing may be changed";

/// Judges a call by the rules, the mode and the list that is built in. What was `granted` is not asked for again.
///
/// `arguments` are those that the tool would be given. Pure: the same call is always judged the same.
pub fn judge(rules: &Rules, granted: &[Scope], name: &str, arguments: &Value, place: Place<'_>) -> Judgment {
    let parts = parts(name, arguments, place);
    let judged: Vec<Judged> = parts.iter().map(|part| of_part(rules, part, place)).collect();
    let permit_of = |judged: &Judged| match judged {
        Judged::Asked(ground, _) if granted.iter().any(|scope| scope.covers(&ground.scope)) => Permit::Allow,
        Judged::Asked(..) => Permit::Ask,
        Judged::Denied(_) => Permit::Deny,
        Judged::Allowed => Permit::Allow,
    };
    let permit = judged.iter().map(permit_of).max().unwrap_or(Permit::Allow);
    let (mut grounds, mut silence) = (Vec::new(), None);
    for judged in judged.into_iter().filter(|judged| permit != Permit::Allow && permit_of(judged) == permit) {
        match judged {
            Judged::Denied(ground) => grounds.push(ground),
            Judged::Asked(ground, by_rule) => {
                silence = silence.or(by_rule);
                grounds.push(ground);
            }
            Judged::Allowed => {}
        }
    }
    grounds.dedup();
    Judgment { permit, grounds, silence }
}

enum Judged {
    Allowed,
    Asked(Ground, Option<Silence>),
    Denied(Ground),
}

/// What a call does, taken apart: each command by itself, or what the tool does.
fn parts(name: &str, arguments: &Value, place: Place<'_>) -> Vec<Part> {
    let texts = texts_of(name, arguments);
    let mut parts: Vec<Part> = Vec::new();
    for text in &texts {
        for command in commands(text) {
            let paths = command.writes.iter().chain(&command.reads).cloned().collect();
            let effect = of_command(&command, place);
            parts.push(Part { tool: name.to_owned(), command: Some(command), paths, effect });
        }
    }
    let effect = effect_of(name, arguments, place);
    if texts.is_empty() || parts.iter().all(|part| part.effect < effect) {
        let path = arguments.get("path").and_then(Value::as_str).map(str::to_owned);
        parts.push(Part { tool: name.to_owned(), command: None, paths: path.into_iter().collect(), effect });
    }
    parts
}

/// Deny before ask before allow; then the list that is built in and the mode. In mode `plan` nothing that changes
/// anything is allowed by whatever rule.
fn of_part(rules: &Rules, part: &Part, place: Place<'_>) -> Judged {
    let by =
        |permit: Permit| rules.rules.iter().filter(move |rule| rule.permit == permit && matches(rule, part, place));
    if let Some(rule) = by(Permit::Deny).next() {
        return Judged::Denied(ground(part, said_by("denied", rule)));
    }
    let entry = part.command.as_ref().and_then(|command| BUILT_IN.iter().find(|entry| entry.is(command)));
    if rules.mode == ActMode::Plan && (part.effect > Effect::None || entry.is_some()) {
        return Judged::Denied(ground(part, MODE_PLAN.to_owned()));
    }
    if let Some(rule) = by(Permit::Ask).next() {
        return Judged::Asked(ground(part, said_by("asked for", rule)), rule.silence);
    }
    let allows = |rule: &Rule| match entry {
        // What is on the list is lifted by its name, never by a rule that speaks of everything.
        Some(_) => rule.command.is_some(),
        None => true,
    };
    if by(Permit::Allow).any(allows) {
        return writes_of(rules, part);
    }
    if let Some(entry) = entry {
        let rule = format!("`{}` is asked for (built in): it {}", entry.name, entry.why);
        return Judged::Asked(ground(part, rule), None);
    }
    by_mode(rules.mode, part)
}

/// A rule that allows a command says nothing of the files that its output is sent to.
fn writes_of(rules: &Rules, part: &Part) -> Judged {
    match part.command.as_ref().is_some_and(|command| !command.writes.is_empty()) {
        true => by_mode(rules.mode, &Part { effect: Effect::Workspace, ..part.clone() }),
        false => Judged::Allowed,
    }
}

fn by_mode(mode: ActMode, part: &Part) -> Judged {
    match mode {
        ActMode::Ask if part.effect > Effect::None => Judged::Asked(ground(part, MODE_ASK.to_owned()), None),
        ActMode::Auto if part.effect > Effect::Workspace => Judged::Asked(ground(part, MODE_AUTO.to_owned()), None),
        ActMode::Plan | ActMode::Ask | ActMode::Auto => Judged::Allowed,
    }
}

fn ground(part: &Part, rule: String) -> Ground {
    let scope = Scope { rule: rule.clone(), program: Some(part.program().to_owned()), effect: part.effect };
    Ground { rule, part: part.command.as_ref().map(|command| command.text()).unwrap_or_default(), scope }
}

/// `` `terraform destroy` is denied (./policy.toml:3) ``.
fn said_by(what: &str, rule: &Rule) -> String {
    format!("{} is {what} ({})", rule.pattern_words(), rule.origin)
}

#[cfg(test)]
mod tests;
