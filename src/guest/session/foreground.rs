//! What runs in a session: its foreground, what it uses, signals to it.

use rustix::process::Signal;
use rustix::termios::LocalModes;

use super::{Inner, Session};
use crate::guest::facts::{Refusal, RefusalKind};
use crate::guest::input::{self, Wish};
use crate::guest::proc::{self, Stat, Waits};
use crate::guest::pty::Pty;
use crate::guest::shell::{Dialect, dialect_of};
use crate::guest::sight::{Foreground, Signalled, Stop};
use crate::guest::supervisor::{refusal_of, refuse, try_signal_group};

/// What the shell and its ended children had used at its last prompt: no command of now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    cpu_ms: u64,
    io_bytes: u64,
}

impl Spent {
    /// Of a shell so far.
    pub(super) fn by(pid: i32) -> Self {
        let cpu_ms = Stat::of(pid).map_or(0, |stat| stat.cpu_ms);
        Self { cpu_ms, io_bytes: proc::io_bytes(pid).unwrap_or(0) }
    }
}

impl Session {
    /// What is in the foreground, and what the processes of the session use.
    pub(in crate::guest) fn foreground(&self) -> Foreground {
        let inner = self.inner.borrow();
        let Some(pty) = &inner.pty else { return Foreground::default() };
        let processes = inner.processes();
        let (group, wish) = inner.wish(pty, &processes);
        let (echo, lines) = modes(pty);
        let at_prompt = wish.is_none();
        let waiting = match wish {
            Some(Wish::Waits(pid) | Wish::Unknown(pid)) => pid,
            Some(Wish::Nobody) | None => group,
        };
        let spent = Spent::by(inner.pid);
        let below = || processes.iter().filter(|process| process.pid != inner.pid && process.state != 'Z');
        let io = below().filter_map(|process| proc::io_bytes(process.pid)).sum::<u64>();
        Foreground {
            group: u32::try_from(group).unwrap_or(0),
            program: proc::name(waiting),
            at_prompt,
            waits_for_input: match wish {
                Some(Wish::Waits(_)) => Some(true),
                Some(Wish::Unknown(_)) => None,
                Some(Wish::Nobody) | None => Some(false),
            },
            echo,
            lines,
            processes: u32::try_from(below().count()).unwrap_or(u32::MAX),
            cpu_ms: below().map(|process| process.cpu_ms).sum::<u64>()
                + spent.cpu_ms.saturating_sub(inner.spent.cpu_ms),
            io_bytes: io + spent.io_bytes.saturating_sub(inner.spent.io_bytes),
            memory_bytes: below().map(|process| process.memory_bytes).sum(),
        }
    }

    /// The program that waits for input, if a command or a program in the foreground does.
    pub(in crate::guest) fn waits_for_input(&self) -> Option<String> {
        let inner = self.inner.borrow();
        let pty = inner.pty.as_ref().filter(|_| inner.ready)?;
        match inner.wish(pty, &inner.processes()).1? {
            Wish::Waits(pid) => Some(proc::name(pid)),
            Wish::Unknown(_) | Wish::Nobody => None,
        }
    }

    /// Sends a signal to the foreground process group.
    ///
    /// # Errors
    /// When the session has no shell at the moment, or the group is another user's.
    pub(in crate::guest) fn signal(&self, stop: Stop) -> Result<Signalled, Refusal> {
        let inner = self.inner.borrow();
        let none = || refuse(RefusalKind::Unknown, format!("session `{}` has no shell at the moment", self.name));
        let pty = inner.pty.as_ref().ok_or_else(none)?;
        let group = pty.foreground().filter(|group| *group > 1).unwrap_or(inner.pid);
        let signal = match stop {
            Stop::Interrupt => Signal::INT,
            Stop::Terminate => Signal::TERM,
            Stop::Kill => Signal::KILL,
        };
        let (program, shell) = (proc::name(group), group == inner.pid);
        let sent = try_signal_group(group, signal);
        sent.map_err(|error| refusal_of(&error, &format!("a signal to process group {group} ({program})")))?;
        Ok(Signalled { group: u32::try_from(group).unwrap_or(0), program, shell })
    }
}

impl Inner {
    /// The shell and everything below it.
    pub(super) fn processes(&self) -> Vec<Stat> {
        let pids = std::iter::once(self.pid).chain(proc::descendants_of(self.pid));
        pids.filter_map(Stat::of).collect()
    }

    /// The foreground group and who of it waits for input; None if that is the shell at its prompt.
    fn wish(&self, pty: &Pty, processes: &[Stat]) -> (i32, Option<Wish>) {
        let group = pty.foreground().unwrap_or(self.pid);
        if group == self.pid && self.at_prompt(pty) {
            return (group, None);
        }
        let (echo, lines) = modes(pty);
        let tty = processes.iter().find(|process| process.pid == self.pid).map_or(0, |shell| shell.tty);
        (group, Some(input::wish(processes, tty, group, lines, lines && !echo)))
    }

    /// Whether the process that has the shell's place waits at a shell's prompt.
    fn at_prompt(&self, pty: &Pty) -> bool {
        let Some(waits) = proc::waits(self.pid) else { return self.ready && self.active.is_none() };
        let argv = proc::argv(self.pid);
        if argv == self.argv {
            return self.own_shell_at_prompt(pty, waits);
        }
        let dialect = dialect_of(&proc::program(argv.as_deref().unwrap_or_default()));
        dialect.is_some_and(|dialect| proc::at_prompt(dialect, waits, is_edited(pty, dialect)))
    }

    /// Whether the session's own shell, which waits like this, stands at its prompt.
    pub(super) fn own_shell_at_prompt(&self, pty: &Pty, waits: Waits) -> bool {
        let edited = is_edited(pty, self.shell.dialect);
        if self.edits { edited && waits != Waits::Other } else { proc::at_prompt(self.shell.dialect, waits, edited) }
    }
}

/// Whether a shell's line editor has the terminal. busybox's takes Ctrl-C as a key, which its `read -n` does not.
pub(super) fn is_edited(pty: &Pty, dialect: Dialect) -> bool {
    pty.is_uncooked() && (dialect != Dialect::Busybox || pty.takes_ctrl_c_as_key())
}

/// Whether a terminal shows what is typed, and whether it hands over whole lines.
fn modes(pty: &Pty) -> (bool, bool) {
    let modes = pty.modes().map_or(LocalModes::ICANON | LocalModes::ECHO, |modes| modes.local_modes);
    (modes.contains(LocalModes::ECHO), modes.contains(LocalModes::ICANON))
}
