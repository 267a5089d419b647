//! From what was asked for to a box with a workbench in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::SandboxKind;
use crate::sandbox::choose::{Choice, ImageNamed, Wanted, candidates, choose};
use crate::sandbox::docker::Docker;
use crate::sandbox::host::Host;
use crate::sandbox::local::Local;
use crate::sandbox::{Backend, BoxSpec, Launch, SandboxError, leave_token};
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

    /// Probes the kinds that may be taken, best first, and stops at the first that works.
    ///
    /// # Errors
    /// When none does: each with its remedy.
    pub(super) async fn choose(&self, wanted: Wanted, image: ImageNamed) -> Result<Choice, SandboxError> {
        let mut probes = Vec::new();
        for &kind in candidates(wanted, image) {
            let probe = self.of(kind).probe().await;
            let works = probe.missing.is_none();
            probes.push(probe);
            if works {
                break;
            }
        }
        choose(wanted, image, &probes)
    }

    /// Makes the box that is wished for, with its first session's terminal.
    ///
    /// # Errors
    /// [`WorkbenchError::NoBox`].
    pub(super) async fn open(&self, wish: BoxWish) -> Result<Workbench, WorkbenchError> {
        let BoxWish { wanted, mut spec } = wish;
        let image = if spec.image.is_some() { ImageNamed::Yes } else { ImageNamed::No };
        let choice = self.choose(wanted, image).await?;
        spec.why = choice.why;
        let artifacts = spec.run_dir.join("artifacts");
        let sandbox = self.of(choice.kind).create(&spec).await?;
        // Without it nobody can look in; the run itself does not need it.
        let _ = leave_token(&spec.run_dir, &spec.token);
        let terminal = Terminal::new(
            sandbox.guest().clone(),
            TerminalOptions {
                workspace: sandbox.facts().workspace.clone(),
                env: BTreeMap::new(),
                size: crate::guest::TermSize::default(),
                logs: "sessions".to_owned(),
                budget: ExcerptBudget::default(),
            },
        );
        Ok(Workbench::new(sandbox, terminal, &artifacts))
    }
}
