//! The head of a transcript: its last entry, named in a file of its own, so that a cut tail is noticed.
//!
//! The file is renamed into place when recording begins, and from then on written over in place after each entry is on
//! disk: one write of always the same length, within one sector, so that a reader finds the old head or the new one.
//! (Renaming at every append would cost half as much again as syncing the entry.) It never names an entry that is not
//! there, unless the tail was cut. It is synced only with the last entry of a run, so a power failure may leave an older
//! one; an older head still proves everything up to the entry that it names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile};
use super::line::{NO_PREDECESSOR, is_hash};

/// The file's name in the run's directory.
const HEAD: &str = "head";

/// The last entry: its place and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its place; None while there is no entry.
    pub seq: Option<u64>,
    /// Its hash; 64 zeros while there is no entry.
    pub hash: String,
}

/// Why a head can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// There is none.
    #[error("there is no head file")]
    Missing,
    /// It is no head.
    #[error("the head file is damaged")]
    Damaged,
    /// The system says no.
    #[error("cannot read the head file")]
    Io(#[source] io::Error),
}

impl Head {
    /// The head of a transcript without entries.
    pub fn start() -> Self {
        Self { seq: None, hash: NO_PREDECESSOR.to_owned() }
    }

    /// Reads the head of the run in `dir`.
    ///
    /// # Errors
    /// [`HeadError`] where there is none or it is damaged.
    pub fn read(dir: &Path) -> Result<Self, HeadError> {
        let bytes = fs::read(path(dir)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => HeadError::Missing,
            _ => HeadError::Io(error),
        })?;
        let head: Self = serde_json::from_slice(&bytes).map_err(|_| HeadError::Damaged)?;
        if is_hash(&head.hash) { Ok(head) } else { Err(HeadError::Damaged) }
    }

    /// Its text, always of the same length.
    fn text(&self) -> String {
        let seq = self.seq.map_or("null".to_owned(), |seq| seq.to_string());
        format!("{{\"seq\":{seq:>20},\"hash\":\"{}\"}}\n", self.hash)
    }
}

/// The head's file while its run is recorded.
pub(super) struct HeadFile(Arc<dyn DiskFile>);

impl HeadFile {
    /// Puts `head` in place, whole or not at all, and keeps it open.
    pub(super) fn place(disk: &dyn Disk, head: &Head) -> io::Result<Self> {
        Ok(Self(disk.replace(HEAD, head.text().as_bytes())?))
    }

    /// Names another entry.
    pub(super) fn write(&self, head: &Head) -> io::Result<()> {
        self.0.write_at(head.text().as_bytes(), 0)
    }

    /// What was written outlives a power failure when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(HEAD)
}
