//! Removes boxes that a run left behind when its driver was killed.

use super::open_box::Backends;
use super::target::{of_store, store};
use super::{Failure, Place, launch, open_box};
use crate::domain::{RunId, SandboxKind, Snapshot};
use crate::journal::snapshots_of as snapshots_of_run;

/// What the checkpoints of these runs rest on.
pub(super) fn snapshots_of(names: &[String], place: &Place) -> Result<Vec<Snapshot>, Failure> {
    let store = store(place)?;
    let mut found = Vec::new();
    for name in names {
        found.extend(snapshots_of_run(&store.find(name).map_err(|error| of_store(&error))?));
    }
    Ok(found)
}

/// Removes snapshots, but for what others rest on; what could not be removed, in words.
pub(super) async fn discard(snapshots: Vec<Snapshot>, place: &Place) -> Result<Vec<String>, Failure> {
    let store = store(place)?;
    let mut left = Vec::new();
    for snapshot in snapshots {
        left.extend(open_box::discard(&store, place, snapshot).await);
    }
    Ok(left.into_iter().map(|line| format!("not removed: {line}")).collect())
}

/// The ids of these runs.
pub(super) fn ids_of(names: &[String], place: &Place) -> Result<Vec<RunId>, Failure> {
    let store = store(place)?;
    names.iter().map(|name| store.find(name).map(|run| run.id().clone()).map_err(|error| of_store(&error))).collect()
}

/// Removes what engines still have of runs that are not here any more; returns what was removed, in words.
pub(super) async fn forget(runs: &[RunId], place: &Place) -> Result<Vec<String>, Failure> {
    let store = store(place)?;
    let backends = Backends::new(store.state_dir().to_owned(), None, launch::utf8_vars(place), place.home());
    let docker = backends.of(SandboxKind::Docker);
    let mut removed = Vec::new();
    for run in runs.iter().filter(|run| !store.run(run).path().exists()) {
        removed.extend(docker.forget(run).await);
    }
    Ok(removed)
}

/// Removes what is left of the boxes of these runs, but of none that is driven; returns what was removed, in words.
pub(super) async fn boxes_of(names: &[String], place: &Place) -> Result<Vec<String>, Failure> {
    let store = store(place)?;
    let meant = ids_of(names, place)?;
    let backends = Backends::new(store.state_dir().to_owned(), None, launch::utf8_vars(place), place.home());
    let is_kept = |run: &RunId| !meant.contains(run) || store.is_driven(run);
    let mut removed = Vec::new();
    for kind in [SandboxKind::Local, SandboxKind::Host, SandboxKind::Docker] {
        removed.extend(backends.of(kind).sweep(&is_kept).await);
    }
    Ok(removed)
}
