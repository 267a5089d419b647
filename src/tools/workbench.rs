//! The box as tools see it: run an action, run a check, bring a file out, and close.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;

use crate::domain::{BoxFacts, Event, NoticeKind, Outcome, Progress, Status};
use crate::guest::{GuestError, RefusalKind};
use crate::sandbox::{Counters, Sandbox, SandboxError};
use crate::terminal::{Terminal, TerminalError};

use super::{
    Action, Attention, Counted, Left, artifact, container, edit_file, read_file, shell, tmux, wait, write_file,
};

/// The box failed: nothing more can be done in it.
#[derive(Debug, thiserror::Error)]
pub enum WorkbenchError {
    /// It could not be made.
    #[error(transparent)]
    NoBox(#[from] SandboxError),
    /// Its guest does not answer any more.
    #[error("the box is gone")]
    Gone(#[source] TerminalError),
}

impl WorkbenchError {
    /// There is no box, for this reason.
    pub fn no_box(what: String) -> Self {
        Self::NoBox(SandboxError { what, because: None, hint: None })
    }
}

/// The names of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallNames<'a> {
    /// Under which the box knows what it starts; unique within the run.
    pub work: &'a str,
    /// The id that it has in the record.
    pub call: &'a str,
}

/// What came of an action.
#[derive(Debug)]
pub struct Done {
    /// For the record and the model.
    pub outcome: Outcome,
    /// What else happened on the way, in order: belongs into the record before the outcome.
    pub facts: Vec<Event>,
}

/// A file that was brought out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Its path inside the box.
    pub path: String,
    /// Its path below the directory for artefacts.
    pub stored: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A box, its sessions, and what tools do there.
pub struct Workbench {
    sandbox: Box<dyn Sandbox>,
    terminal: Terminal,
    workspace: String,
    artifacts: PathBuf,
    run: String,
}

impl Workbench {
    /// Sets up in `sandbox`; files that are brought out go below `artifacts`, a directory of the run's own.
    pub fn new(sandbox: Box<dyn Sandbox>, terminal: Terminal, artifacts: &Path) -> Self {
        let workspace = sandbox.facts().workspace.clone();
        let artifacts = artifacts.to_owned();
        // A run's directory is called as the run is.
        let run = artifacts.parent().and_then(Path::file_name).map_or("last".into(), |name| name.to_string_lossy());
        let run = run.into_owned();
        Self { sandbox, terminal, workspace, artifacts, run }
    }

    /// What the box is.
    pub fn facts(&self) -> &BoxFacts {
        self.sandbox.facts()
    }

    /// The engine's own command by which a person can look into the box, where there is one.
    pub fn attach_line(&self) -> Option<String> {
        self.sandbox.attach_line()
    }

    /// What the box has counted so far.
    pub async fn counters(&self) -> Counters {
        self.sandbox.counters().await
    }

    /// Gives the box this much memory at most from now on.
    ///
    /// # Errors
    /// Why the limit is what it was, in words.
    pub async fn grow_memory(&self, bytes: u64) -> Result<(), String> {
        let grown = self.sandbox.grow_memory(bytes).await;
        grown.map_err(|error| error.because.map_or(error.what.clone(), |because| format!("{}: {because}", error.what)))
    }

    /// What the box has counted so far, and which of its disks have no room.
    pub async fn counted(&self) -> Counted {
        let (counters, rooms) = tokio::join!(self.sandbox.counters(), self.sandbox.guest().rooms());
        // A guest of an earlier version can't tell.
        Counted::of(counters, &rooms.unwrap_or_default())
    }

    /// What the box has counted so far, where that can be told without waiting; nothing of its disks.
    pub fn counted_now(&self) -> Counted {
        Counted::of(self.sandbox.counters().now_or_never().unwrap_or_default(), &[])
    }

    /// The sessions of the box.
    pub fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Runs an action. The same name of work never takes effect twice.
    ///
    /// What becomes of jobs meanwhile is told by [`crate::terminal::Board::news`]; what is
    /// [pending](crate::terminal::Board::pending) there belongs into the record before the outcome, too.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`]; everything else is an outcome.
    pub async fn run(
        &self,
        names: CallNames<'_>,
        action: &Action,
        progress: &mut (dyn FnMut(Progress) + Send),
        attention: &Attention,
    ) -> Result<Done, WorkbenchError> {
        self.run_since(names, action, None, progress, attention).await
    }

    /// As [`Workbench::run`], for a call that may have been begun earlier: a wait counts from then.
    pub(super) async fn run_since(
        &self,
        names: CallNames<'_>,
        action: &Action,
        left: Option<&Left>,
        progress: &mut (dyn FnMut(Progress) + Send),
        attention: &Attention,
    ) -> Result<Done, WorkbenchError> {
        let mut facts = Vec::new();
        let outcome = match action {
            Action::Shell(args) => shell::run(args, names, &self.terminal, progress, attention).await,
            Action::Tmux(args) => tmux::run(args, names.work, &self.run, &self.terminal, attention).await,
            Action::Wait(args) => match wait::run(args, names.call, left, &self.terminal, progress, attention).await {
                Ok((outcome, waited)) => {
                    facts.extend(waited.map(|wait| Event::Waited { wait }));
                    Ok(outcome)
                }
                Err(error) => Err(error),
            },
            Action::ReadFile(args) => read_file::run(args, &self.workspace, self.terminal.guest()).await,
            Action::WriteFile(args) => write_file::run(args, &self.workspace, self.terminal.guest()).await,
            Action::EditFile(args) => edit_file::run(args, &self.workspace, self.terminal.guest()).await,
            Action::Container(args) => {
                let place = container::Place {
                    run: &self.run,
                    workspace: &self.workspace,
                    sandbox: self.sandbox.as_ref(),
                    terminal: &self.terminal,
                };
                match container::run(args, names, place, progress, attention).await {
                    Ok((outcome, noted)) => {
                        facts.extend(noted);
                        Ok(outcome)
                    }
                    Err(error) => Err(error),
                }
            }
            Action::Finish(_) | Action::Checkpoint(_) | Action::Recall(_) | Action::AskHuman(_) => {
                Ok(Outcome::words(Status::Malformed, "this is the harness's own business, and nothing of the box's"))
            }
        };
        Ok(Done { outcome: told(outcome)?, facts })
    }

    /// Brings a file, or the files of a directory, out of the box.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`]; what can't be brought out is in the result with the reason.
    pub async fn collect(&self, path: &str) -> Result<Vec<Result<Collected, (String, String)>>, WorkbenchError> {
        artifact::collect(path, &self.workspace, &self.artifacts, self.terminal.guest()).await.map_err(gone)
    }

    /// Keeps the box as an image: what is to be noted of it.
    pub async fn save_image(&self, name: &str) -> Event {
        match self.sandbox.save_image(name).await {
            Ok(saved) => Event::ImageSaved { name: name.to_owned(), id: saved.id, left_out: saved.left_out },
            Err(error) => {
                let because = error.because.map(|because| format!(": {because}")).unwrap_or_default();
                Event::Noticed { kind: NoticeKind::CheckpointFailed, text: format!("{}{because}", error.what) }
            }
        }
    }

    /// What happens beside the calls and belongs into the record: to jobs, sessions, sidecars. May be dropped and called
    /// again: nothing is lost.
    pub async fn news(&self) -> Event {
        let beside = async {
            match self.sandbox.sidecars() {
                Some(beside) => beside.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.terminal.board().news() => event,
            end = beside => Event::SidecarStopped { name: end.name.to_string(), why: end.why },
        }
    }

    /// Removes what was brought out and not recorded: `recorded` is what was, by where it is stored.
    pub fn drop_unrecorded(&self, recorded: &BTreeSet<String>) {
        artifact::drop_unrecorded(&self.artifacts, &self.artifacts, recorded);
    }

    /// The project directory inside.
    pub(super) fn workspace(&self) -> &str {
        &self.workspace
    }

    /// The box itself.
    pub(super) fn sandbox(&self) -> &dyn Sandbox {
        self.sandbox.as_ref()
    }
}

/// The guest does not answer any more.
pub(super) fn gone(error: GuestError) -> WorkbenchError {
    WorkbenchError::Gone(TerminalError::Guest(error))
}

/// What the guest refuses is an outcome that the model can act on; that it is gone is not.
pub(super) fn told(result: Result<Outcome, TerminalError>) -> Result<Outcome, WorkbenchError> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(TerminalError::NoCommand(session)) => {
            let text = format!("no command has been run in session `{session}`");
            Ok(Outcome::words(Status::Failed, text))
        }
        Err(TerminalError::Guest(GuestError::Refused(refusal))) => {
            let hint = match refusal.kind {
                RefusalKind::Denied => " (the box does not allow it)",
                RefusalKind::Full => " (free some space first)",
                RefusalKind::Unknown
                | RefusalKind::NotFound
                | RefusalKind::WrongKind
                | RefusalKind::Invalid
                | RefusalKind::Missing
                | RefusalKind::System => "",
            };
            Ok(Outcome::words(Status::Failed, format!("{}{hint}", refusal.what)))
        }
        Err(TerminalError::Guest(error @ GuestError::Unanswered)) => {
            Ok(Outcome::words(Status::Unknown, format!("unknown: {error}; look before you do it again")))
        }
        Err(error) => Err(WorkbenchError::Gone(error)),
    }
}
