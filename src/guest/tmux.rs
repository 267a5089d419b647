//! The view for people: a tmux server in the box with one window per session.
//!
//! A window runs the viewer, which shows a session and types into it. Nothing else rests on tmux: where it is missing,
//! or when it dies, the sessions are what they were. Whoever attaches next gets a new server, or the windows that were
//! closed; what a person has renamed is known by its id and by an option of ours.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use super::facts::{Refusal, RefusalKind, TermSize, TmuxInfo};
use super::proc;
use super::supervisor::{Supervisor, refuse};
use crate::domain::{Exit, SessionName};

/// The name of the tmux session.
const NAME: &str = "longhaul";

/// The window that is a person's own.
const OWN_WINDOW: &str = "shell";

/// The option of a window that names its session, whatever a person calls the window.
const SESSION_OPTION: &str = "@longhaul";

/// Sober on purpose: nothing that a program prints may name a window, set a title, reach a clipboard or be expanded as
/// a format. `history-limit` counts only for windows made after it was set, hence a file and not a command.
const CONFIG: &str = "\
set -s exit-empty on
set -s escape-time 10
set -s set-clipboard off
set -s default-terminal screen-256color
set -g history-limit 50000
set -g default-size 160x48
set -g update-environment ''
set -g set-titles off
set -g visual-activity off
set -g monitor-activity off
set -g status-left '[longhaul] '
set -g status-left-length 12
set -g status-right 'detach: C-b d  windows: C-b w'
set -g status-right-length 40
setw -g automatic-rename off
setw -g allow-rename off
setw -g remain-on-exit off
setw -g window-status-format ' #I:#W '
setw -g window-status-current-format ' #I:#W* '
";

/// The box's tmux, if it has one.
pub(super) struct Tmux {
    program: Option<PathBuf>,
    socket: PathBuf,
    /// The server once it was started. Held while it is spoken to, so that nothing is started or shown twice.
    server: Mutex<Option<Server>>,
}

/// A server that was started.
struct Server {
    /// The id of its session.
    session: String,
    /// Tells of its end.
    exit: oneshot::Receiver<Exit>,
}

/// How long a server that answers no more may take to end before the next one is started.
const DYING: Duration = Duration::from_secs(2);

impl Tmux {
    /// Looks for tmux in the directories of `path`.
    pub(super) fn find(path: &str, runtime_dir: &Path) -> Self {
        let dirs = path.split(':').filter(|dir| dir.starts_with('/')).chain(["/usr/bin", "/bin", "/usr/local/bin"]);
        let program = dirs.map(|dir| Path::new(dir).join("tmux")).find(|program| program.is_file());
        Self { program, socket: runtime_dir.join("tmux.sock"), server: Mutex::default() }
    }

    /// Whether a process is the server.
    pub(super) fn is_server(&self, pid: i32) -> bool {
        let tmux = self.program.as_deref().and_then(file);
        tmux.is_some() && file(&exe(pid)) == tmux && has_argument(pid, self.socket.as_os_str().as_bytes())
    }

    /// Whether a process is the server, or shows a session in one of its windows.
    pub(super) fn shows(&self, pid: i32) -> bool {
        let own = file("/proc/self/exe".as_ref());
        self.is_server(pid) || (own.is_some() && file(&exe(pid)) == own && has_argument(pid, b"__view"))
    }

    /// Its path.
    pub(super) fn program(&self) -> Option<String> {
        self.program.as_ref().map(|program| program.to_string_lossy().into_owned())
    }
}

/// By which a file is known wherever it is mounted: its device and its inode.
fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The program that a process runs.
fn exe(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

fn has_argument(pid: i32, wanted: &[u8]) -> bool {
    proc::argv(pid).unwrap_or_default().split(|byte| *byte == 0).any(|argument| argument == wanted)
}

/// Starts the server unless it runs, and sees to it that every session has a window.
///
/// # Errors
/// When the box has no tmux, or tmux says no.
pub(super) async fn ensure(boss: &Rc<Supervisor>) -> Result<TmuxInfo, Refusal> {
    let missing = || refuse(RefusalKind::Missing, "the box does not have tmux");
    let program = boss.tmux.program().ok_or_else(missing)?;
    let mut server = boss.tmux.server.lock().await;
    let known = server.as_ref().map(|server| server.session.clone());
    let windows = match &known {
        Some(id) => shown(boss, id).await,
        None => None,
    };
    let session = match (known, windows) {
        (Some(id), Some(windows)) => {
            complete(boss, &id, &windows).await?;
            id
        }
        (Some(_) | None, _) => start(boss, &mut server).await?,
    };
    let socket = boss.tmux.socket.to_string_lossy().into_owned();
    Ok(TmuxInfo { program, socket, session })
}

/// Shows a new session in a window of its own, in the background; where there is no tmux, nothing happens.
pub(super) fn show(boss: &Rc<Supervisor>) {
    if boss.tmux.program.is_none() {
        return;
    }
    let boss = boss.clone();
    tokio::task::spawn_local(async move {
        let mut server = boss.tmux.server.lock().await;
        // A view that can't be had is told to who asks for it, and one that a person has ended comes back for who does.
        let _ = match server.as_ref().map(|server| server.session.clone()) {
            None => start(&boss, &mut server).await.map(drop),
            Some(id) => match shown(&boss, &id).await {
                Some(shown) => complete(&boss, &id, &shown).await,
                None => Ok(()),
            },
        };
    });
}

/// Gives a session's window the session's new size, in the background.
pub(super) fn resized(boss: &Rc<Supervisor>, session: &SessionName, size: TermSize) {
    let (boss, session) = (boss.clone(), session.clone());
    tokio::task::spawn_local(async move {
        let server = boss.tmux.server.lock().await;
        let Some(id) = server.as_ref().map(|server| server.session.as_str()) else { return };
        for window in
            shown(&boss, id).await.unwrap_or_default().into_iter().filter(|one| one.session == session.as_str())
        {
            // A window that is closed meanwhile has no size.
            let _ = tmux(&boss, &resize(&window.id, &sides(size))).await;
        }
    });
}

/// A window that shows a session.
struct Window {
    id: String,
    session: String,
}

/// The windows that show sessions; `None` where the server is gone, or our session of it.
async fn shown(boss: &Rc<Supervisor>, id: &str) -> Option<Vec<Window>> {
    let format = format!("#{{window_id}} #{{{SESSION_OPTION}}}");
    let listed = tmux(boss, &["list-windows", "-t", id, "-F", &format]).await.ok()?;
    let windows = listed.lines().filter_map(|line| line.split_once(' '));
    Some(windows.map(|(id, session)| Window { id: id.to_owned(), session: session.to_owned() }).collect())
}

/// Makes the windows that are not there: of new sessions, and those that a person has closed.
async fn complete(boss: &Rc<Supervisor>, id: &str, shown: &[Window]) -> Result<(), Refusal> {
    let all: Vec<_> = boss.sessions.borrow().iter().map(|(name, session)| (name.clone(), session.size())).collect();
    for (session, size) in all {
        if !shown.iter().any(|window| window.session == session.as_str()) {
            window(boss, id, &session, size).await?;
        }
    }
    Ok(())
}

async fn start(boss: &Rc<Supervisor>, server: &mut Option<Server>) -> Result<String, Refusal> {
    if let Some(old) = server.take() {
        // One that is just ending would take the new session along. One that does not end is a person's, and is used.
        let _ = tokio::time::timeout(DYING, old.exit).await;
    }
    let config = boss.runtime_path("tmux.conf");
    let written = std::fs::File::create(&config).and_then(|mut file| file.write_all(CONFIG.as_bytes()));
    written.map_err(|error| refuse(RefusalKind::System, format!("tmux configuration: {error}")))?;
    let shell = boss.shell.as_ref().map_or("/bin/sh".into(), |shell| shell.path.to_string_lossy().into_owned());
    let cwd = boss.setup.cwd.to_string_lossy().into_owned();
    let config = config.to_string_lossy().into_owned();
    let made = [
        "new-session",
        "-d",
        "-P",
        "-F",
        "#{session_id} #{pid}",
        "-s",
        NAME,
        "-n",
        OWN_WINDOW,
        "-c",
        &cwd,
        &shell,
        "-l",
    ];
    let told = tmux(boss, &[&["-f", &config], &made[..]].concat()).await?;
    let said = || refuse(RefusalKind::System, format!("tmux said `{told}` of a new session"));
    let (id, pid) =
        told.split_once(' ').and_then(|(id, pid)| Some((id.to_owned(), pid.parse().ok()?))).ok_or_else(said)?;
    *server = Some(Server { session: id.clone(), exit: boss.watch_child(pid) });
    complete(boss, &id, &[]).await?;
    let windows = shown(boss, &id).await.unwrap_or_default();
    if let Some(first) = windows.iter().find(|window| !window.session.is_empty()) {
        tmux(boss, &["select-window", "-t", &first.id]).await?;
    }
    Ok(id)
}

async fn window(boss: &Rc<Supervisor>, id: &str, session: &SessionName, size: TermSize) -> Result<(), Refusal> {
    let target = format!("{id}:");
    let socket = boss.runtime_path("view.sock").to_string_lossy().into_owned();
    let made = ["new-window", "-d", "-P", "-F", "#{window_id}", "-t", &target, "-n", session.as_str()];
    let mut words = made.to_vec();
    words.extend(boss.setup.program.iter().map(String::as_str));
    words.extend(["__view", &socket, session.as_str()]);
    let window = tmux(boss, &words).await?;
    // The size stays the session's, whoever looks, so that looking changes nothing. Set for each window after it is
    // made: set for all, it crashes the server of tmux 3.3a as soon as it makes one.
    let size = sides(size);
    let mut words = vec!["set-option", "-w", "-t", &window, SESSION_OPTION, session.as_str(), ";"];
    words.extend(["set-option", "-w", "-t", &window, "window-size", "manual", ";"]);
    words.extend(resize(&window, &size));
    tmux(boss, &words).await.map(drop)
}

fn sides(size: TermSize) -> [String; 2] {
    [size.cols.to_string(), size.rows.to_string()]
}

fn resize<'a>(window: &'a str, [cols, rows]: &'a [String; 2]) -> [&'a str; 7] {
    ["resize-window", "-t", window, "-x", cols, "-y", rows]
}

/// Runs a tmux command; what it printed, without the last line end.
async fn tmux(boss: &Rc<Supervisor>, words: &[&str]) -> Result<String, Refusal> {
    let failed = |why: String| refuse(RefusalKind::System, format!("tmux: {why}"));
    match run(boss, words).await {
        Ok((Exit::Code(0), printed, _)) => Ok(printed),
        Ok((exit, _, said)) => Err(failed(format!("{exit}: {said}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn run(boss: &Rc<Supervisor>, words: &[&str]) -> io::Result<(Exit, String, String)> {
    let program = boss.tmux.program.as_ref().ok_or(io::ErrorKind::NotFound)?;
    // Both go to files: a pipe would be held open by the server that the first command leaves behind.
    let printed = tempfile::tempfile_in(&boss.setup.runtime_dir)?;
    let said = tempfile::tempfile_in(&boss.setup.runtime_dir)?;
    let mut process = std::process::Command::new(program);
    process.arg("-u").arg("-S").arg(&boss.tmux.socket).args(words);
    process.env_clear().envs(&boss.setup.base_env).current_dir("/");
    process.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(said.try_clone()?);
    let child = process.spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    let exit = boss.watch_child(pid).await.map_err(io::Error::other)?;
    Ok((exit, beginning(&printed, 64 << 10)?, beginning(&said, 500)?))
}

/// The text at the beginning of a file.
fn beginning(file: &std::fs::File, most: usize) -> io::Result<String> {
    let mut text = vec![0; most];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut text, 0)?;
    Ok(String::from_utf8_lossy(&text[..read]).trim().to_owned())
}
