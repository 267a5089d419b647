//! The end of a session that is no longer wanted, and what it ends.

use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::Session;
use crate::guest::proc::{self, Stat};
use crate::guest::sight::ClosedSession;
use crate::guest::supervisor::{signal_group, signal_process};

/// How long what runs in a session may take to end after a hang-up.
const HANG_UP_TIME: Duration = Duration::from_secs(1);

/// How often it is looked whether it has: the kernel tells only parents.
const LOOK_STEP: Duration = Duration::from_millis(20);

impl Session {
    /// Ends the shell and what runs in its foreground.
    pub(in crate::guest) fn close(&self) {
        self.closing.set(true);
        let inner = self.inner.borrow();
        if let Some(group) = inner.pty.as_ref().and_then(|pty| pty.foreground()) {
            signal_group(group, Signal::HUP);
        }
        signal_process(inner.pid, Signal::KILL);
    }

    /// Hangs up: everything on the session's terminal is told so, the shell is killed, and so is what then still is in
    /// the foreground. Background processes that ignore a hang-up live on.
    pub(in crate::guest) async fn hang_up(self: Rc<Self>) -> ClosedSession {
        let (shell, processes, foreground) = {
            let inner = self.inner.borrow();
            let foreground = inner.pty.as_ref().and_then(|pty| pty.foreground());
            (inner.pid, inner.processes(), foreground.unwrap_or(inner.pid))
        };
        let tty = processes.iter().find(|process| process.pid == shell).map_or(0, |shell| shell.tty);
        let below: Vec<(Stat, String)> = processes
            .into_iter()
            .filter(|process| process.pid != shell && process.state != 'Z')
            .map(|process| (process.clone(), proc::name(process.pid)))
            .collect();
        for (process, _) in below.iter().filter(|(process, _)| process.tty == tty) {
            signal_process(process.pid, Signal::HUP);
            // What was stopped could not hear it.
            signal_process(process.pid, Signal::CONT);
        }
        self.close();
        self.closed().await;
        let on_terminal = |(process, _): &&(Stat, String)| process.tty == tty;
        until_gone(below.iter().filter(on_terminal).map(|(process, _)| process)).await;
        let deaf = |process: &&Stat| process.tty == tty && process.group == foreground && lives(process);
        let deaf: Vec<&Stat> = below.iter().map(|(process, _)| process).filter(deaf).collect();
        for process in &deaf {
            signal_process(process.pid, Signal::KILL);
        }
        until_gone(deaf.into_iter()).await;
        let (left, ended): (Vec<_>, Vec<_>) = below.into_iter().partition(|(process, _)| lives(process));
        let named = |(process, name): (Stat, String)| format!("{name} (process {})", process.pid);
        ClosedSession { ended: ended.into_iter().map(named).collect(), left: left.into_iter().map(named).collect() }
    }
}

/// Waits until these processes have ended, for a while.
async fn until_gone(processes: impl Iterator<Item = &Stat> + Clone) {
    for _ in 0..HANG_UP_TIME.as_millis() / LOOK_STEP.as_millis() {
        if !processes.clone().any(lives) {
            return;
        }
        sleep(LOOK_STEP).await;
    }
}

/// Whether it is there as it was: another process may have its number by now, but none in the same group.
fn lives(process: &Stat) -> bool {
    Stat::of(process.pid).is_some_and(|now| now.state != 'Z' && now.group == process.group)
}
