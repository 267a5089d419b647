//! What the guest knows: its sessions, its commands, its children. One per process, on one thread.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use rustix::process::{Pid, WaitOptions};
use tokio::sync::{broadcast, oneshot, watch};

use super::command::{Command, Record};
use super::facts::{CommandEnd, CommandState, Event, Phase, Refusal, RefusalKind};
use super::freeze::Freezer;
use super::gpu::Gpus;
use super::log::{Records, Store};
use super::pace::Pace;
use super::session::Session;
use super::setup::GuestSetup;
use super::shell::Shell;
use super::tmux::Tmux;
use crate::domain::{Exit, SessionName};
use crate::process::Identity;

/// How much more than by its size a program of the box is chosen by the kernel when memory is short; of 1000.
const FIRST_TO_GO: &str = "500";

/// Variables that keep programs from asking questions or opening pagers; the box's own win.
const DEFAULT_ENV: [(&str, &str); 8] = [
    ("TERM", "xterm-256color"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PIP_NO_INPUT", "1"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("LONGHAUL", "1"),
];

/// The search path of a box whose set-up names none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const EVENTS: usize = 1024;

/// The guest's memory.
pub(super) struct Supervisor {
    /// What it was started with.
    pub(super) setup: GuestSetup,
    /// The box's best shell.
    pub(super) shell: Option<Shell>,
    /// The sessions.
    pub(super) sessions: RefCell<BTreeMap<SessionName, Rc<Session>>>,
    /// The view for people.
    pub(super) tmux: Tmux,
    /// When this process started: tells it from an earlier guest in the same place.
    pub(super) life: u64,
    /// What is known of GPUs.
    pub(super) gpus: Gpus,
    /// Holds floods back while other sessions work.
    pub(super) pace: Pace,
    /// Holds everything that runs in the box.
    pub(super) freezer: Freezer,
    /// Set when everything is to end.
    pub(super) stop: watch::Sender<bool>,
    store: OnceCell<(Store, Records)>,
    logs_on_host: OnceCell<bool>,
    live: RefCell<HashMap<String, Rc<Command>>>,
    recorded: RefCell<HashMap<String, CommandState>>,
    children: RefCell<HashMap<i32, oneshot::Sender<Exit>>>,
    events: broadcast::Sender<(Event, Bytes)>,
}

/// A command, of this guest's life or of an earlier one's.
#[derive(Debug)]
pub(super) enum Known {
    /// Of this life.
    Live(Rc<Command>),
    /// Of an earlier one.
    Recorded(CommandState),
}

impl Supervisor {
    /// Makes the guest's own directory.
    ///
    /// # Errors
    /// When it can't be made.
    pub(super) fn new(mut setup: GuestSetup) -> io::Result<Rc<Self>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&setup.runtime_dir)?;
        setup.base_env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        for (name, value) in DEFAULT_ENV {
            setup.base_env.entry(name.into()).or_insert_with(|| value.into());
        }
        let path = setup.base_env.get("PATH").cloned().unwrap_or_default();
        Ok(Rc::new(Self {
            shell: Shell::best(&path),
            tmux: Tmux::find(&path, &setup.runtime_dir),
            setup,
            sessions: RefCell::default(),
            life: started(),
            gpus: Gpus::default(),
            pace: Pace::new(),
            freezer: Freezer::default(),
            stop: watch::Sender::new(false),
            store: OnceCell::new(),
            logs_on_host: OnceCell::new(),
            live: RefCell::default(),
            recorded: RefCell::default(),
            children: RefCell::default(),
            events: broadcast::Sender::new(EVENTS),
        }))
    }

    /// Takes the directory for logs that a host brought, or one of its own where it brought none. The first one stays.
    pub(super) fn keep_logs_in(&self, dir: Option<OwnedFd>) -> io::Result<()> {
        if self.store.get().is_some() {
            return Ok(());
        }
        let on_host = dir.is_some();
        let dir = match dir {
            Some(dir) => dir,
            None => {
                let own = self.runtime_path("logs");
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
                File::open(own)?.into()
            }
        };
        let store = Store::new(dir, self.setup.log_cap_bytes, self.events.clone())?;
        let (records, known) = store.open_records::<Record>()?;
        let mut recorded = self.recorded.borrow_mut();
        for record in known {
            match record {
                Record::Started(state) => {
                    recorded.insert(state.id.clone(), CommandState { phase: Phase::Lost, ..state });
                }
                Record::Ended(state) => {
                    recorded.insert(state.id.clone(), state);
                }
                Record::ShellExited { .. } => {}
            }
        }
        let _ = self.store.set((store, records));
        let _ = self.logs_on_host.set(on_host);
        Ok(())
    }

    /// Whether the logs are in the host's directory.
    pub(super) fn logs_on_host(&self) -> bool {
        self.logs_on_host.get().copied().unwrap_or(false)
    }

    /// Waits until all output is on disk.
    pub(super) async fn finish_logs(&self) {
        if let Some((store, _)) = self.store.get() {
            store.finish().await;
        }
    }

    /// Where logs are kept. There is one since the first host was welcomed, and nothing is logged before.
    pub(super) fn store(&self) -> &Store {
        &self.store.get().expect("a host was welcomed before anything is logged").0
    }

    /// Writes a record.
    pub(super) fn record(&self, record: &Record) -> io::Result<()> {
        self.store.get().expect("a host was welcomed before anything is recorded").1.append(record)
    }

    /// A path in the guest's own directory.
    pub(super) fn runtime_path(&self, name: &str) -> PathBuf {
        self.setup.runtime_dir.join(name)
    }

    /// The command of that id, if there ever was one.
    pub(super) fn command(&self, id: &str) -> Option<Known> {
        if let Some(live) = self.live.borrow().get(id) {
            return Some(Known::Live(live.clone()));
        }
        self.recorded.borrow().get(id).cloned().map(Known::Recorded)
    }

    /// Notes that a command is about to be started.
    ///
    /// # Errors
    /// When that can't be written down: then it must not be started.
    pub(super) fn command_starts(&self, id: &str, command: &Rc<Command>) -> Result<(), Refusal> {
        let state = command.state(Instant::now());
        self.record(&Record::Started(state)).map_err(|error| refusal_of(&error, "the record of the command"))?;
        self.live.borrow_mut().insert(id.to_owned(), command.clone());
        Ok(())
    }

    /// Writes a command's end down, then tells who waits for it: once its output can be read.
    pub(super) fn command_ended(self: &Rc<Self>, command: &Rc<Command>, end: CommandEnd) {
        if command.log().is_written(end.end) {
            return self.output_written(command, end);
        }
        let (boss, command) = (self.clone(), command.clone());
        tokio::task::spawn_local(async move {
            command.log().written(end.end).await;
            boss.output_written(&command, command.without_what_was_lost(end));
        });
    }

    fn output_written(&self, command: &Command, end: CommandEnd) {
        let now = Instant::now();
        command.log().flush_timing(now);
        let state = CommandState { phase: Phase::Ended(end.clone()), ..command.state(now) };
        // With a full disk the end can still be told to who is connected.
        let _ = self.record(&Record::Ended(state.clone()));
        command.set_phase(Phase::Ended(end));
        self.tell(Event::CommandEnded(state), Bytes::new());
    }

    /// Tells every host.
    pub(super) fn tell(&self, event: Event, payload: Bytes) {
        // Nobody may be listening.
        let _ = self.events.send((event, payload));
    }

    /// What is told from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<(Event, Bytes)> {
        self.events.subscribe()
    }

    /// Will tell how the child of that id ends. Call it before anything is awaited after the start.
    pub(super) fn watch_child(&self, pid: i32) -> oneshot::Receiver<Exit> {
        // Where memory is short, whoever is chosen to go must not be the guest. One that is gone already needs none of it.
        drop(std::fs::write(format!("/proc/{pid}/oom_score_adj"), FIRST_TO_GO));
        let (sender, receiver) = oneshot::channel();
        self.children.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps every child that has ended, orphans included.
    pub(super) fn reap(&self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => continue,
            };
            if let Some(waiting) = self.children.borrow_mut().remove(&pid.as_raw_pid()) {
                // Whoever waited may have given up.
                let _ = waiting.send(exit);
            }
        }
    }

    /// The session of that name.
    pub(super) fn session(&self, name: &SessionName) -> Result<Rc<Session>, Refusal> {
        let found = self.sessions.borrow().get(name).cloned();
        found.ok_or_else(|| refuse(RefusalKind::Unknown, format!("there is no session `{name}`")))
    }
}

/// When this process started, in clock ticks since boot; 0 where nobody says.
fn started() -> u64 {
    let pid = rustix::process::getpid().as_raw_pid();
    Identity::of(pid).map_or(0, |identity| identity.start_ticks)
}

/// Sends a signal to a process group; one that is gone needs none.
pub(super) fn signal_group(group: i32, signal: rustix::process::Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Sends a signal to a process group, or says why not; one that has just ended needs none.
pub(super) fn try_signal_group(group: i32, signal: rustix::process::Signal) -> io::Result<()> {
    let Some(group) = Pid::from_raw(group) else { return Ok(()) };
    match rustix::process::kill_process_group(group, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to a process; one that is gone needs none.
pub(super) fn signal_process(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A refusal.
pub(super) fn refuse(kind: RefusalKind, what: impl Into<String>) -> Refusal {
    Refusal { kind, what: what.into() }
}

/// What the system said about `subject`, as a refusal.
pub(super) fn refusal_of(error: &io::Error, subject: &str) -> Refusal {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => RefusalKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RefusalKind::Denied,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => RefusalKind::WrongKind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RefusalKind::Full,
        io::ErrorKind::InvalidInput => RefusalKind::Invalid,
        _ => RefusalKind::System,
    };
    // The system's words without the number that Rust adds.
    let words = error.to_string();
    let words = words.split(" (os error").next().unwrap_or_default().to_owned();
    refuse(kind, format!("{subject}: {words}"))
}

/// Whether `path` is a directory, or why not.
pub(super) fn require_dir(path: &Path) -> Result<(), Refusal> {
    let shown = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|error| refusal_of(&error, &shown))?;
    if meta.is_dir() { Ok(()) } else { Err(refuse(RefusalKind::WrongKind, format!("{shown}: not a directory"))) }
}
