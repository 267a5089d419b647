//! The files of a run's checkpoints: what has to be known to go on from a snapshot, one file each, proved by the hash in
//! the checkpoint's entry; and who refers to which layers and images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blobs::sha256_of;
use super::{RunDir, RunStore};
use crate::domain::{Checkpoint, CheckpointId, Job, RunId, SessionState, Snapshot};
use crate::telemetry::Redactor;

/// The directory below the run's.
const DIR: &str = "checkpoints";

/// What is kept beside a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointFile {
    /// The checkpoint itself; its hash is not in its own file.
    pub checkpoint: Checkpoint,
    /// The sessions that were open.
    pub sessions: Vec<SessionState>,
    /// The services that ran, with their whole commands.
    pub services: Vec<Job>,
}

/// Why a checkpoint's file can't be had or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFileError {
    /// It is gone.
    #[error("its file {0} is missing")]
    Missing(String),
    /// It is not what was recorded.
    #[error("its file {0} is not the one that was recorded")]
    Changed(String),
    /// The system says no.
    #[error("its file {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// The files of one run's checkpoints.
#[derive(Clone)]
pub struct CheckpointFiles {
    dir: PathBuf,
    redactor: Arc<Redactor>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    checkpoint: Value,
    sessions: Vec<SessionState>,
    services: Vec<Job>,
}

impl CheckpointFiles {
    /// Those of a run; secrets that `redactor` knows are left out of them.
    pub fn of(run: &RunDir, redactor: Arc<Redactor>) -> Self {
        Self { dir: run.path().join(DIR), redactor }
    }

    /// Where the file of a checkpoint is.
    pub fn path(&self, id: CheckpointId) -> PathBuf {
        place(&self.dir, id)
    }

    /// Leaves out of `env` what is secret; the names of what was left out.
    pub fn without_secrets(&self, env: &mut BTreeMap<String, String>) -> Vec<String> {
        let mut left_out = Vec::new();
        env.retain(|name, value| {
            let mut shown = Value::String(format!("{name}={value}"));
            let is_secret = self.redactor.redact_value(&mut shown);
            if is_secret {
                left_out.push(name.clone());
            }
            !is_secret
        });
        left_out
    }

    /// Writes the file of a checkpoint: whole, on disk, for its user alone. Returns its hash.
    ///
    /// # Errors
    /// [`CheckpointFileError::Io`]; nothing is left then.
    pub fn write(&self, file: &CheckpointFile) -> Result<String, CheckpointFileError> {
        let path = self.path(file.checkpoint.id);
        self.try_write(&path, file)
            .map_err(|source| CheckpointFileError::Io { path: path.display().to_string(), source })
    }

    fn try_write(&self, path: &Path, file: &CheckpointFile) -> io::Result<String> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut checkpoint = serde_json::to_value(&file.checkpoint)?;
        if let Some(object) = checkpoint.as_object_mut() {
            object.remove("sha256");
        }
        let (sessions, services) = (file.sessions.clone(), file.services.clone());
        let mut content = serde_json::to_value(Content { checkpoint, sessions, services })?;
        self.redactor.redact_value(&mut content);
        let mut bytes = serde_json::to_vec_pretty(&content)?;
        bytes.push(b'\n');
        let mut temporary = tempfile::Builder::new().prefix(".tmp-").tempfile_in(&self.dir)?;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        temporary.write_all(&bytes)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(sha256_of(&bytes))
    }

    /// Reads the file of a recorded checkpoint and proves it.
    ///
    /// # Errors
    /// [`CheckpointFileError`].
    pub fn read(&self, checkpoint: &Checkpoint) -> Result<CheckpointFile, CheckpointFileError> {
        let path = self.path(checkpoint.id);
        let shown = || path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CheckpointFileError::Missing(shown()),
            _ => CheckpointFileError::Io { path: shown(), source },
        })?;
        let content: Option<Content> = serde_json::from_slice(&bytes).ok();
        match content.filter(|_| sha256_of(&bytes) == checkpoint.sha256) {
            Some(Content { sessions, services, .. }) => {
                Ok(CheckpointFile { checkpoint: checkpoint.clone(), sessions, services })
            }
            None => Err(CheckpointFileError::Changed(shown())),
        }
    }

    /// Removes the file of a checkpoint.
    ///
    /// # Errors
    /// When the system says no; one that is not there is no error.
    pub fn remove(&self, id: CheckpointId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn place(dir: &Path, id: CheckpointId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

/// What checkpoints and boxes stand on, over all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Names of layers.
    pub layers: BTreeSet<String>,
    /// Ids of images.
    pub images: BTreeSet<String>,
}

impl References {
    /// All that the runs of `store` refer to, except what `left_out` alone does.
    pub fn of(store: &RunStore, left_out: Option<&RunId>) -> Self {
        let mut found = Self::default();
        for id in store.ids().unwrap_or_default() {
            if left_out != Some(&id) {
                found.add_run(&store.run(&id));
            }
        }
        found
    }

    /// Adds what one run refers to.
    pub fn add_run(&mut self, run: &RunDir) {
        for snapshot in snapshots_of(run) {
            self.layers.extend(snapshot.layers);
            self.images.extend(snapshot.image);
        }
        // The record of the box and the list of what it has left are the sandbox's own; layers are named in both.
        for name in ["init.json", "layers.json"] {
            let content = fs::read(run.path().join("box").join(name)).ok();
            let value: Option<Value> = content.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(value) = value {
                self.add_words(&value);
            }
        }
    }

    /// Every word might be a layer's name; a word too many keeps nothing that is not there.
    fn add_words(&mut self, value: &Value) {
        match value {
            Value::String(word) => drop(self.layers.insert(word.clone())),
            Value::Array(all) => all.iter().for_each(|value| self.add_words(value)),
            Value::Object(all) => all.values().for_each(|value| self.add_words(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The snapshots that the files of a run's checkpoints name.
pub fn snapshots_of(run: &RunDir) -> Vec<Snapshot> {
    let files = fs::read_dir(run.path().join(DIR)).into_iter().flatten().flatten();
    let snapshot = |path: PathBuf| -> Option<Snapshot> {
        let content: Content = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        serde_json::from_value(content.checkpoint.get("snapshot")?.clone()).ok()
    };
    files.filter_map(|entry| snapshot(entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CheckpointReason, Consistency, SandboxKind, SessionName};
    use crate::telemetry::Secret;

    fn file(id: u32) -> CheckpointFile {
        let snapshot = Snapshot {
            kind: SandboxKind::Local,
            layers: vec![format!("g5fav-k{id}"), "base".to_owned()],
            image: None,
            consistency: Consistency::Stopped,
            took_ms: 1,
            new_files: 0,
            new_bytes: 0,
            left_out: Vec::new(),
        };
        let checkpoint = Checkpoint {
            id: CheckpointId(id),
            name: None,
            reason: CheckpointReason::Model,
            seq: 7,
            snapshot,
            sessions: Vec::new(),
            jobs: Vec::new(),
            sha256: String::new(),
        };
        let session = SessionState {
            session: SessionName::new("main").expect("a name"),
            shell: "/bin/sh".to_owned(),
            cwd: Some("/p".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            command: None,
            log: "sessions/main.log".to_owned(),
            log_offset: 9,
        };
        CheckpointFile { checkpoint, sessions: vec![session], services: Vec::new() }
    }

    fn place_of_run(state: &Path) -> (RunStore, RunDir, CheckpointFiles) {
        let store = RunStore::new(state);
        let run = store.run(&RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a ULID"));
        fs::create_dir_all(run.path()).expect("a directory");
        let secret = Secret { name: "KEY".into(), value: "hunter2hunter2".into() };
        let files = CheckpointFiles::of(&run, Arc::new(Redactor::new(&[secret])));
        (store, run, files)
    }

    #[test]
    fn what_was_written_is_read_and_what_was_changed_is_not() {
        let state = tempfile::tempdir().expect("a directory");
        let (store, _, files) = place_of_run(state.path());
        let mut written = file(1);
        written.checkpoint.sha256 = files.write(&written).expect("written");
        assert_eq!(files.read(&written.checkpoint).expect("read"), written);
        assert_eq!(fs::metadata(files.path(CheckpointId(1))).expect("there").permissions().mode() & 0o777, 0o600);
        let refers = References::of(&store, None);
        assert_eq!(refers.layers, BTreeSet::from(["base".to_owned(), "g5fav-k1".to_owned()]));
        fs::write(files.path(CheckpointId(1)), "{}").expect("changed");
        assert!(matches!(files.read(&written.checkpoint), Err(CheckpointFileError::Changed(_))));
        files.remove(CheckpointId(1)).expect("removed");
        assert!(matches!(files.read(&written.checkpoint), Err(CheckpointFileError::Missing(_))));
        assert_eq!(References::of(&store, None), References::default());
    }

    #[test]
    fn what_a_box_stands_on_is_referred_to() {
        let state = tempfile::tempdir().expect("a directory");
        let (store, run, _) = place_of_run(state.path());
        fs::create_dir(run.path().join("box")).expect("a directory");
        fs::write(run.path().join("box/init.json"), r#"{"from":["x-k1"],"pid":3}"#).expect("written");
        assert!(References::of(&store, None).layers.contains("x-k1"));
        assert!(References::of(&store, Some(run.id())).layers.is_empty());
    }

    #[test]
    fn a_variable_that_holds_a_secret_is_left_out_and_named() {
        let state = tempfile::tempdir().expect("a directory");
        let (_, _, files) = place_of_run(state.path());
        let mut env =
            BTreeMap::from([("A".to_owned(), "1".to_owned()), ("TOKEN".to_owned(), "x hunter2hunter2".to_owned())]);
        assert_eq!(files.without_secrets(&mut env), ["TOKEN"]);
        assert_eq!(env.len(), 1);
    }
}
