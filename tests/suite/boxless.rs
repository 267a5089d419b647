//! A guest on this host, without a box around it: the real program, its real socket, real shells.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhaul::clock::{Clock, SystemClock};
use longhaul::domain::SessionName;
use longhaul::guest::{Client, Control, GuestSetup, SETUP_VAR, TermSize};
use longhaul::terminal::{CommandReport, CommandSpec, ExcerptBudget, Terminal, TerminalOptions};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The secret of every guest here.
pub(crate) const TOKEN: &str = "0123456789abcdef";

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent");

/// A guest and the directories it works in. Ended and removed when dropped.
pub(crate) struct Boxless {
    /// The process.
    pub(crate) guest: Child,
    dir: TempDir,
    setup: String,
    user: Option<u32>,
}

impl Boxless {
    /// Starts a guest whose home has these files.
    pub(crate) fn start(home: &[(&str, &str)]) -> Self {
        Self::start_with(home, &[])
    }

    /// The same with further variables.
    pub(crate) fn start_with(home: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        Self::start_for(home, env, None, None)
    }

    /// Starts a guest whose logs keep so many bytes.
    pub(crate) fn start_capped(log_cap_bytes: u64) -> Self {
        Self::start_for(&[], &[], Some(log_cap_bytes), None)
    }

    /// Starts a guest as this user, whose directories are the user's. Only root can.
    pub(crate) fn start_as(user: u32) -> Self {
        Self::start_for(&[], &[], None, Some(user))
    }

    fn start_for(home: &[(&str, &str)], env: &[(&str, &str)], log_cap_bytes: Option<u64>, user: Option<u32>) -> Self {
        let dir = tempfile::Builder::new().prefix("lh-").tempdir().expect("a directory");
        for part in ["home", "logs", "work"] {
            std::fs::create_dir(dir.path().join(part)).expect("a directory");
        }
        for (name, content) in home {
            std::fs::write(dir.path().join("home").join(name), content).expect("written");
        }
        let mut base_env = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("HOME".to_owned(), dir.path().join("home").to_str().expect("UTF-8").to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TMPDIR".to_owned(), dir.path().to_str().expect("UTF-8").to_owned()),
        ]);
        base_env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let setup = GuestSetup {
            token: TOKEN.into(),
            control: Control::Path(dir.path().join("control")),
            runtime_dir: dir.path().join("run"),
            program: vec![PROGRAM.to_owned()],
            init: false,
            base_env,
            cwd: dir.path().join("work"),
            log_cap_bytes,
        };
        let json = serde_json::to_string(&setup).expect("JSON");
        for part in ["", "home", "logs", "work"].iter().filter(|_| user.is_some()) {
            std::os::unix::fs::chown(dir.path().join(part), user, user).expect("the user's");
        }
        let this = Self { guest: spawn(&json, user), dir, setup: json, user };
        this.connected_raw();
        this
    }

    /// Kills the guest as a crash of the box would, and starts another one in its place.
    pub(crate) fn restart(&mut self) {
        self.guest.kill().expect("killed");
        self.guest.wait().expect("reaped");
        self.end_tmux();
        self.guest = spawn(&self.setup, self.user);
        self.connected_raw();
    }

    /// A guest that was killed outside a box takes its shells along, but not the server of the view, which may be just
    /// starting and so can't be asked to end.
    fn end_tmux(&self) {
        let socket = self.runtime().join("tmux.sock").into_os_string().into_encoded_bytes();
        for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
                && words.split(|&byte| byte == 0).any(|word| word == socket)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Where commands begin.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The host's directory for logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// The guest's own directory.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The guest's socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connected_raw(&self) -> UnixStream {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(self.control()) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < until, "the guest does not listen: {error}"),
            }
            std::thread::yield_now();
        }
    }

    /// A client that has brought the directory for logs.
    pub(crate) async fn client(&self) -> Client {
        let logs = std::fs::File::open(self.logs()).expect("a directory");
        Client::connect(self.connected_raw(), TOKEN, Some(logs.into())).await.expect("welcome")
    }

    /// The terminal of a new client.
    pub(crate) async fn terminal(&self) -> Terminal {
        self.terminal_by(Arc::new(SystemClock::new())).await
    }

    /// The terminal of a new client, which waits by `clock`.
    pub(crate) async fn terminal_by(&self, clock: Arc<dyn Clock>) -> Terminal {
        Terminal::new(self.client().await, TerminalOptions { clock, ..options(&self.work()) })
    }
}

impl Drop for Boxless {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.guest.try_wait() {
            self.end_tmux();
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.guest);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.guest.wait();
    }
}

fn spawn(setup: &str, user: Option<u32>) -> Child {
    let mut command = Command::new(PROGRAM);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.arg("__guest").env_clear().env(SETUP_VAR, setup).stdin(Stdio::null());
    command.spawn().expect("the guest starts")
}

/// What sessions in `work` have in common.
pub(crate) fn options(work: &Path) -> TerminalOptions {
    TerminalOptions {
        workspace: work.to_str().expect("UTF-8").to_owned(),
        env: BTreeMap::new(),
        size: TermSize::default(),
        logs: "sessions".into(),
        budget: ExcerptBudget::default(),
        clock: Arc::new(SystemClock::new()),
    }
}

/// A session's name.
pub(crate) fn session(name: &str) -> SessionName {
    SessionName::new(name).expect("a session name")
}

/// A command for session `main` that has ten seconds.
pub(crate) fn command(id: &str, text: impl AsRef<[u8]>) -> CommandSpec {
    CommandSpec {
        id: id.into(),
        session: session("main"),
        command: text.as_ref().to_vec(),
        cwd: None,
        yield_after: Duration::from_secs(10),
    }
}

/// Runs a command in session `main`.
pub(crate) async fn run(terminal: &Terminal, id: &str, text: impl AsRef<[u8]>) -> CommandReport {
    run_spec(terminal, command(id, text)).await
}

/// Runs any command.
pub(crate) async fn run_spec(terminal: &Terminal, spec: CommandSpec) -> CommandReport {
    terminal.run(spec, &mut |_| {}, &CancellationToken::new()).await.expect("a report")
}
