//! Waiting for a command, and the report of how it stands.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::output::{self, Place};
use super::{CommandReport, Excerpt, ReportState, Terminal, TerminalError};
use crate::guest::{CommandState, GuestError, Phase};

/// People are shown progress this often at most.
const PROGRESS_STEP: Duration = Duration::from_millis(150);

/// A shell that takes longer to start up is worth a word.
const SLOW_START_MS: u64 = 1_000;

/// Lines of progress.
const PROGRESS_LINES: usize = 3;

type Progress<'a> = &'a mut (dyn FnMut(String) + Send);

/// What the guest says of a command's end, with its output where that is small.
pub(super) type Ended = Result<(CommandState, Option<Bytes>), GuestError>;

impl Terminal {
    /// Waits for the end, for `over` or for `cancel`; reports how the command stands then.
    pub(super) async fn wait(
        &self,
        state: &CommandState,
        mut ended: Pin<Box<impl Future<Output = Ended> + Send>>,
        mut over: BoxFuture<'static, ()>,
        progress: Progress<'_>,
        cancel: &CancellationToken,
    ) -> Result<CommandReport, TerminalError> {
        if matches!(state.phase, Phase::Lost) {
            return self.report((state.clone(), None)).await;
        }
        let mut shown = state.offset;
        let mut paced = self.options.clock.sleep(PROGRESS_STEP);
        loop {
            let growth = async {
                (&mut paced).await;
                self.client.growth(&state.log, shown).await
            };
            tokio::select! {
                biased;
                end = &mut ended => return self.report(end?).await,
                () = cancel.cancelled() => break,
                () = &mut over => break,
                size = growth => {
                    shown = size?;
                    paced = self.options.clock.sleep(PROGRESS_STEP);
                    let now = self.client.command(&state.id).await?;
                    let place = Place { log: &state.log, offset: now.offset, end: shown, shown_log: "", is_final: false };
                    let tail = output::last_lines(&self.client, &place, self.options.size, PROGRESS_LINES).await?;
                    progress(tail);
                }
            }
        }
        let now = self.client.command(&state.id).await?;
        self.report((now, None)).await
    }

    /// The report of a command that was not started because of another one.
    pub(super) fn busy(&self, other: CommandState) -> Result<CommandReport, TerminalError> {
        let since = Duration::from_millis(other.elapsed_ms);
        Ok(CommandReport {
            id: other.id,
            title: other.title.clone(),
            state: ReportState::Busy { command: other.title, since },
            duration: Duration::ZERO,
            cwd: None,
            size_bytes: 0,
            log: self.log(&other.log),
            offset: other.offset,
            excerpt: Excerpt::default(),
        })
    }

    /// The report of a command.
    pub(super) async fn report(
        &self,
        (state, output): (CommandState, Option<Bytes>),
    ) -> Result<CommandReport, TerminalError> {
        let log = self.log(&state.log);
        let running = |note: Option<String>| (ReportState::Running { note }, state.elapsed_ms, state.log_size, None);
        let (report_state, duration_ms, end, cwd) = match &state.phase {
            Phase::Queued => {
                let is_slow = state.elapsed_ms >= SLOW_START_MS;
                let note = is_slow.then(|| "the session's shell is still starting up".into());
                // What the shell says before it begins is not the command's output.
                (ReportState::Running { note }, state.elapsed_ms, state.offset, None)
            }
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
        let is_final = matches!(state.phase, Phase::Ended(_));
        let place = Place { log: &state.log, offset: state.offset, end, shown_log: &log, is_final };
        let excerpt = output::excerpt(&self.client, &place, output, self.options.size, self.options.budget).await?;
        if let Some(session) = &state.session {
            self.saw(session, end);
        }
        Ok(CommandReport {
            id: state.id,
            title: state.title,
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
pub(super) async fn both<A, B>(
    first: impl Future<Output = A>,
    mut second: Pin<&mut impl Future<Output = B>>,
) -> (A, Option<B>) {
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
