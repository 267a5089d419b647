//! The numbers of a run: a fold over its entries.

use jiff::Timestamp;

use super::style::count;
use crate::domain::{
    Answering, BoxUsage, Entry, Event, ExitReason, Jobs, Outcome, RunSpec, Spent, Status, Usage, Verdict, money_words,
};

/// What a run has come to so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// What was asked.
    pub spec: Option<RunSpec>,
    /// When the first entry was recorded.
    pub started: Option<Timestamp>,
    /// From the first entry to the last.
    pub wall_ms: u64,
    /// Waiting for the model to answer.
    pub model_ms: u64,
    /// Tools and checks at work, without waits.
    pub tool_ms: u64,
    /// Waits that have ended: no request was made while they lasted.
    pub waits: u64,
    /// How long they took, suspended time included.
    pub waited_ms: u64,
    /// Commands that outlived their calls.
    pub jobs: Jobs,
    /// Waiting out a server that asked for patience.
    pub waiting_ms: u64,
    /// Answers of the model.
    pub turns: u64,
    /// Their tokens.
    pub usage: Usage,
    /// What they cost, by the price that was known then.
    pub spent: Spent,
    /// Tool calls that have ended.
    pub calls: u64,
    /// Those that failed or could not be tried.
    pub failed_calls: u64,
    /// Checks that have run.
    pub checks: u64,
    /// Those that failed.
    pub failed_checks: u64,
    /// Files brought out.
    pub artifacts: u64,
    /// What the box has used, as last measured.
    pub usage_of_box: Option<BoxUsage>,
    /// How it ended.
    pub end: Option<End>,
    /// How often it was taken up again.
    pub resumed: u64,
    /// How long nobody drove it.
    pub away_ms: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Which model answers.
    answering: Answering,
    /// Calls that waited and have no outcome yet.
    waiting: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The judgment.
    pub verdict: Verdict,
    /// What the exit code says.
    pub reason: ExitReason,
    /// What decided.
    pub why: String,
    /// The model's last words.
    pub answer: String,
}

impl Totals {
    /// Takes the next entry in.
    pub fn add(&mut self, entry: &Entry) {
        let started = *self.started.get_or_insert(entry.time);
        self.wall_ms = u64::try_from(entry.time.duration_since(started).as_millis()).unwrap_or(0);
        self.jobs.apply(entry);
        self.answering.apply(&entry.event);
        match &entry.event {
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => self.spec = Some(spec.clone()),
            Event::RunResumed { away_ms, asked, .. } => {
                if let Some(spec) = &mut self.spec {
                    asked.change(spec);
                }
                self.end = None;
                self.resumed += 1;
                self.away_ms += away_ms;
            }
            Event::LimitsRaised { asked } => {
                if let Some(spec) = &mut self.spec {
                    asked.change(spec);
                }
            }
            Event::CheckpointTaken { .. } => self.checkpoints += 1,
            Event::ModelRequested { kept_bytes, rest, .. } | Event::SummaryRequested { kept_bytes, rest, .. } => {
                self.spent.request(kept_bytes + rest.size_bytes);
            }
            Event::SummaryAnswered { usage, response, duration_ms } => {
                let price = self.spec.as_ref().and_then(|spec| self.answering.price(spec));
                self.spent.answer(*usage, response.size_bytes, price);
                self.model_ms += duration_ms;
                self.usage += usage.unwrap_or_default();
            }
            Event::ModelDelayed { wait_ms, .. } => self.waiting_ms += wait_ms,
            Event::ModelAnswered { usage, duration_ms, text, calls, .. } => {
                let price = self.spec.as_ref().and_then(|spec| self.answering.price(spec));
                let bytes = text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>();
                self.spent.answer(*usage, bytes as u64, price);
                self.turns += 1;
                self.model_ms += duration_ms;
                self.usage += usage.unwrap_or_default();
            }
            Event::ToolEnded { call_id, outcome } => {
                self.calls += 1;
                match self.waiting.iter().position(|waited| waited == call_id) {
                    Some(place) => drop(self.waiting.swap_remove(place)),
                    None => self.tool_ms += outcome.duration_ms,
                }
                self.failed_calls += u64::from(has_failed(outcome));
            }
            Event::CheckEnded { result } => {
                self.checks += u64::from(result.round > 0);
                self.tool_ms += result.outcome.duration_ms;
                self.failed_checks += u64::from(result.round > 0 && has_failed(&result.outcome));
            }
            Event::Waited { wait } => {
                self.waits += 1;
                self.waited_ms += wait.waited_ms + wait.suspended_ms;
                self.waiting.push(wait.call_id.clone());
            }
            Event::BoxMeasured { usage } => self.usage_of_box = Some(usage.clone()),
            Event::ArtifactCollected { .. } => self.artifacts += 1,
            Event::RunEnded { verdict, reason, why, answer } => {
                let (why, answer) = (why.clone(), answer.clone());
                self.end = Some(End { verdict: *verdict, reason: *reason, why, answer });
            }
            _ => {}
        }
    }

    /// The counts in words: `2 turns, 3 tool calls (1 failed), 1 check, 2400 tokens in (2000 cached), 112 out`.
    pub fn counts(&self) -> String {
        let failed = |failed: u64| if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
        let mut words =
            format!("{}, {}{}", count(self.turns, "turn"), count(self.calls, "tool call"), failed(self.failed_calls));
        let jobs = self.jobs.all().count() as u64;
        if jobs > 0 {
            words.push_str(&format!(", {}", count(jobs, "job")));
        }
        if self.waits > 0 {
            words.push_str(&format!(", {}", count(self.waits, "wait")));
        }
        if self.checks > 0 {
            words.push_str(&format!(", {}{}", count(self.checks, "check"), failed(self.failed_checks)));
        }
        // A server that counts no tokens has not worked for nothing.
        if self.usage != Usage::default() {
            words.push_str(&format!(", {}", tokens(self.usage)));
        }
        if let Some(cost) = self.cost() {
            words.push_str(&format!(", {}", money_words(cost)));
        }
        words
    }

    /// What its answers cost in millionths of a US dollar; None where no price was known.
    pub fn cost(&self) -> Option<u64> {
        let is_priced = self.spec.as_ref().is_some_and(|spec| spec.budget.price.is_some());
        (is_priced || self.spent.cost > 0).then_some(self.spent.cost)
    }

    /// A path as short as it can be: from the workspace where it lies in it.
    pub(super) fn inside<'p>(&self, path: &'p str) -> &'p str {
        let workspace = self.spec.as_ref().map(|spec| spec.workspace.as_str()).filter(|dir| !dir.is_empty());
        let rest = workspace.and_then(|dir| path.strip_prefix(dir)?.strip_prefix('/'));
        rest.filter(|rest| !rest.is_empty()).unwrap_or(path)
    }
}

/// Whether an outcome is a failure.
pub(super) fn has_failed(outcome: &Outcome) -> bool {
    match outcome.status {
        Status::Failed | Status::Malformed | Status::Unknown => true,
        Status::Ok | Status::Running | Status::Refused | Status::Cancelled => {
            outcome.exit.is_some_and(|exit| !exit.is_success())
        }
    }
}

/// `1234 tokens in (1000 cached), 56 out`.
pub(super) fn tokens(usage: Usage) -> String {
    let cached = if usage.cached_tokens == 0 { String::new() } else { format!(" ({} cached)", usage.cached_tokens) };
    format!("{} in{cached}, {} out", count(usage.input_tokens, "token"), usage.output_tokens)
}
