//! The guest's life: from its set-up to its end.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Signal};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use super::setup::{Control, GuestSetup};
use super::supervisor::{Supervisor, signal_process};
use super::{connection, keep, proc, view};

/// How long what ran in the box may take to die after SIGKILL before it is left to its fate.
const DYING_TIME: Duration = Duration::from_secs(2);

/// Runs the supervisor in this process until it is told to shut down, by a host or by SIGTERM.
///
/// Starts its own single-threaded runtime, so it may be called right after a fork; never from within a runtime.
///
/// # Errors
/// When it can't begin: its directory, its socket or its runtime can't be had.
pub fn serve(mut setup: GuestSetup) -> io::Result<()> {
    // Nobody in the box may look into this process: the token is in its memory.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if !setup.init {
        // Orphans come to the first process of a box by themselves.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = listen(&mut setup.control)?;
        let boss = Supervisor::new(setup)?;
        view::begin(&boss)?;
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stop = boss.stop.subscribe();
        // Set to the last moment once the guest is told to stop; never comes before.
        let mut dying = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        let mut stopping = false;
        loop {
            tokio::select! {
                _ = children.recv() => {
                    boss.reap();
                    if stopping && end_all() {
                        break;
                    }
                }
                accepted = listener.accept(), if !stopping => {
                    if let Ok((stream, _)) = accepted {
                        tokio::task::spawn_local(connection::serve(boss.clone(), stream));
                    }
                }
                _ = terminate.recv() => {
                    boss.stop.send_replace(true);
                }
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    dying.as_mut().reset(tokio::time::Instant::now() + DYING_TIME);
                    close_sessions(&boss);
                    if end_all() {
                        break;
                    }
                }
                () = &mut dying, if stopping => break,
            }
        }
        // What a disk does not take in time is not waited for any longer.
        let _ = tokio::time::timeout(DYING_TIME, boss.finish_logs()).await;
        Ok(())
    })
}

fn listen(control: &mut Control) -> io::Result<UnixListener> {
    match std::mem::replace(control, Control::Path(std::path::PathBuf::new())) {
        Control::Path(path) => {
            // Left over from an earlier guest.
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            // The host's user may be another one than the box's; the token is what lets it in.
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
            *control = Control::Path(path);
            Ok(listener)
        }
        Control::Listener(listener) => {
            let listener = std::os::unix::net::UnixListener::from(listener);
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        }
    }
}

fn close_sessions(boss: &Rc<Supervisor>) {
    // In a box of its own they go with the box, or are kept with it.
    if !boss.setup.init {
        keep::forget(boss);
    }
    for session in boss.sessions.borrow().values() {
        session.close();
    }
}

/// Kills everything that descends from the guest; true when there is nothing.
fn end_all() -> bool {
    let left = proc::descendants();
    for pid in &left {
        signal_process(*pid, Signal::KILL);
    }
    left.is_empty()
}
