//! What a box changed of the workspace: read from what it left in the run's directory, held against the host as it is now.
//!
//! Reading changes nothing. Everything that a box left may have been made to deceive: no link of it is followed, nothing
//! but regular files is opened, and names are bytes.

mod apply;
pub(in crate::sandbox) mod base;
pub(in crate::sandbox) mod beneath;
mod check;
mod copied;
mod runs_itself;
mod strata;
mod system;
#[cfg(test)]
mod tests;
pub(in crate::sandbox) mod upper;
mod write;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

pub use self::apply::{Applied, ApplyError, Applying, Done, already_applied};
use self::base::{Base, Mark, Opened};
pub(super) use self::base::{LIST, Listing, Maker, OPENED};
use self::beneath::Beneath;
pub use self::beneath::{Meta, Node};
pub use self::check::{Consent, Plan, Standing, plan};
use self::strata::Stratum;
pub(super) use self::system::{FILE as SYSTEM, note as note_system};
pub use self::system::{SystemChange, SystemChanges, system_changes};
use super::launch::record::Record;

/// Where a copied workspace is brought out to, below the box's directory.
const TAR: &str = "u/workspace.tar";
/// Largest piece that is compared at a time.
const PIECE: usize = 64 << 10;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The host has nothing there.
    Added,
    /// Another content, or for a link another target; perhaps other permissions too.
    Changed,
    /// The box has nothing there.
    Deleted,
    /// Other permissions, and the same content.
    Mode,
    /// Another kind of file.
    Type,
}

impl ChangeKind {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Mode => "mode",
            Self::Type => "type",
        }
    }
}

/// One path that is not as on the host.
#[derive(Debug, Clone)]
pub struct Change {
    /// Below the workspace.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
    /// What the host has there now; also None where that is hidden from the box.
    pub old: Option<Meta>,
    /// What the box has there.
    pub new: Option<Meta>,
    /// Whether the host has changed it since the box was opened.
    pub meanwhile: bool,
    /// Why it can't be told or brought out, where that is so.
    pub trouble: Option<String>,
    /// What the host had when it was compared, to see whether it is still so.
    mark: Option<Mark>,
    content: Place,
}

/// Where the content of a change lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Nowhere: it is no file.
    None,
    /// In a layer, at a path.
    Layer(usize, PathBuf),
    /// In the tar, from here on.
    Tar(u64),
}

/// A box's changes, and the way to their contents.
#[derive(Debug)]
pub struct Changes {
    /// The workspace on the host, without links in its path.
    pub workspace: PathBuf,
    /// In the order of their paths, parents first.
    pub list: Vec<Change>,
    /// What a reader has to know about the whole.
    pub notes: Vec<String>,
    host: Beneath,
    layers: Vec<Beneath>,
    tar: Option<File>,
}

/// A run whose box's changes are asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The run's directory.
    pub run_dir: PathBuf,
    /// The workspace as the run was told.
    pub workspace: PathBuf,
    /// When the run began, in nanoseconds since 1970.
    pub started_ns: Option<i64>,
}

/// Why changes can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The box has a copy, and nothing of it came out.
    #[error("what the box made of the workspace is not here")]
    NotHere,
    /// The host's workspace is not there.
    #[error("cannot read the workspace {path}")]
    Workspace {
        /// Where it was.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A part of the box's own can't be read.
    #[error("cannot read {path}")]
    Box {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Changes {
    /// Compares what the run's box left, or has so far, with the host.
    ///
    /// # Errors
    /// [`ChangesError`]. A single file that can't be read is no error: its change says so.
    pub fn read(wanted: &Wanted) -> Result<Self, ChangesError> {
        let dir = wanted.run_dir.join("box");
        let opened = Opened::load(&dir);
        let named = opened.as_ref().map_or(&wanted.workspace, |opened| &opened.workspace);
        let workspace_error = |source| ChangesError::Workspace { path: named.clone(), source };
        let workspace = named.canonicalize().map_err(workspace_error)?;
        if opened.as_ref().is_some_and(|opened| opened.workspace != workspace) {
            return Err(workspace_error(io::Error::other("it leads elsewhere than when the run began")));
        }
        let host = Beneath::open(&workspace).map_err(workspace_error)?;
        let mut changes = Self { workspace, list: Vec::new(), notes: Vec::new(), host, layers: Vec::new(), tar: None };
        if is_up(&dir) {
            changes.notes.push("the box is up: what it changes meanwhile may be missing".to_owned());
        }
        let opened_ns = opened.as_ref().map(|opened| opened.at_ns).or(wanted.started_ns);
        let layers = strata::of_workspace(&dir, &changes.workspace);
        if dir.join(TAR).exists() {
            let base = Base::load(&dir, opened_ns, None);
            changes.read_tar(&dir.join(TAR), &base)?;
        } else if layers.is_empty() {
            return Err(ChangesError::NotHere);
        } else {
            changes.read_layers(&dir, &layers)?;
            let by_engine = opened.as_ref().is_some_and(|opened| opened.by_engine);
            if by_engine && !rustix::process::geteuid().is_root() {
                changes.notes.push(
                    "an engine's box: directories that were removed and made anew may look like changed ones; run as root \
                     to be sure"
                        .to_owned(),
                );
            }
            changes.list.sort_by(|a, b| a.path.cmp(&b.path));
            let paths: HashSet<&Path> = changes.list.iter().map(|change| change.path.as_path()).collect();
            let base = Base::load(&dir, opened_ns, Some(&paths));
            changes.say_if_incomplete(&base);
            for change in &mut changes.list {
                change.meanwhile = base.has_changed(&change.path, change.mark.as_ref());
            }
        }
        changes.list.sort_by(|a, b| a.path.cmp(&b.path));
        let hidden = opened.map(|opened| opened.hidden).unwrap_or_default();
        changes.keep_hidden(&hidden);
        Ok(changes)
    }

    fn say_if_incomplete(&mut self, base: &Base) {
        if !base.is_complete() {
            self.notes.push(
                "there is no list of what the workspace held at the start: what was removed on the host since is not seen"
                    .to_owned(),
            );
        }
    }

    fn read_layers(&mut self, dir: &Path, strata: &[Stratum]) -> Result<(), ChangesError> {
        for stratum in strata {
            let mut uppers = Vec::new();
            for path in &stratum.dirs {
                match Beneath::open(path) {
                    Ok(tree) => uppers.push(tree),
                    // Of several, those that nothing was written to may be missing.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && stratum.dirs.len() > 1 => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ChangesError::NotHere),
                    Err(source) => return Err(ChangesError::Box { path: path.clone(), source }),
                }
            }
            let Some((upper, below)) = upper::Start::of(&stratum.at, &self.workspace) else { continue };
            let marks = upper::Marks::of(dir);
            let walk = upper::Walk { uppers: &uppers, host: &self.host, marks, first: self.layers.len() };
            walk.run(&upper, &below, &mut self.list).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => ChangesError::NotHere,
                _ => ChangesError::Box { path: stratum.dirs.first().unwrap_or(&stratum.at).clone(), source },
            })?;
            self.layers.extend(uppers);
        }
        Ok(())
    }

    fn read_tar(&mut self, path: &Path, base: &Base) -> Result<(), ChangesError> {
        let failed = |source| ChangesError::Box { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let copy = copied::Copied::index(&file).map_err(failed)?;
        self.list = copy.compare(&file, &self.host, base);
        self.say_if_incomplete(base);
        if !base.is_complete() {
            self.notes.push("of the copy in the container nobody can tell what it has deleted".to_owned());
        }
        self.tar = Some(file);
        Ok(())
    }

    /// What the box was not shown can't have been changed by it: deletions there are none, and new files are troubles.
    fn keep_hidden(&mut self, hidden: &[PathBuf]) {
        let hidden: Vec<&Path> = hidden.iter().filter_map(|path| path.strip_prefix(&self.workspace).ok()).collect();
        let is_hidden = |path: &Path| hidden.iter().any(|at| path.starts_with(at));
        self.list.retain(|change| change.kind != ChangeKind::Deleted || !is_hidden(&change.path));
        for change in &mut self.list {
            if is_hidden(&change.path) {
                // Not to be shown either.
                change.old = None;
                change.kind = ChangeKind::Added;
                change.trouble = Some("it stands where the host has something that the box was not shown".to_owned());
            } else if change.old.as_ref().is_some_and(|old| old.node == Node::Directory)
                && change.new.as_ref().is_none_or(|new| new.node != Node::Directory)
                && hidden.iter().any(|at| at.starts_with(&change.path))
            {
                change.trouble = Some("it holds something that the box was not shown".to_owned());
            }
        }
    }

    /// The content that the box has, of a change that has one.
    ///
    /// # Errors
    /// When it is no regular file or can't be read.
    pub fn new_content(&self, change: &Change) -> io::Result<Content> {
        let size = change.new.as_ref().map_or(0, |meta| meta.size_bytes);
        match &change.content {
            Place::None => Err(io::Error::other("it is no regular file")),
            Place::Layer(layer, path) => {
                let file = self.layers[*layer].file(path)?;
                let length = file.metadata()?.size();
                Ok(Content { file, from: 0, length })
            }
            Place::Tar(from) => {
                let file = self.tar.as_ref().expect("a place in the tar needs one").try_clone()?;
                Ok(Content { file, from: *from, length: size })
            }
        }
    }

    /// The content that the host has.
    ///
    /// # Errors
    /// When it is no regular file or can't be read.
    pub fn old_content(&self, change: &Change) -> io::Result<Content> {
        let file = self.host.file(&change.path)?;
        let length = file.metadata()?.size();
        Ok(Content { file, from: 0, length })
    }
}

/// A regular file's content, in a file or in a part of one.
#[derive(Debug)]
pub struct Content {
    file: File,
    from: u64,
    length: u64,
}

impl Content {
    /// How long it is.
    pub fn size_bytes(&self) -> u64 {
        self.length
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> impl Read + '_ {
        Reader { content: self, at: 0 }
    }

    /// Where data begins at or after `at`; what lies between is a hole, which reads as zeros.
    fn next_data(&self, at: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.from + at)) {
            Ok(found) => Ok((found - self.from).min(self.length)),
            Err(rustix::io::Errno::NXIO) => Ok(self.length),
            // A file system that knows of no holes.
            Err(rustix::io::Errno::INVAL) => Ok(at),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a hole begins after `at`, which is in data.
    fn next_hole(&self, at: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(self.from + at)) {
            Ok(found) => Ok((found - self.from).min(self.length)),
            Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => Ok(self.length),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills the buffer from `at` on; returns how much there was.
    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < most {
            match self.file.read_at(&mut buffer[filled..most], self.from + at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// A place in a content.
struct Reader<'a> {
    content: &'a Content,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.fill(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Whether both have the same bytes. Holes that both have are not read, however large they are.
fn is_equal(one: &Content, other: &Content) -> io::Result<bool> {
    if one.length != other.length {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        at = one.next_data(at)?.min(other.next_data(at)?);
        if at >= one.length {
            return Ok(true);
        }
        let read = one.fill(at, &mut left)?;
        if read == 0 || other.fill(at, &mut right)? != read || left[..read] != right[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
}

/// Whether something of a box is still there to be removed.
fn is_up(dir: &Path) -> bool {
    Record::load(dir).is_some() || dir.join("control").exists()
}
