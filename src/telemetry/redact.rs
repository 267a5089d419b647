//! Takes secrets out of whatever is about to be recorded.
//!
//! Declared values go first, in every usual encoding; then whatever is shaped like a well-known token. Markers are never
//! looked into again, and the work is repeated until nothing changes: redacting twice is the same as redacting once.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::Value;

use super::encodings::encodings_of;
use super::patterns::{Pattern, patterns};

/// Shorter values are too likely to be part of ordinary text.
const SHORTEST_SECRET: usize = 6;

/// A value that must never be recorded.
#[derive(Clone)]
pub struct Secret {
    /// What it is called, such as the name of its variable; shown in place of the value.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Replaces declared secrets and whatever looks like a token by a marker.
///
/// The marker is `[REDACTED:rule=NAME,len=BYTES]`, where NAME is the secret's name or the pattern's.
pub struct Redactor {
    declared: Option<AhoCorasick>,
    /// The rule of each needle of `declared`.
    rules: Vec<String>,
    patterns: Vec<Pattern>,
    notes: Vec<String>,
}

impl Redactor {
    /// Builds a redactor; patterns of common tokens are always in force.
    pub fn new(secrets: &[Secret]) -> Self {
        let (mut needles, mut rules, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for secret in secrets {
            if secret.value.len() < SHORTEST_SECRET {
                notes.push(format!(
                    "{} is shorter than {SHORTEST_SECRET} bytes and is not kept out of the transcript",
                    secret.name
                ));
                continue;
            }
            for needle in encodings_of(&secret.value) {
                needles.push(needle);
                rules.push(rule_name(&secret.name));
            }
        }
        let declared = (!needles.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .kind(Some(AhoCorasickKind::DFA))
                .build(&needles)
                .expect("a few needles make a small automaton")
        });
        Self { declared, rules, patterns: patterns(), notes }
    }

    /// What was left out and why, in words: declared values that are too short to be told from ordinary text.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `text` without secrets.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redact_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => {
                Cow::Owned(String::from_utf8(bytes).expect("whole characters are replaced by whole characters"))
            }
        }
    }

    /// `bytes` without secrets; they need not be text.
    pub fn redact_bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        let mut now = Cow::Borrowed(bytes);
        loop {
            let found = self.find(&now);
            if found.is_empty() {
                return now;
            }
            now = Cow::Owned(replace(&now, &found));
        }
    }

    /// Takes secrets out of every string of `value`, keys included; tells whether there were any.
    pub fn redact_value(&self, value: &mut Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
            Value::String(text) => match self.redact(text) {
                Cow::Borrowed(_) => false,
                Cow::Owned(redacted) => {
                    *text = redacted;
                    true
                }
            },
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.redact_value(item) | any),
            Value::Object(members) => {
                let mut any = members.values_mut().fold(false, |any, member| self.redact_value(member) | any);
                if members.keys().any(|key| matches!(self.redact(key), Cow::Owned(_))) {
                    let old = std::mem::take(members);
                    members.extend(old.into_iter().map(|(key, member)| (self.redact(&key).into_owned(), member)));
                    any = true;
                }
                any
            }
        }
    }

    /// What has to go, in order and without overlap.
    fn find(&self, bytes: &[u8]) -> Vec<Finding<'_>> {
        let mut found = Vec::new();
        for segment in self.outside_markers(bytes) {
            self.find_in(bytes, segment, &mut found);
        }
        found
    }

    fn find_in<'r>(&'r self, bytes: &[u8], segment: Range<usize>, found: &mut Vec<Finding<'r>>) {
        let text = &bytes[segment.clone()];
        let mut here: Vec<Finding<'r>> = Vec::new();
        if let Some(declared) = &self.declared {
            here.extend(
                declared
                    .find_iter(text)
                    .map(|hit| Finding { range: hit.range(), rule: &self.rules[hit.pattern().as_usize()] }),
            );
        }
        for pattern in &self.patterns {
            pattern.find(text, &mut |range| here.push(Finding { range, rule: pattern.name }));
        }
        here.sort_by_key(|finding| (finding.range.start, std::cmp::Reverse(finding.range.end)));
        let mut end = 0;
        for mut finding in here {
            if finding.range.start >= end {
                end = finding.range.end;
                finding.range = segment.start + finding.range.start..segment.start + finding.range.end;
                found.push(finding);
            }
        }
    }

    fn outside_markers(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut segments = Vec::new();
        let mut from = 0;
        for start in memchr::memmem::find_iter(bytes, MARKER) {
            if start < from {
                continue;
            }
            if let Some(length) = self.marker_length(&bytes[start..]) {
                segments.push(from..start);
                from = start + length;
            }
        }
        segments.push(from..bytes.len());
        segments
    }

    /// The length of the marker that `bytes` begins with; only names of rules in force make a marker.
    fn marker_length(&self, bytes: &[u8]) -> Option<usize> {
        let rest = bytes.strip_prefix(MARKER)?;
        let name_length = rest.iter().position(|b| *b == b',')?;
        let name = std::str::from_utf8(&rest[..name_length]).ok()?;
        let known = self.patterns.iter().any(|pattern| pattern.name == name) || self.rules.iter().any(|r| r == name);
        let digits = rest[name_length..].strip_prefix(b",len=").filter(|_| known)?;
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        let closed = (1..=9).contains(&count) && digits.get(count) == Some(&b']');
        closed.then(|| MARKER.len() + name_length + ",len=".len() + count + 1)
    }
}

/// How a marker begins.
const MARKER: &[u8] = b"[REDACTED:rule=";

struct Finding<'r> {
    range: Range<usize>,
    rule: &'r str,
}

fn replace(bytes: &[u8], found: &[Finding<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for finding in found {
        out.extend_from_slice(&bytes[from..finding.range.start]);
        out.extend_from_slice(MARKER);
        out.extend_from_slice(format!("{},len={}]", finding.rule, finding.range.len()).as_bytes());
        from = finding.range.end;
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

/// A name that can stand in a marker.
fn rule_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let name: String = name.chars().map(plain).take(64).collect();
    if name.is_empty() { "declared".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
