//! Who still needs a layer: every checkpoint and every box, of all runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::sandbox::launch::record::KeptList;

/// As much of a checkpoint's file as matters here.
#[derive(Deserialize)]
struct CheckpointFile {
    checkpoint: CheckpointPart,
}

#[derive(Deserialize)]
struct CheckpointPart {
    snapshot: SnapshotPart,
}

#[derive(Deserialize)]
struct SnapshotPart {
    #[serde(default)]
    layers: Vec<String>,
    #[serde(default)]
    image: Option<String>,
}

/// As much of a box's record as matters here.
#[derive(Deserialize)]
struct BoxPart {
    #[serde(default)]
    from: Vec<String>,
    #[serde(default)]
    sealing: Option<String>,
}

/// The ids of all images that a checkpoint of some run stands on.
///
/// # Errors
/// When a checkpoint can't be read: it may refer to anything.
pub(in crate::sandbox) fn images(state_dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for run in entries(&state_dir.join("runs"))? {
        for file in entries(&run.join("checkpoints"))? {
            if file.extension().is_some_and(|end| end == "json") {
                let file: CheckpointFile = serde_json::from_slice(&fs::read(&file)?)?;
                ids.extend(file.checkpoint.snapshot.image);
            }
        }
    }
    Ok(ids)
}

/// The names of all layers that a checkpoint or a box of some run stands on.
///
/// # Errors
/// When a checkpoint can't be read: it may refer to anything.
pub(in crate::sandbox) fn referenced(state_dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for run in entries(&state_dir.join("runs"))? {
        for file in entries(&run.join("checkpoints"))? {
            if file.extension().is_some_and(|end| end == "json") {
                let file: CheckpointFile = serde_json::from_slice(&fs::read(&file)?)?;
                names.extend(file.checkpoint.snapshot.layers);
            }
        }
        let dir = run.join("box");
        if let Some(record) = box_part(&dir) {
            names.extend(record.from);
            names.extend(record.sealing);
        }
        names.extend(KeptList::load(&dir).into_iter().flat_map(|kept| kept.from));
    }
    Ok(names)
}

/// The layers that the box of any kind with this directory stands on, from the top down.
pub(in crate::sandbox) fn stood_on(dir: &Path) -> Vec<String> {
    box_part(dir).map(|record| record.from).unwrap_or_default()
}

fn box_part(dir: &Path) -> Option<BoxPart> {
    serde_json::from_slice(&fs::read(dir.join("init.json")).ok()?).ok()
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
