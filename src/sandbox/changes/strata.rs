//! What changed below one directory of a box: its own layer, and the kept ones that it stands on, from the top down.

use std::path::{Path, PathBuf};

use crate::sandbox::launch::record::{KeptList, Record, holds_workspace};
use crate::sandbox::launch::wire::{Layer, WORKSPACE_KEY};
use crate::sandbox::layers::{Store, is_workspace, stood_on};

/// All that was written below one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stratum {
    /// The directory, the same on host and in the box.
    pub(super) at: PathBuf,
    /// Where the layers lie, from the top down; not all need be there.
    pub(super) dirs: Vec<PathBuf>,
}

/// Which part of a box is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The workspace.
    Workspace,
    /// Everything else.
    System,
}

/// Whose layers they are.
struct Owner<'a> {
    dir: &'a Path,
    workspace: &'a Path,
    written_through: bool,
}

/// The strata of the box with that record.
pub(super) fn of_record(dir: &Path, record: &Record, side: Side) -> Vec<Stratum> {
    let owner = Owner { dir, workspace: &record.workspace, written_through: record.written_through };
    owner.strata(&record.layers, &record.from, side)
}

/// The strata of the workspace: as listed at the box's end, or as the box that is up has them.
pub(super) fn of_workspace(dir: &Path, workspace: &Path) -> Vec<Stratum> {
    let owner = Owner { dir, workspace, written_through: false };
    if let Some(kept) = KeptList::load(dir) {
        return owner.strata(&kept.layers, &kept.from, Side::Workspace);
    }
    if let Some(record) = Record::load(dir) {
        return of_record(dir, &record, Side::Workspace);
    }
    let layer = Layer { at: workspace.to_owned(), key: WORKSPACE_KEY.to_owned() };
    let is_there = dir.join("u").join(WORKSPACE_KEY).is_dir();
    // A container, whose record tells of it in its own way.
    if is_there { owner.strata(&[layer], &stood_on(dir), Side::Workspace) } else { Vec::new() }
}

impl Owner<'_> {
    fn strata(&self, own: &[Layer], from: &[String], side: Side) -> Vec<Stratum> {
        let store = Store::beside(self.dir.parent().unwrap_or(self.dir));
        let mut found: Vec<(Layer, Vec<PathBuf>)> =
            own.iter().map(|layer| (layer.clone(), vec![self.dir.join("u").join(&layer.key)])).collect();
        for name in from {
            // One that is gone can't be told of; the box can't be made from it either.
            let Ok(meta) = store.meta(name) else { continue };
            for part in meta.parts {
                let Ok(path) = store.part(name, &part.key) else { continue };
                let same = |layer: &Layer| layer.at == part.at && is_workspace(&layer.key) == is_workspace(&part.key);
                match found.iter_mut().find(|(layer, _)| same(layer)) {
                    Some((_, dirs)) => dirs.push(path),
                    None => found.push((part, vec![path])),
                }
            }
        }
        let layers: Vec<Layer> = found.iter().map(|(layer, _)| layer.clone()).collect();
        let wanted = |layer: &Layer| {
            holds_workspace(&layers, self.workspace, self.written_through, layer) == (side == Side::Workspace)
        };
        let strata = found.into_iter().filter(|(layer, _)| wanted(layer));
        strata.map(|(layer, dirs)| Stratum { at: layer.at, dirs }).collect()
    }
}
