//! The view for people: a tmux server in the box with one window per session.
//!
//! A window runs the viewer, which shows a session and types into it. Nothing else rests on tmux: where it is missing,
//! or when it dies, the sessions are what they were.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;

use tokio::sync::OnceCell;

use super::facts::{Refusal, RefusalKind, TmuxInfo};
use super::supervisor::{Supervisor, refuse};
use crate::domain::SessionName;

/// The name of the tmux session.
const NAME: &str = "longhaul";

/// The window that is a person's own.
const OWN_WINDOW: &str = "shell";

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
    started: OnceCell<Result<(), Refusal>>,
}

impl Tmux {
    /// Looks for tmux in the directories of `path`.
    pub(super) fn find(path: &str, runtime_dir: &Path) -> Self {
        let dirs = path.split(':').filter(|dir| dir.starts_with('/')).chain(["/usr/bin", "/bin", "/usr/local/bin"]);
        let program = dirs.map(|dir| Path::new(dir).join("tmux")).find(|program| program.is_file());
        Self { program, socket: runtime_dir.join("tmux.sock"), started: OnceCell::new() }
    }

    /// Its path.
    pub(super) fn program(&self) -> Option<String> {
        self.program.as_ref().map(|program| program.to_string_lossy().into_owned())
    }
}

/// Starts the server unless it runs, with a window for every session.
///
/// # Errors
/// When the box has no tmux, or tmux says no.
pub(super) async fn ensure(boss: &Rc<Supervisor>) -> Result<TmuxInfo, Refusal> {
    let missing = || refuse(RefusalKind::Missing, "the box does not have tmux");
    let program = boss.tmux.program().ok_or_else(missing)?;
    boss.tmux.started.get_or_init(|| start(boss)).await.clone()?;
    let socket = boss.tmux.socket.to_string_lossy().into_owned();
    Ok(TmuxInfo { program, socket, session: NAME.into() })
}

/// Shows a session in a window of its own, in the background; where there is no tmux, nothing happens.
pub(super) fn show(boss: &Rc<Supervisor>, session: SessionName) {
    if boss.tmux.program.is_none() {
        return;
    }
    let boss = boss.clone();
    tokio::task::spawn_local(async move {
        let first = !boss.tmux.started.initialized();
        // A view that can't be had is told to who asks for it.
        if ensure(&boss).await.is_ok() && !first {
            let _ = window(&boss, &session).await;
        }
    });
}

async fn start(boss: &Rc<Supervisor>) -> Result<(), Refusal> {
    let config = boss.runtime_path("tmux.conf");
    let written = std::fs::File::create(&config).and_then(|mut file| file.write_all(CONFIG.as_bytes()));
    written.map_err(|error| refuse(RefusalKind::System, format!("tmux configuration: {error}")))?;
    let shell = boss.shell.as_ref().map_or("/bin/sh".into(), |shell| shell.path.to_string_lossy().into_owned());
    let cwd = boss.setup.cwd.to_string_lossy().into_owned();
    let config = config.to_string_lossy().into_owned();
    let words = ["-f", &config, "new-session", "-d", "-s", NAME, "-n", OWN_WINDOW, "-c", &cwd, &shell, "-l"];
    tmux(boss, &words).await?;
    // tmux 3.3 dies of this option in its configuration, where no session is there yet.
    let sessions: Vec<SessionName> = boss.sessions.borrow().keys().cloned().collect();
    for session in &sessions {
        window(boss, session).await?;
    }
    if let Some(first) = sessions.first() {
        tmux(boss, &["select-window", "-t", &format!("={NAME}:={first}")]).await?;
    }
    Ok(())
}

async fn window(boss: &Rc<Supervisor>, session: &SessionName) -> Result<(), Refusal> {
    let target = format!("={NAME}:");
    let socket = boss.runtime_path("view.sock").to_string_lossy().into_owned();
    let mut words = vec!["new-window", "-d", "-t", &target, "-n", session.as_str()];
    words.extend(boss.setup.program.iter().map(String::as_str));
    words.extend(["__view", &socket, session.as_str()]);
    // The size stays the session's, whoever looks, so that looking changes nothing. Set for each window after it is
    // made: set for all, it crashes the server of tmux 3.3a as soon as it makes one.
    let made = format!("={NAME}:={session}");
    words.extend([";", "set-option", "-w", "-t", &made, "window-size", "manual"]);
    tmux(boss, &words).await
}

async fn tmux(boss: &Rc<Supervisor>, words: &[&str]) -> Result<(), Refusal> {
    let ran = run(boss, words).await;
    let failed = |why: String| refuse(RefusalKind::System, format!("tmux: {why}"));
    match ran {
        Ok((crate::domain::Exit::Code(0), _)) => Ok(()),
        Ok((exit, said)) => Err(failed(format!("{exit}: {said}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn run(boss: &Rc<Supervisor>, words: &[&str]) -> io::Result<(crate::domain::Exit, String)> {
    let program = boss.tmux.program.as_ref().ok_or(io::ErrorKind::NotFound)?;
    // Errors go to a file: a pipe would be held open by the server that the first command leaves behind.
    let said = tempfile::tempfile_in(&boss.setup.runtime_dir)?;
    let mut process = std::process::Command::new(program);
    process.arg("-u").arg("-S").arg(&boss.tmux.socket).args(words);
    process.env_clear().envs(&boss.setup.base_env).current_dir("/");
    process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    let child = process.spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    let exit = boss.watch_child(pid).await.map_err(io::Error::other)?;
    let mut text = [0; 500];
    let read = std::os::unix::fs::FileExt::read_at(&said, &mut text, 0)?;
    Ok((exit, String::from_utf8_lossy(&text[..read]).trim().to_owned()))
}
