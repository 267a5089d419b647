//! What follows from a session's marks and from its shell's end.

use std::time::Instant;

use bytes::Bytes;

use super::foreground::Spent;
use super::{Active, Inner, Session, Stage};
use crate::domain::Exit;
use crate::guest::command::Record;
use crate::guest::facts::{CommandEnd, Event};
use crate::guest::marks::{Found, Mark};
use crate::guest::proc;
use crate::guest::pty::same_modes;

impl Session {
    /// Takes note of a mark.
    pub(in crate::guest) fn marked(&self, found: Found) {
        match found.mark {
            Mark::Begin { seq } => {
                let mut inner = self.inner.borrow_mut();
                let active = inner.active.as_mut().filter(|active| active.seq == seq && active.stage == Stage::Typed);
                if let Some(active) = active {
                    active.stage = Stage::Begun;
                    active.command.begins_at(self.log.position(found.end));
                }
            }
            Mark::Prompt { status, seq, rearmed } => {
                self.prompted(status, seq, rearmed, self.log.position(found.start));
            }
        }
    }

    fn prompted(&self, status: i32, seq: u64, rearmed: bool, at: u64) {
        let mut inner = self.inner.borrow_mut();
        if let Some(cwd) = proc::cwd(inner.pid) {
            inner.cwd = cwd;
        }
        let rearming = inner.active.as_ref().is_some_and(|active| active.stage == Stage::Rearming);
        let is_new = !std::mem::replace(&mut inner.ready, true) || rearmed;
        if is_new {
            inner.argv = proc::argv(inner.pid);
            inner.modes = None;
            inner.edits = false;
        }
        if is_new || rearming {
            for part in [".rc", ".arm"] {
                // It holds the nonce; the shell has read it.
                let _ = std::fs::remove_file(self.file(part));
            }
        }
        inner.spent = Spent::by(inner.pid);
        inner.heal_terminal();
        inner.typed_into = false;
        inner.asked = false;
        let over = |active: &mut Active| active.seq == seq && active.stage != Stage::Queued;
        if let Some(active) = inner.active.take_if(over) {
            let exit = (!rearmed).then_some(Exit::Code(status));
            inner.last_status = if rearmed { 0 } else { status };
            let replaced = "the shell lost its marks (it was replaced, or its prompt or its error output redirected) \
                            and has been given new ones; the command's exit status is not known";
            self.finish(&inner, &active, exit, at, rearmed.then(|| replaced.to_owned()));
        } else if inner.active.as_ref().is_some_and(|active| active.stage == Stage::Queued) {
            self.type_command(&mut inner);
        }
    }

    /// Takes note of the shell's end; whether it is to have a successor.
    pub(in crate::guest) fn shell_ended(&self, exit: Exit) -> bool {
        let record = Record::ShellExited { session: self.name.clone(), exit, log_size: self.log.end() };
        // With a full disk it can still be told to who is connected.
        let _ = self.boss.record(&record);
        let mut inner = self.inner.borrow_mut();
        inner.pty = None;
        let was_ready = std::mem::take(&mut inner.ready);
        let mut goes_on = !self.closing.get();
        if goes_on && !was_ready {
            goes_on = !inner.user_rc_failed && self.user_rc.is_some();
            let file = self.user_rc.as_deref().unwrap_or_default();
            inner.note = Some(if goes_on {
                format!("the shell ended while it read {file} ({exit}); it was started again without it")
            } else {
                format!("the shell ended before its first prompt ({exit})")
            });
            inner.user_rc_failed = true;
        }
        let queued = |active: &Active| active.stage == Stage::Queued;
        if !(goes_on && inner.active.as_ref().is_some_and(queued))
            && let Some(active) = inner.active.take()
        {
            let successor = match (goes_on, active.stage) {
                (false, _) => format!("the session's shell has ended ({exit}) and the session is closed"),
                (true, Stage::Queued | Stage::Typed) => format!(
                    "the session's shell ended ({exit}) before the command was seen to begin, most likely because of an \
                     earlier one; a new one was started in {}",
                    inner.cwd
                ),
                (true, Stage::Begun | Stage::Rearming) => {
                    format!("the command ended the session's shell ({exit}); a new one was started in {}", inner.cwd)
                }
            };
            let exit = match active.stage {
                Stage::Begun => Some(exit),
                // Not seen to begin, or over before the shell was given up.
                Stage::Queued | Stage::Typed | Stage::Rearming => None,
            };
            self.finish(&inner, &active, exit, self.log.end(), Some(successor));
        }
        drop(inner);
        self.boss.tell(Event::SessionExited { session: self.name.clone(), exit, respawned: goes_on }, Bytes::new());
        if !goes_on {
            self.boss.sessions.borrow_mut().remove(&self.name);
            self.is_over.send_replace(true);
        }
        goes_on
    }

    fn finish(&self, inner: &Inner, active: &Active, exit: Option<Exit>, end: u64, respawned: Option<String>) {
        // Gone already if it was never typed.
        let _ = std::fs::remove_file(self.file(&format!(".{}", active.seq)));
        let end = active.command.end(exit, end, Instant::now());
        let end = CommandEnd { cwd: Some(inner.cwd.clone()), respawned, ..end };
        self.boss.command_ended(&active.command, end);
    }
}

impl Inner {
    /// Sets the terminal's modes back to what they were at the first prompt.
    fn heal_terminal(&mut self) {
        let Some(pty) = &self.pty else { return };
        let Some(now) = pty.modes() else { return };
        let is_edited = pty.is_uncooked();
        let Some(first) = &self.modes else {
            // A line editor may begin to read only after its prompt was seen: what it found there tells nothing then.
            if is_edited || !self.edits {
                self.edits |= is_edited;
                self.modes = Some(now);
            }
            return;
        };
        if is_edited && !self.edits && self.shell.may_edit() {
            // The first prompt was seen before its editor had begun; from here on it is known that there is one.
            (self.edits, self.heal, self.modes) = (true, true, None);
        } else if self.edits && !is_edited {
            // Told not to echo, busybox reads its line without its editor.
            self.heal = true;
        } else if !same_modes(first, &now) {
            pty.set_modes(first);
            // A line editor sets its own modes and brings the old ones back for the command.
            self.heal = self.edits;
        }
    }
}
