//! What lists show of a run, told from its transcript without proving it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line::RawLine;
use super::{RunDir, RunLock};
use crate::domain::{ExitReason, Parent, QuestionId, RunId, Usage, Verdict};

/// How it stands with a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// Somebody drives it.
    Running {
        /// Who.
        pid: Option<u32>,
    },
    /// It ended.
    Ended {
        /// The judgment.
        verdict: Verdict,
        /// What the exit code said.
        reason: ExitReason,
    },
    /// Nobody drives it and it has not ended.
    Interrupted,
    /// Its transcript can't be read.
    Broken {
        /// Why.
        why: String,
    },
}

/// A line of the list of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// A few words.
    pub title: String,
    /// How it stands.
    #[serde(flatten)]
    pub state: RunState,
    /// When it began.
    pub started: Option<Timestamp>,
    /// From the first entry to the last.
    pub duration_ms: u64,
    /// Answers of the model.
    pub turns: u32,
    /// Their tokens.
    #[serde(flatten)]
    pub usage: Usage,
    /// The model as asked for.
    pub model: String,
    /// The project directory.
    pub workspace: String,
    /// Where it was forked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The questions that wait for an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<OpenQuestion>,
}

/// A question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenQuestion {
    /// Its name.
    pub id: QuestionId,
    /// The question, in one line.
    pub text: String,
}

/// What a run takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Files and directories.
    pub files: u64,
}

impl RunSummary {
    /// Reads what lists show of `run`. Never fails: what can't be read is told of in the state.
    pub fn read(run: &RunDir) -> Self {
        let mut summary = Self {
            run: run.id().clone(),
            title: String::new(),
            state: RunState::Interrupted,
            started: None,
            duration_ms: 0,
            turns: 0,
            usage: Usage::default(),
            model: String::new(),
            workspace: String::new(),
            parent: None,
            questions: Vec::new(),
        };
        if let Err(why) = summary.fold(&run.journal()) {
            summary.state = RunState::Broken { why };
        }
        if summary.title.is_empty() {
            summary.title = title_of_run_json(run.path()).unwrap_or_default();
        }
        if let Some(pid) = RunLock::holder(run.path()) {
            summary.state = RunState::Running { pid };
        }
        summary
    }

    fn fold(&mut self, journal: &Path) -> Result<(), String> {
        let file = File::open(journal).map_err(|error| format!("journal.jsonl: {error}"))?;
        let mut input = BufReader::with_capacity(1 << 18, file);
        let mut buffer = Vec::new();
        for number in 1_u64.. {
            buffer.clear();
            input.read_until(b'\n', &mut buffer).map_err(|error| format!("line {number}: {error}"))?;
            if buffer.pop() != Some(b'\n') {
                break;
            }
            let line = std::str::from_utf8(&buffer).ok().and_then(RawLine::parse);
            let known = line.and_then(|line| self.line(&line));
            known.ok_or_else(|| format!("line {number} is not a line of a transcript"))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &RawLine<'_>) -> Option<()> {
        let time: Timestamp = line.time.parse().ok()?;
        let started = *self.started.get_or_insert(time);
        self.duration_ms = u64::try_from(time.duration_since(started).as_millis()).unwrap_or(0);
        let kind = line.event.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next());
        match kind {
            Some("run_started") => {
                let event: Started = serde_json::from_str(line.event).ok()?;
                (self.title, self.model) = (event.spec.title, event.spec.model);
                self.workspace = event.spec.workspace;
            }
            // What came before it was the parent's.
            Some("run_forked") => {
                let event: Started = serde_json::from_str(line.event).ok()?;
                (self.title, self.model) = (event.spec.title, event.spec.model);
                (self.workspace, self.parent) = (event.spec.workspace, event.spec.parent);
                if self.parent.is_some() {
                    (self.turns, self.usage) = (0, Usage::default());
                    (self.started, self.duration_ms) = (Some(time), 0);
                }
                self.state = RunState::Interrupted;
                self.questions.clear();
            }
            Some("question_asked") => {
                let event: QuestionPut = serde_json::from_str(line.event).ok()?;
                self.questions.push(event.question);
            }
            Some("question_answered" | "question_closed") => {
                let event: QuestionOver = serde_json::from_str(line.event).ok()?;
                self.questions.retain(|open| open.id != event.question);
            }
            Some("run_resumed") => self.state = RunState::Interrupted,
            Some("model_answered") => {
                let event: Answered = serde_json::from_str(line.event).ok()?;
                self.turns += 1;
                self.usage += event.usage.unwrap_or_default();
            }
            Some("run_ended") => {
                let event: Ended = serde_json::from_str(line.event).ok()?;
                self.state = RunState::Ended { verdict: event.verdict, reason: event.reason };
            }
            _ => {}
        }
        Some(())
    }
}

impl DiskUse {
    /// What lies below `dir`; what can't be entered is not counted.
    pub fn of(dir: &Path) -> Self {
        let mut sum = Self::default();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                sum.files += 1;
                sum.size_bytes += metadata.blocks() * 512;
                if metadata.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        sum
    }
}

#[derive(Deserialize)]
struct Started {
    spec: Asked,
}

#[derive(Deserialize)]
struct Asked {
    title: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    parent: Option<Parent>,
}

#[derive(Deserialize)]
struct QuestionPut {
    question: OpenQuestion,
}

#[derive(Deserialize)]
struct QuestionOver {
    question: QuestionId,
}

#[derive(Deserialize)]
struct Answered {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Ended {
    verdict: Verdict,
    reason: ExitReason,
}

fn title_of_run_json(dir: &Path) -> Option<String> {
    let started: Started = serde_json::from_slice(&fs::read(dir.join("run.json")).ok()?).ok()?;
    Some(started.spec.title)
}
