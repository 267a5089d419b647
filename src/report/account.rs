//! What a run came to: the data of its report. `report.json` is this as it is; `report.md` tells it to people.

mod gather;
mod proof;

use serde::Serialize;

use super::{Closing, Totals};
use crate::domain::{
    AnsweredAt, BoxUsage, Entry, ExitReason, FailureClass, Level, QuestionEnd, RunId, TurnedOut, Usage, Verdict,
};

/// The version of the layout; members may be added within it.
pub const REPORT_SCHEMA_VERSION: u32 = 1;

/// What a run came to. Recorded words are as they were recorded: whoever shows them has to make them harmless.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// [`REPORT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: Option<RunId>,
    /// A few words.
    pub title: String,
    /// What was asked.
    pub goal: String,
    /// The model that was asked for.
    pub model: String,
    /// The project directory.
    pub workspace: String,
    /// The judgment; None where the run has not ended.
    pub verdict: Option<Verdict>,
    /// What the exit code says.
    pub exit_reason: Option<ExitReason>,
    /// What decided.
    pub why: String,
    /// What the model says was done.
    pub done: String,
    /// What to know before the result is trusted, a sentence each.
    pub doubts: Vec<String>,
    /// The checks, in order.
    pub checks: Vec<CheckRow>,
    /// What the model says was asked, and what stands behind each.
    pub requirements: Vec<RequirementRow>,
    /// Numbers of checks that no requirement names, from 1.
    pub unnamed_checks: Vec<usize>,
    /// The files that had to stay as they were.
    pub protected: ProtectedRow,
    /// Commands that the harness ran again by itself.
    pub attempts: Vec<AttemptRow>,
    /// What failed, each kind once, in the order in which it came first.
    pub failures: Vec<FailureRow>,
    /// What was decided about failures.
    pub decisions: Vec<DecisionRow>,
    /// How decisions turned out, by how sure they were, the surest first.
    pub predictions: Vec<PredictionRow>,
    /// What people were asked.
    pub questions: Vec<QuestionRow>,
    /// What people did unasked, each with its entry.
    pub interventions: Vec<String>,
    /// What was brought out.
    pub artifacts: Vec<ArtifactRow>,
    /// Where the time went.
    pub time: TimeRow,
    /// Tokens, as the model's server counted them.
    pub tokens: Usage,
    /// Money in millionths of a US dollar, where the price is known.
    pub cost_micro_usd: Option<u64>,
    /// Answers of the model.
    pub turns: u64,
    /// Tool calls that have ended.
    pub tool_calls: u64,
    /// Those of them that failed.
    pub failed_tool_calls: u64,
    /// What the box has used, as last measured.
    pub resources: Option<BoxUsage>,
    /// What the project's runbook might say from now on, a line each.
    pub learned: Vec<String>,
    /// The last entry of the transcript.
    pub head: HeadRow,
}

/// The last entry of the transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeadRow {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It passed.
    Passed,
    /// It did not.
    Failed,
    /// It did not run, or came to no end.
    NotKnown,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckRow {
    /// From 1.
    pub number: usize,
    /// As it is written.
    pub check: String,
    /// How it went last.
    pub last: Standing,
    /// The round of that; 0 where it did not run.
    pub round: u32,
    /// How it went before any work.
    pub before: Standing,
    /// Whether it proves something: it passed last and not before any work.
    pub proves: bool,
}

/// A requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequirementRow {
    /// As the model understood it.
    pub requirement: String,
    /// What shows it, in the model's words.
    pub evidence: String,
    /// The check that is said to stand behind it, from 1.
    pub check: Option<u32>,
    /// Whether a check that proves something stands behind it, and nothing that it names is missing.
    pub verified: bool,
    /// What is not so, in words.
    pub notes: Vec<String>,
}

/// Files that had to stay as they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProtectedRow {
    /// How many.
    pub files: usize,
    /// Which were found changed at some time.
    pub changed: Vec<String>,
}

/// A command that the harness ran again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// The step, from 1; 0 where it is not known.
    pub step: usize,
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// What the failure came from.
    pub class: Option<FailureClass>,
    /// How it ended.
    pub how: String,
}

/// A kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRow {
    /// What it comes from.
    pub class: FailureClass,
    /// What says so.
    pub evidence: String,
    /// Its mark.
    pub fingerprint: String,
    /// How often it came.
    pub times: u32,
    /// The steps in which it did, from 1.
    pub steps: Vec<usize>,
    /// The command that failed first.
    pub command: String,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionRow {
    /// Its name.
    pub id: String,
    /// What the failure came from.
    pub class: FailureClass,
    /// What was done.
    pub chosen: String,
    /// How sure it was.
    pub confidence: Level,
    /// The signals that were worst.
    pub reasons: Vec<String>,
    /// What was expected to be seen.
    pub expected: String,
    /// How it turned out.
    pub turned_out: TurnedOut,
    /// What shows that.
    pub why: String,
}

/// How decisions of one level turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PredictionRow {
    /// The level.
    pub confidence: Level,
    /// How many there were.
    pub made: u32,
    /// How many of them worked.
    pub worked: u32,
    /// How many led to the same failure or another one.
    pub failed: u32,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuestionRow {
    /// Its name.
    pub id: String,
    /// The question.
    pub text: String,
    /// The answer; None without one.
    pub answer: Option<String>,
    /// From where it came.
    pub at: Option<AnsweredAt>,
    /// How it was over without one.
    pub over: Option<QuestionEnd>,
    /// How long it was open.
    pub open_ms: u64,
}

/// A file that was brought out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactRow {
    /// Its path inside the box.
    pub path: String,
    /// Its path below the run's directory.
    pub stored: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TimeRow {
    /// From the first entry to the last.
    pub wall_ms: u64,
    /// The model and tools at work.
    pub active_ms: u64,
    /// Of that, the model.
    pub model_ms: u64,
    /// Of that, tools and checks.
    pub tool_ms: u64,
    /// Waits for jobs and the like, without a request.
    pub waits_ms: u64,
    /// Waits for the model's server.
    pub server_ms: u64,
    /// Questions that were open.
    pub people_ms: u64,
    /// While nobody drove it.
    pub away_ms: u64,
}

/// What a run came to, by its entries alone.
pub fn account(entries: &[Entry], closing: &Closing) -> Account {
    let mut totals = Totals::default();
    let mut gathered = gather::Gathered::default();
    for entry in entries {
        totals.add(entry);
        gathered.add(entry);
    }
    gathered.account(&totals, closing)
}
