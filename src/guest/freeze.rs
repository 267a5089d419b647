//! Holds everything that runs in the box, so that its files can be taken as they are at one instant.
//!
//! By signals, since the guest is in every control group of the box itself. Parents are stopped before their children and
//! go on after them, so that no shell sees a child stop; what its user had stopped before stays stopped. A hold is over
//! when its host says so, when that host's connection breaks, or after a while: no box stays frozen for ever.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use super::facts::Refusal;
use super::proc;
use super::protocol::{Frozen, Thawed};
use super::supervisor::{Supervisor, refuse, signal_process};
use crate::guest::facts::RefusalKind;

/// How long processes may take to stop.
const STOPPING_TIME: Duration = Duration::from_secs(2);
/// How long a hold lasts at most.
const LONGEST: Duration = Duration::from_secs(30);
/// How often it is looked whether what was stopped stands: the kernel tells only parents.
const LOOK_STEP: Duration = Duration::from_micros(100);

/// The hold on the box, if there is one.
pub(super) struct Freezer {
    hold: RefCell<Option<Hold>>,
    held: watch::Sender<bool>,
    next: Cell<u64>,
    /// Processes at the other ends of connections, which must go on for a host to say that the hold is over.
    peers: RefCell<BTreeMap<u64, i32>>,
}

struct Hold {
    id: u64,
    /// The connection that asked for it.
    owner: u64,
    since: Instant,
    /// In the order in which they were stopped.
    stopped: Vec<i32>,
}

impl Default for Freezer {
    fn default() -> Self {
        Self {
            hold: RefCell::default(),
            held: watch::Sender::new(false),
            next: Cell::new(1),
            peers: RefCell::default(),
        }
    }
}

impl Freezer {
    /// A number for a connection, whose other end is that process of the box where it is one.
    pub(super) fn connected(&self, peer: Option<i32>) -> u64 {
        let connection = self.next.replace(self.next.get() + 1);
        if let Some(peer) = peer.filter(|pid| *pid > 0) {
            self.peers.borrow_mut().insert(connection, peer);
        }
        connection
    }

    /// The connection is gone, and with it any hold of its own.
    pub(super) fn disconnected(&self, connection: u64) {
        self.peers.borrow_mut().remove(&connection);
        let owned = self.hold.borrow().as_ref().filter(|hold| hold.owner == connection).map(|hold| hold.id);
        if let Some(id) = owned {
            self.thaw(id);
        }
    }

    /// Tells whether there is a hold.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    /// Ends a hold. One that had ended by itself is told as such.
    pub(super) fn thaw(&self, id: u64) -> Thawed {
        let Some(hold) = self.hold.borrow_mut().take_if(|hold| hold.id == id) else {
            return Thawed { held_ms: 0, to_the_end: false };
        };
        go_on(&hold.stopped);
        let held_ms = u64::try_from(hold.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.held.send_replace(false);
        Thawed { held_ms, to_the_end: true }
    }
}

fn go_on(stopped: &[i32]) {
    for pid in stopped.iter().rev() {
        signal_process(*pid, Signal::CONT);
    }
}

/// Stops every process of the box but the guest, for the host at that connection.
///
/// # Errors
/// When there is a hold already.
pub(super) async fn freeze(boss: Rc<Supervisor>, owner: u64) -> Result<Frozen, Refusal> {
    let freezer = &boss.freezer;
    if freezer.held.send_replace(true) {
        return Err(refuse(RefusalKind::Invalid, "the box is held already"));
    }
    let spared: BTreeSet<i32> = freezer.peers.borrow().values().copied().collect();
    let (scope, since) = (Scope::of(&boss, spared), Instant::now());
    let stopping = tokio::task::spawn_blocking(move || {
        let stopping = stop_all(&scope);
        let mapped = mapped(&scope);
        (stopping, mapped)
    });
    let Ok((Stopping { stopped, moving }, mapped)) = stopping.await else {
        freezer.held.send_replace(false);
        return Err(refuse(RefusalKind::System, "the hold was given up"));
    };
    let id = freezer.next.replace(freezer.next.get() + 1);
    let held = u32::try_from(stopped.len()).unwrap_or(u32::MAX);
    *freezer.hold.borrow_mut() = Some(Hold { id, owner, since, stopped });
    let timed = boss.clone();
    tokio::task::spawn_local(async move {
        // A bound: whoever held them and never let go must not hold them for ever.
        tokio::time::sleep(LONGEST).await;
        timed.freezer.thaw(id);
    });
    Ok(Frozen { hold: id, held, mapped, moving })
}

/// The files that something in the box has mapped so that it can change them unseen.
pub(super) async fn mapped_files(boss: Rc<Supervisor>) -> Vec<String> {
    let scope = Scope::of(&boss, BTreeSet::new());
    tokio::task::spawn_blocking(move || mapped(&scope)).await.unwrap_or_default()
}

/// Which processes are meant.
struct Scope {
    /// Everything that can be seen, since nothing is there but the box; else only what descends from the guest.
    all: bool,
    own: i32,
    spared: BTreeSet<i32>,
}

impl Scope {
    fn of(boss: &Supervisor, spared: BTreeSet<i32>) -> Self {
        Self { all: boss.setup.init, own: i32::try_from(std::process::id()).unwrap_or(1), spared }
    }

    fn pids(&self) -> Vec<i32> {
        if !self.all {
            return proc::descendants().into_iter().filter(|pid| !self.spared.contains(pid)).collect();
        }
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // An engine's own first process can't be stopped from inside, and changes no file.
        pids.filter(|pid| *pid != self.own && *pid != 1 && !self.spared.contains(pid)).collect()
    }
}

struct Stopping {
    stopped: Vec<i32>,
    /// What could not be stopped, in words.
    moving: Option<String>,
}

/// Stops all, parents first, until a look finds nothing that moves.
fn stop_all(scope: &Scope) -> Stopping {
    let begun = Instant::now();
    let mut stopped: Vec<i32> = Vec::new();
    loop {
        let all: BTreeMap<i32, Look> = scope.pids().into_iter().filter_map(|pid| Some((pid, look(pid)?))).collect();
        let moving: Vec<i32> = all.iter().filter(|(_, look)| look.moves).map(|(pid, _)| *pid).collect();
        if moving.is_empty() {
            return Stopping { stopped, moving: None };
        }
        if begun.elapsed() > STOPPING_TIME {
            let named = moving.iter().take(3).map(|pid| format!("{pid} ({})", proc::name(*pid)));
            let named = named.collect::<Vec<_>>().join(", ");
            let words = format!("process {named} did not stop within {} s", STOPPING_TIME.as_secs());
            return Stopping { stopped, moving: Some(words) };
        }
        for pid in &moving {
            // Its parent would see it stop.
            let parent_moves = all.get(&all[pid].parent).is_some_and(|parent| parent.moves);
            if parent_moves || stopped.contains(pid) {
                continue;
            }
            // The guest itself waits for a child to become its own program: stopped before, both would wait for ever.
            if all[pid].parent == scope.own && is_unborn(*pid) {
                continue;
            }
            signal_process(*pid, Signal::STOP);
            stopped.push(*pid);
        }
        std::thread::sleep(LOOK_STEP);
    }
}

struct Look {
    parent: i32,
    moves: bool,
}

/// Whether a child of the guest has not become its own program yet.
fn is_unborn(pid: i32) -> bool {
    let words = |of: &str| fs::read(format!("/proc/{of}/cmdline")).unwrap_or_default();
    let own = words("self");
    !own.is_empty() && words(&pid.to_string()) == own
}

/// How a process stands; None for one that has ended.
fn look(pid: i32) -> Option<Look> {
    let mut found = None;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that has ended since moves nothing.
        let Ok(text) = fs::read(task.path().join("stat")) else { continue };
        let (state, parent) = state_and_parent(&String::from_utf8_lossy(&text))?;
        let stands = match state {
            'T' | 't' | 'Z' | 'X' => true,
            // Until the child that it has just made becomes another program, it waits for that one, which is stopped.
            'D' => waits_for_child(&task.path()),
            _ => false,
        };
        let look = found.get_or_insert(Look { parent, moves: false });
        look.moves |= !stands;
    }
    found
}

fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn waits_for_child(task: &std::path::Path) -> bool {
    let number = fs::read_to_string(task.join("syscall")).ok();
    let number = number.and_then(|text| text.split_whitespace().next()?.parse::<i64>().ok());
    number.is_some_and(is_birth)
}

#[cfg(target_arch = "x86_64")]
fn is_birth(number: i64) -> bool {
    [libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_birth(number: i64) -> bool {
    [libc::SYS_clone, libc::SYS_clone3].contains(&number)
}

fn mapped(scope: &Scope) -> Vec<String> {
    let mut found = BTreeSet::new();
    for pid in scope.pids() {
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        found.extend(shared_files(&String::from_utf8_lossy(&maps)));
    }
    found.into_iter().collect()
}

/// The files in a list of mappings that are written to through memory.
fn shared_files(maps: &str) -> impl Iterator<Item = String> + '_ {
    maps.lines().filter_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let kind = fields.nth(1)?.as_bytes();
        let path = fields.nth(3)?.trim_start();
        let shared = kind.get(1) == Some(&b'w') && kind.get(3) == Some(&b's');
        // The kernel writes a line end in a name as four characters.
        (shared && path.starts_with('/') && !path.ends_with(" (deleted)")).then(|| path.replace("\\012", "\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_written_to_and_is_shared_counts_as_mapped() {
        let maps = "7f00-7f10 rw-s 00000000 fe:00 12 /var/lib/a b\n\
                    7f10-7f20 r--s 00000000 fe:00 13 /var/lib/read\n\
                    7f20-7f30 rw-p 00000000 fe:00 14 /var/lib/private\n\
                    7f30-7f40 rw-s 00000000 00:01 15 /dev/zero (deleted)\n\
                    7f40-7f50 rw-s 00000000 00:00 0 \n\
                    7f50-7f60 rwxs 00000000 fe:00 16                   /x\\012y\n";
        let found: Vec<_> = shared_files(maps).collect();
        assert_eq!(found, ["/var/lib/a b", "/x\ny"]);
    }

    #[test]
    fn the_state_is_read_whatever_the_name() {
        assert_eq!(state_and_parent("7 (a) T (b) S 3 7 7"), Some(('S', 3)));
        assert_eq!(state_and_parent("7 (cut"), None);
    }
}
