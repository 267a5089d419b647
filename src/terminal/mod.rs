//! Sessions as tools and the loop use them: run a command, learn how it ended, see what matters of its output.

mod binary;
mod board;
mod errors;
mod excerpt;
mod lines;
mod logbook;
mod matching;
mod monitor;
mod output;
mod plain;
mod prompt;
mod render;
mod report;
mod scan;
mod screen;
pub mod wait;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::SessionName;
use crate::guest::{
    CheckCommand, Client, GuestError, OpenSession, RefusalKind, RunCommand, SessionInfo, Start, TermSize,
};
use waiting::both;

pub use board::{Board, JobView, JobWish, ReadyState};
pub use excerpt::{Excerpt, ExcerptBudget};
pub use logbook::{GrepReport, GrepSpec, LogPage, LogRange, Pattern, PatternCase, Unseen};
pub use plain::{PlainLine, PlainLines};
pub use prompt::{Look, classify};
pub use render::lines as rendered_lines;
pub use report::{CommandReport, CommandSpec, ReportState, TerminalError};
pub use screen::Screen;

/// What all sessions of a box have in common.
#[derive(Debug, Clone)]
pub struct TerminalOptions {
    /// Where sessions begin, absolute inside the box: the workspace.
    pub workspace: String,
    /// Variables on top of the box's own.
    pub env: BTreeMap<String, String>,
    /// The size of sessions.
    pub size: TermSize,
    /// Directory of the logs relative to the run's, for reports: `sessions`.
    pub logs: String,
    /// How much of an output is shown.
    pub budget: ExcerptBudget,
    /// The clock by which everything waits.
    pub clock: Arc<dyn Clock>,
}

/// The sessions of one box. Clones share it.
#[derive(Debug, Clone)]
pub struct Terminal {
    client: Client,
    options: Arc<TerminalOptions>,
    last: Arc<Mutex<BTreeMap<SessionName, String>>>,
    books: logbook::Books,
    board: Board,
}

/// How a session is to be opened, where it is not as all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// Where it begins; the workspace without.
    pub cwd: Option<String>,
    /// Variables on top of those of all sessions.
    pub env: BTreeMap<String, String>,
    /// The terminal's size; that of all sessions without.
    pub size: Option<TermSize>,
}

impl Terminal {
    /// Works on the sessions of `client`'s box. Must be called within a tokio runtime.
    pub fn new(client: Client, options: TerminalOptions) -> Self {
        let options = Arc::new(options);
        let board = Board::new(client.clone(), Arc::clone(&options));
        Self { client, options, last: Arc::default(), books: logbook::Books::default(), board }
    }

    /// The jobs of the box.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Where sessions begin, absolute inside the box.
    pub fn workspace(&self) -> &str {
        &self.options.workspace
    }

    /// Directory of the logs relative to the run's.
    pub fn logs(&self) -> &str {
        &self.options.logs
    }

    /// The clock by which everything waits.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    /// The channel to the box, for files.
    pub fn guest(&self) -> &Client {
        &self.client
    }

    /// Runs a command and reports when it has ended, when `yield_after` is over, or when `cancel` is.
    ///
    /// `progress` is given the last lines of the output as they come. A command that is cancelled runs on. An id that
    /// was used before starts nothing: its command is reported.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn run(
        &self,
        spec: CommandSpec,
        progress: &mut (dyn FnMut(String) + Send),
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        let over = self.options.clock.sleep(spec.yield_after);
        let mut ended = Box::pin(self.client.ended(&spec.id));
        let run = RunCommand { id: spec.id.clone(), session: spec.session.clone(), cwd: spec.cwd.clone() };
        // Both requests leave before either is answered.
        let (start, mut early) = both(self.client.run(run.clone(), &spec.command), ended.as_mut()).await;
        let start = match start {
            Err(GuestError::Refused(refusal)) if refusal.kind == RefusalKind::Unknown => {
                self.open(&spec.session).await?;
                ended.set(self.client.ended(&spec.id));
                let (start, second) = both(self.client.run(run, &spec.command), ended.as_mut()).await;
                early = second;
                start?
            }
            other => other?,
        };
        match start {
            Start::Busy(other) => self.busy(other),
            Start::Started(state) | Start::Known(state) => {
                self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(spec.session, spec.id.clone());
                if let Some(end) = early {
                    return self.report(end?).await;
                }
                self.wait(&state, ended, over, progress, cancel).await
            }
        }
    }

    /// Goes on waiting for the command that runs in a session, or reports the last one that ended there.
    ///
    /// # Errors
    /// [`TerminalError::NoCommand`], [`TerminalError::Guest`].
    pub async fn resume(
        &self,
        session: &SessionName,
        yield_after: Duration,
        progress: &mut (dyn FnMut(String) + Send),
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        let over = self.options.clock.sleep(yield_after);
        let running = self.client.sessions().await?.into_iter().find(|info| info.session == *session);
        let running = running.and_then(|info| info.command).map(|command| command.id);
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        let Some(id) = running.or_else(last) else { return Err(TerminalError::NoCommand(session.clone())) };
        let state = self.client.command(&id).await?;
        self.wait(&state, Box::pin(self.client.ended(&id)), over, progress, cancel).await
    }

    /// Reports a command by its id, after `yield_after` at the latest: what a resumed run asks about a command that it
    /// had started.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` if it was never started.
    pub async fn look_up(
        &self,
        id: &str,
        yield_after: Duration,
        progress: &mut (dyn FnMut(String) + Send),
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        let over = self.options.clock.sleep(yield_after);
        let state = self.client.command(id).await?;
        self.wait(&state, Box::pin(self.client.ended(id)), over, progress, cancel).await
    }

    /// Runs a command in a fresh shell, outside all sessions, without a terminal; kills it after `timeout`.
    ///
    /// When `cancel` is, the command runs on to its timeout and is reported as running.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn check(
        &self,
        id: &str,
        command: &[u8],
        cwd: Option<String>,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let cwd = cwd.or_else(|| Some(self.options.workspace.clone()));
        let ask = CheckCommand { id: id.to_owned(), cwd, env: self.options.env.clone(), timeout_ms };
        let mut ended = Box::pin(self.client.ended(id));
        let (start, early) = both(self.client.check(ask, command), ended.as_mut()).await;
        let (Start::Started(state) | Start::Known(state) | Start::Busy(state)) = start?;
        if let Some(end) = early {
            return self.report(end?).await;
        }
        // The guest's own limit comes first; this one is for a guest that has stopped.
        let over = self.options.clock.sleep(timeout + Duration::from_secs(30));
        self.wait(&state, ended, over, &mut |_| {}, cancel).await
    }

    /// Opens a session, or finds it open.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn open(&self, session: &SessionName) -> Result<SessionInfo, TerminalError> {
        self.open_as(session, Opening::default()).await
    }

    /// Opens a session as it is wanted, or finds it open as it is.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn open_as(&self, session: &SessionName, opening: Opening) -> Result<SessionInfo, TerminalError> {
        let mut env = self.options.env.clone();
        env.extend(opening.env);
        let ask = OpenSession {
            session: session.clone(),
            shell: None,
            cwd: opening.cwd.or_else(|| Some(self.options.workspace.clone())),
            env,
            size: opening.size.unwrap_or(self.options.size),
        };
        let info = self.client.open(ask).await?;
        self.board.session_opened(&info);
        Ok(info)
    }

    /// All sessions, by name.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, TerminalError> {
        Ok(self.client.sessions().await?)
    }

    /// Takes over what an earlier driver has recorded of the sessions: those that were open, each with the last command
    /// that was given to it.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn take_back(&self, known: &BTreeMap<SessionName, Option<String>>) -> Result<(), TerminalError> {
        let open = self.sessions().await?;
        self.board.take_back_sessions(&open, &known.keys().cloned().collect());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (session, command) in known {
            if let Some(command) = command {
                last.entry(session.clone()).or_insert_with(|| command.clone());
            }
        }
        Ok(())
    }
}
