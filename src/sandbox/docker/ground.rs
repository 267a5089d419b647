//! What a container's workspace begins with: the host's files, or those of a snapshot above them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::engine::{Engine, Image, Make};
use super::picture::WORKSPACE_LABEL;
use super::shape::{Dirs, Keep, Way, overlay_options};
use crate::domain::Snapshot;
use crate::sandbox::changes::{LIST, OPENED};
use crate::sandbox::launch::record::{KEPT, remove_tree};
use crate::sandbox::layers::{Store, is_workspace, spread};
use crate::sandbox::{BoxSpec, SandboxError};

/// The kernel takes no more than a page of words for a mount.
const MOST_OPTIONS: usize = 4_000;

/// What a workspace begins with.
#[derive(Debug)]
pub(super) struct Ground {
    /// How the snapshot's workspace was kept; None where the host's files are all there is.
    kept: Option<Keep>,
    layers: Vec<String>,
    parts: Vec<PathBuf>,
    /// Whether the kernel can have the layers one above the other; they are copied otherwise.
    stacks: bool,
}

impl Ground {
    /// Finds out from what a box is to be made, and makes room for it: what an earlier box of the run has left of its
    /// workspace goes where a snapshot stands for it, and is set aside where none does.
    ///
    /// # Errors
    /// When a layer of the snapshot is not there, or what is left can't be removed.
    pub(super) fn of(engine: &Engine, spec: &BoxSpec, image: &Image, dirs: &Dirs) -> Result<Self, SandboxError> {
        let Some(snapshot) = &spec.from else {
            set_aside(dirs).map_err(|error| SandboxError {
                what: "cannot set aside what an earlier box of the run has left".to_owned(),
                because: Some(error.to_string()),
                hint: None,
            })?;
            return Ok(Self { kept: None, layers: Vec::new(), parts: Vec::new(), stacks: false });
        };
        let kept = match image.labels.get(WORKSPACE_LABEL).map(String::as_str) {
            Some("copy") => Keep::Copy,
            Some("bind") => Keep::Bind,
            Some(_) | None => Keep::Overlay,
        };
        let store = Store::of(&spec.state_dir);
        let parts = parts(&store, snapshot, &spec.workspace)?;
        let options = overlay_options(&parts, &spec.workspace, dirs);
        let plain = |path: &PathBuf| path.to_str().is_some_and(|path| !path.contains([',', ':', '\\', '"']));
        let stacks = engine.make == Make::Docker && options.len() <= MOST_OPTIONS && parts.iter().all(plain);
        clear(dirs, &store, &snapshot.layers).map_err(|error| SandboxError {
            what: "cannot make room for the checkpoint's files".to_owned(),
            because: Some(error.to_string()),
            hint: None,
        })?;
        Ok(Self { kept: Some(kept), layers: snapshot.layers.clone(), parts, stacks })
    }

    /// Those of the ways that lead to the same workspace.
    pub(super) fn ways(&self, ways: Vec<(Way, Keep)>) -> Vec<(Way, Keep)> {
        match self.kept {
            None => ways,
            Some(kept) => ways.into_iter().filter(|(_, keep)| *keep == kept).collect(),
        }
    }

    /// Whether the workspace is the host's as it is now.
    pub(super) fn is_host(&self) -> bool {
        self.kept.is_none()
    }

    /// The layers that the workspace stands on from now on.
    pub(super) fn layers(&self) -> &[String] {
        if self.stacks { &self.layers } else { &[] }
    }

    /// Directories for the overlay to stand on, from the top down. Where it can't, the layers are in its own one then.
    ///
    /// # Errors
    /// When they can't be copied.
    pub(super) async fn lay(&self, keep: Keep, dirs: &Dirs) -> Result<Vec<PathBuf>, SandboxError> {
        if keep != Keep::Overlay || self.parts.is_empty() {
            return Ok(Vec::new());
        }
        if self.stacks {
            return Ok(self.parts.clone());
        }
        let (parts, upper) = (self.parts.clone(), dirs.upper.clone());
        let copying = tokio::task::spawn_blocking(move || {
            // From the bottom up.
            parts.iter().rev().try_for_each(|part| spread(part, &upper))
        });
        let copied = copying.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        copied.map(|()| Vec::new()).map_err(|error| SandboxError {
            what: "cannot copy the checkpoint's files into the new box".to_owned(),
            because: Some(error.to_string()),
            hint: None,
        })
    }
}

/// The directories of a snapshot's layers that are the workspace's, from the top down.
fn parts(store: &Store, snapshot: &Snapshot, workspace: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let missing = |layer: &str, because: String| SandboxError {
        what: format!("the checkpoint's layer {layer} is not there"),
        because: Some(because),
        hint: Some("`agent checkpoint list RUN` lists the others".to_owned()),
    };
    let mut parts = Vec::new();
    for layer in &snapshot.layers {
        let meta = store.meta(layer).map_err(|error| missing(layer, error.to_string()))?;
        for part in meta.parts.iter().filter(|part| part.at == workspace && is_workspace(&part.key)) {
            parts.push(store.part(layer, &part.key).map_err(|error| missing(layer, error.to_string()))?);
        }
    }
    Ok(parts)
}

/// A box that begins with the host's files has none of an earlier one's: what that one wrote is kept beside, for people.
fn set_aside(dirs: &Dirs) -> io::Result<()> {
    let (upper, own) = (dirs.all.join("u"), dirs.all.join("w"));
    remove_tree(&own)?;
    remove_tree(&dirs.all.join(KEPT))?;
    let is_empty = |dir: &Path| fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !upper.join("workspace.tar").exists() && is_empty(&dirs.upper) {
        return remove_tree(&upper);
    }
    let mut names = (1..).map(|nth| dirs.all.join(format!("left-{nth}")));
    let free = names.find(|path| path.symlink_metadata().is_err());
    free.map_or(Ok(()), |free| fs::rename(&upper, free))
}

/// Removes what another box of the run has left of its workspace; what the host's was at first is taken from the
/// snapshot, where it is not known.
fn clear(dirs: &Dirs, store: &Store, layers: &[String]) -> io::Result<()> {
    fs::create_dir_all(&dirs.all)?;
    for left in [dirs.all.join("u"), dirs.all.join("w"), dirs.all.join(KEPT)] {
        remove_tree(&left)?;
    }
    if !dirs.all.join(OPENED).exists()
        && let Some(layer) = layers.first()
    {
        let layer = store.path(layer)?;
        // The note of the opening last: without it the list counts for nothing.
        for name in [LIST, OPENED] {
            match fs::copy(layer.join(name), dirs.all.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::shape::KEY;
    use super::*;

    #[test]
    fn the_workspaces_own_layer_is_known_by_its_key() {
        assert!(is_workspace(KEY));
    }
}
