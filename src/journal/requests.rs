//! Requests to the model, each stored as what it adds to the one before: a run's size grows with its length, not with
//! the square of it.

use super::blobs::sha256_of;
use super::{BlobError, Blobs};
use crate::domain::BlobRef;

/// A request as [`crate::domain::Event::ModelRequested`] names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// SHA-256 of the whole request.
    pub sha256: String,
    /// How much of the run's previous request it begins with.
    pub kept_bytes: u64,
    /// What follows.
    pub rest: BlobRef,
}

/// Stores the requests of a run, in order.
pub struct Requests {
    blobs: Blobs,
    previous: Vec<u8>,
}

impl Requests {
    /// For a run that has made no request yet.
    pub fn new(blobs: Blobs) -> Self {
        Self { blobs, previous: Vec::new() }
    }

    /// For a run whose last request was this, as it was stored; empty where that is not known.
    pub fn after(blobs: Blobs, previous: Vec<u8>) -> Self {
        Self { blobs, previous }
    }

    /// Redacts `request` and stores what is new in it, as [`Blobs::put`] does.
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub fn put(&mut self, request: &[u8]) -> Result<StoredRequest, BlobError> {
        let clean = self.blobs.redactor.redact_bytes(request).into_owned();
        let kept = clean.iter().zip(&self.previous).take_while(|(new, old)| new == old).count();
        let rest = self.blobs.put_clean(&clean[kept..])?;
        let stored = StoredRequest { sha256: sha256_of(&clean), kept_bytes: kept as u64, rest };
        self.previous = clean;
        Ok(stored)
    }
}

/// Puts the requests of a run together again, in order.
#[derive(Default)]
pub struct RequestReader {
    request: Vec<u8>,
}

impl RequestReader {
    /// The next request, from what it keeps of the one before and its blob's content; None unless it has this hash.
    pub fn next(&mut self, sha256: &str, kept_bytes: u64, rest: &[u8]) -> Option<&[u8]> {
        let kept = usize::try_from(kept_bytes).ok().filter(|kept| *kept <= self.request.len())?;
        self.request.truncate(kept);
        self.request.extend_from_slice(rest);
        (sha256_of(&self.request) == sha256).then_some(&self.request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::{Redactor, Secret};

    #[test]
    fn requests_come_back_whole_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Secret { name: "KEY".into(), value: "hunter2hunter2".into() };
        let blobs = Blobs::new(dir.path().to_owned(), Arc::new(Redactor::new(&[secret])));
        let mut requests = Requests::new(blobs.clone());
        let mut reader = RequestReader::default();
        for (request, kept) in [("[a]", 0), ("[a,b hunter2hunter2]", 2), ("[a,b hunter2hunter2,c]", 31), ("[x]", 1)] {
            let stored = requests.put(request.as_bytes()).unwrap();
            assert_eq!(stored.kept_bytes, kept, "{request}");
            let rest = blobs.get(&stored.rest).unwrap();
            let whole = reader.next(&stored.sha256, stored.kept_bytes, &rest).unwrap();
            let clean = request.replace("hunter2hunter2", "[REDACTED:rule=KEY,len=14]");
            assert_eq!(std::str::from_utf8(whole).unwrap(), clean);
        }
        assert_eq!(reader.next("00", 99, b""), None);
        assert_eq!(reader.next("00", 1, b""), None);
    }
}
