//! The `[[rule]]` tables of a file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::on_silence;
use super::load::{ConfigError, File};
use super::units::parse_duration;
use crate::domain::{Effect, OnSilence, Permit, Rule, Silence};

/// The name of the tables.
pub(super) const KEY: &str = "rule";
/// What a rule may say.
const KEYS: [&str; 8] = ["permit", "tool", "command", "path", "host", "effect", "on_silence", "within"];

/// A rule as it stands in a file: what it does not say of silence is the run's own.
#[derive(Debug)]
pub(super) struct RawRule {
    /// The rule.
    pub(super) rule: Rule,
    then: Option<OnSilence>,
    within_s: Option<u64>,
}

impl RawRule {
    /// The rule, beside what holds for all questions of the run.
    pub(super) fn with(self, silence: Silence) -> Rule {
        let says = self.then.is_some() || self.within_s.is_some();
        let own = Silence { then: self.then.unwrap_or(silence.then), within_s: self.within_s.or(silence.within_s) };
        Rule { silence: says.then_some(own), ..self.rule }
    }
}

/// Reads the rules of a file.
///
/// # Errors
/// For the first key or value that makes no sense.
pub(super) fn read(file: &File, value: &Spanned<DeValue<'_>>) -> Result<Vec<RawRule>, ConfigError> {
    let tables = || file.wrong(KEY, value.span().start, "a list of tables, each begun with `[[rule]]`");
    let DeValue::Array(items) = value.get_ref() else { return Err(tables()) };
    let one = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::Table(table) => read_one(file, table, item.span().start),
        _ => Err(tables()),
    };
    items.iter().map(one).collect()
}

fn read_one(file: &File, table: &DeTable<'_>, at: usize) -> Result<RawRule, ConfigError> {
    let mut permit = None;
    let mut raw = RawRule { rule: Rule::new(Permit::Ask, &file.line(at)), then: None, within_s: None };
    for (name, value) in table {
        let start = value.span().start;
        let name_at = name.span().start;
        let Some(key) = KEYS.into_iter().find(|key| *key == name.get_ref().as_ref()) else {
            return Err(file.unknown(name.get_ref(), name_at, KEYS));
        };
        let text = value.get_ref().as_str().ok_or_else(|| file.wrong(key, start, "text in quotes"))?;
        let wrong = |right| file.wrong(key, start, right);
        match key {
            "permit" => permit = Some(permit_of(text).ok_or_else(|| wrong("allow, ask or deny"))?),
            "tool" => raw.rule.tool = Some(text.to_owned()),
            "command" => raw.rule.command = Some(text.to_owned()),
            "path" => raw.rule.path = Some(text.to_owned()),
            "host" => raw.rule.host = Some(text.to_owned()),
            "effect" => {
                let effect = Effect::ALL.into_iter().find(|effect| effect.name() == text);
                raw.rule.effect = Some(effect.ok_or_else(|| wrong("none, workspace, external or irreversible"))?);
            }
            "on_silence" => raw.then = Some(on_silence(text).ok_or_else(|| wrong("wait, pause or fail"))?),
            _ => raw.within_s = Some(parse_duration(text).ok_or_else(|| wrong("a time such as 90s, 45m or 2h"))?),
        }
    }
    raw.rule.permit = permit.ok_or_else(|| file.wrong("permit", at, "said for every rule: allow, ask or deny"))?;
    Ok(raw)
}

fn permit_of(text: &str) -> Option<Permit> {
    [Permit::Allow, Permit::Ask, Permit::Deny].into_iter().find(|permit| permit.name() == text)
}
