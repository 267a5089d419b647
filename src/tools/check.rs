//! Checks: run by the harness, never by the model. A command in a fresh shell, a file that is there, a number in a file.

use std::time::Duration;

use serde_json::Value;

use super::facts::{command_outcome, grouped};
use super::path::resolve;
use super::workbench::{gone, told};
use super::{Attention, Workbench, WorkbenchError};
use crate::domain::{Check, CheckResult, Comparison, FileHash, Outcome, Status, duration_words};
use crate::guest::{FileInfo, FileKind, GuestError, Hashed, Phase, RefusalKind, Stirred};
use crate::terminal::{CommandReport, ReportState, TerminalError};

/// So many boxes may go under one check before it counts as undecided.
const MOST_CHECKS_LOST: u32 = 20;
/// The largest file in which a metric is looked for: one answer of the guest.
const LARGEST_METRIC: u64 = 4 << 20;
/// Most files that can be protected, and most bytes of them: they are recorded, and hashed with each claim.
const MOST_PROTECTED: (usize, u64) = (2_000, 1 << 30);
/// Files that a piece of evidence may name.
const MOST_PATHS: usize = 20;
/// Names that are told where one is missing.
const MOST_NAMES: usize = 12;

/// A check that is to be run. In the same box the same one is not run twice.
#[derive(Debug, Clone, Copy)]
pub struct CheckRun {
    /// Which.
    pub check: usize,
    /// The round, from 1; 0 is before any work.
    pub round: u32,
    /// How often the checks of this round were begun anew.
    pub again: u32,
    /// How many boxes the run had before this one.
    pub boxes_before: u32,
    /// How long it may take.
    pub limit: Duration,
}

/// What files and programs hold.
#[derive(Debug)]
pub struct Looked {
    /// The files that globs match.
    pub files: Hashed,
    /// The programs, in the order in which they were named.
    pub programs: Vec<FileHash>,
}

impl Workbench {
    /// Runs a check in the workspace, outside the model's sessions.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn check(
        &self,
        run: CheckRun,
        what: &Check,
        attention: &Attention,
    ) -> Result<CheckResult, WorkbenchError> {
        let outcome = match what {
            Check::Command(command) => self.check_command(run, command, attention).await,
            Check::File { file } => self.check_file(file).await,
            Check::Metric { metric, pointer, is, than } => {
                let bound = Bound { pointer, is: *is, than: *than };
                self.check_metric(metric, &bound).await
            }
        };
        Ok(CheckResult { check: run.check, round: run.round, outcome: told(outcome)? })
    }

    /// Looks at what the files hold that globs match, and at programs.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn look_at(&self, globs: Vec<String>, programs: Vec<String>) -> Result<Looked, WorkbenchError> {
        let guest = self.terminal().guest();
        let files = match globs.is_empty() {
            true => Hashed::default(),
            false => guest.hash(self.workspace(), globs, MOST_PROTECTED).await.map_err(gone)?,
        };
        let programs = match programs.is_empty() {
            true => Vec::new(),
            false => guest.hash_programs(programs, self.workspace()).await.map_err(gone)?,
        };
        Ok(Looked { files, programs })
    }

    /// The files that a text names and that are not there: words with an ending of a file.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn missing(&self, text: &str) -> Result<Vec<String>, WorkbenchError> {
        let mut missing = Vec::new();
        for path in paths_in(text) {
            match self.terminal().guest().stat(&resolve(self.workspace(), path)).await {
                Err(GuestError::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                    missing.push(path.to_owned());
                }
                Ok(_) | Err(GuestError::Refused(_)) => {}
                Err(error) => return Err(gone(error)),
            }
        }
        Ok(missing)
    }

    /// What runs in the box beside idle shells, and what has changed in the workspace since then.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn stirred(&self, since_ns: Option<i64>) -> Result<Stirred, WorkbenchError> {
        self.terminal().guest().stirred(self.workspace(), since_ns).await.map_err(gone)
    }

    async fn check_command(
        &self,
        run: CheckRun,
        command: &str,
        attention: &Attention,
    ) -> Result<Outcome, TerminalError> {
        let CheckRun { check, round, again, boxes_before, limit } = run;
        let part = |mark: &str, number: u32| if number == 0 { String::new() } else { format!("-{mark}{number}") };
        let first = format!("check-{round}-{check}{}{}", part("a", again), part("b", boxes_before));
        let mut id = first.clone();
        let mut report = self.check_as(&id, command, limit, attention).await;
        // One that went with an earlier box says nothing about this one: what a check does may be repeated.
        for nth in 2..=MOST_CHECKS_LOST {
            if !self.is_lost(&id).await {
                break;
            }
            id = format!("{first}-{nth}");
            report = self.check_as(&id, command, limit, attention).await;
        }
        Ok(of_command(&report?, run))
    }

    async fn check_as(
        &self,
        id: &str,
        command: &str,
        limit: Duration,
        attention: &Attention,
    ) -> Result<CommandReport, TerminalError> {
        let cwd = Some(self.workspace().to_owned());
        self.terminal().check(id, command.as_bytes(), cwd, limit, attention.token()).await
    }

    async fn is_lost(&self, id: &str) -> bool {
        let state = self.terminal().guest().command(id).await;
        state.is_ok_and(|state| matches!(state.phase, Phase::Lost))
    }

    async fn check_file(&self, file: &str) -> Result<Outcome, TerminalError> {
        let info = self.terminal().guest().stat(&resolve(self.workspace(), file)).await;
        Ok(verdict(
            found(info)?.and_then(|info| match info.size {
                0 => Err("is empty".to_owned()),
                size => Ok(format!("{file} is there: {} bytes", grouped(size))),
            }),
            file,
        ))
    }

    async fn check_metric(&self, file: &str, bound: &Bound<'_>) -> Result<Outcome, TerminalError> {
        let (guest, path) = (self.terminal().guest(), resolve(self.workspace(), file));
        let info = match found(guest.stat(&path).await)? {
            Ok(info) if info.size > LARGEST_METRIC => {
                let why = format!("is larger than {} MiB ({} bytes)", LARGEST_METRIC >> 20, grouped(info.size));
                return Ok(verdict(Err(why), file));
            }
            Ok(info) => info,
            Err(why) => return Ok(verdict(Err(why), file)),
        };
        match guest.read_file(&path, 0, info.size.max(1)).await {
            Ok((_, bytes)) => Ok(verdict(bound.met(&bytes).map(|words| format!("{file}: {words}")), file)),
            Err(error) => Err(TerminalError::Guest(error)),
        }
    }
}

/// The words of a text that name files.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let trimmed = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '`' | '"' | '\''));
    let words = trimmed.map(|word| word.trim_end_matches(['.', ':', '!', '?']));
    words.filter(|word| names_file(word)).take(MOST_PATHS)
}

fn names_file(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or_default();
    let has_ending = name.rsplit_once('.').is_some_and(|(stem, ending)| {
        let is_abbreviation = stem.len() < 2 && ending.len() < 2 && !word.contains('/');
        !stem.is_empty()
            && !is_abbreviation
            && (1..=5).contains(&ending.len())
            && ending.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    let is_plain = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    has_ending && is_plain && word.chars().any(|c| c.is_ascii_alphabetic())
}

/// The outcome of a command that is a check. One that was cut before any work says nothing; one that was cut later failed.
fn of_command(report: &CommandReport, run: CheckRun) -> Outcome {
    let mut outcome = command_outcome(report);
    if !matches!(report.state, ReportState::Ended { timed_out: true, .. }) {
        return outcome;
    }
    let limit = duration_words(u64::try_from(run.limit.as_millis()).unwrap_or(u64::MAX));
    let (facts, output) = outcome.text.split_once('\n').unwrap_or((&outcome.text, ""));
    let said = match run.round {
        0 => format!("[it did not end within {limit}: whether it passes before any work is not known]"),
        _ => format!("[it did not end within {limit}, its limit, and was killed]"),
    };
    outcome.text = [facts, &said, output].join("\n").trim_end().to_owned();
    if run.round == 0 {
        outcome.status = Status::Unknown;
    }
    outcome
}

/// What a file that has to be a regular one is; else what is wrong with it.
fn found(info: Result<FileInfo, GuestError>) -> Result<Result<FileInfo, String>, TerminalError> {
    match info {
        Ok(info) => Ok(match info.kind {
            FileKind::File => Ok(info),
            FileKind::Dir => Err("is a directory".to_owned()),
            FileKind::Link | FileKind::Special => Err("is not a regular file".to_owned()),
        }),
        Err(GuestError::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
            Ok(Err("is not there".to_owned()))
        }
        Err(error) => Err(TerminalError::Guest(error)),
    }
}

fn verdict(result: Result<String, String>, file: &str) -> Outcome {
    match result {
        Ok(words) => Outcome::words(Status::Ok, words),
        Err(why) => Outcome::words(Status::Failed, format!("{file} {why}")),
    }
}

/// What a number must keep.
struct Bound<'a> {
    pointer: &'a str,
    is: Comparison,
    than: f64,
}

impl Bound<'_> {
    /// The value against the bound, in words; what is wrong with the file otherwise.
    fn met(&self, json: &[u8]) -> Result<String, String> {
        let Self { pointer, is, than } = self;
        let value: Value = serde_json::from_slice(json).map_err(|error| match has_nan(json) {
            true => format!("is not JSON: {error}; NaN and Infinity are no numbers there"),
            false => format!("is not JSON: {error}"),
        })?;
        let at =
            value.pointer(pointer).ok_or_else(|| format!("has nothing at `{pointer}`{}", names(&value, pointer)))?;
        let number = at.as_f64().ok_or_else(|| format!("has {} at `{pointer}`, not a number", kind(at)))?;
        let against = format!("{number} (it must be {} {than})", is.sign());
        match is.holds(number, *than) {
            true => Ok(format!("`{pointer}` is {against}")),
            false => Err(format!("has `{pointer}` at {against}")),
        }
    }
}

fn has_nan(json: &[u8]) -> bool {
    [&b"NaN"[..], b"Infinity"].iter().any(|word| memchr::memmem::find(json, word).is_some())
}

/// What there is instead, in the object in which it was looked for.
fn names(value: &Value, pointer: &str) -> String {
    let parent = pointer.rsplit_once('/').and_then(|(parent, _)| value.pointer(parent));
    match parent {
        Some(Value::Object(members)) if !members.is_empty() => {
            let shown: Vec<String> = members.keys().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
            let more = if members.len() > MOST_NAMES { ", …" } else { "" };
            format!("; there is {}{more}", shown.join(", "))
        }
        _ => String::new(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_other_words() {
        let found: Vec<&str> =
            paths_in("see `out/eval.json`, README.md (0.93 of 1.0); step 3, e.g. src/a_b.rs.").collect();
        assert_eq!(found, ["out/eval.json", "README.md", "src/a_b.rs"]);
    }

    fn met(json: &str, pointer: &str) -> Result<String, String> {
        Bound { pointer, is: Comparison::AtLeast, than: 0.9 }.met(json.as_bytes())
    }

    #[test]
    fn a_number_is_told_against_its_bound() {
        assert_eq!(met(r#"{"a": {"b": 0.93}}"#, "/a/b").unwrap(), "`/a/b` is 0.93 (it must be >= 0.9)");
        assert_eq!(met("1", "").unwrap(), "`` is 1 (it must be >= 0.9)");
        assert_eq!(met(r#"{"a": 0.5}"#, "/a").unwrap_err(), "has `/a` at 0.5 (it must be >= 0.9)");
    }

    #[test]
    fn what_is_no_number_is_told_as_what_it_is() {
        assert_eq!(met(r#"{"a": "0.95"}"#, "/a").unwrap_err(), "has a string at `/a`, not a number");
        assert_eq!(met(r#"{"loss": 1}"#, "/acc").unwrap_err(), "has nothing at `/acc`; there is `loss`");
        let nan = met(r#"{"a": NaN}"#, "/a").unwrap_err();
        assert!(nan.starts_with("is not JSON: ") && nan.ends_with("NaN and Infinity are no numbers there"), "{nan}");
        assert!(met("", "/a").unwrap_err().starts_with("is not JSON: EOF"));
        assert!(met(r#"{"a": 1e999}"#, "/a").is_err());
    }
}
