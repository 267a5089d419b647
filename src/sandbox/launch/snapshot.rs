//! Keeps the files of a box that is up, as they are at one instant.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use super::running::SharedRecord;
use super::seal::{end, seal};
use crate::domain::{Consistency, SandboxKind, Snapshot};
use crate::guest::{Client, Frozen, GuestError, Thawed};
use crate::sandbox::changes::{LIST, OPENED};
use crate::sandbox::layers::{Kept, Parts, Store, Taking, now_ns};
use crate::sandbox::{SandboxError, SnapshotWish};

/// Whoever keeps a box's files.
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) dir: PathBuf,
    pub(super) record: SharedRecord,
}

/// What was taken, and how.
struct Taken {
    kept: Kept,
    consistency: Consistency,
}

impl Keeper {
    /// Keeps the box's files.
    ///
    /// # Errors
    /// When there is no box around them, or they can't be kept; then nothing is, and the box goes on.
    pub(super) async fn keep(self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        let begun = Instant::now();
        let record = self.record.lock().clone();
        if record.uncontained {
            return Err(SandboxError {
                what: "there is no box whose files could be kept".to_owned(),
                because: Some("the run works on the host's own files".to_owned()),
                hint: Some("use `--sandbox local` or `--sandbox docker` to have checkpoints".to_owned()),
            });
        }
        let taken = if wish.last { self.seal(wish).await } else { self.take(wish).await };
        let Taken { mut kept, consistency } = taken?;
        if record.written_through {
            kept.left_out.push(format!("{}: written through to the host", record.workspace.display()));
        }
        Ok(Snapshot {
            kind: SandboxKind::Local,
            layers: std::iter::once(wish.layer.clone()).chain(record.from).collect(),
            image: None,
            consistency,
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            new_files: kept.new_files,
            new_bytes: kept.new_bytes,
            left_out: kept.left_out,
        })
    }

    /// Copies while the box works, holds it for what has changed meanwhile, lets it go on.
    async fn take(&self, wish: &SnapshotWish) -> Result<Taken, SandboxError> {
        let record = self.record.lock().clone();
        let (store, name) = (Store::beside(self.run_dir()), wish.layer.clone());
        let parts = Parts { dir: self.dir.join("u"), layers: record.layers.clone() };
        let (rootful, last, unwanted) = (record.rootful, record.taken.clone(), wish.unwanted.clone());
        // What is mapped now and let go before the box is held may have been changed without a trace.
        let mut mapped = self.client.mapped().await.map_err(|error| not_held(&error))?;
        let taking =
            blocking(move || Taking::begin(&store, &name, &parts, rootful, last.as_deref(), &unwanted)).await?;
        let frozen = self.client.freeze().await.map_err(|error| not_held(&error))?;
        mapped.extend(frozen.mapped.iter().cloned());
        let held_ns = now_ns();
        let settled = blocking(move || {
            let mut taking = taking;
            taking.settle(&mapped).map(|()| taking)
        });
        let settled = settled.await;
        let thawed = self.client.thaw(frozen.hold).await;
        let (taking, consistency) = (settled?, consistency(&frozen, thawed));
        let beside = [OPENED, LIST].map(|name| self.dir.join(name));
        let kept = blocking(move || taking.finish(&beside, held_ns)).await?;
        let mut record = self.record.lock();
        record.taken = Some(wish.layer.clone());
        // Only costs time if it is not known later.
        let _ = record.save(&self.dir);
        Ok(Taken { kept, consistency })
    }

    /// Ends the box and takes its layers as they are.
    async fn seal(&self, wish: &SnapshotWish) -> Result<Taken, SandboxError> {
        let process = self.record.lock().process.clone();
        end(&self.client, process.as_ref()).await.map_err(|error| not_kept(&error))?;
        let (dir, shared, name) = (self.dir.clone(), self.record.clone(), wish.layer.clone());
        let kept = blocking(move || {
            let mut record = shared.lock().clone();
            let sealed = seal(&dir, &mut record, &name);
            *shared.lock() = record;
            sealed
        });
        Ok(Taken { kept: kept.await?, consistency: Consistency::Stopped })
    }

    fn run_dir(&self) -> &std::path::Path {
        self.dir.parent().unwrap_or(&self.dir)
    }
}

/// What may be said of files that were taken within that hold.
fn consistency(frozen: &Frozen, thawed: Result<Thawed, GuestError>) -> Consistency {
    match (&frozen.moving, thawed) {
        (Some(why), _) => Consistency::Unfrozen { why: why.clone() },
        (None, Ok(Thawed { held_ms, to_the_end: true })) => Consistency::Frozen { by: "signals".to_owned(), held_ms },
        (None, Ok(Thawed { to_the_end: false, .. })) => {
            Consistency::Unfrozen { why: "the box was not held long enough".to_owned() }
        }
        (None, Err(error)) => Consistency::Unfrozen { why: format!("the hold was lost: {error}") },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| not_kept(&error))
}

fn not_kept(error: &io::Error) -> SandboxError {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    SandboxError {
        what: "cannot keep the box's files".to_owned(),
        because: Some(error.to_string()),
        hint: full.then(|| "make room on the disk of the state directory".to_owned()),
    }
}

fn not_held(error: &GuestError) -> SandboxError {
    SandboxError {
        what: "cannot hold the box to keep its files".to_owned(),
        because: Some(error.to_string()),
        hint: None,
    }
}
