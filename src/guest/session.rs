//! A session: a named shell on a terminal, what it runs, what it says of itself.
//!
//! Only decisions and small writes happen here; [`super::life`] reads the terminal and waits.

mod closing;
mod foreground;
mod limits;
mod marked;
mod silence;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use rustix::termios::Termios;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::command::Command;
use super::facts::{Event, OpenSession, Phase, Refusal, RefusalKind, RunCommand, SessionInfo, Start, TermSize};
use super::log::RawLog;
use super::pty::{Program, Pty};
use super::shell::{Dialect, Shell, Wrapped, title};
use super::sight::Actor;
use super::supervisor::{Known, Supervisor, refusal_of, refuse, require_dir};
use super::typing::{Typing, has_keys};
use super::{life, pace, proc};
use crate::domain::{Exit, SessionName};
use foreground::Spent;

/// Pieces of typed text that may wait for a program that doesn't read.
const TYPED_AHEAD: usize = 256;

/// A named shell on a terminal.
pub(super) struct Session {
    /// Its log.
    pub(super) log: Rc<RawLog>,
    /// Told when the watch on the shell has to begin anew.
    pub(super) wake: Notify,
    boss: Rc<Supervisor>,
    name: SessionName,
    env: Vec<(String, String)>,
    user_rc: Option<String>,
    keys: mpsc::Sender<Bytes>,
    closing: Cell<bool>,
    is_over: watch::Sender<bool>,
    inner: RefCell<Inner>,
}

/// A shell that has just been started.
pub(super) struct Born {
    /// Its terminal.
    pub(super) pty: Rc<Pty>,
    /// How it will end.
    pub(super) exit: oneshot::Receiver<Exit>,
    /// What its marks carry.
    pub(super) nonce: String,
}

struct Inner {
    shell: Shell,
    pty: Option<Rc<Pty>>,
    pid: i32,
    argv: Option<Vec<u8>>,
    nonce: String,
    ready: bool,
    user_rc_failed: bool,
    note: Option<String>,
    cwd: String,
    size: TermSize,
    seq: u64,
    last_status: i32,
    spent: Spent,
    typed_into: bool,
    asked: bool,
    typing: Typing,
    modes: Option<Termios>,
    edits: bool,
    heal: bool,
    active: Option<Active>,
}

struct Active {
    command: Rc<Command>,
    seq: u64,
    stage: Stage,
    text: Bytes,
    cwd: Option<String>,
    rearmed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the shell's first prompt.
    Queued,
    /// Handed to the shell.
    Typed,
    /// The shell says that it has begun.
    Begun,
    /// The shell has lost its marks and is being given new ones.
    Rearming,
}

impl Session {
    /// Opens a session: its shell is started at once, in the background.
    ///
    /// # Errors
    /// When there is no such shell or directory.
    pub(super) fn open(boss: &Rc<Supervisor>, ask: OpenSession) -> Result<Rc<Self>, Refusal> {
        if let Ok(open) = boss.session(&ask.session) {
            return Ok(open);
        }
        Self::may_open(boss, &ask)?;
        let shell = match &ask.shell {
            Some(path) => Shell::at(Path::new(path)),
            None => boss.shell.clone(),
        };
        let wanted = ask.shell.as_deref().unwrap_or("a shell (bash, dash, ash or sh)");
        let shell = shell.ok_or_else(|| refuse(RefusalKind::Missing, format!("the box does not have {wanted}")))?;
        let cwd = ask.cwd.unwrap_or_else(|| boss.setup.cwd.to_string_lossy().into_owned());
        require_dir(Path::new(&cwd))?;
        let dir = boss.runtime_path("s");
        std::fs::create_dir_all(&dir).map_err(|error| refusal_of(&error, &dir.to_string_lossy()))?;
        let log = boss.store().open_log(ask.session.as_str(), Instant::now());
        let log = log.map_err(|error| refusal_of(&error, "the session's log"))?;
        let mut env = boss.setup.base_env.clone();
        env.extend(ask.env);
        let user_rc = match shell.dialect {
            Dialect::Bash => env.get("HOME").map(|home| format!("{home}/.bashrc")),
            _ => env.get("ENV").cloned(),
        };
        let (keys, typed) = mpsc::channel(TYPED_AHEAD);
        let inner = Inner::new(shell, cwd, ask.size);
        let session = Rc::new(Self {
            log,
            wake: Notify::new(),
            boss: boss.clone(),
            name: ask.session.clone(),
            env: env.into_iter().collect(),
            user_rc,
            keys,
            closing: Cell::new(false),
            is_over: watch::Sender::new(false),
            inner: RefCell::new(inner),
        });
        boss.sessions.borrow_mut().insert(ask.session, session.clone());
        life::begin(session.clone(), typed);
        Ok(session)
    }

    /// Starts a command, at once or as soon as the shell is ready.
    ///
    /// # Errors
    /// For a command with NUL, a directory that is not there, a disk that takes no record.
    pub(super) fn run(&self, ask: RunCommand, text: Bytes) -> Result<Start, Refusal> {
        let now = Instant::now();
        if let Some(known) = self.boss.command(&ask.id) {
            return Ok(Start::Known(match known {
                Known::Live(command) => command.state(now),
                Known::Recorded(state) => state,
            }));
        }
        if let Some(busy) = self.busy(now) {
            return Ok(Start::Busy(busy));
        }
        if text.contains(&0) {
            return Err(refuse(RefusalKind::Invalid, "a command can't contain NUL, no shell can read it"));
        }
        let cwd = ask.cwd.map(|dir| Path::new(&self.inner.borrow().cwd).join(dir).to_string_lossy().into_owned());
        if let Some(dir) = &cwd {
            require_dir(Path::new(dir))?;
        }
        let name = Some(self.name.clone());
        self.log.next_command();
        let command = Rc::new(Command::new(ask.id.clone(), name, title(&text), self.log.clone(), now));
        self.boss.command_starts(&ask.id, &command)?;
        let mut inner = self.inner.borrow_mut();
        inner.seq += 1;
        let seq = inner.seq;
        let started = command.clone();
        inner.active = Some(Active { command, seq, stage: Stage::Queued, text, cwd, rearmed: 0 });
        if inner.ready {
            self.type_command(&mut inner);
        }
        drop(inner);
        self.wake.notify_one();
        Ok(Start::Started(started.state(now)))
    }

    /// Types as a person would; the first keys of a person's stretch of typing are told.
    ///
    /// # Errors
    /// When too much is waiting to be read already.
    pub(super) fn type_keys(&self, keys: Bytes, by: Actor) -> Result<(), Refusal> {
        let mut inner = self.inner.borrow_mut();
        if by == Actor::Person && !has_keys(&keys) && !inner.has_asked(&keys) {
            return Ok(());
        }
        if inner.active.is_none() {
            inner.typed_into = true;
        }
        let begins = by == Actor::Person && inner.typing.begins(&keys, Instant::now());
        let full = |_| refuse(RefusalKind::Full, format!("nothing reads what is typed into session `{}`", self.name));
        self.keys.try_send(keys).map_err(full)?;
        if begins {
            self.boss.tell(Event::PersonTyped { session: self.name.clone() }, Bytes::new());
        }
        Ok(())
    }

    /// Takes note of a question where the cursor is, so many bytes before the output's end.
    ///
    /// busybox's line editor asks at each prompt and waits 20 ms for a terminal to answer. It only wants to know whether
    /// something stands before the prompt: the first column says no. What a command asks is left to a person's terminal.
    pub(super) fn cursor_query(&self, before_end: u64) {
        let mut inner = self.inner.borrow_mut();
        let at = self.log.end().saturating_sub(before_end);
        match &inner.active {
            Some(active) if active.stage == Stage::Begun && at > active.command.offset() => inner.asked = true,
            // An answer behind a line that was typed in the meantime would be the command's input.
            Some(active) if active.stage != Stage::Queued => {}
            _ if inner.shell.dialect == Dialect::Busybox => {
                // A queue that is full of keys is an answer too.
                let _ = self.keys.try_send(Bytes::from_static(b"\x1b[1;1R"));
            }
            _ => {}
        }
    }

    /// Waits after so many bytes were read, if that is a flood and another session is at work.
    pub(super) async fn give_way(&self, bytes: usize) {
        let is_at_work = |session: &Rc<Self>| session.inner.borrow().active.is_some();
        if bytes >= pace::FLOOD && self.boss.sessions.borrow().values().filter(|other| is_at_work(other)).count() > 1 {
            self.boss.pace.keep(bytes).await;
        }
    }

    /// Changes the size.
    ///
    /// # Errors
    /// For a size that no terminal has.
    pub(super) fn resize(&self, size: TermSize) -> Result<(), Refusal> {
        limits::check_size(size)?;
        let mut inner = self.inner.borrow_mut();
        inner.size = size;
        let Some(pty) = &inner.pty else { return Ok(()) };
        pty.resize(size).map_err(|error| refusal_of(&error, "the terminal's size"))
    }

    /// Waits until it has no shell and will not have one again.
    pub(super) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.is_over.subscribe().wait_for(|over| *over).await;
    }

    /// What is known of it.
    pub(super) fn info(&self) -> SessionInfo {
        let inner = self.inner.borrow();
        SessionInfo {
            session: self.name.clone(),
            shell: inner.shell.path.to_string_lossy().into_owned(),
            pid: u32::try_from(inner.pid).unwrap_or(0),
            log: self.log.name.clone(),
            log_size: self.log.size(),
            size: inner.size,
            cwd: Some(inner.cwd.clone()),
            command: inner.active.as_ref().map(|active| active.command.state(Instant::now())),
            ready: inner.ready,
            note: inner.note.clone(),
        }
    }

    /// Whether nothing runs in it.
    fn is_at_rest(&self) -> bool {
        self.inner.borrow().active.is_none()
    }

    /// The size of its terminal.
    pub(super) fn size(&self) -> TermSize {
        self.inner.borrow().size
    }

    /// The terminal that has its shell now.
    pub(super) fn pty(&self) -> Option<Rc<Pty>> {
        self.inner.borrow().pty.clone()
    }

    /// Starts the shell, the first one or the next.
    pub(super) fn start_shell(&self) -> io::Result<Born> {
        let mut inner = self.inner.borrow_mut();
        if !Path::new(&inner.cwd).is_dir() {
            inner.cwd = self.boss.setup.cwd.to_string_lossy().into_owned();
        }
        let nonce = self.nonce();
        let rc = self.file(".rc");
        let user_rc = self.user_rc.as_deref().filter(|_| !inner.user_rc_failed);
        std::fs::write(&rc, inner.shell.rc(&nonce, user_rc))?;
        let (argv, variable) = inner.shell.interactive(&rc);
        let mut env = self.env.clone();
        env.retain(|(name, _)| name != "ENV");
        env.extend(variable);
        let (pty, pid) = Pty::spawn(&Program { argv: &argv, env: &env, cwd: &inner.cwd }, inner.size)?;
        let exit = self.boss.watch_child(pid);
        let pty = Rc::new(pty);
        inner.pty = Some(pty.clone());
        inner.pid = pid;
        inner.argv = None;
        inner.nonce.clone_from(&nonce);
        inner.ready = false;
        inner.modes = None;
        inner.edits = false;
        inner.heal = false;
        inner.typed_into = false;
        inner.last_status = 0;
        inner.spent = Spent::default();
        Ok(Born { pty, exit, nonce })
    }

    fn busy(&self, now: Instant) -> Option<super::facts::CommandState> {
        let inner = self.inner.borrow();
        if let Some(active) = &inner.active {
            return Some(active.command.state(now));
        }
        // A person may have started something by hand.
        let group = inner.pty.as_ref().and_then(|pty| pty.foreground())?;
        if group == inner.pid || !inner.ready {
            return None;
        }
        let program = proc::program(&proc::argv(group).unwrap_or_default());
        let by_hand = format!("{program} (started by hand)");
        let command = Command::new(String::new(), Some(self.name.clone()), by_hand, self.log.clone(), now);
        command.set_phase(Phase::Running);
        Some(command.state(now))
    }

    fn type_command(&self, inner: &mut Inner) {
        let typed_into = std::mem::take(&mut inner.typed_into);
        let heal = std::mem::take(&mut inner.heal);
        let (shell, last_status) = (inner.shell.clone(), inner.last_status);
        let Some(active) = &mut inner.active else { return };
        let (path, body) = (self.file(""), self.file(&format!(".{}", active.seq)));
        let wrapped =
            Wrapped { seq: active.seq, body: &body, text: &active.text, cwd: active.cwd.as_deref(), last_status, heal };
        let written = std::fs::write(&body, &active.text).and_then(|()| std::fs::write(&path, shell.wrapper(&wrapped)));
        active.text = Bytes::new();
        active.stage = Stage::Typed;
        if let Err(error) = written {
            // The shell will find no file and say so.
            inner.note = Some(format!("{path}: {error}"));
        }
        let clear = if typed_into { "\x03" } else { "" };
        self.type_own(format!("{clear}{}", shell.type_in(&path)));
    }

    fn type_own(&self, text: String) {
        // Full only if a person's typing is not read: then the shell is not at its prompt, and the watch sees to it.
        let _ = self.keys.try_send(text.into());
    }

    fn nonce(&self) -> String {
        // The token is the box's secret, and the log has grown since the last time.
        let seed = format!("{}\n{}\n{}", self.boss.setup.token, self.name, self.log.end());
        let digest = Sha256::digest(seed);
        // Upper case, so that a terminal that changes case does no harm.
        digest[..12].iter().fold(String::new(), |nonce, byte| nonce + &format!("{byte:02X}"))
    }

    fn file(&self, part: &str) -> String {
        self.boss.runtime_path("s").join(format!("{}{part}", self.name)).to_string_lossy().into_owned()
    }
}

impl Inner {
    /// Whether a program waits for what a person's terminal says by itself: a command, or what a person started by
    /// hand, that takes keys one by one, and where the cursor is only if it has asked for that. A prompt of busybox asks
    /// too and has been answered; any other answer there, such as one to a command that is gone, would be the next
    /// command's input.
    fn has_asked(&mut self, report: &[u8]) -> bool {
        let asked = !report.ends_with(b"R") || std::mem::take(&mut self.asked);
        let Some(pty) = &self.pty else { return false };
        let runs = match &self.active {
            Some(active) => active.stage == Stage::Begun,
            None => pty.foreground().is_some_and(|group| group != self.pid),
        };
        asked && runs && pty.is_uncooked()
    }

    fn new(shell: Shell, cwd: String, size: TermSize) -> Self {
        Self {
            shell,
            pty: None,
            pid: 0,
            argv: None,
            nonce: String::new(),
            ready: false,
            user_rc_failed: false,
            note: None,
            cwd,
            size,
            seq: 0,
            last_status: 0,
            spent: Spent::default(),
            typed_into: false,
            asked: false,
            typing: Typing::default(),
            modes: None,
            edits: false,
            heal: false,
            active: None,
        }
    }
}
