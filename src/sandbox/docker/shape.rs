//! What a container is made of: pure, from what was asked and the way that is tried.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountBindOptions, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, ResourcesUlimits,
};
use serde::{Deserialize, Serialize};

use super::engine::{Image, Make, RUN_LABEL, STATE_LABEL};
use crate::guest::{Control, GuestSetup, SETUP_VAR};
use crate::sandbox::{BoxSpec, Network};

/// Where this program appears in the container.
pub(super) const PROGRAM_DIR: &str = "/run/longhaul/bin";
/// Where the control socket's directory appears in the container.
pub(super) const CONTROL_DIR: &str = "/run/longhaul/control";
/// What the guest keeps for itself in the container.
pub(super) const RUNTIME_DIR: &str = "/run/longhaul/guest";
/// The word by which this program becomes the guest.
pub(super) const GUEST: &str = "__guest";
/// The control socket's name.
pub(super) const SOCKET: &str = "ctl.sock";
/// The environment variable that names the driving process to people who look at the container.
pub(super) const DRIVER_LABEL: &str = "longhaul.pid";

/// Processes and threads when no limit is named: enough for a parallel build, too few for a fork bomb to hurt.
pub(super) const DEFAULT_PIDS: u64 = 4096;
/// Engines give 64 MiB of shared memory, which data loaders of machine learning frameworks run out of. Only what is
/// used counts.
const SHARED_MEMORY_BYTES: i64 = 2 << 30;

/// What package managers, `su` and servers on low ports need. Not among them, unlike with the engine's own defaults:
/// raw sockets, device nodes, file capabilities, the audit log.
pub(super) const CAPABILITIES: [&str; 9] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"];

/// How host and container get at each other's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// The engine mounts directories of this machine.
    Mounts,
    /// Everything is sent through the engine's API.
    Api,
}

/// How the workspace is kept from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Keep {
    /// An overlay over the host's directory: writes go to a directory of the run.
    Overlay,
    /// A copy inside the container.
    Copy,
    /// The host's directory itself.
    Bind,
}

impl Keep {
    /// The word for the record.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
            Self::Bind => "bind",
        }
    }
}

/// The workspace's layer below the directories for layers and their work.
pub(super) const KEY: &str = "workspace";

/// Directories of the run on the host, with layers where the other kinds of box have theirs.
#[derive(Debug, Clone)]
pub(super) struct Dirs {
    /// What belongs to the backend.
    pub(super) all: PathBuf,
    /// Shared with the container: the control socket.
    pub(super) control: PathBuf,
    /// What was written to the workspace.
    pub(super) upper: PathBuf,
    /// The overlay's own.
    pub(super) work: PathBuf,
}

impl Dirs {
    /// Names them.
    pub(super) fn of(run_dir: &Path) -> Self {
        let all = run_dir.join("box");
        let layer = |kind: &str| all.join(kind).join(KEY);
        Self { control: all.join("control"), upper: layer("u"), work: layer("w"), all }
    }
}

/// Everything that decides what the container is.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    /// What was asked for.
    pub(super) spec: &'a BoxSpec,
    /// The image.
    pub(super) image: &'a Image,
    /// Whose engine makes it.
    pub(super) make: Make,
    /// The way that is tried.
    pub(super) way: Way,
    /// How the workspace is kept from the host.
    pub(super) keep: Keep,
    /// This program's directory on the host.
    pub(super) program_dir: &'a Path,
    /// The words that run this program inside.
    pub(super) program: &'a [String],
    /// The run's directories.
    pub(super) dirs: &'a Dirs,
    /// Directories that the workspace stands on, from the top down, above the host's.
    pub(super) lowers: &'a [PathBuf],
    /// What must not be seen below the workspace.
    pub(super) masks: &'a [PathBuf],
    /// Open files and processes that the engine may hand on, `None` to leave them to the engine.
    pub(super) ulimits: Option<(u64, u64)>,
    /// The driving process.
    pub(super) driver: u32,
}

impl Shape<'_> {
    /// The container's name, and its volume's.
    pub(super) fn name(&self) -> String {
        format!("longhaul-{}", self.spec.run.short())
    }

    /// The volume to remove after the container.
    pub(super) fn volume(&self) -> Option<String> {
        (self.keep == Keep::Overlay && self.make == Make::Docker).then(|| self.name())
    }

    /// The labels of everything that is made.
    pub(super) fn labels(&self) -> HashMap<String, String> {
        HashMap::from([
            (RUN_LABEL.to_owned(), self.spec.run.to_string()),
            (STATE_LABEL.to_owned(), self.spec.state_dir.display().to_string()),
            (DRIVER_LABEL.to_owned(), self.driver.to_string()),
        ])
    }

    /// What the engine is asked for.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let mut command = self.program.to_vec();
        command.push(GUEST.to_owned());
        // An image that is made of a container of Docker's has the container's entry point where its own base has none.
        let (entrypoint, command) = match self.make {
            Make::Docker => (vec![String::new()], command),
            Make::Podman => (command, Vec::new()),
        };
        ContainerCreateBody {
            image: Some(self.image.name.clone()),
            hostname: Some("longhaul".to_owned()),
            user: Some("0:0".to_owned()),
            entrypoint: Some(entrypoint),
            cmd: Some(command),
            env: Some(vec![format!("{SETUP_VAR}={}", self.setup())]),
            working_dir: Some("/".to_owned()),
            labels: Some(self.labels()),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn setup(&self) -> String {
        let setup = GuestSetup {
            token: String::new(),
            control: Control::Path(Path::new(CONTROL_DIR).join(SOCKET)),
            runtime_dir: PathBuf::from(RUNTIME_DIR),
            program: self.program.to_vec(),
            init: true,
            base_env: base_env(&self.image.env, &self.spec.env),
            cwd: self.spec.workspace.clone(),
            log_cap_bytes: self.spec.limits.log_bytes,
        };
        serde_json::to_string(&setup).expect("plain data becomes JSON")
    }

    fn host_config(&self) -> HostConfig {
        let limits = &self.spec.limits;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        HostConfig {
            binds: self.podman_overlay().map(|bind| vec![bind]),
            mounts: Some(self.mounts()),
            network_mode: (self.spec.network == Network::None).then(|| "none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            pids_limit: Some(signed(limits.pids.unwrap_or(DEFAULT_PIDS))),
            memory: limits.memory_bytes.map(signed),
            // As much as memory: no swap on top, so that the limit is the limit.
            memory_swap: limits.memory_bytes.map(signed),
            nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
            shm_size: Some(SHARED_MEMORY_BYTES),
            ulimits: self.ulimits.map(ulimits),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let mut mounts = Vec::new();
        if self.way == Way::Mounts {
            mounts.push(Mount { read_only: Some(true), ..bind(self.program_dir, Path::new(PROGRAM_DIR)) });
            mounts.push(bind(&self.dirs.control, Path::new(CONTROL_DIR)));
        }
        let workspace = &self.spec.workspace;
        match self.keep {
            Keep::Bind => mounts.push(bind(workspace, workspace)),
            Keep::Overlay if self.make == Make::Docker => mounts.push(self.overlay_volume()),
            Keep::Overlay | Keep::Copy => {}
        }
        // What is copied leaves out what is masked.
        if self.keep != Keep::Copy {
            mounts.extend(self.masks.iter().map(|path| mask(path)));
        }
        mounts
    }

    /// Docker mounts an overlay when a volume of its `local` driver says so.
    fn overlay_volume(&self) -> Mount {
        let options = overlay_options(self.lowers, &self.spec.workspace, self.dirs);
        let options = [("type", "overlay".to_owned()), ("device", "overlay".to_owned()), ("o", options)];
        Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.name()),
            target: Some(text(&self.spec.workspace)),
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                labels: Some(self.labels()),
                driver_config: Some(MountVolumeOptionsDriverConfig {
                    name: Some("local".to_owned()),
                    options: Some(options.map(|(name, value)| (name.to_owned(), value)).into()),
                }),
                subpath: None,
            }),
            ..Mount::default()
        }
    }

    /// Podman mounts an overlay when a bind says `O`, rootless too, and has nothing to remove afterwards.
    fn podman_overlay(&self) -> Option<String> {
        (self.keep == Keep::Overlay && self.make == Make::Podman).then(|| {
            format!(
                "{0}:{0}:O,upperdir={1},workdir={2}",
                self.spec.workspace.display(),
                self.dirs.upper.display(),
                self.dirs.work.display()
            )
        })
    }
}

/// What the kernel is told of the workspace's overlay.
pub(super) fn overlay_options(lowers: &[PathBuf], workspace: &Path, dirs: &Dirs) -> String {
    let lowers = lowers.iter().map(PathBuf::as_path).chain([workspace]);
    let lowers = lowers.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    // Without redirects a layer means the same whatever the kernel's default is.
    format!("lowerdir={lowers},upperdir={},workdir={},redirect_dir=off", dirs.upper.display(), dirs.work.display())
}

/// Limits on open files and processes, as engines take them.
pub(super) fn ulimits((files, processes): (u64, u64)) -> Vec<ResourcesUlimits> {
    let limit = |name: &str, value: u64| {
        let value = Some(i64::try_from(value).unwrap_or(i64::MAX));
        ResourcesUlimits { name: Some(name.to_owned()), soft: value, hard: value }
    };
    vec![limit("nofile", files), limit("nproc", processes)]
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn bind(from: &Path, to: &Path) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(text(from)),
        target: Some(text(to)),
        bind_options: Some(MountBindOptions::default()),
        ..Mount::default()
    }
}

fn mask(path: &Path) -> Mount {
    if !path.is_dir() {
        return Mount { read_only: Some(true), ..bind(Path::new("/dev/null"), path) };
    }
    Mount {
        typ: Some(MountType::TMPFS),
        target: Some(text(path)),
        tmpfs_options: Some(MountTmpfsOptions { size_bytes: Some(4096), mode: Some(0o500), options: None }),
        ..Mount::default()
    }
}

/// The image's environment, what a shell can't do without, and of the caller's only the time zone.
fn base_env(image: &BTreeMap<String, String>, caller: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let needed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("LANG", "C.UTF-8"),
    ];
    let mut env: BTreeMap<_, _> = needed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(caller.get("TZ").map(|zone| ("TZ".to_owned(), zone.clone())));
    env.extend(image.clone());
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;
    use crate::sandbox::Limits;

    fn spec() -> BoxSpec {
        BoxSpec {
            run: RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            run_dir: "/state/runs/x".into(),
            state_dir: "/state".into(),
            workspace: "/home/me/project".into(),
            bind_workspace: false,
            image: None,
            home: None,
            network: Network::None,
            limits: Limits { memory_bytes: Some(1 << 30), cpus: Some(1.5), ..Limits::default() },
            why: String::new(),
            env: BTreeMap::from([("TZ".to_owned(), "UTC".to_owned()), ("AWS_SECRET".to_owned(), "x".to_owned())]),
            token: "secret".to_owned(),
            tmux: false,
            from: None,
        }
    }

    fn body(make: Make, way: Way, keep: Keep) -> ContainerCreateBody {
        let image = Image {
            name: "i".into(),
            digest: None,
            env: BTreeMap::from([("PATH".into(), "/x".into())]),
            labels: BTreeMap::new(),
        };
        let (spec, dirs) = (spec(), Dirs::of(Path::new("/state/runs/x")));
        let shape = Shape {
            spec: &spec,
            image: &image,
            make,
            way,
            keep,
            program_dir: Path::new("/state/guest/abc"),
            program: &["/run/longhaul/bin/agent".to_owned()],
            dirs: &dirs,
            lowers: &[],
            masks: &["/home/me/project/state".into()],
            ulimits: None,
            driver: 1,
        };
        shape.body()
    }

    #[test]
    fn a_container_has_the_least_rights_that_do() {
        let config = body(Make::Docker, Way::Mounts, Keep::Overlay).host_config.unwrap();
        assert_eq!(config.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(config.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!((config.privileged, config.pid_mode, config.ipc_mode, config.uts_mode), (None, None, None, None));
        assert_eq!((config.userns_mode, config.devices, config.runtime), (None, None, None));
        assert_eq!(config.network_mode.as_deref(), Some("none"));
        assert_eq!(config.pids_limit, Some(4096));
        assert_eq!((config.memory, config.memory_swap), (Some(1 << 30), Some(1 << 30)));
        assert_eq!(config.nano_cpus, Some(1_500_000_000));
        let sources: Vec<_> = config.mounts.unwrap().into_iter().filter_map(|mount| mount.source).collect();
        assert!(!sources.iter().any(|source| source.ends_with(".sock") || source == "/"), "{sources:?}");
    }

    #[test]
    fn the_callers_environment_stays_outside() {
        let env = body(Make::Docker, Way::Mounts, Keep::Overlay).env.unwrap().remove(0);
        assert!(env.starts_with("LONGHAUL_GUEST={") && env.contains("\"TZ\":\"UTC\""), "{env}");
        assert!(env.contains("\"PATH\":\"/x\"") && !env.contains("AWS_SECRET"), "{env}");
    }

    #[test]
    fn each_engine_makes_the_overlay_its_own_way() {
        let docker = body(Make::Docker, Way::Mounts, Keep::Overlay).host_config.unwrap();
        let volume = docker.mounts.unwrap().into_iter().find(|mount| mount.typ == Some(MountType::VOLUME)).unwrap();
        let options = volume.volume_options.unwrap().driver_config.unwrap().options.unwrap();
        assert_eq!(
            options["o"],
            "lowerdir=/home/me/project,upperdir=/state/runs/x/box/u/workspace,workdir=/state/runs/x/box/w/workspace,redirect_dir=off"
        );
        let podman = body(Make::Podman, Way::Mounts, Keep::Overlay).host_config.unwrap();
        assert_eq!(
            podman.binds.unwrap(),
            [
                "/home/me/project:/home/me/project:O,upperdir=/state/runs/x/box/u/workspace,workdir=/state/runs/x/box/w/workspace"
            ]
        );
    }

    #[test]
    fn a_far_engine_is_asked_to_mount_nothing_of_this_machine() {
        let config = body(Make::Docker, Way::Api, Keep::Copy).host_config.unwrap();
        assert_eq!((config.mounts, config.binds), (Some(Vec::new()), None));
    }
}
