//! A box of this machine that is up, with walls or without.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cgroup::Cgroups;
use super::record::Record;
use super::snapshot::Keeper;
use crate::domain::{BoxFacts, Snapshot};
use crate::guest::Client;
use crate::process::descendants;
use crate::sandbox::changes::Listing;
use crate::sandbox::layers::{Store, changed_since};
use crate::sandbox::{Counters, Removal, Sandbox, SandboxError, SnapshotWish, ToCopy};

/// How the server of the view for people is told from all others, and how a window that shows a session begins.
const VIEW: &[u8] = b"/run/longhaul/tmux.sock";
const SHOWS: &[u8] = b"/run/longhaul-bin/agent\0";

/// A box, or a guest without one. Dropped, it goes on running: a later start can find it by its record.
pub(in crate::sandbox) struct Running {
    facts: BoxFacts,
    client: Client,
    dir: PathBuf,
    record: SharedRecord,
    cgroups: Cgroups,
    listing: Option<Listing>,
}

/// A box's record, which whoever keeps its files writes to as well.
#[derive(Debug, Clone)]
pub(super) struct SharedRecord(Arc<Mutex<Record>>);

impl SharedRecord {
    /// The record, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// A box whose guest answers.
    pub(in crate::sandbox) fn new(
        facts: BoxFacts,
        client: Client,
        dir: PathBuf,
        record: Record,
        cgroups: Cgroups,
        listing: Option<Listing>,
    ) -> Self {
        Self { facts, client, dir, record: SharedRecord(Arc::new(Mutex::new(record))), cgroups, listing }
    }
}

#[async_trait::async_trait]
impl Sandbox for Running {
    fn facts(&self) -> &BoxFacts {
        &self.facts
    }

    fn guest(&self) -> &Client {
        &self.client
    }

    fn attach_line(&self) -> Option<String> {
        // There is no engine that could lead inside, and `nsenter` would come without the walls.
        None
    }

    async fn counters(&self) -> Counters {
        self.cgroups.counters()
    }

    async fn grow_memory(&self, bytes: u64) -> Result<(), SandboxError> {
        let grown = self.cgroups.grow_memory(bytes);
        grown.map_err(|because| SandboxError {
            what: "the box's memory limit can't be raised".to_owned(),
            because: Some(because),
            hint: None,
        })
    }

    async fn snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        let keeper = Keeper { client: self.client.clone(), dir: self.dir.clone(), record: self.record.clone() };
        let wish = wish.clone();
        // To the end, also when nobody waits for it any more: a box must not stay held.
        let keeping = tokio::spawn(async move { keeper.keep(&wish).await });
        keeping.await.unwrap_or_else(|_| Err(super::given_up()))
    }

    async fn to_copy(&self) -> Option<ToCopy> {
        let record = self.record.lock().clone();
        let dir = self.dir.clone();
        if record.uncontained {
            return None;
        }
        let counting = tokio::task::spawn_blocking(move || to_copy(&dir, &record));
        counting.await.ok()
    }

    async fn destroy(&self, patience: Duration) -> Removal {
        // What does not end by itself in time is killed with the first process.
        let _ = tokio::time::timeout(patience, self.client.shutdown()).await;
        if let Some(listing) = &self.listing {
            listing.settle().await;
        }
        let record = self.record.lock().clone();
        record.clear(&self.dir).await
    }
}

fn to_copy(dir: &Path, record: &Record) -> ToCopy {
    let store = Store::beside(dir.parent().unwrap_or(dir));
    let since = record.taken.as_ref().and_then(|last| store.taken_at(last));
    let (files, bytes) = record
        .layers
        .iter()
        .map(|layer| changed_since(&dir.join("u").join(&layer.key), since))
        .fold((0, 0), |(files, bytes), (more_files, more_bytes)| (files + more_files, bytes + more_bytes));
    let processes = record.process.as_ref().map_or(0, |first| at_work(first.pid));
    ToCopy { files, bytes, processes }
}

/// Processes of a box beside its first one, but for the view that is held ready for people: its server, the windows that
/// show sessions, and a shell in which nothing runs.
fn at_work(first: i32) -> usize {
    let words = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_view = |pid: &i32| words(*pid).windows(VIEW.len()).any(|part| part == VIEW);
    let below = descendants(first);
    let idle = |server: &i32| {
        let shown = descendants(*server).into_iter();
        let is_idle = |pid: &i32| {
            let words = words(*pid);
            words.starts_with(SHOWS) || (words.ends_with(b"\0-l\0") && descendants(*pid).is_empty())
        };
        1 + shown.filter(is_idle).count()
    };
    below.len() - below.iter().filter(|pid| is_view(pid)).map(idle).sum::<usize>().min(below.len())
}
