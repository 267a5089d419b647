//! No box: the guest runs as a plain process of the host. Only for those who ask for it; nothing is contained.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::launch::cgroup::Cgroups;
use super::launch::found::{Life, take_charge};
use super::launch::record::Record;
use super::launch::running::Running;
use super::launch::step::{During, StepError};
use super::launch::wire::{GuestPart, Setup, Walls};
use super::launch::{self, Launch, start};
use super::{Backend, BoxSpec, Found, IsDriven, Probe, Sandbox, SandboxError};
use crate::domain::{BoxFacts, Capability, SandboxKind, Snapshot};

/// The backend that contains nothing.
#[derive(Debug, Clone)]
pub struct Host {
    launch: Launch,
    /// A short directory for sockets, such as `/tmp`.
    sockets: PathBuf,
}

impl Host {
    /// A backend that keeps its sockets below `sockets`, whose path must be short.
    pub fn new(launch: Launch, sockets: PathBuf) -> Self {
        Self { launch, sockets }
    }
}

#[async_trait::async_trait]
impl Backend for Host {
    async fn probe(&self) -> Probe {
        Probe { kind: SandboxKind::Host, missing: None, capabilities: capabilities() }
    }

    async fn create(&self, spec: &BoxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let (host, spec) = (self.clone(), spec.clone());
        launch::to_the_end(async move { host.start(spec).await }).await
    }

    async fn find(&self, spec: &BoxSpec) -> Result<Found, SandboxError> {
        let dir = spec.run_dir.join("box");
        let Some(record) = Record::load(&dir).filter(|record| record.uncontained) else {
            return Ok(Found::Gone("nothing of the run works on the host itself".to_owned()));
        };
        let why = match take_charge(&dir, spec, record.clone(), SandboxKind::Host).await? {
            Life::Answers(running) => return Ok(Found::Alive(running)),
            Life::Ended(why) => why,
        };
        let left = record.clear(&dir).await.left;
        if !left.is_empty() {
            return Ok(Found::Gone(format!("{why}; what is left of it: {}", left.join(", "))));
        }
        // The files are the host's own, and as they are.
        Ok(Found::Restarted(self.create(spec).await?, why))
    }

    async fn discard(&self, _snapshot: &Snapshot) -> Vec<String> {
        Vec::new()
    }

    async fn sweep(&self, is_driven: IsDriven<'_>) -> Vec<String> {
        launch::sweep(&self.launch.state_dir, is_driven).await
    }
}

impl Host {
    async fn start(self, spec: BoxSpec) -> Result<Running, SandboxError> {
        let dir = spec.run_dir.join("box");
        let mut record = self.record(&spec);
        let blocking = {
            let (spec, dir, mut record) = (spec.clone(), dir.clone(), record.clone());
            tokio::task::spawn_blocking(move || {
                let started = self.start_guest(&spec, &dir, &mut record);
                (record, started)
            })
        };
        let started = blocking.await.map_err(|_| launch::given_up())?;
        record.clone_from(&started.0);
        let reached = match started.1 {
            Ok(()) => launch::reach(&dir, &spec, &record).await,
            Err(error) => Err(SandboxError {
                what: "cannot start the supervisor on this host".to_owned(),
                because: Some(format!("{error}: {}", error.source)),
                hint: None,
            }),
        };
        match reached {
            Ok(client) => {
                let facts = facts(&spec, &record);
                record.facts = Some(facts.clone());
                // Without it a later driver knows less of it.
                let _ = record.save(&dir);
                Ok(Running::new(facts, client, dir, record, Cgroups::default(), None))
            }
            Err(error) => {
                record.clear(&dir).await;
                Err(error)
            }
        }
    }

    fn record(&self, spec: &BoxSpec) -> Record {
        let runtime_dir = self.sockets.join(format!("longhaul-{}", spec.run.short()));
        Record {
            process: None,
            token: spec.token.clone(),
            uncontained: true,
            written_through: true,
            cgroups: Vec::new(),
            elsewhere: vec![runtime_dir],
            workspace: spec.workspace.clone(),
            layers: Vec::new(),
            rootful: false,
            from: Vec::new(),
            sealing: None,
            taken: None,
            facts: None,
            groups: Cgroups::default(),
        }
    }

    fn start_guest(&self, spec: &BoxSpec, dir: &Path, record: &mut Record) -> Result<(), StepError> {
        start::make_dir(dir)?;
        record.save(dir).during(|| "note the supervisor down".to_owned())?;
        let parent = record.elsewhere.first().cloned().unwrap_or_else(|| self.sockets.clone());
        // In a directory that others may write to, only one that is new is surely ours.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&parent);
        made.during(|| format!("make {}", parent.display()))?;
        let program = self.launch.program.canonicalize().unwrap_or_else(|_| self.launch.program.clone());
        let guest = GuestPart {
            token: spec.token.clone(),
            runtime_dir: parent.join("guest"),
            program,
            env: spec.env.clone(),
            cwd: spec.workspace.clone(),
            log_cap_bytes: spec.limits.log_bytes,
        };
        start::start(&self.launch.program, &Setup { walls: Walls::None, guest }, dir, record)?;
        Ok(())
    }
}

fn capabilities() -> Vec<Capability> {
    let missing = |name: &str, why: &str| Capability { name: name.to_owned(), missing: Some(why.to_owned()) };
    vec![
        missing("containment", "none: every command runs on this host with all your rights and files"),
        missing("workspace kept from the host", "changes are written through"),
        missing("memory limit", "no box to limit"),
        missing("process limit", "no box to limit"),
    ]
}

fn facts(spec: &BoxSpec, record: &Record) -> BoxFacts {
    BoxFacts {
        kind: SandboxKind::Host,
        why: spec.why.clone(),
        id: record.process.as_ref().map_or_else(String::new, |process| process.pid.to_string()),
        image: None,
        image_digest: None,
        workspace: spec.workspace.display().to_string(),
        workspace_mode: "bind".to_owned(),
        capabilities: capabilities(),
    }
}
