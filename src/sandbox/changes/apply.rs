//! Brings changes to the host: each path is old or new at any instant, and a second go finishes what a first began.
//!
//! What is new comes first and what goes goes last, so that something moved is never nowhere. Files are written beside
//! their places, synced together, and then renamed one by one.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::beneath::Node;
use super::write::{Before, Spot, WriteError, sync_all};
use super::{Change, ChangeKind, Changes, Meta};

/// What was applied, in the run's directory.
const APPLIED: &str = "applied.json";
/// What is being applied, while it is.
const PENDING: &str = "applying.json";
/// Held by whoever applies.
const LOCK: &str = "apply.lock";
/// Most files that wait for their renaming.
const BATCH: usize = 4096;
/// Most bytes that wait for it.
const BATCH_BYTES: u64 = 256 << 20;
/// Up to this many files are synced one by one; beyond, their file system is synced as a whole.
const SINGLY: usize = 8;

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another process is at it.
    #[error("the changes of this run are being applied by another process")]
    Busy,
    /// The run's directory can't be written.
    #[error("cannot note down in {path} what is applied")]
    Record {
        /// The run's directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// One path that was applied, as noted in the run's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Below the workspace; what is not UTF-8 in it is replaced.
    pub path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// How it differed.
    pub kind: String,
    /// Of a file's content; none for all else, and for files with holes of more than a gibibyte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When.
    pub time: jiff::Timestamp,
}

/// How applying went.
#[derive(Debug, Default)]
pub struct Done {
    /// The numbers of the changes that were applied.
    pub applied: Vec<usize>,
    /// What stopped it: the number of the change, and why. All later ones are as they were.
    pub stopped: Option<(usize, String)>,
}

/// The right to apply one run's changes, held by one process at a time.
#[derive(Debug)]
pub struct Applying {
    run_dir: PathBuf,
    _lock: File,
}

/// One path of the list of what is being applied.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    path_base64: String,
}

impl Applying {
    /// Takes the right.
    ///
    /// # Errors
    /// [`ApplyError::Busy`]; [`ApplyError::Record`].
    pub fn begin(run_dir: &Path) -> Result<Self, ApplyError> {
        let failed = |source| ApplyError::Record { path: run_dir.to_owned(), source };
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let lock = options.open(run_dir.join(LOCK)).map_err(failed)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { run_dir: run_dir.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ApplyError::Busy),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Takes up an attempt that was cut short: removes what it has not finished, and knows directories that it made, but
    /// did not come to close, as its own.
    ///
    /// # Errors
    /// [`ApplyError::Record`] when something can't be removed.
    pub fn tidy(&self, changes: &mut Changes) -> Result<(), ApplyError> {
        let failed = |source| ApplyError::Record { path: self.run_dir.clone(), source };
        let pending = self.pending();
        let decoded = pending.iter().filter_map(|pending| STANDARD.decode(&pending.path_base64).ok());
        let paths: HashSet<PathBuf> = decoded.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(&path))).collect();
        for path in &paths {
            if let Ok(spot) = Spot::open(&changes.host, path) {
                spot.clear().map_err(failed)?;
            }
        }
        for change in changes.list.iter_mut().filter(|change| paths.contains(&change.path)) {
            change.meanwhile &= change.kind != ChangeKind::Mode || !is_directory(change.new.as_ref());
        }
        Ok(())
    }

    /// Applies the changes of these numbers, which a [`super::Plan`] has found clear; `now` stamps the record.
    ///
    /// # Errors
    /// [`ApplyError::Record`], before anything is touched. What stops it later is told in [`Done`].
    pub fn apply(&self, changes: &Changes, clear: &[usize], now: jiff::Timestamp) -> Result<Done, ApplyError> {
        let failed = |source| ApplyError::Record { path: self.run_dir.clone(), source };
        if clear.is_empty() {
            let is_finished = !changes.list.iter().any(|change| change.meanwhile);
            return if is_finished { self.forget() } else { Ok(()) }.map(|()| Done::default()).map_err(failed);
        }
        let mut record = already_applied(&self.run_dir);
        let mut pending = self.pending();
        pending.extend(
            clear.iter().map(|&index| Pending {
                path_base64: STANDARD.encode(changes.list[index].path.as_os_str().as_bytes()),
            }),
        );
        write_whole(&self.run_dir, PENDING, &pending).map_err(failed)?;
        let mut work = Work { changes, batch: Vec::new(), bytes: 0, done: Vec::new(), dirs: HashSet::new() };
        let stopped = work.all(clear).err();
        for (index, sha256) in &work.done {
            let change = &changes.list[*index];
            record.push(Applied {
                path: change.path.to_string_lossy().into_owned(),
                path_base64: change
                    .path
                    .to_str()
                    .is_none()
                    .then(|| STANDARD.encode(change.path.as_os_str().as_bytes())),
                kind: change.kind.word().to_owned(),
                sha256: sha256.clone(),
                time: now,
            });
        }
        write_whole(&self.run_dir, APPLIED, &record).map_err(failed)?;
        if stopped.is_none() {
            self.forget().map_err(failed)?;
        }
        let mut applied: Vec<usize> = work.done.into_iter().map(|(index, _)| index).collect();
        applied.sort_unstable();
        Ok(Done { applied, stopped })
    }
}

impl Applying {
    /// What was under way when an attempt was cut short.
    fn pending(&self) -> Vec<Pending> {
        fs::read(self.run_dir.join(PENDING))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// Nothing is under way any more.
    fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.run_dir.join(PENDING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// What has been applied of a run's changes so far.
pub fn already_applied(run_dir: &Path) -> Vec<Applied> {
    fs::read(run_dir.join(APPLIED)).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// Which change could not be applied, and why.
type Stop = (usize, String);

/// A file that waits for its renaming. Its directory is opened anew then: thousands may wait.
struct Waiting {
    index: usize,
    sha256: Option<String>,
}

struct Work<'a> {
    changes: &'a Changes,
    batch: Vec<Waiting>,
    bytes: u64,
    done: Vec<(usize, Option<String>)>,
    /// The directories whose names have changed.
    dirs: HashSet<PathBuf>,
}

impl Work<'_> {
    fn all(&mut self, clear: &[usize]) -> Result<(), Stop> {
        let result = self.steps(clear);
        for waiting in std::mem::take(&mut self.batch) {
            // Stopped before its turn.
            let _ = self.spot(waiting.index).and_then(|spot| spot.clear());
        }
        let synced = self.sync_directories();
        match (result, synced, clear.last()) {
            (Ok(()), Err(error), Some(&last)) => Err((last, format!("it may not be safe on disk: {error}"))),
            (result, ..) => result,
        }
    }

    fn steps(&mut self, clear: &[usize]) -> Result<(), Stop> {
        let list = &self.changes.list;
        let was_directory = |change: &Change| is_directory(change.old.as_ref());
        let is_removal = |index: &&usize| list[**index].new.is_none();
        // A directory that becomes something else does so when all in it is gone.
        let is_late = |index: &&usize| {
            list[**index].kind == ChangeKind::Type && was_directory(&list[**index]) && list[**index].new.is_some()
        };
        for &index in clear.iter().filter(|index| !is_removal(index) && !is_late(index)) {
            self.put(index)?;
        }
        self.flush()?;
        for &index in clear.iter().rev().filter(is_removal) {
            self.remove(index).map_err(|error| (index, error.to_string()))?;
        }
        for &index in clear.iter().filter(is_late) {
            self.put(index)?;
        }
        self.flush()?;
        // Last, since a directory that may not be written to could not be filled.
        let makes = |index: &&usize| is_directory(list[**index].new.as_ref());
        for &index in clear.iter().rev().filter(makes) {
            let change = &list[index];
            if change.kind != ChangeKind::Mode {
                self.set_mode(index).map_err(|error| (index, error.to_string()))?;
            } else if !change.new.as_ref().is_some_and(is_writable) {
                self.set_mode(index).map_err(|error| (index, error.to_string()))?;
                self.done.push((index, None));
            }
        }
        Ok(())
    }

    /// Applies one change that puts something in its place; a file, when its batch is full.
    fn put(&mut self, index: usize) -> Result<(), Stop> {
        let change = &self.changes.list[index];
        let new = change.new.as_ref().expect("a change that is no deletion has something new");
        let stop = |error: WriteError| (index, error.to_string());
        let at = |error: io::Error| (index, error.to_string());
        if change.kind == ChangeKind::Mode {
            // A directory that is closed comes last: it could not be filled. One that is opened comes first, for the same.
            if new.node != Node::Directory || is_writable(new) {
                self.set_mode(index).map_err(|error| (index, error.to_string()))?;
                self.done.push((index, None));
            }
            return Ok(());
        }
        let spot = Spot::open(&self.changes.host, &change.path).map_err(at)?;
        match new.node {
            Node::File => {
                let content = self.changes.new_content(change).map_err(at)?;
                let written = spot.write_file(&content, new.mode);
                let sha256 = written.map_err(|error| {
                    // A disk that is full is no fuller afterwards.
                    let _ = spot.clear();
                    (index, error.to_string())
                })?;
                self.bytes += content.size_bytes().min(BATCH_BYTES);
                self.batch.push(Waiting { index, sha256 });
                if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
                    self.flush()?;
                }
            }
            Node::Link => {
                spot.write_link(new.target.as_deref().unwrap_or_default()).map_err(at)?;
                self.commit(index, &spot).map_err(stop)?;
                self.done.push((index, None));
            }
            Node::Directory => {
                spot.write_directory(new.mode).map_err(at)?;
                self.commit(index, &spot).map_err(stop)?;
                self.done.push((index, None));
            }
            Node::Fifo | Node::Socket | Node::Device => return Err((index, "it is a special file".to_owned())),
        }
        Ok(())
    }

    /// Makes the contents of the files that wait last, then renames each to its place.
    fn flush(&mut self) -> Result<(), Stop> {
        let Some(first) = self.batch.first() else { return Ok(()) };
        let stop = |index: usize| move |error: io::Error| (index, error.to_string());
        if self.batch.len() <= SINGLY {
            for waiting in &self.batch {
                self.spot(waiting.index).and_then(|spot| spot.sync()).map_err(stop(waiting.index))?;
            }
        } else {
            let root = self.changes.host.at(Path::new(""), OFlags::RDONLY);
            root.and_then(sync_all).map_err(stop(first.index))?;
        }
        self.bytes = 0;
        let mut waiting = std::mem::take(&mut self.batch).into_iter();
        while let Some(Waiting { index, sha256 }) = waiting.next() {
            let committed = self.spot(index).map_err(WriteError::from).and_then(|spot| self.commit(index, &spot));
            if let Err(error) = committed {
                self.batch = waiting.collect();
                return Err((index, error.to_string()));
            }
            self.done.push((index, sha256));
        }
        Ok(())
    }

    fn spot(&self, index: usize) -> io::Result<Spot> {
        Spot::open(&self.changes.host, &self.changes.list[index].path)
    }

    fn commit(&mut self, index: usize, spot: &Spot) -> Result<(), WriteError> {
        let change = &self.changes.list[index];
        let before = match (&change.old, &change.new) {
            (None, _) => Before::Nothing,
            (old, new) if is_directory(old.as_ref()) != is_directory(new.as_ref()) => Before::Exchanged,
            _ => Before::Replaced,
        };
        let committed = spot.check(change.mark.as_ref()).and_then(|()| spot.commit(before));
        if committed.is_err() {
            let _ = spot.clear();
        }
        self.dirs.insert(change.path.parent().unwrap_or(Path::new("")).to_owned());
        committed
    }

    fn remove(&mut self, index: usize) -> Result<(), WriteError> {
        let change = &self.changes.list[index];
        let spot = Spot::open(&self.changes.host, &change.path)?;
        spot.check(change.mark.as_ref())?;
        spot.remove(is_directory(change.old.as_ref()))?;
        self.dirs.insert(change.path.parent().unwrap_or(Path::new("")).to_owned());
        self.done.push((index, None));
        Ok(())
    }

    fn set_mode(&mut self, index: usize) -> Result<(), WriteError> {
        let change = &self.changes.list[index];
        let mode = change.new.as_ref().map_or(0, |new| new.mode);
        let spot = Spot::open(&self.changes.host, &change.path)?;
        if change.kind == ChangeKind::Mode {
            spot.check(change.mark.as_ref())?;
        }
        Ok(spot.set_mode(mode)?)
    }

    fn sync_directories(&self) -> io::Result<()> {
        let open = |dir: &PathBuf| self.changes.host.at(dir, OFlags::RDONLY);
        match self.dirs.len() {
            0 => Ok(()),
            // One that was removed itself has nothing left to sync.
            1..=SINGLY => {
                self.dirs.iter().filter_map(|dir| open(dir).ok()).try_for_each(|dir| Ok(rustix::fs::fsync(dir)?))
            }
            _ => sync_all(open(&PathBuf::new())?),
        }
    }
}

fn is_directory(meta: Option<&Meta>) -> bool {
    meta.is_some_and(|meta| meta.node == Node::Directory)
}

fn is_writable(meta: &Meta) -> bool {
    meta.mode & 0o300 == 0o300
}

fn write_whole(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.as_file().sync_data()?;
    file.persist(dir.join(name))?;
    Ok(())
}
