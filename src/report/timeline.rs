//! A transcript as text for people, entry by entry. The live view prints the same lines.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::style::{Style, count, duration, elapsed, one_line, size};
use super::totals::{Totals, has_failed};
use super::{call_line, visible};
use crate::domain::{
    BoxFacts, CheckResult, Entry, Event, Outcome, RunMode, RunSpec, SandboxKind, Status, ToolCall, Usage, Verdict,
};

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// As it happens: output only of what failed, no answer (it goes to standard output).
    Live,
    /// Output cut to a readable length.
    #[default]
    Normal,
    /// Everything that the transcript holds, reasoning included.
    Full,
}

/// How a timeline looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimelineOptions {
    /// Colour may be used.
    pub colour: bool,
    /// How much is shown.
    pub detail: Detail,
}

/// Renders entries in order; what it renders has no control character but line feeds and its own colours.
#[derive(Default)]
pub struct Timeline {
    style: Style,
    detail: Detail,
    totals: Totals,
    /// Calls under way, by id.
    open: HashMap<String, ToolCall>,
    /// The call started last, if nothing was shown since.
    last_started: Option<String>,
}

/// Width of the column with the time.
const GUTTER: usize = 9;
/// Width of the column with the label.
const LABEL: usize = 10;
/// Where text begins.
pub(super) const TEXT: usize = GUTTER + LABEL;
/// Longest line of output, in characters.
const WIDEST: usize = 300;

impl Timeline {
    /// A timeline that has seen nothing yet.
    pub fn new(options: TimelineOptions) -> Self {
        Self { style: Style { colour: options.colour }, detail: options.detail, ..Self::default() }
    }

    /// The numbers so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The text of the next entry: whole lines, or nothing where there is nothing to see.
    pub fn entry(&mut self, entry: &Entry) -> String {
        self.totals.add(entry);
        let previous = self.last_started.take();
        match &entry.event {
            Event::RunStarted { spec, .. } => self.header(spec, entry),
            Event::BoxOpened { facts } => self.line("box", &self.box_words(facts)),
            Event::BoxClosed { notes, .. } => notes.iter().map(|note| self.line("box", &visible(note))).collect(),
            Event::SessionOpened { session, shell, .. } => {
                self.line("session", &format!("{session}, {}", visible(shell)))
            }
            Event::UserSaid { text } => self.said("you", text),
            Event::HarnessSaid { text } => self.said("harness", text),
            Event::ModelRequested { .. } => String::new(),
            Event::ModelDelayed { why, wait_ms, .. } => {
                self.line("waiting", &format!("{} ({})", duration(*wait_ms), visible(why)))
            }
            Event::ModelAnswered { turn, text, reasoning, usage, duration_ms, .. } => {
                let tokens = usage.map(|usage| format!(", {}", tokens(usage))).unwrap_or_default();
                self.answered(text, reasoning, &format!("turn {turn}, {}{tokens}", duration(*duration_ms)))
            }
            Event::ModelFailed { why, .. } => self.trouble("model", &visible(why)),
            Event::ToolStarted { call } => self.started(call),
            Event::ToolEnded { call_id, outcome } => self.ended(call_id, outcome, previous.as_ref() == Some(call_id)),
            Event::FinishClaimed { claim } => {
                let word = if claim.gave_up { "gave up" } else { "claims" };
                self.line(word, &visible(&claim.summary))
            }
            Event::CheckStarted { check, round } => {
                self.line(&format!("check {}", check + 1), &self.check_words(*check, *round))
            }
            Event::CheckEnded { result } => self.checked(result),
            Event::TurnInterrupted { turn } => self.line("stopped", &format!("turn {turn}, by Ctrl-C")),
            Event::StopAsked { why, .. } => self.line("stop", &visible(why)),
            Event::ArtifactCollected { path, size_bytes, sha256, .. } => {
                self.line("file", &format!("{} ({}, sha256 {sha256})", visible(path), size(*size_bytes)))
            }
            Event::ArtifactRefused { path, why } => {
                self.trouble("file", &format!("{} left: {}", visible(path), visible(why)))
            }
            Event::RunEnded { .. } => self.banner(),
            Event::Other(value) => self.line("unknown", &one_line(&value.to_string(), WIDEST)),
        }
    }

    /// What comes after the last entry: a word on a run that has not ended.
    pub fn end(&self) -> String {
        match self.totals.end {
            Some(_) => String::new(),
            None => format!("\n{}\n{}", self.style.warn("The run has not ended."), self.numbers()),
        }
    }

    /// The column with the time, as wide as it always is.
    pub(super) fn gutter(&self) -> String {
        self.style.dim(&format!("{:>7}  ", elapsed(self.totals.wall_ms)))
    }

    /// A labelled paragraph: `text` is safe, its further lines are indented.
    fn line(&self, label: &str, text: &str) -> String {
        self.paragraph(format!("{label:<LABEL$}"), text)
    }

    /// As `line`, of something that went wrong.
    fn trouble(&self, label: &str, text: &str) -> String {
        self.paragraph(self.style.bad(&format!("{label:<LABEL$}")), text)
    }

    fn said(&self, who: &str, text: &str) -> String {
        self.paragraph(self.speaker(who), &self.cut(text))
    }

    /// Who speaks, as wide as every label.
    pub(super) fn speaker(&self, who: &str) -> String {
        self.style.bold(&format!("{who:<LABEL$}"))
    }

    fn paragraph(&self, label: String, text: &str) -> String {
        let mut lines = text.trim_end_matches('\n').split('\n');
        let mut out = format!("{}{label}{}\n", self.gutter(), lines.next().unwrap_or_default());
        for line in lines {
            out.push_str(format!("{:TEXT$}{line}", "").trim_end());
            out.push('\n');
        }
        out
    }

    fn header(&self, spec: &RunSpec, entry: &Entry) -> String {
        let title = one_line(&spec.title, WIDEST);
        let mut out = format!("{} {}  {}\n", self.style.bold("run"), spec.run, self.style.bold(&title));
        let mut field = |name: &str, text: &str| {
            for (n, line) in text.split('\n').enumerate() {
                let name = if n == 0 { name } else { "" };
                out.push_str(format!("  {} {line}", self.style.dim(&format!("{name:<9}"))).trim_end());
                out.push('\n');
            }
        };
        match spec.mode {
            RunMode::Goal => field("goal", &self.cut(&spec.goal)),
            RunMode::Chat => field("mode", "chat"),
        }
        for check in &spec.checks {
            field("check", &visible(check));
        }
        let server = if spec.base_url.is_empty() { String::new() } else { format!(" at {}", spec.base_url) };
        field("model", &visible(&format!("{}{server}", spec.model)));
        field("workspace", &visible(&spec.workspace));
        field("started", &format!("{:.0}, longhaul {}", entry.time, visible(&spec.version)));
        out.push('\n');
        out
    }

    fn box_words(&self, facts: &BoxFacts) -> String {
        let kind = match facts.kind {
            SandboxKind::Docker => "docker",
            SandboxKind::Local => "local",
            SandboxKind::Host => "host (no box)",
        };
        let image = facts.image.as_ref().map(|image| format!(", image {image}")).unwrap_or_default();
        let mut words =
            visible(&format!("{kind}{image}: {}; workspace by {}", facts.why, facts.workspace_mode)).into_owned();
        for capability in facts.capabilities.iter().filter(|_| self.detail == Detail::Full) {
            let state = capability.missing.as_ref().map_or("yes".to_owned(), |missing| format!("no: {missing}"));
            words.push_str(&visible(&format!("\n{}: {state}", capability.name)));
        }
        words
    }

    fn answered(&self, text: &str, reasoning: &str, numbers: &str) -> String {
        let mut out = String::new();
        if self.detail == Detail::Full && !reasoning.trim().is_empty() {
            out.push_str(&self.line("thought", &visible(reasoning.trim())));
        }
        if !text.trim().is_empty() {
            out.push_str(&self.said("model", text.trim()));
        }
        if self.detail != Detail::Live {
            out.push_str(&self.note(numbers));
        }
        out
    }

    fn started(&mut self, call: &ToolCall) -> String {
        self.last_started = Some(call.id.clone());
        self.open.insert(call.id.clone(), call.clone());
        let words = call_line(call);
        let (first, rest) = words.split_once('\n').unwrap_or((&words, ""));
        let mut out = format!("{}{}\n", self.gutter(), self.style.bold(first));
        for line in rest.split('\n').filter(|_| !rest.is_empty()) {
            out.push_str(format!("{:GUTTER$}> {line}", "").trim_end());
            out.push('\n');
        }
        out
    }

    fn ended(&mut self, call_id: &str, outcome: &Outcome, follows: bool) -> String {
        let call = self.open.remove(call_id);
        let whose = call.filter(|_| !follows).map(|call| {
            let line = call_line(&call);
            format!(" <- {}", one_line(line.lines().next().unwrap_or_default(), 60))
        });
        let mut out = self.output(outcome);
        out.push_str(&self.note(&format!("{}{}", self.outcome_words(outcome), whose.unwrap_or_default())));
        out
    }

    fn check_words(&self, check: usize, round: u32) -> String {
        let command = self.totals.spec.as_ref().and_then(|spec| spec.checks.get(check));
        let round = if round > 1 { format!("(round {round}) ") } else { String::new() };
        format!("{round}{}", command.map(|command| visible(command)).unwrap_or_default())
    }

    fn checked(&self, result: &CheckResult) -> String {
        let mut out = self.output(&result.outcome);
        let word = match has_failed(&result.outcome) {
            true => self.style.bad("failed"),
            false => self.style.good("passed"),
        };
        out.push_str(&self.note(&format!(
            "check {} {word}, {}",
            result.check + 1,
            self.outcome_words(&result.outcome)
        )));
        out
    }

    fn outcome_words(&self, outcome: &Outcome) -> String {
        let mut words = match (outcome.status, outcome.exit) {
            (_, Some(exit)) if exit.is_success() => "exit 0".to_owned(),
            (_, Some(exit)) => self.style.bad(&exit.to_string()),
            (Status::Ok, None) => "ok".to_owned(),
            (Status::Failed, None) => self.style.bad("failed"),
            (Status::Running, None) => "still running".to_owned(),
            (Status::Malformed, None) => self.style.warn("malformed call"),
            (Status::Cancelled, None) => self.style.warn("cancelled"),
            (Status::Unknown, None) => self.style.warn("result unknown"),
        };
        write!(words, ", {}", duration(outcome.duration_ms)).expect("a string takes all that is written");
        if let Some(output) = outcome.output.as_ref().filter(|output| output.size_bytes > 0) {
            write!(words, ", {}", size(output.size_bytes)).expect("a string takes all that is written");
        }
        words
    }

    fn output(&self, outcome: &Outcome) -> String {
        if self.detail == Detail::Live && !has_failed(outcome) {
            return String::new();
        }
        let text = self.cut(outcome.text.trim_end());
        let lines = text.split('\n').filter(|_| !text.is_empty());
        lines.fold(String::new(), |out, line| out + &self.indented(format!("| {line}").trim_end()))
    }

    /// A dim line without a time.
    fn note(&self, words: &str) -> String {
        self.indented(words)
    }

    fn indented(&self, line: &str) -> String {
        format!("{:GUTTER$}{}\n", "", self.style.dim(line))
    }

    /// Safe text, cut in the middle to what this detail allows.
    fn cut(&self, text: &str) -> String {
        let (head, tail) = match self.detail {
            Detail::Live => (2, 6),
            Detail::Normal => (16, 8),
            Detail::Full => return visible(text).into_owned(),
        };
        let lines: Vec<&str> = text.split('\n').collect();
        let shown = |lines: &[&str]| lines.iter().map(|line| one_line(line, WIDEST)).collect::<Vec<_>>().join("\n");
        if lines.len() <= head + tail + 1 {
            return shown(&lines);
        }
        let (from, left) = (lines.len() - tail, lines.len() - head - tail);
        format!("{}\n[... {left} lines]\n{}", shown(&lines[..head]), shown(&lines[from..]))
    }

    fn banner(&self) -> String {
        let Some(end) = &self.totals.end else { return String::new() };
        let word = match end.verdict {
            Verdict::Verified => self.style.good(end.verdict.word()),
            Verdict::Unverified | Verdict::Blocked | Verdict::Stopped => self.style.warn(end.verdict.word()),
            Verdict::Failed | Verdict::Error => self.style.bad(end.verdict.word()),
        };
        let mut out = format!("\n{}: {}\n", self.style.bold(&word), visible(&end.why));
        if self.detail != Detail::Live && !end.answer.trim().is_empty() {
            for line in self.cut(end.answer.trim()).split('\n') {
                out.push_str(format!("  {line}").trim_end());
                out.push('\n');
            }
        }
        out + &self.numbers()
    }

    fn numbers(&self) -> String {
        let t = &self.totals;
        let failed = |failed: u64| if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
        let times = format!(
            "{} in all: model {}, tools {}, waiting {}",
            duration(t.wall_ms),
            duration(t.model_ms),
            duration(t.tool_ms),
            duration(t.waiting_ms)
        );
        let counts = format!(
            "{}, {}{}, {}{}, {}",
            count(t.turns, "turn"),
            count(t.calls, "tool call"),
            failed(t.failed_calls),
            count(t.checks, "check"),
            failed(t.failed_checks),
            tokens(t.usage)
        );
        format!("  {}\n  {}\n", self.style.dim(&times), self.style.dim(&counts))
    }
}

/// `1234 tokens in (1000 cached), 56 out`.
pub(super) fn tokens(usage: Usage) -> String {
    let cached = if usage.cached_tokens == 0 { String::new() } else { format!(" ({} cached)", usage.cached_tokens) };
    format!("{} tokens in{cached}, {} out", usage.input_tokens, usage.output_tokens)
}
