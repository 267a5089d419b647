//! `agent attach`: a person's window into a running box.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::args::AttachArgs;
use super::plain_view::PlainView;
use super::target::{of_store, store};
use super::{Failure, Place};
use crate::domain::{ExitReason, SessionName};
use crate::guest::{Actor, Client, Event, GuestError, SessionInfo, TermSize};
use crate::process::RawMode;
use crate::sandbox::reach;

/// Ctrl-]: leaves a session that is typed into.
const LEAVE: u8 = 0x1d;
/// How much of a session's log is shown at first.
const LOOK_BACK: u64 = 64 << 10;
const PIECE: u64 = 64 << 10;
/// How long a box may take to greet.
const GREETING: Duration = Duration::from_secs(5);

/// Runs `agent attach`.
pub(super) async fn run(args: AttachArgs, place: &Place) -> Result<ExitReason, Failure> {
    if !place.stdin_tty || !place.stdout_tty {
        let hint = format!("agent logs {} -f", args.run);
        return Err(Failure::new(ExitReason::Usage, "attaching needs a terminal").hint(hint));
    }
    let store = store(place)?;
    let run = store.find(&args.run).map_err(|error| of_store(&error))?;
    let session = args.session.map(SessionName::new).transpose();
    let session = session.map_err(|error| Failure::new(ExitReason::Usage, error.to_string()))?;
    let not_up = || Failure::new(ExitReason::Failed, format!("run {} has no box that could be looked into", run.id()));
    let client = match tokio::time::timeout(GREETING, reach(run.path())).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(not_up().because_of(&error).hint(format!("agent replay {}", run.id()))),
        Err(_) => return Err(not_up().because("its supervisor does not answer")),
    };
    let attached = match session {
        Some(session) => match info_of(&client, &session).await {
            Ok(Ok(info)) => watch(&client, &info, args.write).await,
            Ok(Err(unknown)) => return Err(unknown),
            Err(error) => Err(error),
        },
        None => match client.tmux().await {
            Ok(tmux) => through_tmux(&client, tmux.attach_argv(), args.write).await,
            Err(GuestError::Refused(_)) => only_session(&client, args.write).await,
            Err(error) => Err(error),
        },
    };
    let is_gone = client.gone().now_or_never().is_some();
    match attached {
        Err(error) if !is_gone => return Err(Failure::new(ExitReason::Failed, "the view ended").because_of(&error)),
        Ok(()) | Err(_) => {}
    }
    let left = if is_gone { "the box is gone: the run has ended" } else { "left; the run goes on" };
    let _ = writeln!(io::stdout(), "\r\n[{left}]");
    Ok(ExitReason::Done)
}

/// What is known of a session, or which there are.
async fn info_of(client: &Client, session: &SessionName) -> Result<Result<SessionInfo, Failure>, GuestError> {
    let sessions = client.sessions().await?;
    let names: Vec<String> = sessions.iter().map(|info| info.session.to_string()).collect();
    let found = sessions.into_iter().find(|info| info.session == *session);
    Ok(found.ok_or_else(|| {
        let because = match &names[..] {
            [] => "none is open yet".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Failure::new(ExitReason::Usage, format!("there is no session `{session}` in this run's box")).because(because)
    }))
}

/// Without tmux: the session in which something runs, else the first.
async fn only_session(client: &Client, write: bool) -> Result<(), GuestError> {
    let sessions = client.sessions().await?;
    let busy = sessions.iter().find(|session| session.command.is_some()).or(sessions.first());
    match busy {
        Some(info) => watch(client, info, write).await,
        None => {
            let _ = writeln!(io::stdout(), "no session is open yet, and there is no tmux in the box");
            Ok(())
        }
    }
}

async fn through_tmux(client: &Client, mut argv: Vec<String>, write: bool) -> Result<(), GuestError> {
    if !write {
        argv.push("-r".to_owned());
    }
    let mut events = client.events();
    let pty = client.open_pty(argv, window()).await?;
    let _screen = Screen::take();
    let mut keys = keys();
    let mut resized = signal(SignalKind::window_change()).map_err(GuestError::Protocol)?;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok((Event::PtyOutput { pty: of }, bytes)) if of == pty => show(&bytes),
                Ok((Event::PtyClosed { pty: of, .. }, _)) if of == pty => return Ok(()),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(GuestError::Gone),
            },
            typed = keys.recv() => match typed {
                Some(typed) => client.pty_input(pty, &typed).await?,
                None => return Ok(()),
            },
            _ = resized.recv() => client.pty_resize(pty, window()).await?,
            () = client.gone() => return Ok(()),
        }
    }
}

/// Shows one session straight from its log; keys reach it only with `write`.
async fn watch(client: &Client, info: &SessionInfo, write: bool) -> Result<(), GuestError> {
    let session = &info.session;
    let leave = if write { "Ctrl-]" } else { "q or Ctrl-C" };
    let _ = write!(io::stdout(), "[session {session}; {leave} leaves]\r\n");
    let mut at = info.log_size.saturating_sub(LOOK_BACK);
    let _screen = Screen::take();
    let mut keys = keys();
    let mut view = PlainView::default();
    loop {
        tokio::select! {
            grown = client.growth(&info.log, at) => {
                let bytes = client.read_log(&info.log, at, grown?.saturating_sub(at).min(PIECE)).await?;
                at += bytes.len() as u64;
                show(&view.pass(&bytes));
            }
            typed = keys.recv() => match typed {
                Some(typed) if write && !typed.contains(&LEAVE) => client.type_keys(session, &typed, Actor::Person).await?,
                Some(typed) if !write && !typed.iter().any(|key| matches!(key, b'q' | 3 | 4)) => {}
                Some(_) | None => return Ok(()),
            },
        }
    }
}

fn show(bytes: &[u8]) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn window() -> TermSize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => TermSize { cols: size.ws_col, rows: size.ws_row },
        _ => TermSize { cols: 80, rows: 24 },
    }
}

/// Keys as they are typed. A thread of its own reads them, for a read from a terminal can't be cancelled.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (typed, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = io::stdin().read(&mut buffer) {
            if typed.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The person's terminal while it shows the view; then as it was, and the cursor visible.
struct Screen {
    _keys: RawMode,
}

impl Screen {
    fn take() -> Self {
        Self { _keys: RawMode::enter() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(b"\x1b[?1049l\x1b[?25h\x1b[0m");
    }
}
