//! Calls that an earlier driver had begun and that have no outcome: what became of each is found out, never guessed, and
//! nothing that may have happened is done once more.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::domain::{BoxReturn, Effect, JobId, Outcome, Progress, SessionName, Status};
use crate::guest::{GuestError, RefusalKind};
use crate::terminal::{CommandReport, JobWish, ReportState, TerminalError};

use super::facts::{command_outcome, job_outcome};
use super::path::resolve;
use super::workbench::told;
use super::{
    Action, Attention, CallNames, Done, Workbench, WorkbenchError, container, edit_file, shell, tmux, write_file,
};

/// File systems keep times this exactly at worst, and take them from a clock that is a little behind.
const TIME_GRAIN: Duration = Duration::from_millis(20);
/// The largest file that is compared with what was to be written.
const LARGEST: u64 = 32 << 20;

/// A call that was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// When it was announced.
    pub begun: Timestamp,
    /// How the box was found since.
    pub found: BoxReturn,
    /// How far it reaches.
    pub effect: Effect,
    /// What a person has said became of it.
    pub said: Option<Said>,
    /// The jobs that had ended before it.
    pub ended_before: BTreeSet<JobId>,
}

/// What a person says became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It took effect.
    Ran,
    /// It did not.
    NotRun,
    /// Nobody knows: the model is to look.
    Look,
}

/// What became of a call.
enum Fate {
    /// This.
    Known(Outcome),
    /// It was never begun, or it does no harm to do it again.
    Open,
    /// Nobody knows; what can be said all the same.
    Doubtful(String),
}

impl Left {
    /// Whether the files are those that the call worked on.
    fn is_same_box(&self) -> bool {
        matches!(self.found, BoxReturn::Adopted | BoxReturn::Restarted)
    }

    /// Whether the box must know of the call if it was ever begun. Its records are not synced: where the machine went down,
    /// those of the last moments may have gone with it.
    fn is_known_if_begun(&self) -> bool {
        self.found == BoxReturn::Adopted
    }
}

impl Workbench {
    /// Finds out what became of a call; one that was never begun, or that only looks, is run.
    ///
    /// # Errors
    /// As [`Workbench::run`].
    pub async fn take_up(
        &self,
        names: CallNames<'_>,
        action: &Action,
        left: &Left,
        progress: &mut (dyn FnMut(Progress) + Send),
        attention: &Attention,
    ) -> Result<Done, WorkbenchError> {
        let fate = self.fate(names, action, left).await.map(|fate| match fate {
            Fate::Known(outcome) => Some(outcome),
            Fate::Doubtful(text) => Some(doubtful(&text, left)),
            // What reaches beyond the box is not begun hours later without a word.
            Fate::Open if left.effect >= Effect::External => Some(not_begun()),
            Fate::Open => None,
        });
        match fate {
            Ok(Some(outcome)) => Ok(Done { outcome: told(Ok(outcome))?, facts: Vec::new() }),
            Ok(None) => self.run_since(names, action, Some(left), progress, attention).await,
            Err(error) => Ok(Done { outcome: told(Err(error))?, facts: Vec::new() }),
        }
    }

    /// Whether nobody knows what became of a call. Changes nothing.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn is_doubtful(
        &self,
        names: CallNames<'_>,
        action: &Action,
        left: &Left,
    ) -> Result<bool, WorkbenchError> {
        match action {
            Action::Shell(_) => {}
            Action::Tmux(args) if args.action == tmux::Verb::Open => {}
            Action::Tmux(args) => {
                return Ok(matches!(args.action, tmux::Verb::Send | tmux::Verb::Keys | tmux::Verb::Signal));
            }
            Action::Wait(_)
            | Action::ReadFile(_)
            | Action::WriteFile(_)
            | Action::EditFile(_)
            | Action::Checkpoint(_)
            | Action::Container(_)
            | Action::Recall(_)
            | Action::AskHuman(_)
            | Action::Finish(_) => return Ok(false),
        }
        Ok(match self.look_up(names.work).await.map_err(WorkbenchError::Gone)? {
            None => !left.is_known_if_begun(),
            Some(report) => matches!(report.state, ReportState::Ended { exit: None, .. }),
        })
    }

    async fn fate(&self, names: CallNames<'_>, action: &Action, left: &Left) -> Result<Fate, TerminalError> {
        match action {
            Action::Shell(args) => match &args.command {
                Some(_) => self.of_command(args, names, left).await,
                None => Ok(Fate::Open),
            },
            Action::Tmux(args) => self.of_tmux(args, names, left).await,
            Action::WriteFile(args) => self.of_written(args, left).await,
            Action::EditFile(args) => self.of_edited(args, left).await,
            Action::Container(args) => {
                Ok(container::settled(args, self.sandbox()).await.map_or(Fate::Open, Fate::Known))
            }
            Action::Wait(_)
            | Action::ReadFile(_)
            | Action::Checkpoint(_)
            | Action::Recall(_)
            | Action::AskHuman(_)
            | Action::Finish(_) => Ok(Fate::Open),
        }
    }

    async fn of_command(&self, args: &shell::Args, names: CallNames<'_>, left: &Left) -> Result<Fate, TerminalError> {
        let Some(report) = self.look_up(names.work).await? else {
            return Ok(match left.is_known_if_begun() {
                true => Fate::Open,
                false => Fate::Doubtful(String::new()),
            });
        };
        Ok(match &report.state {
            ReportState::Ended { exit: None, .. } => Fate::Doubtful(command_outcome(&report).text),
            ReportState::Ended { .. } => Fate::Known(ended(&report, left)),
            ReportState::Running { .. } | ReportState::Busy { .. } => Fate::Known(self.adopted(args, &report)),
        })
    }

    /// How a command stands; None if the box never heard of it.
    async fn look_up(&self, work: &str) -> Result<Option<CommandReport>, TerminalError> {
        let cancel = CancellationToken::new();
        match self.terminal().look_up(work, Duration::ZERO, &mut |_| {}, &cancel).await {
            Ok(report) => Ok(Some(report)),
            Err(TerminalError::Guest(GuestError::Refused(refusal))) if refusal.kind == RefusalKind::Unknown => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn adopted(&self, args: &shell::Args, report: &CommandReport) -> Outcome {
        let readiness = args.ready.as_ref().and_then(|ready| ready.read().ok());
        let is_service = args.service == Some(true) || readiness.is_some();
        let wish = JobWish { expected_s: args.expected_s, service: is_service, readiness };
        let session = SessionName::new(args.session_or_main()).ok();
        let job = session.and_then(|session| self.terminal().board().keep(report, &session, wish));
        let outcome = job.map_or_else(|| command_outcome(report), |job| job_outcome(report, job.id));
        with_line("it ran on while the run was not driven", outcome)
    }

    async fn of_tmux(&self, args: &tmux::Args, names: CallNames<'_>, left: &Left) -> Result<Fate, TerminalError> {
        use tmux::Verb;
        match args.action {
            Verb::List | Verb::Read | Verb::Screen | Verb::Log | Verb::Grep => Ok(Fate::Open),
            // A session that is open stays as it is, and the same work is never started twice.
            Verb::Open => match self.look_up(names.work).await?.map(|report| report.state) {
                Some(ReportState::Ended { exit: None, .. }) => Ok(Fate::Doubtful(String::new())),
                Some(_) | None => Ok(Fate::Open),
            },
            Verb::Close if left.is_same_box() && !self.has_session(args.session_or_none()).await? => {
                let text = format!("[session {} is closed]", args.session_or_none());
                Ok(Fate::Known(Outcome::words(Status::Ok, text)))
            }
            Verb::Close => Ok(Fate::Open),
            Verb::Send | Verb::Keys | Verb::Signal => Ok(Fate::Doubtful(self.screen(args.session_or_none()).await)),
        }
    }

    async fn has_session(&self, name: &str) -> Result<bool, TerminalError> {
        Ok(self.terminal().sessions().await?.iter().any(|info| info.session.as_str() == name))
    }

    /// The screen of a session as it is now; empty where it has none.
    async fn screen(&self, session: &str) -> String {
        let asked = serde_json::json!({ "action": "screen", "session": session });
        let Ok(args) = serde_json::from_value::<tmux::Args>(asked) else { return String::new() };
        let shown = tmux::run(&args, "", "", self.terminal(), &Attention::new()).await;
        shown.map_or_else(|_| String::new(), |outcome| outcome.text)
    }

    async fn of_written(&self, args: &write_file::Args, left: &Left) -> Result<Fate, TerminalError> {
        let path = resolve(self.terminal().workspace(), &args.path);
        let Some((content, changed)) = self.content(&path).await? else { return Ok(Fate::Open) };
        if content == args.content.as_bytes() {
            return Ok(took_effect(&path));
        }
        Ok(match changed < earliest(left) {
            true => Fate::Open,
            false => Fate::Doubtful(format!("{path} was changed since and is not what was to be written")),
        })
    }

    async fn of_edited(&self, args: &edit_file::Args, left: &Left) -> Result<Fate, TerminalError> {
        let path = resolve(self.terminal().workspace(), &args.path);
        let Some((content, changed)) = self.content(&path).await? else { return Ok(Fate::Open) };
        if changed < earliest(left) {
            return Ok(Fate::Open);
        }
        let text = String::from_utf8_lossy(&content);
        let (has_old, has_new) = (text.contains(&args.old), args.new.is_empty() || text.contains(&args.new));
        // Where the new text holds the old one, both are there afterwards.
        Ok(match has_new && (!has_old || args.new.contains(&args.old)) {
            true => took_effect(&path),
            false => Fate::Doubtful(format!("{path} was changed since, and not as was asked for")),
        })
    }

    /// What a file holds, and when it was changed last in nanoseconds since 1970; None if it is not there. Of one that
    /// is too large for any edit only the beginning is read.
    async fn content(&self, path: &str) -> Result<Option<(Vec<u8>, i64)>, TerminalError> {
        let mut content = Vec::new();
        loop {
            let (info, block) = match self.terminal().guest().read_file(path, content.len() as u64, LARGEST).await {
                Ok(read) => read,
                Err(GuestError::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            content.extend_from_slice(&block);
            if block.is_empty() || content.len() as u64 > LARGEST {
                return Ok(Some((content, info.mtime_ns)));
            }
        }
    }
}

/// A file that was changed before this was not changed by the call.
fn earliest(left: &Left) -> i64 {
    let begun = i64::try_from(left.begun.as_nanosecond()).unwrap_or(i64::MAX);
    begun.saturating_sub(i64::try_from(TIME_GRAIN.as_nanos()).unwrap_or(0))
}

fn took_effect(path: &str) -> Fate {
    Fate::Known(with_line(
        "it took effect before the run was interrupted",
        Outcome::words(Status::Ok, format!("[{path}]")),
    ))
}

fn ended(report: &CommandReport, left: &Left) -> Outcome {
    let line = match left.found {
        BoxReturn::Adopted | BoxReturn::Restarted => "it ended while the run was not driven",
        BoxReturn::Restored | BoxReturn::Lost | BoxReturn::None => {
            "it ended in the box that is gone: what it did to files there is gone, too"
        }
    };
    with_line(line, command_outcome(report))
}

fn with_line(line: &str, outcome: Outcome) -> Outcome {
    Outcome { text: format!("[{line}]\n{}", outcome.text), ..outcome }
}

fn not_begun() -> Outcome {
    let text = "not run: the run was interrupted before it could be started; call it again if it is still wanted";
    Outcome::words(Status::Cancelled, text)
}

/// The outcome of a call of which nobody knows how far it came.
fn doubtful(known: &str, left: &Left) -> Outcome {
    let (status, advice) = match (left.said, left.effect) {
        (Some(Said::Ran), _) => {
            (Status::Unknown, "a person says that it took effect: don't do it again; its output is not known")
        }
        (Some(Said::NotRun), _) => {
            (Status::Cancelled, "a person says that it did not take effect: do it again if it is still wanted")
        }
        (Some(Said::Look), _) | (None, Effect::External | Effect::Irreversible) => (
            Status::Unknown,
            "it may have changed something outside the box: find out whether it did before you do it again",
        ),
        (None, Effect::None) => (Status::Unknown, "it changes nothing: do it again if its result is still wanted"),
        (None, Effect::Workspace) if left.is_same_box() => {
            (Status::Unknown, "look how far it came before you do it again")
        }
        (None, Effect::Workspace) => (
            Status::Unknown,
            "the files of the box are not those it worked on: look, and do it again if it is still wanted",
        ),
    };
    let mut text =
        format!("[the run was interrupted while this was under way, and how it ended can't be found out: {advice}]");
    if !known.is_empty() {
        text.push('\n');
        text.push_str(known);
    }
    Outcome::words(status, text)
}
