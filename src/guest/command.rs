//! A command that was started: what is known of it, who waits for it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::facts::{CommandEnd, CommandState, Phase};
use super::log::RawLog;
use crate::domain::{Exit, SessionName};

/// One line of the records.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A command is about to be started.
    Started(CommandState),
    /// A command has ended.
    Ended(CommandState),
    /// A session's shell has ended.
    ShellExited {
        /// The session.
        session: SessionName,
        /// How.
        exit: Exit,
        /// The size of the session's log then.
        log_size: u64,
    },
}

/// A command of this guest's life.
#[derive(Debug)]
pub(super) struct Command {
    id: String,
    session: Option<SessionName>,
    title: String,
    log: Rc<RawLog>,
    offset: Cell<u64>,
    begun: Instant,
    lost_before: u64,
    phase: watch::Sender<Phase>,
}

impl Command {
    /// A command whose output goes to the end of `log`.
    pub(super) fn new(id: String, session: Option<SessionName>, title: String, log: Rc<RawLog>, now: Instant) -> Self {
        Self {
            id,
            session,
            title,
            offset: Cell::new(log.end()),
            lost_before: log.lost(),
            log,
            begun: now,
            phase: watch::Sender::new(Phase::Queued),
        }
    }

    /// How it stands.
    pub(super) fn state(&self, now: Instant) -> CommandState {
        CommandState {
            id: self.id.clone(),
            session: self.session.clone(),
            title: self.title.clone(),
            log: self.log.name.clone(),
            offset: self.offset.get(),
            log_size: self.log.size(),
            elapsed_ms: millis(now, self.begun),
            phase: self.phase.borrow().clone(),
        }
    }

    /// Its output begins here.
    pub(super) fn begins_at(&self, offset: u64) {
        self.offset.set(offset.min(self.log.end()));
        self.set_phase(Phase::Running);
    }

    /// Where its output begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset.get()
    }

    /// Sets where it stands, and tells who waits.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// What its end looks like, if it ends now with its output ending at `end`.
    pub(super) fn end(&self, exit: Option<Exit>, end: u64, now: Instant) -> CommandEnd {
        CommandEnd {
            exit,
            end: end.clamp(self.offset.get(), self.log.end().max(self.offset.get())),
            duration_ms: millis(now, self.begun),
            cwd: None,
            timed_out: false,
            respawned: None,
            lost_bytes: self.log.lost() - self.lost_before,
        }
    }

    /// An end whose output has been written since, as far as the disk took it.
    pub(super) fn without_what_was_lost(&self, end: CommandEnd) -> CommandEnd {
        let readable = self.log.size().max(self.offset.get());
        CommandEnd { end: end.end.min(readable), lost_bytes: self.log.lost() - self.lost_before, ..end }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    }

    /// Its log.
    pub(super) fn log(&self) -> &Rc<RawLog> {
        &self.log
    }
}

fn millis(now: Instant, begun: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(begun).as_millis()).unwrap_or(u64::MAX)
}
