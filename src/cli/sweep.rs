//! Removes boxes that a run left behind when its driver was killed.

use super::open_box::Backends;
use super::target::{of_store, store};
use super::{Failure, Place, launch};
use crate::domain::{RunId, SandboxKind};

/// Removes what is left of the boxes of these runs, but of none that is driven; returns what was removed, in words.
pub(super) async fn boxes_of(names: &[String], place: &Place) -> Result<Vec<String>, Failure> {
    let store = store(place)?;
    let find = |name: &String| store.find(name).map(|run| run.id().clone()).map_err(|error| of_store(&error));
    let meant = names.iter().map(find).collect::<Result<Vec<RunId>, _>>()?;
    let backends = Backends::new(store.state_dir().to_owned(), None, launch::utf8_vars(place), place.home());
    let is_kept = |run: &RunId| !meant.contains(run) || store.is_driven(run);
    let mut removed = Vec::new();
    for kind in [SandboxKind::Local, SandboxKind::Host, SandboxKind::Docker] {
        removed.extend(backends.of(kind).sweep(&is_kept).await);
    }
    Ok(removed)
}
