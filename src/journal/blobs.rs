//! Content of a run that is too big or too raw for a line, named by its hash.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::line::{hex, is_hash};
use crate::domain::BlobRef;
use crate::telemetry::Redactor;

/// Why a blob can't be stored or had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk is full.
    #[error("cannot store a blob: the disk is full")]
    Full(#[source] io::Error),
    /// The system says no.
    #[error("cannot reach blob {name}")]
    Io {
        /// The blob's hash.
        name: String,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// There is no such blob.
    #[error("blob {0} is missing")]
    Missing(String),
    /// Its content is not what its name says.
    #[error("blob {0} does not have the content that its name promises")]
    Damaged(String),
}

/// The blobs of one run: `blobs/<2 hex>/<64 hex>.zst`.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
    pub(super) redactor: Arc<Redactor>,
    /// Stored, but perhaps not on disk yet.
    unsynced: Arc<Mutex<Vec<File>>>,
}

impl Blobs {
    /// The blobs below `dir`.
    pub(super) fn new(dir: PathBuf, redactor: Arc<Redactor>) -> Self {
        Self { dir, redactor, unsynced: Arc::default() }
    }

    /// Redacts `bytes` and stores what remains. The end of this process can't take it away; against a power failure it is
    /// safe after [`Blobs::commit`]. Storing it again writes nothing.
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`]; nothing is left behind then.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobRef, BlobError> {
        self.put_clean(&self.redactor.redact_bytes(bytes))
    }

    /// As [`Blobs::put`], for what has been redacted already.
    pub(super) fn put_clean(&self, bytes: &[u8]) -> Result<BlobRef, BlobError> {
        let blob = BlobRef { sha256: sha256_of(bytes), size_bytes: bytes.len() as u64 };
        let path = place(&self.dir, &blob.sha256);
        if read(&self.dir, &blob).is_ok() {
            return Ok(blob);
        }
        self.store(&path, bytes).map_err(|source| match is_full(&source) {
            true => BlobError::Full(source),
            false => BlobError::Io { name: blob.sha256.clone(), source },
        })?;
        Ok(blob)
    }

    fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let parent = path.parent().expect("a blob lies in a directory");
        fs::create_dir_all(parent)?;
        let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
        temporary.write_all(&zstd::bulk::compress(bytes, 3)?)?;
        // Renamed first: the rename changes the inode, so that one sync puts content and name on disk. A blob that a
        // power failure cut short does not have the hash that it is named by, and nothing names it yet.
        let file = temporary.persist(path).map_err(|error| error.error)?;
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).push(file);
        Ok(())
    }

    /// Puts every blob that was stored so far on disk.
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`].
    pub fn commit(&self) -> Result<(), BlobError> {
        let files = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        let synced = files.iter().try_for_each(File::sync_all);
        synced.map_err(|source| match is_full(&source) {
            true => BlobError::Full(source),
            false => BlobError::Io { name: "of this run".to_owned(), source },
        })
    }

    /// The content of `blob`.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`] or [`BlobError::Io`].
    pub fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        read(&self.dir, blob)
    }
}

/// Reads a blob below `dir` and holds it against its name.
pub(super) fn read(dir: &Path, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
    let name = || blob.sha256.clone();
    if !is_hash(&blob.sha256) {
        return Err(BlobError::Damaged(name()));
    }
    let file = File::open(place(dir, &blob.sha256)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => BlobError::Missing(name()),
        _ => BlobError::Io { name: name(), source },
    })?;
    let mut content = Vec::new();
    let decoded = zstd::Decoder::new(file)
        .and_then(|decoder| decoder.take(blob.size_bytes.saturating_add(1)).read_to_end(&mut content));
    if decoded.is_err() || content.len() as u64 != blob.size_bytes || sha256_of(&content) != blob.sha256 {
        return Err(BlobError::Damaged(name()));
    }
    Ok(content)
}

/// The SHA-256 of `bytes` in lower-case hex.
pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// True where a write failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn place(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(&sha256[..2]).join(format!("{sha256}.zst"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(dir: &Path) -> Blobs {
        Blobs::new(dir.to_owned(), Arc::new(Redactor::new(&[])))
    }

    #[test]
    fn what_was_put_can_be_had() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let blob = blobs.put(b"hello").unwrap();
        assert_eq!(blob, blobs.put(b"hello").unwrap());
        assert_eq!(blobs.get(&blob).unwrap(), b"hello");
        let empty = blobs.put(b"").unwrap();
        assert_eq!(blobs.get(&empty).unwrap(), b"");
    }

    #[test]
    fn a_blob_that_is_not_what_it_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let blob = blobs.put(b"hello").unwrap();
        fs::write(place(dir.path(), &blob.sha256), zstd::bulk::compress(b"hullo", 3).unwrap()).unwrap();
        assert!(matches!(blobs.get(&blob), Err(BlobError::Damaged(_))));
        fs::write(place(dir.path(), &blob.sha256), b"no zstd").unwrap();
        assert!(matches!(blobs.get(&blob), Err(BlobError::Damaged(_))));
        fs::remove_file(place(dir.path(), &blob.sha256)).unwrap();
        assert!(matches!(blobs.get(&blob), Err(BlobError::Missing(_))));
        let escape = BlobRef { sha256: "../../../etc/passwd".into(), size_bytes: 1 };
        assert!(matches!(blobs.get(&escape), Err(BlobError::Damaged(_))));
    }
}
