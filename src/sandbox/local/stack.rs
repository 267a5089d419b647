//! What a box begins with that goes on from a snapshot.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::domain::{Capability, RunId, SandboxKind, Snapshot};
use crate::sandbox::SandboxError;
use crate::sandbox::changes::{LIST, OPENED, SYSTEM};
use crate::sandbox::launch::record::{Record, remove_tree};
use crate::sandbox::layers::{Store, now_ns};

/// With more layers than this below it no box is made.
const MOST: usize = 60;
/// How many of them stay as they are, since other boxes may share them.
const STAY: usize = 10;

/// The layers of a snapshot, all of which must be there; `rootful` tells who is to read them.
///
/// # Errors
/// Which one is missing, or why it can't be used.
pub(super) fn check(store: &Store, from: &Snapshot, rootful: bool) -> Result<Vec<String>, SandboxError> {
    let failed = |because: String, hint: &str| SandboxError {
        what: "cannot make a box from the snapshot".to_owned(),
        because: Some(because),
        hint: Some(hint.to_owned()),
    };
    if from.kind != SandboxKind::Local {
        return Err(failed("it is one of another kind of box".to_owned(), "use the kind of box that it was taken of"));
    }
    for name in &from.layers {
        let meta = store.meta(name).map_err(|error| {
            let place = store.path(name).map_or_else(|_| name.clone(), |path| path.display().to_string());
            failed(format!("its layer {name} can't be read at {place}: {error}"), "go on from another checkpoint")
        })?;
        if meta.rootful != rootful {
            let whose = if meta.rootful { "the machine's root" } else { "an ordinary user" };
            return Err(failed(format!("its layer {name} was made by {whose}"), "run as the same user as then"));
        }
    }
    Ok(from.layers.clone())
}

/// Makes the lower layers one where there are many; `run` names the new one's run. What a merge can't do is no error: the
/// kernel takes many more.
pub(super) fn lower(store: &Store, run: &RunId, mut stack: Vec<String>) -> Vec<String> {
    if stack.len() <= MOST {
        return stack;
    }
    let name = format!("{}-c{:x}", run.short(), now_ns());
    match store.merge(&name, &stack[STAY..]) {
        Ok(()) => {
            stack.truncate(STAY);
            stack.push(name);
        }
        Err(error) => tracing::warn!(%error, "the layers were not merged"),
    }
    stack
}

/// The directories of layers.
///
/// # Errors
/// For a name that is none.
pub(super) fn dirs(store: &Store, names: &[String]) -> io::Result<Vec<PathBuf>> {
    names.iter().map(|name| store.path(name)).collect()
}

/// Removes what an earlier box of the run has left but the note of the host's files at the very first start; where there
/// is none, that of the layer is taken.
///
/// # Errors
/// When something can't be removed.
pub(super) fn make_room(dir: &Path, store: &Store, top: &str) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    // A record that says of nothing is only there so that its layers are known to be needed.
    let is_spent = |record: &Record| record.layers.is_empty() && record.sealing.is_none() && !is_alive(record);
    if Record::load(dir).is_none_or(|record| is_spent(&record)) {
        for name in ["u", "w", "mnt", "ctl.sock", SYSTEM] {
            remove_tree(&dir.join(name))?;
        }
    }
    if !dir.join(OPENED).exists() {
        let layer = store.path(top)?;
        for name in [LIST, OPENED].into_iter().filter(|name| layer.join(name).exists()) {
            let (from, to) = (layer.join(name), dir.join(name));
            remove_tree(&to)?;
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
        }
    }
    Ok(())
}

fn is_alive(record: &Record) -> bool {
    record.process.as_ref().is_some_and(|process| process.hold().is_some())
}

/// What is to be said of a box that stands on layers.
pub(super) fn capabilities(store: &Store, stack: &[String]) -> Vec<Capability> {
    if stack.is_empty() {
        return Vec::new();
    }
    let cut = stack.iter().any(|name| store.may_be_cut(name));
    let why = "the machine went down before they were all on disk: some files may be short or missing";
    let name = format!("files kept earlier, in layers: {}", stack.len());
    vec![Capability { name, missing: cut.then(|| why.to_owned()) }]
}
