//! What a container was at one instant: an image of it, and beside it the layer of a workspace that no image holds.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;

use super::engine::{Engine, Image, RUN_LABEL, STATE_LABEL, refusal};
use super::picture::{self, CHECKPOINT_LABEL, Made, Picture, WORKSPACE_LABEL};
use super::running::Running;
use super::shape::{CONTROL_DIR, KEY, Keep, PROGRAM_DIR};
use crate::domain::{Consistency, SandboxKind, Snapshot};
use crate::guest::GuestError;
use crate::sandbox::changes::{LIST, OPENED};
use crate::sandbox::launch::wire::Layer;
use crate::sandbox::layers::{Kept, Parts, Store, Taking, now_ns};
use crate::sandbox::{Sandbox as _, SandboxError, SnapshotWish};

/// A guest lets everything go on by itself after half a minute; what is asked of the engine later than this comes too
/// late.
const HELD_FOR_SURE: Duration = Duration::from_secs(25);

/// The image of a snapshot.
///
/// # Errors
/// When the engine does not have it any more.
pub(super) async fn image_of(engine: &Engine, snapshot: &Snapshot) -> Result<Image, SandboxError> {
    let id = snapshot.image.as_deref().unwrap_or_default();
    engine.image(id).await?.ok_or_else(|| SandboxError {
        what: "the checkpoint's image is not there any more".to_owned(),
        because: Some(format!("the engine has no image {id}")),
        hint: Some("`agent checkpoint list RUN` lists the others".to_owned()),
    })
}

/// What was kept of a box, and what may be said of it.
struct Taken {
    made: Made,
    kept: Kept,
    consistency: Consistency,
}

impl Running {
    /// Keeps the container as an image and its workspace as a layer. The box goes on even where it is its last: ended, it
    /// could not go on where its files can't be kept, and an image takes as long to make of it.
    pub(super) async fn take_snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        let began = Instant::now();
        let mut left_out = self.left_out().await?;
        let is_overlay = self.record().keep == Keep::Overlay;
        let taken = match is_overlay {
            true => self.with_workspace(wish).await?,
            false => self.image_alone(wish).await?,
        };
        let Taken { made, kept, consistency } = taken;
        left_out.extend(kept.left_out);
        let own = is_overlay.then(|| wish.layer.clone());
        Ok(Snapshot {
            kind: SandboxKind::Docker,
            layers: own.into_iter().chain(self.record().from.clone()).collect(),
            image: Some(made.id),
            consistency,
            took_ms: millis(began.elapsed()),
            new_files: kept.new_files,
            new_bytes: kept.new_bytes + made.new_bytes,
            left_out,
        })
    }

    /// The engine holds the container while it makes the image, which has everything.
    async fn image_alone(&self, wish: &SnapshotWish) -> Result<Taken, SandboxError> {
        let began = Instant::now();
        let made = self.picture_of(wish).await?;
        let consistency = Consistency::Frozen { by: "container pause".to_owned(), held_ms: millis(began.elapsed()) };
        Ok(Taken { made, kept: Kept::default(), consistency })
    }

    /// The guest holds everything until the workspace is taken and the engine holds the container, so that both are of
    /// one instant.
    async fn with_workspace(&self, wish: &SnapshotWish) -> Result<Taken, SandboxError> {
        self.can_be_read()?;
        let (store, name) = (Store::of(&self.origin().state_dir), wish.layer.clone());
        let layer = Layer { at: self.workspace().into(), key: KEY.to_owned() };
        let parts = Parts { dir: self.dirs().all.join("u"), layers: vec![layer] };
        let (last, unwanted) = (self.taken(), wish.unwanted.clone());
        let rootful = rustix::process::geteuid().is_root();
        let guest = self.guest();
        // What is mapped now and let go before the box is held may have been changed without a trace.
        let mut mapped = guest.mapped().await.map_err(|error| not_held(&error))?;
        let begun = blocking(move || Taking::begin(&store, &name, &parts, rootful, last.as_deref(), &unwanted)).await?;
        let hold = guest.freeze().await.map_err(|error| not_held(&error))?;
        let since = Instant::now();
        let held_ns = now_ns();
        mapped.extend(hold.mapped.iter().cloned());
        let taken = async {
            let taking = blocking(move || {
                let mut taking = begun;
                taking.settle(&mapped).map(|()| taking)
            })
            .await?;
            let in_time = since.elapsed() < HELD_FOR_SURE;
            Ok::<_, SandboxError>((taking, in_time, self.picture_of(wish).await?))
        };
        let taken = taken.await;
        // The guest ends the hold by itself where it can't be told.
        let _ = guest.thaw(hold.hold).await;
        let held_ms = millis(since.elapsed());
        let (taking, in_time, made) = taken?;
        let consistency = match (hold.moving, in_time) {
            (Some(why), _) => Consistency::Unfrozen { why },
            (None, true) => Consistency::Frozen { by: "signals and container pause".to_owned(), held_ms },
            (None, false) => Consistency::Unfrozen { why: "the box was not held long enough".to_owned() },
        };
        let beside = [OPENED, LIST].map(|name| self.dirs().all.join(name));
        match blocking(move || taking.finish(&beside, held_ns)).await {
            Ok(kept) => {
                self.note_taken(&wish.layer);
                Ok(Taken { made, kept, consistency })
            }
            Err(error) => {
                // One without the other is of no use.
                let _ = picture::remove_checkpoint(self.engine(), &made.id).await;
                Err(error)
            }
        }
    }

    /// An engine's root may have written what an ordinary user can't read whole: then a copy would not be one.
    fn can_be_read(&self) -> Result<(), SandboxError> {
        use std::os::unix::fs::MetadataExt as _;
        let mine = rustix::process::geteuid();
        let work = std::fs::symlink_metadata(self.dirs().work.join("work"));
        if mine.is_root() || work.is_ok_and(|work| work.uid() == mine.as_raw()) {
            return Ok(());
        }
        Err(SandboxError {
            what: "cannot keep the workspace of this box".to_owned(),
            because: Some("the engine writes it as the machine's root, and only root can copy it whole".to_owned()),
            hint: Some("run with `--sandbox local`, with a rootless engine, or as root".to_owned()),
        })
    }

    async fn picture_of(&self, wish: &SnapshotWish) -> Result<Made, SandboxError> {
        let origin = self.origin();
        let labels = [
            (RUN_LABEL, origin.run.to_string()),
            (STATE_LABEL, origin.state_dir.display().to_string()),
            (CHECKPOINT_LABEL, wish.layer.clone()),
            (WORKSPACE_LABEL, self.record().keep.word().to_owned()),
        ];
        let repo = format!("longhaul/{}", origin.run.short().to_lowercase());
        let picture = Picture {
            engine: self.engine(),
            container: &self.record().container,
            repo: &repo,
            tag: &wish.layer,
            labels: &labels,
        };
        picture.take().await
    }

    /// What belongs to the box and is in no image of it, in words.
    pub(super) async fn left_out(&self) -> Result<Vec<String>, SandboxError> {
        let found = self.engine().docker.inspect_container(&self.record().container, None).await;
        let found = found.map_err(|error| refusal("cannot look at the container", &error))?;
        let mut left_out = outside(&found, Path::new(self.workspace()));
        if self.record().keep == Keep::Bind {
            left_out.push(format!("{}: written through to the host", self.workspace()));
        }
        let beside = crate::sandbox::Sidecars::list(self.companions()).await.unwrap_or_default();
        left_out.extend(beside.iter().map(|one| format!("the sidecar {}", one.name)));
        Ok(left_out)
    }
}

/// Mounts that are neither ours nor the workspace's.
fn outside(found: &ContainerInspectResponse, workspace: &Path) -> Vec<String> {
    let ours = |path: &str| [PROGRAM_DIR, CONTROL_DIR].contains(&path) || Path::new(path).starts_with(workspace);
    let mounts = found.mounts.iter().flatten().filter_map(|mount| mount.destination.as_deref());
    mounts.filter(|path| !ours(path)).map(|path| format!("the volume at {path}")).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn not_held(error: &GuestError) -> SandboxError {
    SandboxError {
        what: "cannot hold the box to keep its files".to_owned(),
        because: Some(error.to_string()),
        hint: None,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        SandboxError {
            what: "cannot keep the box's files".to_owned(),
            because: Some(error.to_string()),
            hint: full.then(|| "make room on the disk of the state directory".to_owned()),
        }
    })
}

/// Removes a snapshot's image, and its layers where nobody else needs them; what could not be removed, in words.
pub(super) async fn discard(
    engine: Result<Engine, SandboxError>,
    state_dir: &Path,
    snapshot: &Snapshot,
) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(id) = &snapshot.image {
        let removed = match engine {
            Ok(engine) => picture::remove_checkpoint(&engine, id).await,
            Err(error) => Err(error.to_string()),
        };
        left.extend(removed.err().map(|why| format!("image {id}: {why}")));
    }
    let (state_dir, layers) = (state_dir.to_owned(), snapshot.layers.clone());
    let removing = tokio::task::spawn_blocking(move || Store::of(&state_dir).discard(&state_dir, &layers));
    left.extend(removing.await.unwrap_or_else(|_| vec!["layers: their removal was given up".to_owned()]));
    left
}
