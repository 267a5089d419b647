//! A box of this machine that is up, with walls or without.

use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::Cgroups;
use super::record::Record;
use crate::domain::{BoxFacts, Snapshot};
use crate::guest::Client;
use crate::sandbox::changes::Listing;
use crate::sandbox::{Counters, Removal, Sandbox, SandboxError, SnapshotWish};

/// A box, or a guest without one. Dropped, it goes on running: a later start can find it by its record.
pub(in crate::sandbox) struct Running {
    pub(in crate::sandbox) facts: BoxFacts,
    pub(in crate::sandbox) client: Client,
    pub(in crate::sandbox) dir: PathBuf,
    pub(in crate::sandbox) record: Record,
    pub(in crate::sandbox) cgroups: Cgroups,
    pub(in crate::sandbox) listing: Option<Listing>,
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

    async fn snapshot(&self, _wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        Err(SandboxError { what: "this box can't be kept yet".to_owned(), because: None, hint: None })
    }

    async fn destroy(&self, patience: Duration) -> Removal {
        // What does not end by itself in time is killed with the first process.
        let _ = tokio::time::timeout(patience, self.client.shutdown()).await;
        if let Some(listing) = &self.listing {
            listing.settle().await;
        }
        self.record.clear(&self.dir).await
    }
}
