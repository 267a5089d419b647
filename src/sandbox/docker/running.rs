//! A container that is up: its counters, and its end.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ChangeType, ContainerUpdateBody, FilesystemChange};
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::cgroup::Cgroup;
use super::connect::words_of;
use super::engine::{Engine, status};
use super::record::ContainerRecord;
use super::shape::{Dirs, KEY, Keep, RUNTIME_DIR};
use super::sidecars::Companions;
use crate::domain::{BoxFacts, RunId, Snapshot};
use crate::guest::Client;
use crate::sandbox::changes::{ChangeKind, Listing, SystemChange, SystemChanges};
use crate::sandbox::launch::record::{KEPT, KeptList};
use crate::sandbox::launch::wire::Layer;
use crate::sandbox::{BoxSpec, Counters, Removal, Sandbox, SandboxError, SavedImage, Sidecars, SnapshotWish};

/// A container with its volume. Until it is [`kept`](Container::keep), dropping this removes them: in the background, since
/// dropping must not wait. What does not get that far is found by its labels later.
#[derive(Debug)]
pub(super) struct Container {
    /// The engine that has it.
    pub(super) engine: Engine,
    /// Its name.
    pub(super) name: String,
    volume: Option<String>,
    half_made: bool,
}

impl Container {
    /// Takes charge of a container of this name, which need not be there yet.
    pub(super) fn new(engine: Engine, name: String, volume: Option<String>) -> Self {
        Self { engine, name, volume, half_made: true }
    }

    /// Removes it; says in words what could not be removed.
    pub(super) async fn remove(&self) -> Vec<String> {
        remove(&self.engine, &self.name, self.volume.as_deref()).await
    }

    /// Lets it outlive this process: it is whole now, and a later one may find it.
    pub(super) fn keep(mut self) -> Self {
        self.half_made = false;
        self
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.half_made, tokio::runtime::Handle::try_current()) {
            let (engine, name, volume) = (self.engine.clone(), self.name.clone(), self.volume.clone());
            runtime.spawn(async move { remove(&engine, &name, volume.as_deref()).await });
        }
    }
}

async fn remove(engine: &Engine, name: &str, volume: Option<&str>) -> Vec<String> {
    let mut left = Vec::new();
    if let Err(error) = engine.remove_container(name).await {
        left.push(format!("container {name}: {}", words_of(&error)));
    }
    if let Some(volume) = volume
        && let Err(error) = engine.remove_volume(volume).await
    {
        left.push(format!("volume {volume}: {}", words_of(&error)));
    }
    left
}

/// A box in a container.
#[derive(Debug)]
pub(super) struct Running {
    container: Container,
    guest: Client,
    facts: BoxFacts,
    dirs: Dirs,
    record: ContainerRecord,
    listing: Option<Listing>,
    companions: Companions,
    /// The layer that was taken of it last: the next one shares files with it.
    taken: Mutex<Option<String>>,
    origin: Origin,
    cgroup: tokio::sync::OnceCell<Option<Cgroup>>,
}

/// Whose box it is.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The run.
    pub(super) run: RunId,
    /// The state directory of all runs.
    pub(super) state_dir: PathBuf,
}

/// What a box is put together from.
pub(super) struct Parts {
    /// The container.
    pub(super) container: Container,
    /// The channel to its guest.
    pub(super) guest: Client,
    /// What it is.
    pub(super) facts: BoxFacts,
    /// What is on disk of it.
    pub(super) record: ContainerRecord,
    /// The list of what the workspace held, where this process makes it.
    pub(super) listing: Option<Listing>,
    /// The services beside it.
    pub(super) companions: Companions,
}

impl Running {
    /// Takes charge of a container whose guest answers.
    pub(super) fn new(parts: Parts, spec: &BoxSpec) -> Self {
        let Parts { container, guest, facts, record, listing, companions } = parts;
        Self {
            container,
            guest,
            facts,
            dirs: Dirs::of(&spec.run_dir),
            record,
            listing,
            companions,
            taken: Mutex::default(),
            origin: Origin { run: spec.run.clone(), state_dir: spec.state_dir.clone() },
            cgroup: tokio::sync::OnceCell::new(),
        }
    }

    /// The engine that has it.
    pub(super) fn engine(&self) -> &Engine {
        &self.container.engine
    }

    /// What is on disk of it.
    pub(super) fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// Whose it is.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its directories.
    pub(super) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The services beside it.
    pub(super) fn companions(&self) -> &Companions {
        &self.companions
    }

    /// The layer that was taken of it last.
    pub(super) fn taken(&self) -> Option<String> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a layer was taken of it.
    pub(super) fn note_taken(&self, layer: &str) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(layer.to_owned());
    }

    async fn find_cgroup(&self) -> Option<Cgroup> {
        let engine = &self.container.engine;
        if engine.far {
            return None;
        }
        let found = engine.docker.inspect_container(&self.container.name, None).await.ok()?;
        Cgroup::of(found.state?.pid.filter(|pid| *pid > 0)?)
    }

    /// Brings what is in the workspace out to `box/u/workspace.tar`.
    async fn save_workspace(&self) -> Result<(), String> {
        let docker = &self.container.engine.docker;
        let options = DownloadFromContainerOptionsBuilder::new().path(&self.facts.workspace).build();
        let mut pieces = docker.download_from_container(&self.container.name, Some(options));
        let lost = |error: String| format!("the workspace's changes could not be brought out: {error}");
        let first = match pieces.try_next().await {
            Ok(piece) => piece.unwrap_or_default(),
            // Removed already, and brought out before that.
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(lost(words_of(&error))),
        };
        let path = self.dirs.all.join("u").join("workspace.tar");
        let saved = async {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let mut file = tokio::fs::File::create(&path).await?;
            file.write_all(&first).await?;
            while let Some(piece) = pieces.try_next().await.map_err(io::Error::other)? {
                file.write_all(&piece).await?;
            }
            file.sync_data().await
        };
        saved.await.map_err(|error: io::Error| lost(error.to_string()))
    }

    /// Lists what was changed outside the workspace. The engine tells it; without it the list is missing, and no more.
    async fn note_system(&self) {
        let listed = self.container.engine.docker.container_changes(&self.container.name);
        let Ok(Ok(Some(changed))) = tokio::time::timeout(Duration::from_secs(10), listed).await else { return };
        let is_within = |path: &str| Path::new(path).starts_with(&self.facts.workspace);
        // The directories down to what changed are listed as changed too, and so is the way to the workspace.
        let parents: HashSet<PathBuf> =
            changed.iter().flat_map(|one| Path::new(&one.path).ancestors().skip(1).map(Path::to_owned)).collect();
        let leads = |one: &&FilesystemChange| {
            one.kind != ChangeType::_2 && parents.contains(Path::new(&one.path))
                || Path::new(&self.facts.workspace).starts_with(&one.path)
        };
        let listed = changed.iter().filter(|one| !is_within(&one.path) && !leads(one));
        let system = listed.map(|one| SystemChange {
            path: one.path.clone(),
            kind: match one.kind {
                ChangeType::_0 => ChangeKind::Changed,
                ChangeType::_1 => ChangeKind::Added,
                ChangeType::_2 => ChangeKind::Deleted,
            }
            .word()
            .to_owned(),
            size_bytes: None,
        });
        if let Err(error) = SystemChanges::of(system.collect()).save(&self.dirs.all) {
            tracing::warn!(%error, "what was changed outside the workspace is not listed");
        }
    }

    /// Removes the overlay's own directory. What overlayfs leaves in it is empty but belongs to the engine's root, which
    /// may keep others from looking into it, though not from removing it.
    fn remove_work(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dirs.work).into_iter().flatten().flatten() {
            if fs::remove_dir(entry.path()).is_err() {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700))?;
            }
        }
        self.dirs.work.parent().map_or(Ok(()), remove_tree)
    }

    /// Lists the overlay's layer for whoever compares or applies the workspace's changes.
    fn keep_upper(&self) -> io::Result<()> {
        if self.record.keep != Keep::Overlay {
            return Ok(());
        }
        let layer = Layer { at: PathBuf::from(&self.facts.workspace), key: KEY.to_owned() };
        let kept = KeptList { layers: vec![layer], from: self.record.from.clone() };
        fs::write(self.dirs.all.join(KEPT), serde_json::to_vec(&kept)?)
    }

    /// Ends every process: the guest does it in order, the engine by force.
    pub(super) async fn end(&self, patience: Duration) {
        let docker = &self.container.engine.docker;
        let orderly = async {
            self.guest.shutdown().await;
            let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
            docker.wait_container(&self.container.name, Some(options)).next().await;
        };
        if tokio::time::timeout(patience, orderly).await.is_err() {
            let _ = docker.kill_container(&self.container.name, None).await;
        }
    }
}

#[async_trait::async_trait]
impl Sandbox for Running {
    fn facts(&self) -> &BoxFacts {
        &self.facts
    }

    fn guest(&self) -> &Client {
        &self.guest
    }

    fn attach_line(&self) -> Option<String> {
        let tmux = self.guest.welcome().tmux.clone()?;
        let engine = self.container.engine.make.program();
        let name = &self.container.name;
        Some(format!("{engine} exec -it {name} {tmux} -u -S {RUNTIME_DIR}/tmux.sock attach-session"))
    }

    async fn counters(&self) -> Counters {
        let cgroup = self.cgroup.get_or_init(|| self.find_cgroup()).await;
        cgroup.as_ref().map(Cgroup::counters).unwrap_or_default()
    }

    async fn grow_memory(&self, bytes: u64) -> Result<(), SandboxError> {
        let most = i64::try_from(bytes).unwrap_or(i64::MAX);
        let update = ContainerUpdateBody { memory: Some(most), memory_swap: Some(most), ..Default::default() };
        let updated = self.container.engine.docker.update_container(&self.container.name, update).await;
        updated.map_err(|error| SandboxError {
            what: "the container's memory limit can't be raised".to_owned(),
            because: Some(words_of(&error)),
            hint: None,
        })
    }

    async fn snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError> {
        self.take_snapshot(wish).await
    }

    async fn described(&self) -> Vec<String> {
        self.describe().await
    }

    fn sidecars(&self) -> Option<&dyn Sidecars> {
        Some(&self.companions)
    }

    async fn save_image(&self, name: &str) -> Result<SavedImage, SandboxError> {
        self.save_as(name).await
    }

    async fn destroy(&self, patience: Duration) -> Removal {
        self.end(patience).await;
        if let Some(listing) = &self.listing {
            listing.settle().await;
        }
        self.note_system().await;
        let mut left = Vec::new();
        if self.record.keep == Keep::Copy
            && let Err(words) = self.save_workspace().await
        {
            left.push(words);
        }
        left.extend(self.container.remove().await);
        left.extend(self.companions.end_all().await);
        if left.is_empty() {
            ContainerRecord::remove(&self.dirs.all);
        }
        let tidied =
            [("control", remove_tree(&self.dirs.control)), ("w", self.remove_work()), ("u", self.keep_upper())];
        let failed = |(name, result): (&str, io::Result<()>)| Some(format!("box/{name}: {}", result.err()?));
        left.extend(tidied.into_iter().filter_map(failed));
        Removal { left }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
