//! Makes local boxes.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::{again, fresh, probe, stack};
use crate::domain::{BoxFacts, Capability, SandboxKind, Snapshot};
use crate::sandbox::changes::{Listing, Maker, OPENED};
use crate::sandbox::launch::cgroup::{Cgroups, Standpoint};
use crate::sandbox::launch::record::{KEPT, Record, remove_tree};
use crate::sandbox::launch::running::Running;
use crate::sandbox::launch::step::{During, StepError};
use crate::sandbox::launch::wire::{GuestPart, Plan, Setup, Standing, Walls};
use crate::sandbox::launch::{self, Launch, env, mountinfo, start};
use crate::sandbox::layers::Store;
use crate::sandbox::{Backend, BoxSpec, Found, IsDriven, Network, Probe, Sandbox, SandboxError};

/// The backend of Linux namespaces.
#[derive(Debug, Clone)]
pub struct Local {
    launch: Launch,
}

impl Local {
    /// A backend; nothing is tried yet.
    pub fn new(launch: Launch) -> Self {
        Self { launch }
    }
}

#[async_trait::async_trait]
impl Backend for Local {
    async fn probe(&self) -> Probe {
        let launch = self.launch.clone();
        let probed = tokio::task::spawn_blocking(move || probe::probe(&launch)).await;
        let (missing, capabilities) = match probed {
            Ok(Ok(capabilities)) => (None, capabilities),
            Ok(Err(missing)) => (Some(missing), Vec::new()),
            Err(_) => (Some(launch::given_up()), Vec::new()),
        };
        Probe { kind: SandboxKind::Local, missing, capabilities }
    }

    async fn create(&self, spec: &BoxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let (launch, spec) = (self.launch.clone(), spec.clone());
        launch::to_the_end(async move { create(launch, spec).await }).await
    }

    async fn find(&self, spec: &BoxSpec) -> Result<Found, SandboxError> {
        let (launch, spec) = (self.launch.clone(), spec.clone());
        // To the end, so that one who gives up half-way leaves no half of a box behind.
        let finding = tokio::spawn(again::find(launch, spec)).await;
        finding.unwrap_or_else(|_| Err(launch::given_up()))
    }

    async fn discard(&self, snapshot: &Snapshot) -> Vec<String> {
        let (state_dir, layers) = (self.launch.state_dir.clone(), snapshot.layers.clone());
        let removing = tokio::task::spawn_blocking(move || Store::of(&state_dir).discard(&state_dir, &layers));
        removing.await.unwrap_or_else(|_| vec!["layers: their removal was given up".to_owned()])
    }

    async fn sweep(&self, is_driven: IsDriven<'_>) -> Vec<String> {
        let mut told = launch::sweep(&self.launch.state_dir, is_driven).await;
        told.extend(launch::sweep_layers(&self.launch.state_dir, is_driven));
        told
    }
}

/// Makes a box, to its end.
pub(super) async fn create(launch: Launch, spec: BoxSpec) -> Result<Running, SandboxError> {
    let dir = spec.run_dir.join("box");
    let store = Store::of(&launch.state_dir);
    let stack = spec.from.as_ref().map_or(Ok(Vec::new()), |from| stack::check(&store, from, may_mount()))?;
    let lowered = {
        let (store, run) = (store.clone(), spec.run.clone());
        tokio::task::spawn_blocking(move || stack::lower(&store, &run, stack))
    };
    let stack = lowered.await.map_err(|_| launch::given_up())?;
    let state_dir = launch.state_dir.clone();
    let blocking = {
        let (spec, dir, stack) = (spec.clone(), dir.clone(), stack.clone());
        tokio::task::spawn_blocking(move || build(&launch, &spec, &dir, &stack))
    };
    let built = match blocking.await {
        Ok(built) => built,
        Err(_) => return Err(launch::given_up()),
    };
    let (mut record, cgroups, standing) = match built {
        Ok(built) => built,
        Err(failed) => {
            let (record, error) = *failed;
            record.clear(&dir).await;
            return Err(probe::explain(&error, &state_dir));
        }
    };
    record.layers.clone_from(&standing.layers);
    match launch::reach(&dir, &spec, &record).await {
        Ok(client) => {
            // Before anything runs in it: what the host changes from now on is a change meanwhile.
            // A box that goes on from a snapshot is held against the host as it was at the very first start.
            let is_noted = spec.from.is_some() && dir.join(OPENED).exists();
            let listing = match spec.bind_workspace || is_noted {
                true => None,
                false => Listing::begin(&dir, &spec.workspace, &standing.masked, Maker::Own),
            };
            let mut facts = facts(&spec, &record, &cgroups, standing);
            facts.capabilities.extend(stack::capabilities(&store, &stack));
            record.facts = Some(facts.clone());
            record.groups = cgroups.clone();
            // Without it a later driver can't find the box; this one has it all the same.
            let _ = record.save(&dir);
            Ok(Running::new(facts, client, dir, record, cgroups, listing))
        }
        Err(error) => {
            record.clear(&dir).await;
            Err(error)
        }
    }
}

type Built = (Record, Cgroups, Standing);

/// Everything up to standing walls; a failure comes with the record of what there is to remove.
fn build(launch: &Launch, spec: &BoxSpec, dir: &Path, stack: &[String]) -> Result<Built, Box<(Record, StepError)>> {
    let mut record = Record {
        process: None,
        token: spec.token.clone(),
        uncontained: false,
        written_through: spec.bind_workspace,
        cgroups: Vec::new(),
        elsewhere: Vec::new(),
        workspace: spec.workspace.clone(),
        layers: Vec::new(),
        rootful: may_mount(),
        from: stack.to_vec(),
        sealing: None,
        taken: None,
        facts: None,
        groups: Cgroups::default(),
    };
    let built = build_recorded(launch, spec, dir, &mut record);
    match built {
        Ok((cgroups, standing)) => Ok((record, cgroups, standing)),
        Err(error) => Err(Box::new((record, error))),
    }
}

fn build_recorded(
    launch: &Launch,
    spec: &BoxSpec,
    dir: &Path,
    record: &mut Record,
) -> Result<(Cgroups, Standing), StepError> {
    let store = Store::of(&launch.state_dir);
    if let Some(top) = record.from.first() {
        stack::make_room(dir, &store, top).during(|| "make room for the box".to_owned())?;
    }
    start::make_dir(dir)?;
    let rootful = may_mount();
    let cgroups = cgroups(spec, rootful)?;
    record.cgroups.clone_from(&cgroups.dirs);
    record.save(dir).during(|| "note the box down".to_owned())?;
    // From now on the record says what an earlier box's list did.
    remove_tree(&dir.join(KEPT)).during(|| "remove an earlier box's list".to_owned())?;
    let uid = rustix::process::geteuid().as_raw();
    let plan = Plan {
        rootful,
        dir: dir.to_owned(),
        workspace: Some(spec.workspace.clone()),
        bind_workspace: spec.bind_workspace,
        home: spec.home.clone(),
        state_dir: launch.state_dir.clone(),
        no_network: spec.network == Network::None,
        cgroup_tasks: cgroups.tasks.clone(),
        cgroup_v2: cgroups.v2.clone(),
        nproc: spec.limits.pids.filter(|_| !cgroups.counts_pids && !rootful),
        stack: stack::dirs(&store, &record.from).during(|| "name the layers that it stands on".to_owned())?,
    };
    let guest = GuestPart {
        token: spec.token.clone(),
        runtime_dir: PathBuf::from("/run/longhaul"),
        program: PathBuf::from(fresh::PROGRAM),
        env: env::entering(&spec.env, uid),
        cwd: spec.workspace.clone(),
        log_cap_bytes: spec.limits.log_bytes,
    };
    let setup = Setup { walls: Walls::Box(plan), guest };
    let standing = start::start(&launch.program, &setup, dir, record)?;
    record.layers.clone_from(&standing.layers);
    record.save(dir).during(|| "note the box down".to_owned())?;
    Ok((cgroups, standing))
}

/// Whether this process is the machine's root in deed, not only by number.
pub(super) fn may_mount() -> bool {
    let capable =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    rustix::process::geteuid().is_root() && capable
}

fn cgroups(spec: &BoxSpec, rootful: bool) -> Result<Cgroups, StepError> {
    let mountinfo = fs::read("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo".to_owned())?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let visible = mountinfo::visible(&mountinfo);
    let standpoint = Standpoint { visible: &visible, own: &own, rootful };
    Ok(Cgroups::make(&format!("longhaul-{}", spec.run.short()), &spec.limits, &standpoint))
}

fn facts(spec: &BoxSpec, record: &Record, cgroups: &Cgroups, standing: Standing) -> BoxFacts {
    let mut capabilities = cgroups.capabilities.clone();
    let by_user = spec.limits.pids.is_some() && !cgroups.counts_pids && !may_mount();
    if let Some(pids) = capabilities.iter_mut().find(|had| by_user && had.name == "process limit") {
        *pids = Capability { name: "process limit (of the user in the box)".to_owned(), missing: None };
    }
    capabilities.extend(standing.capabilities);
    capabilities.push(Capability {
        name: match spec.network {
            Network::None => "network: none but its own loopback".to_owned(),
            Network::Open => "network: the host's, its loopback included".to_owned(),
        },
        missing: None,
    });
    let masked: Vec<String> = standing.masked.iter().map(|path| path.display().to_string()).collect();
    capabilities.push(Capability { name: format!("hidden: {}", masked.join(" ")), missing: None });
    BoxFacts {
        kind: SandboxKind::Local,
        why: spec.why.clone(),
        id: record.process.as_ref().map_or_else(String::new, |process| process.pid.to_string()),
        image: None,
        image_digest: None,
        workspace: spec.workspace.display().to_string(),
        workspace_mode: if spec.bind_workspace { "bind" } else { "overlay" }.to_owned(),
        capabilities,
    }
}
