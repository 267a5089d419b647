//! The head of a transcript: its last entry, named in a file of its own, so that a cut tail is noticed.
//!
//! The file is renamed into place after the entry is on disk, at every append: it never names an entry that is not
//! there, unless the tail was cut. It is not synced by itself before the last entry of a run, so a power failure may
//! leave an older one; an older head still proves everything up to the entry that it names.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::line::{NO_PREDECESSOR, is_hash};

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

    /// Puts the head of the run in `dir` in place, whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        self.put(dir).map(drop)
    }

    /// As [`Head::write`], and it outlives a power failure.
    pub(super) fn write_durably(&self, dir: &Path) -> io::Result<()> {
        self.put(dir)?.sync_data()?;
        File::open(dir)?.sync_data()
    }

    fn put(&self, dir: &Path) -> io::Result<File> {
        let seq = self.seq.map_or("null".to_owned(), |seq| seq.to_string());
        let temporary = dir.join("head.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(format!("{{\"seq\":{seq},\"hash\":\"{}\"}}\n", self.hash).as_bytes())?;
        fs::rename(&temporary, path(dir))?;
        Ok(file)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("head")
}
