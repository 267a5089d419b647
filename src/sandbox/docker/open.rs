//! Bringing a container up, in the best way that the engine allows, until its guest answers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bollard::query_parameters::{CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};

use super::bundle::Bundle;
use super::carry;
use super::engine::{Engine, Image, Make, RUN_LABEL, refusal, status};
use super::greet::Door;
use super::ground::Ground;
use super::record::{ContainerRecord, boot};
use super::running::{Container, Parts, Running};
use super::shape::{CONTROL_DIR, Dirs, Keep, PROGRAM_DIR, SOCKET, Shape, Way};
use super::sidecars::Companions;
use super::token::Starting;
use crate::domain::{BoxFacts, Capability, SandboxKind};
use crate::guest::{Client, Welcome};
use crate::sandbox::changes::{Listing, Maker, OPENED};
use crate::sandbox::{BoxSpec, SandboxError, secrets};

/// Directories that an image needs for itself.
const NOT_WORKSPACES: [&str; 13] =
    ["/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"];

/// Makes a container from `image` and waits until its guest answers. Leaves nothing behind when it fails.
///
/// # Errors
/// What stood in the way of the best way to do it, when no other way worked either.
pub(super) async fn open(
    engine: &Engine,
    spec: &BoxSpec,
    bundle: &Bundle,
    image: &Image,
) -> Result<Running, SandboxError> {
    check_workspace(spec)?;
    let dirs = Dirs::of(&spec.run_dir);
    let masks = secrets::below(&spec.workspace, spec.home.as_deref(), &spec.state_dir);
    let ground = Ground::of(engine, spec, image, &dirs)?;
    let mut first: Option<SandboxError> = None;
    let mut listing: Option<Listing> = None;
    for (way, keep) in ground.ways(ways(engine, spec)?) {
        if let Err(error) = prepare(&dirs, &spec.workspace, keep) {
            return Err(no_room(&dirs.all, &error));
        }
        let lowers = ground.lay(keep, &dirs).await?;
        // What a box before this one was compared with holds for this one, too.
        if keep != Keep::Bind && listing.is_none() && !dirs.all.join(OPENED).exists() {
            listing = Listing::begin(&dirs.all, &spec.workspace, &masks, Maker::Engine);
        }
        let program = bundle.argv(PROGRAM_DIR);
        let shape = Shape {
            spec,
            image,
            make: engine.make,
            way,
            keep,
            program_dir: &bundle.dir,
            program: &program,
            dirs: &dirs,
            lowers: &lowers,
            masks: &masks,
            ulimits: (engine.make == Make::Podman).then(own_limits),
            driver: std::process::id(),
        };
        let mut record = ContainerRecord {
            container: shape.name(),
            token: spec.token.clone(),
            way,
            keep,
            from: ground.layers().to_vec(),
            boot: boot(),
            facts: None,
        };
        // Before there is anything that it could be about.
        record.save(&dirs.all).map_err(|error| no_room(&dirs.all, &error))?;
        let attempt = Attempt { engine, shape: &shape, bundle, brings_workspace: ground.is_host() };
        match attempt.run().await {
            Ok((container, guest)) => {
                let facts = facts(&shape, engine, first.as_ref(), guest.welcome());
                record.facts = Some(facts.clone());
                // A later driver can do without.
                let _ = record.save(&dirs.all);
                let companions = Companions::of(engine.clone(), spec, container.name.clone(), guest.clone());
                let parts = Parts { container, guest, facts, record, listing, companions };
                return Ok(Running::new(parts, spec));
            }
            Err(Stopped::Guest(error)) => {
                ContainerRecord::remove(&dirs.all);
                return Err(error);
            }
            Err(Stopped::Engine(error)) => {
                tracing::debug!(%error, because = error.because, ?way, ?keep, "no container this way");
                first.get_or_insert(error);
            }
        }
    }
    ContainerRecord::remove(&dirs.all);
    Err(first.unwrap_or_else(|| SandboxError {
        what: "no container can be made".to_owned(),
        because: Some("the engine is far and the workspace was to be written through".to_owned()),
        hint: Some("leave `--workspace bind` out".to_owned()),
    }))
}

fn check_workspace(spec: &BoxSpec) -> Result<(), SandboxError> {
    if NOT_WORKSPACES.iter().any(|dir| Path::new(dir) == spec.workspace) {
        return Err(SandboxError {
            what: format!("cannot show {} in a container", spec.workspace.display()),
            because: Some("the image has its own".to_owned()),
            hint: Some("start in a project directory, or run with `--sandbox local`".to_owned()),
        });
    }
    Ok(())
}

/// The ways to try, best first.
fn ways(engine: &Engine, spec: &BoxSpec) -> Result<Vec<(Way, Keep)>, SandboxError> {
    if spec.bind_workspace {
        return Ok(if engine.far { Vec::new() } else { vec![(Way::Mounts, Keep::Bind)] });
    }
    if engine.far {
        return Ok(vec![(Way::Api, Keep::Copy)]);
    }
    let plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains([',', ':', '\\', '"']));
    let overlay = plain(&spec.workspace) && plain(&spec.run_dir);
    let first = overlay.then_some((Way::Mounts, Keep::Overlay));
    Ok(first.into_iter().chain([(Way::Mounts, Keep::Copy), (Way::Api, Keep::Copy)]).collect())
}

/// Makes the run's directories, with the overlay's empty.
fn prepare(dirs: &Dirs, workspace: &Path, keep: Keep) -> io::Result<()> {
    let private = |dir: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    private(&dirs.all)?;
    private(&dirs.control)?;
    match fs::remove_file(dirs.control.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if keep == Keep::Overlay {
        private(&dirs.upper)?;
        private(&dirs.work)?;
        // The merged directory shows the upper one's owner and mode.
        let meta = fs::metadata(workspace)?;
        fs::set_permissions(&dirs.upper, Permissions::from_mode(meta.mode() & 0o7777))?;
        let owner = fs::metadata(&dirs.upper)?;
        if (owner.uid(), owner.gid()) != (meta.uid(), meta.gid()) {
            // Only root may; for others the directory is theirs anyway or belongs to someone they share it with.
            let _ = std::os::unix::fs::chown(&dirs.upper, Some(meta.uid()), Some(meta.gid()));
        }
    }
    Ok(())
}

fn no_room(dir: &Path, error: &io::Error) -> SandboxError {
    SandboxError {
        what: format!("cannot prepare {}", dir.display()),
        because: Some(error.to_string()),
        hint: Some("name another state directory by `LONGHAUL_STATE_DIR`".to_owned()),
    }
}

/// Podman asks for more open files and processes than its own service has where those were lowered, and then fails.
pub(super) fn own_limits() -> (u64, u64) {
    use rustix::process::{Resource, getrlimit};
    let own = |resource, most: u64| getrlimit(resource).maximum.unwrap_or(most).min(most);
    (own(Resource::Nofile, 1 << 20), own(Resource::Nproc, 1 << 15))
}

/// Why an attempt ended.
enum Stopped {
    /// The engine would not have it this way; another way may do.
    Engine(SandboxError),
    /// The container ran but its guest did not come up, which no other way changes.
    Guest(SandboxError),
}

struct Attempt<'a> {
    engine: &'a Engine,
    shape: &'a Shape<'a>,
    bundle: &'a Bundle,
    /// Whether a copied workspace has to be brought; it is in the image otherwise.
    brings_workspace: bool,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<(Container, Client), Stopped> {
        let name = self.shape.name();
        let container = Container::new(self.engine.clone(), name, self.shape.volume());
        let result = match self.start(&container).await {
            Ok(()) => self.greet(&container).await.map_err(Stopped::Guest),
            Err(error) => Err(Stopped::Engine(error)),
        };
        match result {
            Ok(guest) => Ok((container.keep(), guest)),
            Err(stopped) => {
                container.remove().await;
                // Nothing is left to be removed once more.
                drop(container.keep());
                Err(stopped)
            }
        }
    }

    async fn start(&self, container: &Container) -> Result<(), SandboxError> {
        let what = "cannot make a container";
        let docker = &self.engine.docker;
        self.create(container).await?;
        if self.shape.way == Way::Api {
            self.upload_program(container).await?;
        }
        if self.shape.keep == Keep::Copy && self.brings_workspace {
            self.upload_workspace(container).await?;
        }
        let starting = Starting {
            engine: self.engine,
            container: &container.name,
            way: self.shape.way,
            control: &self.shape.dirs.control,
        };
        starting.bring(&self.shape.spec.token).await?;
        docker.start_container(&container.name, None).await.map_err(|error| refusal(what, &error))
    }

    /// Creates it; what an earlier driver of the same run has left under its name goes first.
    async fn create(&self, container: &Container) -> Result<(), SandboxError> {
        let docker = &self.engine.docker;
        let create = || {
            let options = CreateContainerOptionsBuilder::new().name(&container.name).build();
            docker.create_container(Some(options), self.shape.body())
        };
        let what = "cannot make a container";
        let Err(error) = create().await else { return Ok(()) };
        let left = match status(&error) {
            Some(409 | 500) => docker.inspect_container(&container.name, None).await.ok(),
            _ => None,
        };
        let labels = left.and_then(|left| left.config?.labels).unwrap_or_default();
        if labels.get(RUN_LABEL).map(String::as_str) != Some(self.shape.spec.run.as_str()) {
            return Err(refusal(what, &error));
        }
        container.remove().await;
        create().await.map(|_| ()).map_err(|error| refusal(what, &error))
    }

    async fn upload_program(&self, container: &Container) -> Result<(), SandboxError> {
        let bundle = self.bundle.clone();
        let packed = tokio::task::spawn_blocking(move || pack_program(&bundle)).await;
        let what = "cannot send the program into the container";
        let failed = |because: String| SandboxError { what: what.to_owned(), because: Some(because), hint: None };
        let tar = packed.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(tar.into());
        let sent = self.engine.docker.upload_to_container(&container.name, Some(options), body).await;
        sent.map_err(|error| refusal(what, &error))
    }

    async fn upload_workspace(&self, container: &Container) -> Result<(), SandboxError> {
        let workspace = self.shape.spec.workspace.clone();
        let masks: Vec<PathBuf> = self.shape.masks.to_vec();
        let what = format!("cannot copy {} into the container", workspace.display());
        let measured = {
            let (workspace, masks) = (workspace.clone(), masks.clone());
            tokio::task::spawn_blocking(move || carry::measure(&workspace, &masks)).await
        };
        if let Ok(Err(error)) = measured {
            let because = std::error::Error::source(&error).map(|cause| format!("{error}: {cause}"));
            return Err(SandboxError {
                what,
                because: Some(because.unwrap_or_else(|| error.to_string())),
                hint: Some("start in a smaller directory, or run with `--sandbox local`, which copies nothing".into()),
            });
        }
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_try_stream(carry::pack(&workspace, &masks));
        let sent = self.engine.docker.upload_to_container(&container.name, Some(options), body).await;
        sent.map_err(|error| refusal(&what, &error))
    }

    /// Waits for the guest to answer, for the container to die, or for patience to end.
    async fn greet(&self, container: &Container) -> Result<Client, SandboxError> {
        let door = Door {
            engine: self.engine,
            container: &container.name,
            way: self.shape.way,
            control: &self.shape.dirs.control,
            sessions: self.shape.spec.run_dir.join("sessions"),
            token: &self.shape.spec.token,
            program: self.shape.program.to_vec(),
        };
        door.greet().await.map_err(|because| SandboxError {
            what: format!("the guest does not come up in `{}`", self.shape.image.name),
            because: Some(because),
            hint: Some("name another image with `--image`, or run with `--sandbox local`".to_owned()),
        })
    }
}

/// The program and the directory for its socket, as a tar with paths from the root.
fn pack_program(bundle: &Bundle) -> io::Result<Vec<u8>> {
    let inside = |path: &str| path.trim_start_matches('/').to_owned();
    bundle.tar(&inside(PROGRAM_DIR), &inside(CONTROL_DIR))
}

fn facts(shape: &Shape<'_>, engine: &Engine, overlay_refused: Option<&SandboxError>, welcome: &Welcome) -> BoxFacts {
    let mut capabilities = engine.capabilities.clone();
    let copied = shape.keep == Keep::Copy;
    let because = overlay_refused.map(|error| error.because.clone().unwrap_or_else(|| error.what.clone()));
    let why = if engine.far { "the engine does not see this machine's files" } else { "the path or the engine" };
    capabilities.push(Capability {
        name: "workspace overlay".to_owned(),
        missing: copied.then(|| because.unwrap_or_else(|| why.to_owned())),
    });
    capabilities.push(Capability {
        name: "tmux".to_owned(),
        missing: welcome
            .tmux
            .is_none()
            .then(|| "the image has none; `--tmux` installs it, all else works without".to_owned()),
    });
    BoxFacts {
        kind: SandboxKind::Docker,
        why: shape.spec.why.clone(),
        id: shape.name(),
        image: Some(shape.image.name.clone()),
        image_digest: shape.image.digest.clone(),
        workspace: shape.spec.workspace.display().to_string(),
        workspace_mode: shape.keep.word().to_owned(),
        capabilities,
    }
}
