//! From what was asked for to a box with a workbench in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Place, launch};
use crate::agent::{Boxes, FoundBench, Opening};
use crate::clock::Clock;
use crate::domain::{SandboxKind, Snapshot};
use crate::guest::has_ended;
use crate::journal::{References, RunStore};
use crate::sandbox::choose::{ImageNamed, Wanted, candidates, choose};
use crate::sandbox::docker::Docker;
use crate::sandbox::host::Host;
use crate::sandbox::local::Local;
use crate::sandbox::{Backend, BoxSpec, Found, Launch, Probe, Sandbox, SandboxError, leave_token};
use crate::terminal::{ExcerptBudget, Terminal, TerminalOptions};
use crate::tools::{Workbench, WorkbenchError};

/// Where sockets of `host` boxes lie: their paths must be short.
const SOCKETS: &str = "/tmp";

/// What box is wanted, and whose.
#[derive(Debug, Clone)]
pub(super) struct BoxWish {
    /// The kind.
    pub(super) wanted: Wanted,
    /// Everything else; `why` is filled in when the kind has been chosen.
    pub(super) spec: BoxSpec,
    /// The clock by which its sessions wait.
    pub(super) clock: Arc<dyn Clock>,
}

/// The backends of this machine.
pub(super) struct Backends {
    launch: Launch,
    image: Option<String>,
    env: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl Backends {
    /// Backends whose boxes run this very program, for runs below `state_dir`.
    pub(super) fn new(
        state_dir: PathBuf,
        image: Option<String>,
        env: BTreeMap<String, String>,
        home: Option<PathBuf>,
    ) -> Self {
        Self { launch: Launch { program: PathBuf::from("/proc/self/exe"), state_dir }, image, env, home }
    }

    /// The backend of a kind.
    pub(super) fn of(&self, kind: SandboxKind) -> Box<dyn Backend> {
        match kind {
            SandboxKind::Docker => {
                let (image, env) = (self.image.clone(), self.env.clone());
                Box::new(Docker::new(self.launch.clone(), image, env, self.home.clone()))
            }
            SandboxKind::Local => Box::new(Local::new(self.launch.clone())),
            SandboxKind::Host => Box::new(Host::new(self.launch.clone(), PathBuf::from(SOCKETS))),
        }
    }

    /// Makes the box that is wished for, with its first session's terminal.
    ///
    /// Making it is the trial: a kind that can't be had is known by its failure, and the next is tried.
    ///
    /// # Errors
    /// [`WorkbenchError::NoBox`]: each kind that was tried, with its remedy.
    pub(super) async fn open(&self, wish: BoxWish) -> Result<Workbench, WorkbenchError> {
        let BoxWish { wanted, mut spec, clock } = wish;
        let image = if spec.image.is_some() { ImageNamed::Yes } else { ImageNamed::No };
        let mut tried = Vec::new();
        for &kind in candidates(wanted, image) {
            tried.push(Probe { kind, missing: None, capabilities: Vec::new() });
            spec.why = choose(wanted, image, &tried)?.why;
            match self.of(kind).create(&spec).await {
                Ok(sandbox) => return Ok(set_up_anew(sandbox, &spec, clock)),
                Err(error) => tried.last_mut().expect("just pushed").missing = Some(error),
            }
        }
        let refused = choose(wanted, image, &tried).expect_err("every kind that was tried has failed");
        Err(refused.into())
    }

    /// Removes a snapshot, but for the image that another checkpoint stands on, such as that of a fork: layers are looked
    /// after where they lie.
    async fn discard(&self, store: &RunStore, snapshot: Snapshot) -> Vec<String> {
        let images = References::of(store, None).images;
        let shared = snapshot.image.as_ref().is_some_and(|image| images.contains(image));
        let image = snapshot.image.clone().filter(|_| !shared);
        if image.is_none() && snapshot.layers.is_empty() {
            return Vec::new();
        }
        self.of(snapshot.kind).discard(&Snapshot { image, ..snapshot }).await
    }

    /// Finds the box of a run whose driver has gone: of whichever kind it is.
    ///
    /// # Errors
    /// [`WorkbenchError::NoBox`] where it can't be told whether there is one.
    async fn find(&self, wish: BoxWish) -> Result<FoundBench, WorkbenchError> {
        let BoxWish { wanted, spec, clock } = wish;
        let image = if spec.image.is_some() { ImageNamed::Yes } else { ImageNamed::No };
        let mut gone = Vec::new();
        for &kind in candidates(wanted, image) {
            match self.of(kind).find(&spec).await? {
                Found::Alive(sandbox) => return Ok(FoundBench::Alive(set_up(sandbox, &spec, clock))),
                Found::Restarted(sandbox, why) => {
                    return Ok(FoundBench::Restarted(set_up_anew(sandbox, &spec, clock), why));
                }
                Found::Gone(why) => gone.push(why),
            }
        }
        Ok(FoundBench::Gone(gone.join("; ")))
    }
}

/// Removes a snapshot that no checkpoint names any more; what could not be removed, in words.
pub(super) async fn discard(store: &RunStore, place: &Place, snapshot: Snapshot) -> Vec<String> {
    let backends = Backends::new(store.state_dir().to_owned(), None, launch::utf8_vars(place), place.home());
    backends.discard(store, snapshot).await
}

/// The boxes of one run.
pub(super) struct RunBoxes {
    backends: Arc<Backends>,
    wish: BoxWish,
    /// The memory limit that a box was given since; 0 where it is as it was wished for.
    grown: AtomicU64,
}

impl RunBoxes {
    /// Boxes as they are wished for.
    pub(super) fn new(backends: Backends, wish: BoxWish) -> Self {
        Self { backends: Arc::new(backends), wish, grown: AtomicU64::new(0) }
    }

    /// What is wished for now.
    fn wish(&self) -> BoxWish {
        let mut wish = self.wish.clone();
        let grown = Some(self.grown.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
        wish.spec.limits.memory_bytes = grown.or(wish.spec.limits.memory_bytes);
        wish
    }
}

impl Boxes for RunBoxes {
    fn open(&self, from: Option<Snapshot>) -> Opening {
        let (backends, mut wish) = (Arc::clone(&self.backends), self.wish());
        if let Some(snapshot) = &from {
            wish.wanted = Wanted::Only(snapshot.kind);
        }
        wish.spec.from = from;
        let opening = tokio::spawn(async move { backends.open(wish).await });
        opening.map(|joined| joined.unwrap_or_else(|error| Err(panicked(&error)))).boxed()
    }

    fn find(&self) -> BoxFuture<'static, Result<FoundBench, WorkbenchError>> {
        let (backends, wish) = (Arc::clone(&self.backends), self.wish());
        let finding = tokio::spawn(async move { backends.find(wish).await });
        finding.map(|joined| joined.unwrap_or_else(|error| Err(panicked(&error)))).boxed()
    }

    fn has_grown(&self, memory_bytes: u64) {
        self.grown.store(memory_bytes, Ordering::Relaxed);
    }

    fn has_ended(&self, work: &str) -> bool {
        has_ended(&self.wish.spec.run_dir.join("sessions"), work)
    }

    fn lack_of(&self, snapshot: &Snapshot) -> Option<String> {
        let layers = self.wish.spec.state_dir.join("layers");
        let missing = snapshot.layers.iter().find(|layer| !layers.join(layer).is_dir());
        missing.map(|layer| format!("its layer {layer} is not in {}", layers.display()))
    }

    fn discard(&self, snapshot: Snapshot) -> BoxFuture<'static, Vec<String>> {
        let backends = Arc::clone(&self.backends);
        let store = RunStore::new(&self.wish.spec.state_dir);
        async move { backends.discard(&store, snapshot).await }.boxed()
    }
}

fn panicked(error: &tokio::task::JoinError) -> WorkbenchError {
    WorkbenchError::NoBox(SandboxError {
        what: "the box could not be made".to_owned(),
        because: Some(error.to_string()),
        hint: None,
    })
}

fn set_up_anew(sandbox: Box<dyn Sandbox>, spec: &BoxSpec, clock: Arc<dyn Clock>) -> Workbench {
    // Without it nobody can look in; the run itself does not need it.
    let _ = leave_token(&spec.run_dir, &spec.token);
    set_up(sandbox, spec, clock)
}

/// For a box that was found alive the token stays the one that it was started with.
fn set_up(sandbox: Box<dyn Sandbox>, spec: &BoxSpec, clock: Arc<dyn Clock>) -> Workbench {
    let terminal = Terminal::new(
        sandbox.guest().clone(),
        TerminalOptions {
            workspace: sandbox.facts().workspace.clone(),
            env: BTreeMap::new(),
            size: crate::guest::TermSize::default(),
            logs: "sessions".to_owned(),
            budget: ExcerptBudget::default(),
            clock,
        },
    );
    Workbench::new(sandbox, terminal, &spec.run_dir.join("artifacts"))
}
