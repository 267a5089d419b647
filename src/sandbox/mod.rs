//! The box: where everything the model does happens.
//!
//! A [`Backend`] makes boxes; in every box runs one guest ([`crate::guest`]) as first process, and all work goes
//! through its channel. Nothing that matters rests on an engine's `exec`.

pub mod changes;
pub mod choose;
pub mod docker;
pub mod host;
mod launch;
mod layers;
mod lifeline;
pub mod local;
mod reach;
mod secrets;
mod sidecar;

pub use launch::{Launch, SUBCOMMAND};
pub use reach::{ReachError, leave_token, left_token, reach};
pub use sidecar::{Sidecar, SidecarEnd, SidecarName, SidecarSaid, SidecarSpec, Sidecars, TarStream};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{BoxFacts, Capability, RunId, SandboxKind, Snapshot};
use crate::guest::Client;

/// What a box is made from and for.
#[derive(Debug, Clone)]
pub struct BoxSpec {
    /// The run it belongs to.
    pub run: RunId,
    /// The run's directory on the host: `box/` below it belongs to the backend, `sessions/` to the guest.
    pub run_dir: PathBuf,
    /// The state directory of all runs, which no box may see.
    pub state_dir: PathBuf,
    /// The project directory, absolute; appears at the same path inside.
    pub workspace: PathBuf,
    /// Write through to the host instead of copy-on-write.
    pub bind_workspace: bool,
    /// The image, for containers.
    pub image: Option<String>,
    /// The user's home directory, whose secrets are masked.
    pub home: Option<PathBuf>,
    /// Whether the box shares the host's network.
    pub network: Network,
    /// Limits.
    pub limits: Limits,
    /// One line why this backend was taken.
    pub why: String,
    /// The caller's whole environment; each backend lets only the names through that make sense in its boxes.
    pub env: BTreeMap<String, String>,
    /// What a client shows the guest to be let in: random, secret, without blanks.
    pub token: String,
    /// Whether tmux is installed for people where an image has none.
    pub tmux: bool,
    /// The snapshot that it begins with; the host's files, or the image's, without.
    pub from: Option<Snapshot>,
}

/// What a box sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Only its own loopback.
    None,
    /// Out to the world: the engine's bridge, or the host's network for `local`.
    Open,
}

/// Limits on a box; None is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors, as in 1.5.
    pub cpus: Option<f64>,
    /// Bytes of all terminal logs of the run; the guest's default without.
    pub log_bytes: Option<u64>,
}

/// What a backend can do on this machine, tried for real.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Which backend.
    pub kind: SandboxKind,
    /// None where boxes can be made; else why not, and the remedy.
    pub missing: Option<SandboxError>,
    /// What its boxes can do and what not.
    pub capabilities: Vec<Capability>,
}

/// Why a box can't be had, or can't be got rid of. Says what, because, and a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SandboxError {
    /// What could not be done: a lower-case fragment.
    pub what: String,
    /// The cause, in the system's words.
    pub because: Option<String>,
    /// The remedy: a command or a flag.
    pub hint: Option<String>,
}

/// Counters of a box that tell what exit codes don't.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Processes that the limit of processes has kept from being made.
    pub forks_denied: Option<u64>,
    /// Memory in use.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What remains of a box after [`Sandbox::destroy`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// What could not be removed, in words; empty if all is gone but the workspace's changes.
    pub left: Vec<String>,
}

/// How a snapshot is wished for.
#[derive(Debug, Clone, Default)]
pub struct SnapshotWish {
    /// The name of its layer in the store of all runs: new, of letters, digits and hyphens.
    pub layer: String,
    /// Whether the box goes right after: then nothing has to be copied.
    pub last: bool,
    /// Whoever cancels it does not want it any more: what copies files gives up between two pieces.
    pub unwanted: CancellationToken,
}

/// What a snapshot would have to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToCopy {
    /// Regular files that are new or have changed since the box's last snapshot.
    pub files: u64,
    /// What they take on the disk.
    pub bytes: u64,
    /// Processes of the box beside its first one.
    pub processes: usize,
}

/// An image that a box was kept as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// Its id.
    pub id: String,
    /// What belongs to the box and is not in it.
    pub left_out: Vec<String>,
}

/// A box that was looked for.
pub enum Found {
    /// It is up, and all that ran in it still runs.
    Alive(Box<dyn Sandbox>),
    /// It had ended; its files were kept, and it was started again. Why it had ended, in words.
    Restarted(Box<dyn Sandbox>, String),
    /// Nothing of it is left. Why, in words.
    Gone(String),
}

/// A box that is up.
#[async_trait::async_trait]
pub trait Sandbox: Send + Sync {
    /// What it is, for the record.
    fn facts(&self) -> &BoxFacts;

    /// The channel to its guest.
    fn guest(&self) -> &Client;

    /// The line by which a person can look in with the engine's own means, where there is one.
    fn attach_line(&self) -> Option<String>;

    /// Counters as they are now.
    async fn counters(&self) -> Counters;

    /// Gives the box this much memory at most from now on, which is more than it had.
    ///
    /// # Errors
    /// [`SandboxError`]: the limit is what it was.
    async fn grow_memory(&self, bytes: u64) -> Result<(), SandboxError>;

    /// Keeps the files of the box as they are at one instant. The box goes on as if nothing had happened, unless
    /// [`SnapshotWish::last`] was said.
    ///
    /// # Errors
    /// [`SandboxError`]: nothing is kept then, and the box goes on.
    async fn snapshot(&self, wish: &SnapshotWish) -> Result<Snapshot, SandboxError>;

    /// What a snapshot of the box as it works would have to copy; None where it would be taken without that, or where an
    /// end of the box would spare nothing.
    async fn to_copy(&self) -> Option<ToCopy> {
        None
    }

    /// What can be said of the box beyond [`Sandbox::facts`], one line each: its limits, mounts, networks.
    async fn described(&self) -> Vec<String> {
        Vec::new()
    }

    /// The services beside the box, where it can have any.
    fn sidecars(&self) -> Option<&dyn Sidecars> {
        None
    }

    /// Keeps the box as an image of this name, for people.
    ///
    /// # Errors
    /// [`SandboxError`]: no image has the name then that had not, and the box goes on.
    async fn save_image(&self, name: &str) -> Result<SavedImage, SandboxError> {
        Err(SandboxError {
            what: format!("cannot keep the box as the image `{name}`"),
            because: Some("it is no container".to_owned()),
            hint: Some("run with `--image IMAGE` or `--sandbox docker`".to_owned()),
        })
    }

    /// Ends every process and removes the box; the workspace's changes stay in the run's directory.
    ///
    /// Bounded by `patience`; what is still there then is killed.
    async fn destroy(&self, patience: Duration) -> Removal;
}

/// Says whether a run is being driven by some process. By a name of its own, because `async_trait` ties the lifetime
/// within a function's type to the call's otherwise.
pub type IsDriven<'a> = &'a (dyn Fn(&RunId) -> bool + Sync);

/// Makes boxes.
#[async_trait::async_trait]
pub trait Backend: Send + Sync {
    /// Tries what it needs, for real.
    async fn probe(&self) -> Probe;

    /// Makes a box and brings its guest up, from [`BoxSpec::from`] where that is given.
    ///
    /// # Errors
    /// [`SandboxError`] with the remedy. Nothing is left behind then.
    async fn create(&self, spec: &BoxSpec) -> Result<Box<dyn Sandbox>, SandboxError>;

    /// Finds the box of a run whose driver has gone, and takes charge of it.
    ///
    /// # Errors
    /// [`SandboxError`] where it can't be told whether there is one, or what is left of it can't be had back. Nothing is
    /// removed then.
    async fn find(&self, spec: &BoxSpec) -> Result<Found, SandboxError>;

    /// Removes a snapshot; what could not be removed, in words. Layers that a checkpoint's file or a box still names
    /// stay: so remove its own file first.
    async fn discard(&self, snapshot: &Snapshot) -> Vec<String>;

    /// Removes all that is left of a run beyond its directory, which must be gone, such as images of checkpoints that were
    /// never recorded; returns what was removed, in words. What another run's checkpoints stand on stays.
    async fn forget(&self, run: &RunId) -> Vec<String> {
        let _ = run;
        Vec::new()
    }

    /// Removes what runs that are no longer driven have left behind; returns what was removed, in words. What a run
    /// can be taken up again from stays as long as the run's directory is there.
    async fn sweep(&self, is_driven: IsDriven<'_>) -> Vec<String>;
}
