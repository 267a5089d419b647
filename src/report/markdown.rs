//! The report of a run for people: `report.md`. The verdict comes first; all of it is told from the transcript.

mod account;
mod jobs;
mod text;

use std::collections::HashMap;
use std::time::Duration;

use self::text::{add, block, code, list, plain, quoted, table};
use super::Account;
use super::call_line;
use super::outcome::{how, printed};
use super::style::{duration, size};
use super::totals::{Totals, has_failed, tokens};
use crate::domain::{BoxFacts, CheckResult, Entry, Event, NoticeKind, Outcome, Status, ToolCall, Usage, WaitRecord};

/// Lines of a check's or failure's output that are quoted.
const EXCERPT: usize = 12;
/// Failures that are quoted; the rest is counted.
const MOST_FAILURES: usize = 20;

/// What a report says that no event can: where the run lies and what its head is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The run's directory.
    pub run_dir: String,
    /// The last entry's place.
    pub head_seq: u64,
    /// The last entry's hash.
    pub head_hash: String,
    /// What was made of the sessions' logs.
    pub recordings: Vec<Recording>,
    /// What the project's runbook might say from now on, a line each.
    pub learned: Vec<String>,
    /// Whether changes to the project were kept from the host, to be looked at and applied.
    pub keeps_changes: bool,
}

/// A session as a file that a player plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The session's name.
    pub session: String,
    /// The asciicast, relative to the run's directory.
    pub path: String,
    /// Why there is none.
    pub missing: Option<String>,
}

/// The report of a run, as Markdown. Recorded text can't end the block that it stands in.
pub fn markdown(entries: &[Entry], closing: &Closing) -> String {
    let mut report = Report::default();
    for entry in entries {
        report.add(entry);
    }
    report.text(&super::account(entries, closing), closing)
}

#[derive(Default)]
struct Report<'e> {
    totals: Totals,
    facts: Option<&'e BoxFacts>,
    checks: Vec<&'e CheckResult>,
    calls: Vec<(&'e ToolCall, Option<&'e Outcome>)>,
    by_id: HashMap<&'e str, usize>,
    artifacts: Vec<[String; 4]>,
    refused: Vec<String>,
    troubles: Vec<String>,
    requests: u64,
    /// How many requests had been made when a call was started.
    asked_before: HashMap<&'e str, u64>,
    /// Each with the requests that were made meanwhile.
    waits: Vec<(&'e WaitRecord, Option<u64>)>,
    noticed: Vec<String>,
    services_kept: bool,
}

impl<'e> Report<'e> {
    fn add(&mut self, entry: &'e Entry) {
        self.totals.add(entry);
        match &entry.event {
            Event::BoxOpened { facts } => self.facts = Some(facts),
            Event::ToolStarted { call } => {
                self.by_id.insert(&call.id, self.calls.len());
                self.asked_before.insert(&call.id, self.requests);
                self.calls.push((call, None));
            }
            Event::ToolEnded { call_id, outcome } => {
                if let Some(place) = self.by_id.get(call_id.as_str()) {
                    self.calls[*place].1 = Some(outcome);
                }
            }
            Event::CheckEnded { result } => self.checks.push(result),
            Event::ArtifactCollected { path, stored, size_bytes, sha256 } => {
                let stored = code(&format!("artifacts/{stored}"));
                self.artifacts.push([size(*size_bytes), code(sha256), code(self.totals.inside(path)), stored]);
            }
            Event::ArtifactRefused { path, why } => self.refused.push(format!("left: {}: {}", code(path), plain(why))),
            Event::ModelFailed { why, turn, .. } => self.troubles.push(format!("model, turn {turn}: {}", plain(why))),
            Event::ModelDelayed { why, wait_ms, .. } => {
                self.troubles.push(format!("waited {} for the model: {}", duration(*wait_ms), plain(why)));
            }
            Event::ModelRequested { .. } => self.requests += 1,
            Event::Waited { wait } => {
                let before = self.asked_before.get(wait.call_id.as_str());
                self.waits.push((wait, before.map(|before| self.requests - before)));
            }
            Event::PersonTyped { session } => self.noticed.push(format!("a person typed into session {session}")),
            Event::Noticed { kind: NoticeKind::ServicesKept, .. } => self.services_kept = true,
            Event::Noticed { text, .. } => self.noticed.push(plain(text)),
            Event::RunResumed { away_ms, found, .. } => {
                let words = format!("taken up again after {}: the box {}", duration(*away_ms), found.words());
                self.noticed.push(words);
            }
            Event::LimitsRaised { asked } => self.noticed.push(format!("limit raised: {}", asked.limits_words())),
            Event::ModelSwitched { from, to, why } => {
                self.troubles.push(plain(&format!("{to} answered from there on, not {from}: {why}")));
            }
            Event::ConversationReduced { reduction } => self.noticed.push(format!("context: {}", reduction.words())),
            Event::StopAsked { why, .. } => self.troubles.push(format!("asked to stop: {}", plain(why))),
            _ => {}
        }
    }

    fn text(&self, account: &Account, closing: &Closing) -> String {
        let mut out = String::new();
        self.verdict(&mut out);
        account::in_short(&mut out, account);
        self.goal(&mut out);
        account::requirement_table(&mut out, account);
        self.numbers(&mut out);
        self.check_list(&mut out);
        self.call_list(&mut out);
        jobs::job_list(&mut out, &self.totals.jobs);
        jobs::wait_list(&mut out, &self.waits);
        self.notices(&mut out);
        if self.services_kept {
            jobs::services_left(&mut out, &self.totals);
        }
        self.artifact_list(&mut out);
        self.failures(&mut out);
        account::decision_table(&mut out, account);
        account::people_list(&mut out, account);
        account::learned(&mut out, account, &closing.run_dir);
        self.recordings(&mut out, closing);
        self.proof(&mut out, closing);
        out
    }

    fn verdict(&self, out: &mut String) {
        let title = self.totals.spec.as_ref().map_or("a run", |spec| spec.title.as_str());
        add(out, &format!("# {}", plain(title)));
        match &self.totals.end {
            Some(end) => {
                add(out, &format!("**{}**: {}", end.verdict.word(), plain(&end.why)));
                if !end.answer.trim().is_empty() {
                    add(out, &quoted(&end.answer));
                }
            }
            None => add(out, "**not ended**: the transcript stops before the end of the run."),
        }
    }

    fn goal(&self, out: &mut String) {
        let Some(spec) = self.totals.spec.as_ref().filter(|spec| !spec.goal.is_empty()) else { return };
        add(out, "## Goal");
        add(out, &block(&spec.goal, 40));
    }

    fn numbers(&self, out: &mut String) {
        let t = &self.totals;
        let mut rows: Vec<[String; 2]> = Vec::new();
        let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
        if let Some(spec) = &t.spec {
            row("run", code(spec.run.as_str()));
            row("model", code(&spec.model));
            row("workspace", code(&spec.workspace));
            row("longhaul", code(&spec.version));
        }
        if let Some(facts) = self.facts {
            let image = facts.image.as_ref().map(|image| format!(", image {}", code(image))).unwrap_or_default();
            row("box", format!("{}{image} ({})", code(&format!("{:?}", facts.kind).to_lowercase()), plain(&facts.why)));
        }
        if let Some(started) = t.started {
            row("started", format!("{started:.0}"));
        }
        row("duration", duration(t.wall_ms));
        row("- model", duration(t.model_ms));
        row("- tools and checks", duration(t.tool_ms));
        if t.waited_ms > 0 {
            row("- waits", duration(t.waited_ms));
        }
        if t.waiting_ms > 0 {
            row("- waiting for the model's server", duration(t.waiting_ms));
        }
        row("turns", t.turns.to_string());
        let counted = t.usage != Usage::default();
        row("tokens", if counted { tokens(t.usage) } else { "not counted by the model's server".to_owned() });
        row("tool calls", format!("{}, {} failed", t.calls, t.failed_calls));
        for (name, value) in t.usage_of_box.iter().flat_map(jobs::usage_rows) {
            row(&name, value);
        }
        add(out, "## Numbers");
        add(out, &table(&["what", "value"], &rows));
    }

    fn check_list(&self, out: &mut String) {
        let Some(spec) = self.totals.spec.as_ref().filter(|spec| !spec.checks.is_empty()) else { return };
        add(out, "## Checks");
        for (index, command) in spec.checks.iter().enumerate() {
            let last = self.checks.iter().rfind(|result| result.check == index && result.round > 0);
            let state = match last {
                None => "**not run**".to_owned(),
                Some(CheckResult { round, outcome, .. }) => {
                    let word = if has_failed(outcome) { "failed" } else { "passed" };
                    let before = self.checks.iter().any(|result| {
                        result.check == index && result.round == 0 && result.outcome.status == Status::Ok
                    });
                    let before = if before { ", as before any work" } else { "" };
                    format!("**{word}**{before} in round {round} ({}, {})", how(outcome), duration(outcome.duration_ms))
                }
            };
            add(out, &format!("{}. {state}: {}", index + 1, code(&command.to_string())));
            if let Some(text) = last.map(|result| printed(&result.outcome)).filter(|text| !text.is_empty()) {
                add(out, &block(text, EXCERPT));
            }
        }
    }

    fn call_list(&self, out: &mut String) {
        if self.calls.is_empty() {
            return;
        }
        let row = |(n, (call, outcome)): (usize, &(&ToolCall, Option<&Outcome>))| {
            let (outcome, took) = match outcome {
                Some(outcome) => (plain(&how(outcome)), duration(outcome.duration_ms)),
                None => ("not known".to_owned(), String::new()),
            };
            [(n + 1).to_string(), outcome, took, expected(call), code(&call_line(call))]
        };
        let rows: Vec<[String; 5]> = self.calls.iter().enumerate().map(row).collect();
        add(out, "## Commands");
        add(out, &table(&["#", "outcome", "took", "expected", "call"], &rows));
    }

    fn artifact_list(&self, out: &mut String) {
        if self.artifacts.is_empty() && self.refused.is_empty() {
            return;
        }
        add(out, "## Files brought out");
        if !self.artifacts.is_empty() {
            add(out, &table(&["size", "SHA-256", "path", "kept as"], &self.artifacts));
        }
        if !self.refused.is_empty() {
            add(out, &list(&self.refused));
        }
    }

    /// What the harness noticed, each thing once.
    fn notices(&self, out: &mut String) {
        let mut told: Vec<String> = Vec::new();
        for line in &self.noticed {
            if !told.contains(line) {
                told.push(line.clone());
            }
        }
        if !told.is_empty() {
            add(out, "## Noticed");
            add(out, &list(&told));
        }
    }

    fn failures(&self, out: &mut String) {
        let failed: Vec<_> = self
            .calls
            .iter()
            .filter_map(|(call, outcome)| outcome.filter(|outcome| has_failed(outcome)).map(|outcome| (call, outcome)))
            .collect();
        let troubles: Vec<String> = self.troubles.iter().cloned().chain(jobs::failures(&self.totals.jobs)).collect();
        if failed.is_empty() && troubles.is_empty() {
            return;
        }
        add(out, "## Failures met");
        if !troubles.is_empty() {
            add(out, &list(&troubles));
        }
        for (call, outcome) in failed.iter().take(MOST_FAILURES) {
            add(out, &format!("- {}: {}", plain(&how(outcome)), code(&call_line(call))));
            if !printed(outcome).is_empty() {
                add(out, &block(printed(outcome), EXCERPT));
            }
        }
        if failed.len() > MOST_FAILURES {
            add(out, &format!("- and {} more", failed.len() - MOST_FAILURES));
        }
    }

    fn recordings(&self, out: &mut String, closing: &Closing) {
        if closing.recordings.is_empty() {
            return;
        }
        add(out, "## Recordings of the terminal");
        let items = closing.recordings.iter().map(|Recording { session, path, missing }| match missing {
            None => format!("session {}: {}", code(session), code(path)),
            Some(why) => format!("session {}: none, {}", code(session), plain(why)),
        });
        add(out, &list(&items.collect::<Vec<_>>()));
        if let Some(made) = closing.recordings.iter().find(|recording| recording.missing.is_none()) {
            let command = code(&format!("asciinema play {}/{}", closing.run_dir, made.path));
            add(out, &format!("They are asciicasts: {command} plays one."));
        }
    }

    fn proof(&self, out: &mut String, closing: &Closing) {
        let run = self.totals.spec.as_ref().map_or("RUN", |spec| spec.run.as_str());
        add(out, "## Proof");
        add(out, &format!("Everything above is told from the transcript in {}.", code(&closing.run_dir)));
        let items = [
            format!("its last entry is number {}, hash {}", closing.head_seq, code(&closing.head_hash)),
            format!("prove that nothing was changed since: {}", code(&format!("agent verify {run}"))),
            format!("see it again: {}", code(&format!("agent replay {run}"))),
        ];
        add(out, &list(&items));
    }
}

/// How long the model thought that a command would take.
fn expected(call: &ToolCall) -> String {
    let arguments: Option<serde_json::Value> = serde_json::from_str(&call.arguments).ok();
    let seconds = arguments.as_ref().and_then(|arguments| arguments.get("expected_s")?.as_f64());
    let sensible = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    sensible.map(|time| duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))).unwrap_or_default()
}
