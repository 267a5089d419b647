//! What a box changed outside the workspace. It goes with the box and can't be applied, so that at the box's end only a
//! list of it is kept.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::beneath::Beneath;
use super::strata::{Side, Stratum, of_record};
use super::upper::{Marks, Walk};
use super::{Change, is_up};
use crate::sandbox::launch::record::Record;

/// The list, below the box's directory.
pub(in crate::sandbox) const FILE: &str = "system.json";
/// Most paths that are listed; a package manager changes thousands.
const MOST: usize = 20_000;
/// Places that are no part of the system, but of the box alone.
const FRESH: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// One path outside the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemChange {
    /// Absolute; what is not UTF-8 in it is replaced.
    pub path: String,
    /// The word of a [`super::ChangeKind`].
    pub kind: String,
    /// Of a file that is there, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemChanges {
    /// In the order of their paths.
    pub changes: Vec<SystemChange>,
    /// How many more there are.
    pub left_out: u64,
}

impl SystemChanges {
    /// Sorts, and cuts what is too long.
    pub(in crate::sandbox) fn of(mut changes: Vec<SystemChange>) -> Self {
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes.retain(|change| !FRESH.iter().any(|fresh| Path::new(&change.path).starts_with(fresh)));
        let left_out = changes.len().saturating_sub(MOST) as u64;
        changes.truncate(MOST);
        Self { changes, left_out }
    }

    /// Writes the list to the box's directory.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(in crate::sandbox) fn save(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join(FILE), serde_json::to_vec(self)?)
    }
}

/// Lists what is in the layers of a box that is about to be removed.
///
/// # Errors
/// When the list can't be written.
pub(in crate::sandbox) fn note(dir: &Path, record: &Record) -> io::Result<()> {
    let strata = of_record(dir, record, Side::System);
    if strata.is_empty() { Ok(()) } else { SystemChanges::of(read(dir, &strata)).save(dir) }
}

/// What the run's box changed outside the workspace; None where nothing of it is known.
pub fn system_changes(run_dir: &Path) -> Option<SystemChanges> {
    let dir = run_dir.join("box");
    if let Some(noted) = fs::read(dir.join(FILE)).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
        return Some(noted);
    }
    let record = Record::load(&dir).filter(|_| is_up(&dir))?;
    let strata = of_record(&dir, &record, Side::System);
    (!strata.is_empty()).then(|| SystemChanges::of(read(&dir, &strata)))
}

fn read(dir: &Path, strata: &[Stratum]) -> Vec<SystemChange> {
    let mut found = Vec::new();
    for stratum in strata.iter().filter(|stratum| !FRESH.iter().any(|fresh| stratum.at == Path::new(fresh))) {
        let uppers: Vec<Beneath> = stratum.dirs.iter().filter_map(|dir| Beneath::open(dir).ok()).collect();
        let Ok(host) = Beneath::open(&stratum.at) else { continue };
        let mut changes: Vec<Change> = Vec::new();
        let walk = Walk { uppers: &uppers, host: &host, marks: Marks::of(dir), first: 0 };
        // A list that is not whole is better than none.
        let _ = walk.run(Path::new(""), Path::new(""), &mut changes);
        found.extend(changes.iter().map(|change| SystemChange {
            path: stratum.at.join(&change.path).to_string_lossy().into_owned(),
            kind: change.kind.word().to_owned(),
            size_bytes: change.new.as_ref().filter(|new| new.node == super::Node::File).map(|new| new.size_bytes),
        }));
    }
    found
}
