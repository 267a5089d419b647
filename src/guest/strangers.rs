//! Ends all that runs in the box but some sessions.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::facts::{Refusal, RefusalKind};
use super::proc::{self, Stat};
use super::session::Session;
use super::supervisor::{Supervisor, refuse, signal_process};
use crate::domain::SessionName;

/// How often it is looked whether what was killed has ended: the kernel tells only parents.
const LOOK_STEP: Duration = Duration::from_millis(20);

/// How often at most: what keeps forking faster than it can be killed survives.
const LOOKS: u32 = 150;

/// Closes every session but those in `keep`, and kills every process that neither descends from their shells nor has
/// one of their terminals. The view for people goes too; it comes again when somebody looks in.
///
/// # Errors
/// `System` when something does not end.
pub(super) async fn end_others(boss: Rc<Supervisor>, keep: Vec<SessionName>) -> Result<(), Refusal> {
    let sessions: Vec<Rc<Session>> = boss.sessions.borrow().values().cloned().collect();
    let (kept, others): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|session| keep.contains(&session.info().session));
    for session in others {
        session.hang_up().await;
    }
    for _ in 0..LOOKS {
        let strangers = strangers(&kept);
        if strangers.is_empty() {
            return Ok(());
        }
        strangers.into_iter().for_each(|pid| signal_process(pid, Signal::KILL));
        sleep(LOOK_STEP).await;
    }
    let left = strangers(&kept).len();
    Err(refuse(RefusalKind::System, format!("{left} processes do not end")))
}

/// The living processes of the box that belong to none of these sessions.
fn strangers(kept: &[Rc<Session>]) -> Vec<i32> {
    let shells: Vec<i32> = kept.iter().filter_map(|session| i32::try_from(session.info().pid).ok()).collect();
    let ours: BTreeSet<i32> =
        shells.iter().flat_map(|shell| std::iter::once(*shell).chain(proc::descendants_of(*shell))).collect();
    let terminals: BTreeSet<u32> =
        shells.iter().filter_map(|shell| Stat::of(*shell)).map(|shell| shell.tty).filter(|tty| *tty != 0).collect();
    let others = proc::descendants().into_iter().filter(|pid| !ours.contains(pid)).filter_map(Stat::of);
    others.filter(|other| other.state != 'Z' && !terminals.contains(&other.tty)).map(|other| other.pid).collect()
}
