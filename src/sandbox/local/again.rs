//! Finds a local box whose driver has gone, and starts it again with its files where it has ended.

use std::path::Path;

use super::backend::{create, may_mount};
use crate::domain::{Consistency, SandboxKind, Snapshot};
use crate::sandbox::launch::cgroup::{self, Cgroups};
use crate::sandbox::launch::found::{Life, take_charge};
use crate::sandbox::launch::record::{KeptList, Record};
use crate::sandbox::launch::seal::seal;
use crate::sandbox::launch::{self, Launch};
use crate::sandbox::layers::now_ns;
use crate::sandbox::{BoxSpec, Found, SandboxError};

/// Finds the box of the run that `spec` is for.
///
/// # Errors
/// When it can't be told whether there is one, or it can't be started again; nothing is removed then.
pub(super) async fn find(launch: Launch, spec: BoxSpec) -> Result<Found, SandboxError> {
    let dir = spec.run_dir.join("box");
    let (record, why) = match Record::load(&dir) {
        Some(record) if record.uncontained => return Ok(Found::Gone("the run has no box of its own".to_owned())),
        Some(record) => match take_charge(&dir, &spec, record.clone(), SandboxKind::Local).await? {
            Life::Answers(running) => return Ok(Found::Alive(running)),
            Life::Ended(why) => (record, why),
        },
        None => match KeptList::load(&dir) {
            Some(kept) => (remains(&spec, kept), "the box was removed; of its files the kept ones are back".to_owned()),
            None => return Ok(Found::Gone("there is no box of this machine's own files".to_owned())),
        },
    };
    let nothing_kept = record.layers.is_empty() && record.from.is_empty();
    if nothing_kept {
        let left = record.clear(&dir).await.left;
        let but = if left.is_empty() { String::new() } else { format!("; what is left of it: {}", left.join(", ")) };
        return Ok(Found::Gone(format!("{why}{but}")));
    }
    // Processes of version 1 groups are gone with the first; what stays of a group does no harm.
    drop(cgroup::remove(&record.cgroups).await);
    let layers = keep_files(&dir, &spec, record).await?;
    let from = Snapshot {
        kind: SandboxKind::Local,
        layers,
        image: None,
        consistency: Consistency::Stopped,
        took_ms: 0,
        new_files: 0,
        new_bytes: 0,
        left_out: Vec::new(),
    };
    let running = create(launch, BoxSpec { from: Some(from), ..spec }).await?;
    Ok(Found::Restarted(Box::new(running), why))
}

/// A record of what a box that was removed has left.
fn remains(spec: &BoxSpec, kept: KeptList) -> Record {
    Record {
        process: None,
        token: spec.token.clone(),
        uncontained: false,
        written_through: spec.bind_workspace,
        cgroups: Vec::new(),
        elsewhere: Vec::new(),
        workspace: spec.workspace.clone(),
        layers: kept.layers,
        rootful: may_mount(),
        from: kept.from,
        sealing: None,
        taken: None,
        facts: None,
        groups: Cgroups::default(),
    }
}

/// Makes what the box has written a layer without a checkpoint, unless that has been done; the layers to go on from.
async fn keep_files(dir: &Path, spec: &BoxSpec, record: Record) -> Result<Vec<String>, SandboxError> {
    if record.layers.is_empty() && record.sealing.is_none() {
        return Ok(record.from);
    }
    let (dir, name) = (dir.to_owned(), format!("{}-x{:x}", spec.run.short(), now_ns()));
    let mut record = record;
    let sealing = tokio::task::spawn_blocking(move || seal(&dir, &mut record, &name).map(|_| record.from));
    let sealed = sealing.await.map_err(|_| launch::given_up())?;
    sealed.map_err(|error| SandboxError {
        what: "cannot have back the files of the box".to_owned(),
        because: Some(error.to_string()),
        hint: None,
    })
}
