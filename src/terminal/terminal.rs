//! One box's terminal: its sessions and what runs in them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::output::{self, Place};
use super::{CommandReport, CommandSpec, ExcerptBudget, ReportState, TerminalError};
use crate::domain::SessionName;
use crate::guest::{
    CheckCommand, Client, CommandState, GuestError, Interrupted, OpenSession, Phase, RefusalKind, RunCommand,
    SessionInfo, Start, TermSize,
};

/// People are shown progress this often at most.
const PROGRESS_STEP: Duration = Duration::from_millis(150);

/// Lines of progress.
const PROGRESS_LINES: usize = 3;

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
}

/// The sessions of one box. Clones share it.
#[derive(Debug, Clone)]
pub struct Terminal {
    client: Client,
    options: Arc<TerminalOptions>,
    last: Arc<Mutex<BTreeMap<SessionName, String>>>,
}

type Progress<'a> = &'a mut (dyn FnMut(String) + Send);

type Ended = Result<(CommandState, Option<Bytes>), GuestError>;

impl Terminal {
    /// Works on the sessions of `client`'s box.
    pub fn new(client: Client, options: TerminalOptions) -> Self {
        Self { client, options: Arc::new(options), last: Arc::default() }
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
        let until = Instant::now() + spec.yield_after;
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
                self.wait(&state, ended, until, progress, cancel).await
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
        let until = Instant::now() + yield_after;
        let running = self.client.sessions().await?.into_iter().find(|info| info.session == *session);
        let running = running.and_then(|info| info.command).map(|command| command.id);
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        let Some(id) = running.or_else(last) else { return Err(TerminalError::NoCommand(session.clone())) };
        let state = self.client.command(&id).await?;
        self.wait(&state, Box::pin(self.client.ended(&id)), until, progress, cancel).await
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
        let until = Instant::now() + yield_after;
        let state = self.client.command(id).await?;
        self.wait(&state, Box::pin(self.client.ended(id)), until, progress, cancel).await
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
        let until = Instant::now() + timeout + Duration::from_secs(30);
        self.wait(&state, ended, until, &mut |_| {}, cancel).await
    }

    /// Opens a session, or finds it open.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn open(&self, session: &SessionName) -> Result<SessionInfo, TerminalError> {
        let ask = OpenSession {
            session: session.clone(),
            shell: None,
            cwd: Some(self.options.workspace.clone()),
            env: self.options.env.clone(),
            size: self.options.size,
        };
        Ok(self.client.open(ask).await?)
    }

    /// Sends SIGINT to what runs in the foreground of a session.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn interrupt(&self, session: &SessionName) -> Result<Interrupted, TerminalError> {
        Ok(self.client.interrupt(session).await?)
    }

    /// All sessions, by name.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, TerminalError> {
        Ok(self.client.sessions().await?)
    }

    async fn wait(
        &self,
        state: &CommandState,
        mut ended: Pin<Box<impl Future<Output = Ended> + Send>>,
        until: Instant,
        progress: Progress<'_>,
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        if matches!(state.phase, Phase::Lost) {
            return self.report((state.clone(), None)).await;
        }
        let mut shown = state.offset;
        let mut next_progress = Instant::now() + PROGRESS_STEP;
        loop {
            let growth = async {
                sleep_until(next_progress).await;
                self.client.growth(&state.log, shown).await
            };
            tokio::select! {
                biased;
                end = &mut ended => return self.report(end?).await,
                () = cancel.cancelled() => break,
                () = sleep_until(until) => break,
                size = growth => {
                    shown = size?;
                    next_progress = Instant::now() + PROGRESS_STEP;
                    let now = self.client.command(&state.id).await?;
                    let place = Place { log: &state.log, offset: now.offset, end: shown, shown_log: "" };
                    let tail = output::last_lines(&self.client, &place, self.options.size, PROGRESS_LINES).await?;
                    progress(tail);
                }
            }
        }
        let now = self.client.command(&state.id).await?;
        self.report((now, None)).await
    }

    fn busy(&self, other: CommandState) -> Result<CommandReport, TerminalError> {
        let since = Duration::from_millis(other.elapsed_ms);
        Ok(CommandReport {
            state: ReportState::Busy { command: other.title, since },
            duration: Duration::ZERO,
            cwd: None,
            size_bytes: 0,
            log: self.log(&other.log),
            offset: other.offset,
            excerpt: super::Excerpt::default(),
        })
    }

    async fn report(&self, (state, output): (CommandState, Option<Bytes>)) -> Result<CommandReport, TerminalError> {
        let log = self.log(&state.log);
        let running = |note: Option<String>| (ReportState::Running { note }, state.elapsed_ms, state.log_size, None);
        let (report_state, duration_ms, end, cwd) = match &state.phase {
            Phase::Queued => running(Some("the session's shell is still starting up".into())),
            Phase::Running => running(None),
            Phase::Deaf { program } => {
                running(Some(format!("`{program}` now stands in the shell's place and waits for input")))
            }
            Phase::Lost => {
                let why = "the box in which it ran has ended, and how the command ended can't be found out";
                let ended = ReportState::Ended { exit: None, timed_out: false, respawned: Some(why.into()) };
                (ended, 0, state.log_size, None)
            }
            Phase::Ended(end) => {
                let lost = end.lost_bytes;
                let note =
                    (lost > 0).then(|| format!("{lost} bytes of its output could not be kept: no room for the log"));
                let notes: Vec<String> = end.respawned.clone().into_iter().chain(note).collect();
                let respawned = (!notes.is_empty()).then(|| notes.join("; "));
                let ended = ReportState::Ended { exit: end.exit, timed_out: end.timed_out, respawned };
                (ended, end.duration_ms, end.end, end.cwd.clone())
            }
        };
        let place = Place { log: &state.log, offset: state.offset, end, shown_log: &log };
        let excerpt = output::excerpt(&self.client, &place, output, self.options.size, self.options.budget).await?;
        Ok(CommandReport {
            state: report_state,
            duration: Duration::from_millis(duration_ms),
            cwd,
            size_bytes: end.saturating_sub(state.offset),
            offset: state.offset,
            excerpt,
            log,
        })
    }

    fn log(&self, name: &str) -> String {
        format!("{}/{name}", self.options.logs)
    }
}

/// Waits for `first` while `second` is under way too; what `second` gave if it was done before.
async fn both<A, B>(first: impl Future<Output = A>, mut second: Pin<&mut impl Future<Output = B>>) -> (A, Option<B>) {
    let mut first = std::pin::pin!(first);
    let mut early = None;
    loop {
        tokio::select! {
            biased;
            done = &mut first => return (done, early),
            done = second.as_mut(), if early.is_none() => early = Some(done),
        }
    }
}
