//! What a run brought out of its box, for programs: `artifacts/manifest.json`.

use serde::Serialize;

use crate::domain::{Entry, Event};

/// One file that was brought out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestItem {
    /// Its path inside the box.
    pub path: String,
    /// Its path below the directory of the manifest.
    pub stored: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Every file that was brought out, in order.
pub fn manifest(entries: &[Entry]) -> Vec<ManifestItem> {
    let item = |entry: &Entry| match &entry.event {
        Event::ArtifactCollected { path, stored, size_bytes, sha256 } => Some(ManifestItem {
            path: path.clone(),
            stored: stored.clone(),
            size_bytes: *size_bytes,
            sha256: sha256.clone(),
        }),
        _ => None,
    };
    entries.iter().filter_map(item).collect()
}
