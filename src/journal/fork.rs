//! The directory of a run that begins as the continuation of another: the parent's entries byte for byte up to one of
//! them, and what these entries name. The parent is only read, and may be driven meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Head, ReadError, Reader, RunDir, RunStore, StoreError};
use crate::domain::{BlobRef, CheckpointId, Entry, Event, RunSpec};
use crate::telemetry::Redactor;

/// Why a fork can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// Its directory can't be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The parent's transcript can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What belongs to it can't be copied.
    #[error("cannot copy {path}")]
    Copy {
        /// What.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The beginning of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// The last of them.
    pub head: Head,
    /// Their size in the file.
    pub size_bytes: u64,
}

impl Prefix {
    /// Reads the transcript of a run up to the entry `last`, or to its end.
    ///
    /// # Errors
    /// [`ReadError`]; a last line that is being written is not read.
    pub fn read(run: &RunDir, last: Option<u64>) -> Result<Self, ReadError> {
        let mut reader = Reader::open(run.path())?;
        let mut entries = Vec::new();
        while last.is_none_or(|last| (entries.len() as u64) <= last) {
            match reader.next() {
                Some(entry) => entries.push(entry?),
                None => break,
            }
        }
        Ok(Self { entries, head: reader.head(), size_bytes: reader.whole_bytes() })
    }
}

/// Makes the directory of the run `spec.run`, which begins with `prefix` of `parent`. Logs are taken over up to what
/// `shown` says of them, and wholly where it says nothing.
///
/// # Errors
/// [`ForkError`]; nothing is left behind then.
pub fn fork(
    store: &RunStore,
    parent: &RunDir,
    prefix: &Prefix,
    spec: &RunSpec,
    shown: &BTreeMap<String, u64>,
    redactor: &Redactor,
) -> Result<RunDir, ForkError> {
    let run = store.create(spec, redactor)?;
    let filled = fill(parent, &run, prefix, shown);
    if filled.is_err() {
        drop(fs::remove_dir_all(run.path()));
    }
    filled.map(|()| run)
}

fn fill(parent: &RunDir, run: &RunDir, prefix: &Prefix, shown: &BTreeMap<String, u64>) -> Result<(), ForkError> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |source| ForkError::Copy { path, source }
    };
    for blob in blobs_of(&prefix.entries) {
        let place = Path::new("blobs").join(&blob.sha256[..2]).join(format!("{}.zst", blob.sha256));
        let (from, to) = (parent.path().join(&place), run.path().join(&place));
        // One that is not there was missing in the parent: `agent verify` says so of both.
        if from.exists() {
            let above = to.parent().expect("a blob lies in a directory");
            fs::create_dir_all(above).and_then(|()| link_or_copy(&from, &to)).map_err(named(&from))?;
        }
    }
    for event in prefix.entries.iter().map(|entry| &entry.event) {
        if let Event::ArtifactCollected { stored, .. } = event {
            let (from, to) = (parent.artifacts().join(stored), run.artifacts().join(stored));
            if from.is_file() && !to.exists() {
                let above = to.parent().expect("an artefact lies in a directory");
                fs::create_dir_all(above).and_then(|()| fs::copy(&from, &to)).map_err(named(&from))?;
            }
        }
    }
    checkpoints(parent, run, &prefix.entries).map_err(named(&parent.path().join("checkpoints")))?;
    logs(parent, run, shown).map_err(named(&parent.sessions()))?;
    // Last: a directory without a transcript is no run.
    journal(parent, run, prefix).map_err(named(&parent.journal()))
}

fn journal(parent: &RunDir, run: &RunDir, prefix: &Prefix) -> io::Result<()> {
    let mut from = File::open(parent.journal())?.take(prefix.size_bytes);
    let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(run.journal())?;
    let copied = io::copy(&mut from, &mut to)?;
    if copied != prefix.size_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    to.flush()?;
    to.sync_all()?;
    File::open(run.path())?.sync_all()
}

/// The blobs that these entries name, each once.
fn blobs_of(entries: &[Entry]) -> Vec<&BlobRef> {
    let mut seen = BTreeSet::new();
    let named = entries.iter().filter_map(|entry| match &entry.event {
        Event::ModelRequested { rest, .. } => Some(rest),
        Event::ModelAnswered { response, .. } => Some(response),
        _ => None,
    });
    named.filter(|blob| blob.sha256.len() == 64 && blob.sha256.is_ascii() && seen.insert(&blob.sha256)).collect()
}

/// A checkpoint's file is never written again: both runs may have the same.
fn checkpoints(parent: &RunDir, run: &RunDir, entries: &[Entry]) -> io::Result<()> {
    let mut kept: BTreeSet<CheckpointId> = BTreeSet::new();
    for entry in entries {
        match &entry.event {
            Event::CheckpointTaken { checkpoint } => drop(kept.insert(checkpoint.id)),
            Event::CheckpointDeleted { checkpoint } => drop(kept.remove(checkpoint)),
            _ => {}
        }
    }
    let (from, to) = (parent.path().join("checkpoints"), run.path().join("checkpoints"));
    if !kept.is_empty() {
        fs::DirBuilder::new().mode(0o700).create(&to)?;
    }
    for id in kept {
        let name = format!("{id}.json");
        match link_or_copy(&from.join(&name), &to.join(&name)) {
            // The parent has deleted it since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// Takes the logs of the sessions over. A part that is full is never written again, so both runs may have it.
fn logs(parent: &RunDir, run: &RunDir, shown: &BTreeMap<String, u64>) -> io::Result<()> {
    let names = fs::read_dir(parent.sessions()).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for log in names.filter(|name| name.ends_with(".log")) {
        let part = |nth: usize| if nth == 0 { log.clone() } else { format!("{log}.{nth}") };
        let from = |nth: usize| parent.sessions().join(part(nth));
        let mut left = shown.get(&format!("sessions/{log}")).copied().unwrap_or(u64::MAX);
        for nth in 0.. {
            let Ok(size) = fs::metadata(from(nth)).map(|meta| meta.len()) else { break };
            let to = run.sessions().join(part(nth));
            if size <= left && from(nth + 1).exists() {
                link_or_copy(&from(nth), &to)?;
            } else {
                fs::copy(from(nth), &to)?;
                let copied = fs::OpenOptions::new().write(true).open(&to)?;
                copied.set_len(copied.metadata()?.len().min(left))?;
            }
            left = left.saturating_sub(size);
            if left == 0 {
                break;
            }
        }
        let timing = format!("{}.timing", log.trim_end_matches(".log"));
        if left > 0 && parent.sessions().join(&timing).exists() {
            fs::copy(parent.sessions().join(&timing), run.sessions().join(&timing))?;
        }
    }
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(from, to).map(drop),
        done => done,
    }
}
