//! What a person is told: one form for every channel. A change of it is a change of `docs/NOTIFY.md`.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::{Choice, ExitReason, Finding, JobId, Question, QuestionId, RunId, Verdict};

/// The version of the form; members may be added to it without a new one.
const VERSION: u32 = 1;
/// Most characters of a text that is passed on.
const LONGEST: usize = 2_000;
/// Most characters of a line.
const LINE: usize = 300;

/// Why a person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The run has a question, or can't go on without a person.
    NeedsInput,
    /// A question is still open.
    Reminder,
    /// The run has ended well.
    Done,
    /// The run has ended otherwise.
    Failed,
    /// Something is wrong with a job, or it does not go on.
    Stalled,
    /// Most of a limit is used up, or all of it.
    Budget,
    /// Somebody tries whether notifications arrive.
    Test,
}

impl What {
    /// Its name in the form.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeedsInput => "needs_input",
            Self::Reminder => "reminder",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stalled => "stalled",
            Self::Budget => "budget",
            Self::Test => "test",
        }
    }

    /// Whether the run does not go on, or not well, without a person.
    pub fn is_urgent(self) -> bool {
        match self {
            Self::NeedsInput | Self::Reminder | Self::Failed => true,
            Self::Done | Self::Stalled | Self::Budget | Self::Test => false,
        }
    }
}

/// A message to a person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    version: u32,
    /// The same for the same thing, however often it is told.
    pub id: String,
    /// Why.
    pub event: What,
    time: Timestamp,
    run: Option<RunId>,
    title: String,
    workspace: String,
    /// All of it in one line.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<Asked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobNews>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Asked {
    id: QuestionId,
    text: String,
    background: String,
    options: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommended: Option<String>,
    asked: Timestamp,
    /// How often it was reminded of so far.
    reminders: u32,
    /// The command that answers it, but for the answer.
    answer_with: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct End {
    verdict: Verdict,
    reason: ExitReason,
    exit_code: u8,
    why: String,
    answer: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct JobNews {
    id: JobId,
    finding: Finding,
}

/// The run that messages tell of.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) run: Option<RunId>,
    pub(super) title: String,
    pub(super) workspace: String,
}

impl Message {
    /// A message that tells nothing but that it has arrived.
    pub fn test(now: Timestamp) -> Self {
        Subject::default().message(What::Test, "test", now, "this is a test: notifications arrive here".to_owned())
    }

    /// The message as JSON, on one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("it has only names as keys")
    }

    /// The run's title, for a headline.
    pub fn headline(&self) -> String {
        match self.title.is_empty() {
            true => format!("longhaul: {}", self.event.name()),
            false => format!("longhaul: {} · {}", self.event.name(), clipped(&self.title, 80)),
        }
    }

    /// The same question once more, after a while.
    pub(super) fn again(&self, reminders: u32, open_for: &str) -> Self {
        let question = self.question.clone().map(|asked| Asked { reminders, ..asked });
        Self {
            id: format!("{}/r{reminders}", self.id),
            event: What::Reminder,
            text: format!("still open after {open_for}: {}", self.text),
            question,
            ..self.clone()
        }
    }
}

impl Subject {
    /// A message of this run; `id` is unique in the run.
    pub(super) fn message(&self, event: What, id: &str, time: Timestamp, text: String) -> Message {
        let run = self.run.as_ref().map_or("-", RunId::as_str);
        Message {
            version: VERSION,
            id: format!("{run}/{id}"),
            event,
            time,
            run: self.run.clone(),
            title: clipped(&self.title, LINE),
            workspace: self.workspace.clone(),
            text: clipped(&text, LINE),
            question: None,
            end: None,
            job: None,
        }
    }

    /// A question of this run.
    pub(super) fn question(&self, question: &Question, asked: Timestamp) -> Message {
        let run = self.run.as_ref().map_or("last", RunId::as_str);
        let answer_with = format!("agent answer {run} {}", question.id);
        let text = format!("{} ({answer_with} …)", clipped(&question.text, LINE - 60));
        let asked_for = Asked {
            id: question.id,
            text: clipped(&question.text, LONGEST),
            background: clipped(&question.background, LONGEST),
            options: question.options.clone(),
            recommended: question.recommended.clone(),
            asked,
            reminders: 0,
            answer_with,
        };
        let message = self.message(What::NeedsInput, &question.id.to_string(), asked, text);
        Message { question: Some(asked_for), ..message }
    }

    /// The end of this run.
    pub(super) fn end(
        &self,
        (verdict, reason): (Verdict, ExitReason),
        why: &str,
        answer: &str,
        time: Timestamp,
    ) -> Message {
        let event = match reason {
            ExitReason::Done => What::Done,
            ExitReason::NeedsHuman => What::NeedsInput,
            ExitReason::Budget => What::Budget,
            ExitReason::Internal
            | ExitReason::Usage
            | ExitReason::Failed
            | ExitReason::Refused
            | ExitReason::SandboxUnavailable
            | ExitReason::Unverified
            | ExitReason::ProviderUnavailable
            | ExitReason::Auth
            | ExitReason::Interrupted
            | ExitReason::Terminated => What::Failed,
        };
        let text = format!("{}: {why}", verdict.word());
        let (exit_code, why, answer) = (reason.code(), clipped(why, LONGEST), clipped(answer, LONGEST));
        let message = self.message(event, &format!("end-{time}"), time, text);
        Message { end: Some(End { verdict, reason, exit_code, why, answer }), ..message }
    }

    /// Something about a job of this run.
    pub(super) fn job(&self, id: JobId, finding: &Finding, nth: &str, time: Timestamp) -> Message {
        let message = self.message(What::Stalled, nth, time, format!("job {id}: {}", finding.words()));
        Message { job: Some(JobNews { id, finding: finding.clone() }), ..message }
    }
}

fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
