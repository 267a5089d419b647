//! A tool call as it is told in a line: its number, what it was, how it ended.

use serde_json::Value;

use crate::domain::{Exit, Outcome, Status, ToolCall, duration_words, size_words};

/// Characters of a command that are shown.
const WIDEST: usize = 160;

/// A call of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place among all calls of the run, from 1: `recall` knows it by that.
    pub number: u64,
    /// Its id.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// The first line of its command, or the path it was about; may be empty.
    pub what: String,
    /// The file that it was to write, if that is what it does.
    pub writes: Option<String>,
    /// How it ended, once it has.
    pub end: Option<StepEnd>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEnd {
    /// What became of it.
    pub status: Status,
    /// The command's exit, where there was one.
    pub exit: Option<Exit>,
    /// How long it took.
    pub duration_ms: u64,
    /// The session's directory afterwards.
    pub cwd: Option<String>,
    /// Bytes of output, or of the result.
    pub size_bytes: u64,
}

impl Step {
    /// A call that has not ended.
    pub fn begun(number: u64, call: &ToolCall) -> Self {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let what = ["command", "path", "action", "keys", "outcome", "name"].into_iter().find_map(text);
        let does_write = matches!(call.name.as_str(), "write_file" | "edit_file");
        Self {
            number,
            call_id: call.id.clone(),
            tool: first_line(&call.name),
            what: first_line(&what.unwrap_or_default()),
            writes: text("path").filter(|_| does_write),
            end: None,
        }
    }

    /// Takes its outcome in.
    pub fn ended(&mut self, outcome: &Outcome) {
        let size = outcome.output.as_ref().map_or(outcome.text.len() as u64, |output| output.size_bytes);
        self.end = Some(StepEnd {
            status: outcome.status,
            exit: outcome.exit,
            duration_ms: outcome.duration_ms,
            cwd: outcome.cwd.clone(),
            size_bytes: size,
        });
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.status == Status::Failed)
    }

    /// How it ended: `exit 2`, or a word.
    pub fn end_words(&self) -> String {
        match &self.end {
            None => "no result".to_owned(),
            Some(end) => end.exit.map_or_else(|| end.status.word().to_owned(), |exit| exit.to_string()),
        }
    }

    /// `step 12 · shell · exit 2 · 3.4 s · /p · 1.2 kB`.
    fn facts(&self) -> String {
        let mut parts = vec![format!("step {}", self.number), self.tool.clone(), self.end_words()];
        if let Some(end) = &self.end {
            parts.push(duration_words(end.duration_ms));
            parts.extend(end.cwd.clone());
            parts.push(size_words(end.size_bytes));
        }
        parts.join(" · ")
    }

    /// `step 12 · shell · exit 2 · 3.4 s · /p · 1.2 kB · make test`.
    pub fn line(&self) -> String {
        match self.what.is_empty() {
            true => self.facts(),
            false => format!("{} · {}", self.facts(), self.what),
        }
    }

    /// What stands for its result.
    pub(super) fn stub(&self) -> String {
        format!("[{}; left out here, `recall` shows it]", self.facts())
    }
}

/// The first line, and not too much of it.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if text.trim().lines().nth(1).is_some() => format!("{line} …"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_in_one_line() {
        let arguments = serde_json::json!({"command": "make test\necho done", "session": "main"}).to_string();
        let call = ToolCall { id: "a".to_owned(), name: "shell".to_owned(), arguments };
        let mut step = Step::begun(12, &call);
        assert_eq!(step.line(), "step 12 · shell · no result · make test …");
        let outcome = Outcome {
            exit: Some(Exit::Code(2)),
            duration_ms: 3_400,
            cwd: Some("/p".to_owned()),
            ..Outcome::words(Status::Failed, "x".repeat(1_234))
        };
        step.ended(&outcome);
        assert_eq!(step.line(), "step 12 · shell · exit 2 · 3.4 s · /p · 1.2 kB · make test …");
        assert_eq!(step.stub(), "[step 12 · shell · exit 2 · 3.4 s · /p · 1.2 kB; left out here, `recall` shows it]");
    }
}
