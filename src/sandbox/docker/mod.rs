//! Boxes from a container engine, Docker or Podman, in any Linux image.
//!
//! The container's first process is the guest, which is this program with its own loader and libraries. An engine's
//! `exec` is used only to relay the channel where no directory can be shared.

mod bundle;
mod carry;
mod cgroup;
mod connect;
mod describe;
mod engine;
mod find;
mod greet;
mod ground;
mod network;
mod open;
mod owned;
mod picture;
mod record;
mod relay;
mod running;
mod saved;
mod shape;
mod sidecars;
mod snapshot;
mod tmux_image;
mod token;
mod watch;

pub use relay::relay;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::bundle::Bundle;
use self::connect::{Surroundings, words_of};
use self::engine::Engine;
use self::owned::{Kind, Owned};
use self::record::ContainerRecord;
use self::shape::Dirs;
use super::launch::Launch;
use super::layers;
use super::{Backend, BoxSpec, Found, IsDriven, Probe, Sandbox, SandboxError};
use crate::domain::{RunId, SandboxKind, Snapshot};

/// The image when none is named.
pub const DEFAULT_IMAGE: &str = "debian:bookworm";

/// Makes boxes in the engine that the caller's environment names, or in the first that answers at the usual places.
#[derive(Debug, Clone)]
pub struct Docker {
    launch: Launch,
    image: String,
    env: BTreeMap<String, String>,
    home: Option<PathBuf>,
    most_layers: Option<usize>,
}

impl Docker {
    /// Notes where to look: `image` is taken when a box names none, `env` and `home` are the caller's.
    pub fn new(launch: Launch, image: Option<String>, env: BTreeMap<String, String>, home: Option<PathBuf>) -> Self {
        Self { launch, image: image.unwrap_or_else(|| DEFAULT_IMAGE.to_owned()), env, home, most_layers: None }
    }

    /// Has images of more layers than this made ones of a single layer, earlier than need be.
    #[must_use]
    pub fn with_most_layers(self, most_layers: usize) -> Self {
        Self { most_layers: Some(most_layers), ..self }
    }

    async fn engine(&self) -> Result<Engine, SandboxError> {
        let engine = Engine::reach(&Surroundings { env: &self.env, home: self.home.as_deref() }).await?;
        let most_layers = self.most_layers.unwrap_or(engine.most_layers);
        Ok(Engine { most_layers, ..engine })
    }

    async fn bundle(&self) -> Result<Bundle, SandboxError> {
        let (program, cache) = (self.launch.program.clone(), self.guests());
        let failed = |because: String| SandboxError {
            what: "cannot make this program fit to run in a container".to_owned(),
            because: Some(because),
            hint: Some("run with `--sandbox local`".to_owned()),
        };
        let made = tokio::task::spawn_blocking(move || Bundle::of(&program, &cache)).await;
        made.map_err(|error| failed(error.to_string()))?.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            failed(format!("{error}{cause}"))
        })
    }

    /// Where the program is kept as containers see it.
    fn guests(&self) -> PathBuf {
        self.launch.state_dir.join("guest")
    }

    async fn sweep_engine(&self, engine: &Engine, is_driven: IsDriven<'_>) -> Vec<String> {
        let there = |run: &RunId| self.launch.state_dir.join("runs").join(run.as_str()).is_dir();
        let is_free = self.unneeded();
        // Checkpoints belong to runs that are there, driven or not.
        let may_go = |one: &Owned| one.kind != Kind::Image || (!there(&one.run) && is_free(one));
        let is_left = |one: &Owned| !is_driven(&one.run) && may_go(one);
        self.remove_owned(engine, is_left).await
    }

    /// Tells images that no checkpoint stands on: that of a fork may stand on the image of a run that is gone. Where it
    /// can't be told, all are needed.
    fn unneeded(&self) -> impl Fn(&Owned) -> bool {
        let needed = layers::images(&self.launch.state_dir).ok();
        move |one| needed.as_ref().is_some_and(|needed| !needed.contains(&one.id))
    }

    /// Removes what a driver of this run that was killed had begun to keep: the engine goes on with it alone. The run must
    /// be the caller's to drive.
    async fn remove_half_made(&self, engine: &Engine, run: &RunId) {
        let is_free = self.unneeded();
        let is_half_made = |one: &Owned| match one.kind {
            Kind::Image => is_free(one),
            Kind::Container => one.name.starts_with(picture::FLAT),
            Kind::Network | Kind::Volume => false,
        };
        for line in self.remove_owned(engine, |one| one.run == *run && is_half_made(one)).await {
            tracing::info!(line, "what was not recorded as a checkpoint");
        }
    }

    async fn remove_owned(&self, engine: &Engine, is_meant: impl Fn(&Owned) -> bool) -> Vec<String> {
        let owned = match engine.owned(&self.launch.state_dir).await {
            Ok(owned) => owned,
            Err(error) => return vec![format!("what is left in the engine can't be listed: {}", words_of(&error))],
        };
        let mut done = Vec::new();
        for one in owned.iter().filter(|one| is_meant(one)) {
            let (kind, name) = (one.kind.word(), &one.name);
            done.push(match engine.remove(one).await {
                Ok(()) => format!("removed {kind} {name} of run {}", one.run),
                Err(error) => format!("could not remove {kind} {name}: {}", words_of(&error)),
            });
        }
        done
    }

    /// Says why an image of this name can't be made at the end of a run, before anything is begun.
    ///
    /// # Errors
    /// [`SandboxError`]: no name for an image, or that of one that was not made by us.
    pub async fn may_save(&self, name: &str) -> Result<(), SandboxError> {
        saved::check(name)?;
        match self.engine().await {
            Ok(engine) => saved::may_save(&engine, name).await.map(drop),
            // The making of the box says it better.
            Err(_) => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Backend for Docker {
    async fn probe(&self) -> Probe {
        let mut probe = Probe { kind: SandboxKind::Docker, missing: None, capabilities: Vec::new() };
        let engine = match self.engine().await {
            Ok(engine) => engine,
            Err(missing) => return Probe { missing: Some(missing), ..probe },
        };
        probe.capabilities.clone_from(&engine.capabilities);
        probe.missing = match engine.image(&self.image).await {
            Ok(Some(_)) => self.bundle().await.err(),
            Ok(None) => engine.obstacle_to_pull(&self.image).await,
            Err(error) => Some(error),
        };
        probe
    }

    async fn create(&self, spec: &BoxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let prepare_engine = async {
            let engine = self.engine().await?;
            let image = match &spec.from {
                Some(snapshot) => snapshot::image_of(&engine, snapshot).await?,
                None => engine.image_or_pull(spec.image.as_ref().unwrap_or(&self.image)).await?,
            };
            let wants_tmux = spec.tmux && spec.from.is_none();
            let image = if wants_tmux { tmux_image::with_tmux(&engine, image, spec).await? } else { image };
            Ok((engine, image))
        };
        let ((engine, image), bundle) = tokio::try_join!(prepare_engine, self.bundle())?;
        let running = open::open(&engine, spec, &bundle, &image).await?;
        Ok(Box::new(running))
    }

    async fn find(&self, spec: &BoxSpec) -> Result<Found, SandboxError> {
        let Some(record) = ContainerRecord::load(&Dirs::of(&spec.run_dir).all) else {
            return Ok(Found::Gone("no container was made".to_owned()));
        };
        let engine = self.engine().await?;
        let found = find::find(&engine, spec, record).await?;
        self.remove_half_made(&engine, &spec.run).await;
        Ok(found)
    }

    async fn discard(&self, snapshot: &Snapshot) -> Vec<String> {
        snapshot::discard(self.engine().await, &self.launch.state_dir, snapshot).await
    }

    async fn forget(&self, run: &RunId) -> Vec<String> {
        match self.engine().await {
            Ok(engine) => {
                let is_free = self.unneeded();
                self.remove_owned(&engine, |one| one.run == *run && (one.kind != Kind::Image || is_free(one))).await
            }
            Err(_) => Vec::new(),
        }
    }

    async fn sweep(&self, is_driven: IsDriven<'_>) -> Vec<String> {
        match self.engine().await {
            Ok(engine) => self.sweep_engine(&engine, is_driven).await,
            // Without an engine there is nothing left in it that could be found.
            Err(_) => Vec::new(),
        }
    }
}
