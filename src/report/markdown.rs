//! The report of a run for people: `report.md`. The verdict comes first; all of it is told from the transcript.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::style::{duration, one_line, size};
use super::timeline::tokens;
use super::totals::{Totals, has_failed};
use super::{call_line, visible};
use crate::domain::{BoxFacts, CheckResult, Entry, Event, Outcome, ToolCall};

/// Lines of a check's or failure's output that are quoted.
const EXCERPT: usize = 12;
/// Longest line quoted, in characters.
const WIDEST: usize = 200;
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
}

/// The report of a run, as Markdown. Recorded text can't end the block that it stands in.
pub fn markdown(entries: &[Entry], closing: &Closing) -> String {
    let mut report = Report::default();
    for entry in entries {
        report.add(entry);
    }
    report.text(closing)
}

#[derive(Default)]
struct Report<'e> {
    totals: Totals,
    facts: Option<&'e BoxFacts>,
    checks: Vec<&'e CheckResult>,
    calls: Vec<(&'e ToolCall, Option<&'e Outcome>)>,
    by_id: HashMap<&'e str, usize>,
    artifacts: Vec<[String; 3]>,
    refused: Vec<String>,
    troubles: Vec<String>,
}

impl<'e> Report<'e> {
    fn add(&mut self, entry: &'e Entry) {
        self.totals.add(entry);
        match &entry.event {
            Event::BoxOpened { facts } => self.facts = Some(facts),
            Event::ToolStarted { call } => {
                self.by_id.insert(&call.id, self.calls.len());
                self.calls.push((call, None));
            }
            Event::ToolEnded { call_id, outcome } => {
                if let Some(place) = self.by_id.get(call_id.as_str()) {
                    self.calls[*place].1 = Some(outcome);
                }
            }
            Event::CheckEnded { result } => self.checks.push(result),
            Event::ArtifactCollected { path, size_bytes, sha256, .. } => {
                self.artifacts.push([code(path), size(*size_bytes), code(sha256)]);
            }
            Event::ArtifactRefused { path, why } => self.refused.push(format!("left: {}: {}", code(path), plain(why))),
            Event::ModelFailed { why, turn, .. } => self.troubles.push(format!("model, turn {turn}: {}", plain(why))),
            Event::ModelDelayed { why, wait_ms, .. } => {
                self.troubles.push(format!("waited {} for the model: {}", duration(*wait_ms), plain(why)));
            }
            Event::StopAsked { why, .. } => self.troubles.push(format!("asked to stop: {}", plain(why))),
            Event::RunStarted { .. }
            | Event::BoxClosed { .. }
            | Event::SessionOpened { .. }
            | Event::UserSaid { .. }
            | Event::HarnessSaid { .. }
            | Event::ModelRequested { .. }
            | Event::ModelAnswered { .. }
            | Event::FinishClaimed { .. }
            | Event::CheckStarted { .. }
            | Event::TurnInterrupted { .. }
            | Event::RunEnded { .. }
            | Event::Other(_) => {}
        }
    }

    fn text(&self, closing: &Closing) -> String {
        let mut out = String::new();
        self.verdict(&mut out);
        self.goal(&mut out);
        self.numbers(&mut out);
        self.check_list(&mut out);
        self.call_list(&mut out);
        self.artifact_list(&mut out);
        self.failures(&mut out);
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
        row("of it model", duration(t.model_ms));
        row("of it tools and checks", duration(t.tool_ms));
        row("of it waiting for the model's server", duration(t.waiting_ms));
        row("turns", t.turns.to_string());
        row("tokens", tokens(t.usage));
        row("tool calls", format!("{}, {} failed", t.calls, t.failed_calls));
        add(out, "## Numbers");
        add(out, &table(&["what", "value"], &rows));
    }

    fn check_list(&self, out: &mut String) {
        let Some(spec) = self.totals.spec.as_ref().filter(|spec| !spec.checks.is_empty()) else { return };
        add(out, "## Checks");
        for (index, command) in spec.checks.iter().enumerate() {
            let results: Vec<&&CheckResult> = self.checks.iter().filter(|result| result.check == index).collect();
            let state = match results.last() {
                None => "not run".to_owned(),
                Some(result) if has_failed(&result.outcome) => format!("failed in round {}", result.round),
                Some(result) => format!("passed in round {}", result.round),
            };
            add(out, &format!("{}. {}: **{state}**", index + 1, code(command)));
            if let Some(result) = results.last() {
                let text = format!("{}\n[{}]", result.outcome.text.trim_end(), how(Some(&result.outcome)));
                add(out, &block(&text, EXCERPT));
            }
        }
    }

    fn call_list(&self, out: &mut String) {
        if self.calls.is_empty() {
            return;
        }
        let rows: Vec<[String; 4]> = self
            .calls
            .iter()
            .enumerate()
            .map(|(n, (call, outcome))| {
                let took = outcome.map(|outcome| duration(outcome.duration_ms)).unwrap_or_default();
                [(n + 1).to_string(), code(&call_line(call)), how(*outcome), took]
            })
            .collect();
        add(out, "## Commands");
        add(out, &table(&["#", "call", "outcome", "duration"], &rows));
    }

    fn artifact_list(&self, out: &mut String) {
        if self.artifacts.is_empty() && self.refused.is_empty() {
            return;
        }
        add(out, "## Files brought out");
        if !self.artifacts.is_empty() {
            add(out, &table(&["path", "size", "SHA-256"], &self.artifacts));
        }
        if !self.refused.is_empty() {
            add(out, &list(&self.refused));
        }
    }

    fn failures(&self, out: &mut String) {
        let failed: Vec<_> = self
            .calls
            .iter()
            .filter_map(|(call, outcome)| outcome.filter(|outcome| has_failed(outcome)).map(|outcome| (call, outcome)))
            .collect();
        if failed.is_empty() && self.troubles.is_empty() {
            return;
        }
        add(out, "## Failures met");
        if !self.troubles.is_empty() {
            add(out, &list(&self.troubles));
        }
        for (call, outcome) in failed.iter().take(MOST_FAILURES) {
            add(out, &format!("- {}: {}", code(&call_line(call)), how(Some(outcome))));
            add(out, &block(outcome.text.trim_end(), EXCERPT));
        }
        if failed.len() > MOST_FAILURES {
            add(out, &format!("- and {} more", failed.len() - MOST_FAILURES));
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

fn add(out: &mut String, block: &str) {
    let separator = if out.is_empty() { "" } else { "\n" };
    writeln!(out, "{separator}{block}").expect("a string takes all that is written");
}

fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n")
}

fn how(outcome: Option<&Outcome>) -> String {
    let Some(outcome) = outcome else { return "no outcome recorded".to_owned() };
    match outcome.exit {
        Some(exit) => exit.to_string(),
        None => format!("{:?}", outcome.status).to_lowercase(),
    }
}

/// Recorded words as plain Markdown text on one line.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text, WIDEST).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Recorded words as a code span that can stand in a table.
fn code(text: &str) -> String {
    let line = one_line(text, WIDEST).replace('|', "\\|");
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') || line.is_empty() { " " } else { "" };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// Recorded words as a code block of at most `most` lines, the middle left out.
fn block(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let cut = lines.len() > most;
    let (head, from) = if cut { (most / 3, lines.len() - (most - most / 3)) } else { (lines.len(), lines.len()) };
    let mut shown: Vec<String> = lines[..head].iter().map(|line| one_line(line, WIDEST).into_owned()).collect();
    if cut {
        shown.push(format!("[... {} lines]", from - head));
    }
    shown.extend(lines[from..].iter().map(|line| one_line(line, WIDEST).into_owned()));
    let longest = shown.iter().flat_map(|line| line.split(|c| c != '`').map(str::len)).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", shown.join("\n"))
}

fn quoted(text: &str) -> String {
    visible(text.trim())
        .lines()
        .map(|line| format!("> {}", plain(line)).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![line(&head.map(String::from)), format!("|{}", "---|".repeat(N))];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}
