//! Looks after a shell that has fallen silent: one that was replaced or lost its marks never tells the end by itself.

use rustix::process::Signal;

use super::foreground::is_edited;
use super::{Inner, Session, Stage};
use crate::guest::facts::Phase;
use crate::guest::proc;
use crate::guest::shell::dialect_of;
use crate::guest::supervisor::signal_process;

/// How often marks are set anew before a shell is given up.
const REARM_TRIES: u32 = 3;

impl Session {
    /// Whether something is under way that the shell might fail to tell the end of.
    pub(in crate::guest) fn is_watched(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.ready || inner.active.is_some()
    }

    /// Looks whether the shell, silent for a while, can still be expected to tell.
    pub(in crate::guest) fn look(&self) {
        let mut inner = self.inner.borrow_mut();
        let Some(pty) = inner.pty.clone() else { return };
        let pid = inner.pid;
        let Some(waits) = proc::waits(pid) else { return };
        if pty.foreground() != Some(pid) || waits == proc::Waits::Other {
            return;
        }
        // It may have said something just before it began to wait.
        if pty.has_output() {
            return;
        }
        if !inner.ready {
            // A start-up file that asks for input, or that turned the shell into something else.
            if !inner.user_rc_failed && self.user_rc.is_some() {
                signal_process(pid, Signal::KILL);
            }
            return;
        }
        let argv = proc::argv(pid);
        if argv == inner.argv {
            if inner.own_shell_at_prompt(&pty, waits) {
                self.rearm(&mut inner);
            }
            return;
        }
        let program = proc::program(argv.as_deref().unwrap_or_default());
        let shell = dialect_of(&program);
        match shell
            .filter(|dialect| is_edited(&pty, *dialect) || proc::at_prompt(*dialect, waits, is_edited(&pty, *dialect)))
        {
            Some(dialect) => {
                inner.shell.dialect = dialect;
                self.rearm(&mut inner);
            }
            None => {
                if let Some(active) = &inner.active {
                    active.command.set_phase(Phase::Deaf { program });
                }
            }
        }
    }

    fn rearm(&self, inner: &mut Inner) {
        let pid = inner.pid;
        let Some(active) = inner.active.as_mut().filter(|active| active.stage != Stage::Queued) else { return };
        active.stage = Stage::Rearming;
        active.rearmed += 1;
        let arm = inner.shell.rearm(&inner.nonce, active.seq);
        if active.rearmed > REARM_TRIES || std::fs::write(self.file(".arm"), arm).is_err() {
            signal_process(pid, Signal::KILL);
            return;
        }
        self.type_own(inner.shell.type_in(&self.file(".arm")));
    }
}
