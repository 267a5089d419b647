//! What a container was at one instant: an image of it, and beside it the layer of a workspace that the image can't hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;

use super::engine::{Engine, Image, refusal};
use super::engine::{RUN_LABEL, STATE_LABEL};
use super::picture::{self, CHECKPOINT_LABEL, MOST_LAYERS, Made, Picture, WORKSPACE_LABEL};
use super::running::Running;
use super::shape::{CONTROL_DIR, Dirs, Keep, PROGRAM_DIR, Way};
use crate::domain::{Consistency, SandboxKind, Snapshot};
use crate::sandbox::{BoxSpec, SandboxError, SnapshotWish};

/// What a container's workspace begins with.
#[derive(Debug)]
pub(super) struct Ground {
    /// How the snapshot's workspace was kept; None where the host's files are all there is.
    kept: Option<Keep>,
    layers: Vec<String>,
    parts: Vec<PathBuf>,
}

impl Ground {
    /// Finds out from what a box is to be made, and makes room for it: what another box of the run has left of its
    /// workspace goes, since the snapshot stands for it.
    ///
    /// # Errors
    /// When a layer of the snapshot is not there, or what is left can't be removed.
    pub(super) fn of(_engine: &Engine, spec: &BoxSpec, image: &Image, _dirs: &Dirs) -> Result<Self, SandboxError> {
        let Some(snapshot) = &spec.from else {
            return Ok(Self { kept: None, layers: Vec::new(), parts: Vec::new() });
        };
        let kept = match image.labels.get(WORKSPACE_LABEL).map(String::as_str) {
            Some("copy") => Keep::Copy,
            Some("bind") => Keep::Bind,
            Some(_) | None => Keep::Overlay,
        };
        Ok(Self { kept: Some(kept), layers: snapshot.layers.clone(), parts: Vec::new() })
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

    /// The layers that the workspace stands on.
    pub(super) fn layers(&self) -> &[String] {
        &self.layers
    }

    /// Directories for the overlay to stand on, from the top down.
    pub(super) async fn lay(&self, keep: Keep, _dirs: &Dirs) -> Result<Vec<PathBuf>, SandboxError> {
        Ok(if keep == Keep::Overlay { self.parts.clone() } else { Vec::new() })
    }
}

/// The image of a snapshot.
///
/// # Errors
/// When the engine does not have it any more.
pub(super) async fn image_of(engine: &Engine, snapshot: &Snapshot) -> Result<Image, SandboxError> {
    let id = snapshot.image.as_deref().unwrap_or_default();
    engine.image(id).await?.ok_or_else(|| SandboxError {
        what: "the checkpoint's image is not there any more".to_owned(),
        because: Some(format!("the engine has no image {id}")),
        hint: Some("take another checkpoint: `agent checkpoint list RUN` lists them".to_owned()),
    })
}

impl Running {
    /// Keeps the container as an image and its workspace as a layer.
    pub(super) async fn take_snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        let began = Instant::now();
        if wish.last {
            self.end(Duration::from_secs(10)).await;
        }
        let left_out = self.left_out().await?;
        let made = self.picture_of(wish).await?;
        Ok(Snapshot {
            kind: SandboxKind::Docker,
            layers: Vec::new(),
            image: Some(made.id),
            consistency: Consistency::Frozen { by: "container pause".to_owned(), held_ms: 0 },
            took_ms: millis(began.elapsed()),
            new_files: 0,
            new_bytes: made.new_bytes,
            left_out,
        })
    }

    async fn picture_of(&self, wish: &SnapshotWish) -> Result<Made, SandboxError> {
        let spec = self.origin();
        let labels = [
            (RUN_LABEL, spec.run.to_string()),
            (STATE_LABEL, spec.state_dir.display().to_string()),
            (CHECKPOINT_LABEL, wish.layer.clone()),
            (WORKSPACE_LABEL, self.record().keep.word().to_owned()),
        ];
        let repo = format!("longhaul/{}", spec.run.short().to_lowercase());
        let picture = Picture {
            engine: self.engine(),
            container: &self.record().container,
            repo: &repo,
            tag: &wish.layer,
            labels: &labels,
            pause: !wish.last,
            most_layers: MOST_LAYERS,
        };
        picture.take().await
    }

    /// What belongs to the box and is in no image of it, in words.
    pub(super) async fn left_out(&self) -> Result<Vec<String>, SandboxError> {
        let what = "cannot look at the container";
        let container = &self.record().container;
        let found = self.engine().docker.inspect_container(container, None).await;
        let found = found.map_err(|error| refusal(what, &error))?;
        let mut left_out = outside(&found, Path::new(self.workspace()));
        if self.record().keep == Keep::Bind {
            left_out.push("the workspace, which is written through to the host".to_owned());
        }
        Ok(left_out)
    }
}

/// Mounts that are neither ours nor the workspace's.
fn outside(found: &ContainerInspectResponse, workspace: &Path) -> Vec<String> {
    let ours = |path: &str| [PROGRAM_DIR, CONTROL_DIR].contains(&path) || Path::new(path).starts_with(workspace);
    let mounts = found.mounts.iter().flatten().filter_map(|mount| mount.destination.as_deref());
    mounts.filter(|path| !ours(path)).map(|path| format!("the volume at {path}")).collect()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Removes a snapshot's image; its layers where nobody else needs them.
pub(super) async fn discard(
    engine: Result<Engine, SandboxError>,
    _state_dir: &Path,
    snapshot: &Snapshot,
) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(id) = &snapshot.image {
        match engine {
            Ok(engine) => {
                left.extend(picture::remove_checkpoint(&engine, id).await.err().map(|why| format!("image {id}: {why}")))
            }
            Err(error) => left.push(format!("image {id}: {error}")),
        }
    }
    left
}
