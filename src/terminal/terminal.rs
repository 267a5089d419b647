//! One box's terminal: its sessions and what runs in them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{CommandReport, CommandSpec, ExcerptBudget, TerminalError};
use crate::domain::SessionName;
use crate::guest::{Client, Interrupted, SessionInfo, TermSize};

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
    options: TerminalOptions,
}

impl Terminal {
    /// Works on the sessions of `client`'s box.
    pub fn new(client: Client, options: TerminalOptions) -> Self {
        Self { client, options }
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
        let _ = (spec, progress, cancel, &self.options);
        Err(crate::guest::GuestError::Gone.into())
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
        let _ = (session, yield_after, progress, cancel);
        Err(crate::guest::GuestError::Gone.into())
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
        let _ = (id, command, cwd, timeout, cancel);
        Err(crate::guest::GuestError::Gone.into())
    }

    /// Opens a session, or finds it open.
    ///
    /// # Errors
    /// [`TerminalError::Guest`].
    pub async fn open(&self, session: &SessionName) -> Result<SessionInfo, TerminalError> {
        let _ = session;
        Err(crate::guest::GuestError::Gone.into())
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
}
