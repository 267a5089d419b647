//! A box of this machine that is up, with walls or without.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cgroup::Cgroups;
use super::record::Record;
use super::snapshot::Keeper;
use crate::domain::{BoxFacts, Snapshot};
use crate::guest::Client;
use crate::sandbox::changes::Listing;
use crate::sandbox::{Counters, Removal, Sandbox, SandboxError, SnapshotWish};

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

    async fn snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        let keeper = Keeper { client: self.client.clone(), dir: self.dir.clone(), record: self.record.clone() };
        let wish = wish.clone();
        // To the end, also when nobody waits for it any more: a box must not stay held.
        let keeping = tokio::spawn(async move { keeper.keep(&wish).await });
        keeping.await.unwrap_or_else(|_| Err(super::given_up()))
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
