//! Running this very program as a guest on this machine: what boxes of namespaces and plain host runs share.

pub(super) mod cgroup;
pub(super) mod env;
pub(super) mod found;
pub(super) mod mountinfo;
pub(super) mod record;
pub(super) mod running;
pub(super) mod seal;
mod snapshot;
pub(super) mod start;
pub(super) mod step;
pub(super) mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::record::Record;
use self::running::Running;
use super::layers::Store;
use super::lifeline::{ControlSocket, open_dir};
use super::{BoxSpec, IsDriven, Sandbox, SandboxError};
use crate::domain::RunId;
use crate::guest::Client;

/// The hidden subcommand by which the program starts itself as the first process of a box.
pub const SUBCOMMAND: &str = "__box-init";

/// What the backends that run this very program need to know.
#[derive(Debug, Clone)]
pub struct Launch {
    /// This program, as a path to execute: `/proc/self/exe` but in tests.
    pub program: PathBuf,
    /// The state directory of all runs.
    pub state_dir: PathBuf,
}

/// Makes a box in a task of its own, so that a caller who gives up half-way leaves no half of a box behind.
pub(super) async fn to_the_end(
    making: impl Future<Output = Result<Running, SandboxError>> + Send + 'static,
) -> Result<Box<dyn Sandbox>, SandboxError> {
    let (done, wait) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(unwanted)) = done.send(making.await) {
            unwanted.destroy(Duration::from_secs(1)).await;
        }
    });
    let running = wait.await.map_err(|_| given_up())??;
    Ok(Box::new(running))
}

pub(super) fn given_up() -> SandboxError {
    SandboxError { what: "the making of the box was given up".to_owned(), because: None, hint: None }
}

/// Connects to the guest and hands it the directory of its logs; again whenever the connection breaks.
///
/// # Errors
/// When it does not answer within ten seconds.
pub(super) async fn reach(dir: &Path, spec: &BoxSpec, record: &Record) -> Result<Client, SandboxError> {
    let failed = |because: String| SandboxError {
        what: "the box is up but its supervisor does not answer".to_owned(),
        because: Some(because),
        hint: None,
    };
    let sessions = spec.run_dir.join("sessions");
    let logs = fs::create_dir_all(&sessions).and_then(|()| open_dir(&sessions));
    let logs = logs.map_err(|error| failed(error.to_string()))?;
    let lifeline = ControlSocket { dir: dir.to_owned(), sessions, process: record.process.clone() };
    let stream = start::connect(dir).map_err(|error| failed(error.to_string()))?;
    let greeted = Client::connect(stream, &record.token, Some(logs));
    match tokio::time::timeout(Duration::from_secs(10), greeted).await {
        Ok(Ok(client)) => Ok(client.mended_by(lifeline)),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("no greeting within 10 seconds".to_owned())),
    }
}

/// Removes what runs that nobody drives have left in the store and nobody needs, and half-made layers of runs that are
/// gone. Whole layers of those are not this function's: it can't ask whether they are to be kept.
pub(super) fn sweep_layers(state_dir: &Path, is_driven: IsDriven<'_>) -> Vec<String> {
    let runs = fs::read_dir(state_dir.join("runs")).into_iter().flatten().flatten();
    let runs = runs.filter_map(|entry| RunId::new(entry.file_name().to_str()?).ok());
    let (busy, idle): (Vec<RunId>, Vec<RunId>) = runs.partition(|run| is_driven(run));
    let short = |runs: Vec<RunId>| runs.iter().map(RunId::short).collect::<BTreeSet<_>>();
    let swept = Store::of(state_dir).sweep(state_dir, &short(busy), &short(idle));
    swept.into_iter().map(|name| format!("the layer {name}")).collect()
}

/// Removes the boxes of runs that nobody drives, with walls or without.
pub(super) async fn sweep(state_dir: &Path, is_driven: IsDriven<'_>) -> Vec<String> {
    let mut told = Vec::new();
    for entry in fs::read_dir(state_dir.join("runs")).into_iter().flatten().flatten() {
        let Some(run) = entry.file_name().to_str().and_then(|name| RunId::new(name).ok()) else { continue };
        let dir = entry.path().join("box");
        let Some(record) = Record::load(&dir).filter(|_| !is_driven(&run)) else { continue };
        let left = record.clear(&dir).await.left;
        told.push(match left.as_slice() {
            [] => format!("the box of run {run}"),
            left => format!("the box of run {run}, but for {}", left.join(", ")),
        });
    }
    told
}
