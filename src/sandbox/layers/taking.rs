//! Takes what a box has changed, as it is at one instant, while the box works on but for a moment.
//!
//! First everything is copied while it may still change. Then, with the box held, each file is looked at again and what
//! has changed since is copied anew. Last, with the box at work again, what costs only time is done. Nothing of a box is
//! trusted: no link of it is followed, and nothing but regular files is opened.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use tokio_util::sync::CancellationToken;

use super::content::{self, Attributes};
use super::index::{self, Index, Taken};
use super::{New, Store};
use crate::sandbox::changes::base::Mark;
use crate::sandbox::changes::beneath::{Beneath, Node, OpenDir, join};
use crate::sandbox::launch::wire::Layer;

/// A change time is no finer than this on any kernel, with much to spare.
const GRAIN_NS: i64 = 20_000_000;
/// Paths that are named one by one when they had to be left out.
const MOST_NAMED: usize = 8;

/// The parts of a box that are to be taken.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Parts {
    /// The directory that holds them, by their keys.
    pub(in crate::sandbox) dir: PathBuf,
    /// The parts.
    pub(in crate::sandbox) layers: Vec<Layer>,
}

/// What was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Kept {
    /// Files that no earlier layer shares.
    pub(in crate::sandbox) new_files: u64,
    /// Their bytes.
    pub(in crate::sandbox) new_bytes: u64,
    /// What had to be left out, in words.
    pub(in crate::sandbox) left_out: Vec<String>,
}

/// A layer that is being taken.
pub(in crate::sandbox) struct Taking {
    new: New,
    parts: Vec<Part>,
    rootful: bool,
    left_out: Vec<String>,
    more_left_out: usize,
    unwanted: CancellationToken,
}

struct Part {
    layer: Layer,
    from: Beneath,
    to: PathBuf,
    /// What the box's last layer took, and where.
    last: Option<(PathBuf, HashMap<PathBuf, Taken>)>,
    done: HashMap<PathBuf, Done>,
    dirs: HashSet<PathBuf>,
    entries: Vec<Entry>,
}

/// A regular file that has been taken.
#[derive(Debug, Clone)]
struct Done {
    mark: Mark,
    /// When its copying began; None where an earlier layer's file was taken.
    copied_ns: Option<i64>,
    mapped: bool,
}

/// Everything else, as it was at the instant.
struct Entry {
    path: PathBuf,
    stat: Stat,
    target: Vec<u8>,
    attributes: Attributes,
}

/// What is known of the instant.
struct Instant<'a> {
    /// Inodes, by part, that something can change unseen.
    mapped: &'a HashSet<(usize, u64)>,
}

impl Taking {
    /// Copies what can be had while the box works; `last` is the layer that was taken before of the same box. It fails
    /// once it is `unwanted`.
    ///
    /// # Errors
    /// When the box's own directories can't be read or the disk does not take the copies. Nothing is left then.
    pub(in crate::sandbox) fn begin(
        store: &Store,
        name: &str,
        parts: &Parts,
        rootful: bool,
        last: Option<&str>,
        unwanted: &CancellationToken,
    ) -> io::Result<Self> {
        let new = store.begin(name)?;
        let mut index = last.and_then(|last| read_index(store, last)).unwrap_or_default();
        let unwanted = unwanted.clone();
        let mut taking = Self { new, parts: Vec::new(), rootful, left_out: Vec::new(), more_left_out: 0, unwanted };
        for layer in &parts.layers {
            let from = match Beneath::open(&parts.dir.join(&layer.key)) {
                Ok(from) => from,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let to = taking.new.part(&layer.key);
            fs::DirBuilder::new().mode(0o700).create(&to)?;
            let files = index.remove(&layer.key);
            let last = last.and_then(|last| Some((store.part(last, &layer.key).ok()?, files?)));
            let layer = layer.clone();
            let part = Part { layer, from, to, last, done: HashMap::new(), dirs: HashSet::new(), entries: Vec::new() };
            taking.parts.push(part);
        }
        for at in 0..taking.parts.len() {
            taking.walk(at, None)?;
        }
        Ok(taking)
    }

    /// Looks at everything again, with the box held, and takes what has changed. `mapped` are paths in the box that
    /// something can change unseen.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(in crate::sandbox) fn settle(&mut self, mapped: &[String]) -> io::Result<()> {
        let mapped = self.inodes(mapped);
        for at in 0..self.parts.len() {
            self.walk(at, Some(&Instant { mapped: &mapped }))?;
        }
        Ok(())
    }

    /// Does the rest and gives the layer its name; `opened` are files beside the box that belong to it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(in crate::sandbox) fn finish(mut self, beside: &[PathBuf], held_ns: i64) -> io::Result<Kept> {
        let mut kept = Kept::default();
        let mut index = Index::new();
        let mut layers = Vec::new();
        for part in &mut self.parts {
            let there: HashSet<&Path> = part.entries.iter().map(|entry| entry.path.as_path()).collect();
            for dir in part.dirs.iter().filter(|dir| !there.contains(dir.as_path())) {
                super::remove_tree(&part.to.join(dir))?;
            }
            // What lies in a directory comes before it: the making of an entry changes the directory's times.
            for entry in part.entries.iter().rev() {
                entry.make(&part.to.join(&entry.path))?;
            }
            let is_empty = part.done.is_empty() && part.entries.len() <= 1;
            if is_empty && part.is_as_begun() {
                super::remove_tree(&part.to)?;
                continue;
            }
            layers.push(part.layer.clone());
            let mut files = HashMap::new();
            for (path, done) in part.done.drain() {
                if done.copied_ns.is_some() {
                    kept.new_files += 1;
                    kept.new_bytes += done.mark.size;
                }
                let settled = !done.mapped && done.mark.ctime_ns < held_ns - GRAIN_NS;
                files.insert(path, Taken { mark: done.mark, settled });
            }
            index.insert(part.layer.key.clone(), files);
        }
        index::write(&self.new.beside(index::FILE), &index)?;
        for file in beside.iter().filter(|file| file.exists()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            fs::hard_link(file, self.new.beside(&name))
                .or_else(|_| fs::copy(file, self.new.beside(&name)).map(drop))?;
        }
        self.new.finish(layers, self.rootful)?;
        kept.left_out = self.left_out;
        if self.more_left_out > 0 {
            kept.left_out.push(format!("{} more paths", self.more_left_out));
        }
        Ok(kept)
    }

    /// The inodes of files that are named as the box sees them.
    fn inodes(&self, paths: &[String]) -> HashSet<(usize, u64)> {
        let mut found = HashSet::new();
        for path in paths.iter().map(Path::new) {
            for (at, part) in self.parts.iter().enumerate() {
                let Ok(below) = path.strip_prefix(&part.layer.at) else { continue };
                found.extend(part.from.stat(below).ok().flatten().map(|stat| (at, stat.st_ino)));
            }
        }
        found
    }

    fn walk(&mut self, at: usize, instant: Option<&Instant<'_>>) -> io::Result<()> {
        let part = &mut self.parts[at];
        let mut walk = Walk {
            part,
            at,
            instant,
            unwanted: &self.unwanted,
            links: HashMap::new(),
            trouble: Vec::new(),
            seen: HashSet::new(),
            shut: Vec::new(),
        };
        let walked = walk.run();
        for (dir, mode) in walk.shut.drain(..).rev() {
            set_mode(&dir, mode)?;
        }
        let (seen, trouble) = (walk.seen, walk.trouble);
        walked?;
        if instant.is_some() {
            // Gone since the first look.
            let gone: Vec<PathBuf> = part.done.keys().filter(|path| !seen.contains(*path)).cloned().collect();
            for path in gone {
                part.done.remove(&path);
                unless_missing(fs::remove_file(part.to.join(&path)))?;
            }
            for (path, error) in trouble {
                let path = part.layer.at.join(path);
                match self.left_out.len() {
                    ..MOST_NAMED => self.left_out.push(format!("{}: {error}", path.display())),
                    _ => self.more_left_out += 1,
                }
            }
        }
        Ok(())
    }
}

fn read_index(store: &Store, layer: &str) -> Option<Index> {
    index::read(&store.path(layer).ok()?.join(index::FILE)).ok()
}

impl Part {
    /// Whether its own directory is as the host's, so that an empty part says nothing.
    fn is_as_begun(&self) -> bool {
        let Some(root) = self.entries.first() else { return true };
        let Ok(host) = fs::metadata(&self.layer.at) else { return false };
        let own = (root.stat.st_mode & 0o7777, root.stat.st_uid, root.stat.st_gid);
        own == (host.mode() & 0o7777, host.uid(), host.gid()) && root.attributes.is_empty()
    }
}

/// One walk through one part.
struct Walk<'a> {
    part: &'a mut Part,
    at: usize,
    instant: Option<&'a Instant<'a>>,
    unwanted: &'a CancellationToken,
    /// Where a file with several names was taken in this walk, by inode.
    links: HashMap<u64, PathBuf>,
    trouble: Vec<(PathBuf, io::Error)>,
    /// Regular files.
    seen: HashSet<PathBuf>,
    /// Directories that their owner, who is this user, had shut: open for the time of the walk, with their own modes.
    shut: Vec<(OwnedFd, u32)>,
}

struct FoundDir {
    dir: OpenDir,
    /// Its own mode, where it was shut.
    mode: Option<u32>,
}

impl Walk<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            let found = match self.open_dir(&path) {
                Ok(found) => found,
                // The part's own directory is no one's to take away.
                Err(error) if path.as_os_str().is_empty() => return Err(error),
                Err(error) => {
                    self.note(path, error);
                    continue;
                }
            };
            self.directory(&path, &found)?;
            for name in found.dir.names()? {
                let path = join(&path, &name);
                let stat = match found.dir.stat(&name) {
                    Ok(Some(stat)) => stat,
                    Ok(None) => continue,
                    Err(error) => {
                        self.note(path, error);
                        continue;
                    }
                };
                match Node::of(stat.st_mode) {
                    Node::Directory => open.push(path),
                    Node::File => self.file(path, &stat)?,
                    // Nobody answers at one that was kept.
                    Node::Socket => {}
                    Node::Link | Node::Fifo | Node::Device => self.other(path, stat)?,
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.trouble.push((path, error));
        }
    }

    fn open_dir(&mut self, path: &Path) -> io::Result<FoundDir> {
        if self.instant.is_none() || rustix::process::geteuid().is_root() {
            return Ok(FoundDir { dir: self.part.from.dir(path)?, mode: None });
        }
        let named = self.part.from.at(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let mode = rustix::fs::fstat(&named)?.st_mode;
        if mode & 0o500 == 0o500 {
            return Ok(FoundDir { dir: self.part.from.dir(path)?, mode: None });
        }
        // Where the box is held nobody sees it open.
        set_mode(&named, mode | 0o500)?;
        self.shut.push((named, mode));
        Ok(FoundDir { dir: self.part.from.dir(path)?, mode: Some(mode) })
    }

    fn directory(&mut self, path: &Path, found: &FoundDir) -> io::Result<()> {
        let to = self.part.to.join(path);
        if !path.as_os_str().is_empty() && !to.is_dir() {
            // What was a file at the first look.
            self.part.done.remove(path);
            unless_missing(fs::remove_file(&to))?;
            fs::DirBuilder::new().mode(0o700).create(&to)?;
        }
        self.part.dirs.insert(path.to_owned());
        if self.instant.is_some() {
            let (mut stat, attributes) = (found.dir.own_stat()?, content::attributes(&found.dir)?);
            stat.st_mode = found.mode.unwrap_or(stat.st_mode);
            self.part.entries.push(Entry { path: path.to_owned(), stat, target: Vec::new(), attributes });
        }
        Ok(())
    }

    fn other(&mut self, path: PathBuf, stat: Stat) -> io::Result<()> {
        if self.instant.is_none() {
            return Ok(());
        }
        let mut target = Vec::new();
        if Node::of(stat.st_mode) == Node::Link {
            match self.part.from.target(&path) {
                Ok(read) => target = read,
                Err(error) => {
                    self.note(path, error);
                    return Ok(());
                }
            }
        }
        self.clear(&path)?;
        self.part.entries.push(Entry { path, stat, target, attributes: Attributes::new() });
        Ok(())
    }

    /// Removes what the first look took for something else.
    fn clear(&mut self, path: &Path) -> io::Result<()> {
        if self.part.done.remove(path).is_some() {
            unless_missing(fs::remove_file(self.part.to.join(path)))?;
        }
        if self.part.dirs.contains(path) {
            self.part.dirs.retain(|dir| !dir.starts_with(path));
            self.part.done.retain(|file, _| !file.starts_with(path));
            super::remove_tree(&self.part.to.join(path))?;
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, stat: &Stat) -> io::Result<()> {
        content::wanted(self.unwanted)?;
        let mark = Mark::of(stat);
        let mapped = self.instant.is_some_and(|instant| instant.mapped.contains(&(self.at, stat.st_ino)));
        if let Some(done) = self.part.done.get(&path) {
            let young = done.copied_ns.is_some_and(|begun| mark.ctime_ns >= begun - GRAIN_NS);
            if done.mark == mark && !young && !mapped {
                self.seen.insert(path);
                return Ok(());
            }
        }
        self.clear(&path)?;
        match self.take(&path, stat, &mark, mapped) {
            Ok(done) => {
                self.part.done.insert(path.clone(), done);
                self.seen.insert(path);
                Ok(())
            }
            Err(error) if is_of_the_store(&error) || self.unwanted.is_cancelled() => Err(error),
            // Gone, or replaced by something else, since it was looked at; at the second look nothing moves any more.
            Err(error) => {
                unless_missing(fs::remove_file(self.part.to.join(&path)))?;
                self.note(path, error);
                Ok(())
            }
        }
    }

    fn take(&mut self, path: &Path, stat: &Stat, mark: &Mark, mapped: bool) -> io::Result<Done> {
        let to = self.part.to.join(path);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&stat.st_ino)
            && let Some(done) = self.part.done.get(first).filter(|done| done.mark == *mark).cloned()
        {
            fs::hard_link(self.part.to.join(first), &to)?;
            return Ok(done);
        }
        let done = match self.share(path, mark, mapped, &to) {
            Some(done) => done,
            None => {
                let copied_ns = Some(now_ns());
                let file = self.open_file(path)?;
                let mut now = rustix::fs::fstat(&file)?;
                if self.instant.is_some() {
                    // It may have been let open only just now.
                    now.st_mode = stat.st_mode;
                }
                content::copy_file(&file, &now, &to, self.unwanted)?;
                Done { mark: *mark, copied_ns, mapped }
            }
        };
        if stat.st_nlink > 1 {
            self.links.insert(stat.st_ino, path.to_owned());
        }
        Ok(done)
    }

    /// Takes the file of the box's last layer, where nothing can have changed since.
    fn share(&self, path: &Path, mark: &Mark, mapped: bool, to: &Path) -> Option<Done> {
        let (dir, files) = self.part.last.as_ref().filter(|_| !mapped)?;
        files.get(path).filter(|taken| taken.settled && taken.mark == *mark)?;
        // Not there any more, or linked too often already: then it is copied.
        fs::hard_link(dir.join(path), to).ok()?;
        Some(Done { mark: *mark, copied_ns: None, mapped: false })
    }

    fn open_file(&self, path: &Path) -> io::Result<File> {
        match self.part.from.file(path) {
            Err(error) if self.instant.is_some() && error.kind() == io::ErrorKind::PermissionDenied => {
                let named = self.part.from.at(path, OFlags::PATH)?;
                opened(&named, 0o400, || self.part.from.file(path))
            }
            other => other,
        }
    }
}

/// Lets this user in for the time of `act`.
fn opened<T>(named: &OwnedFd, bits: u32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mode = rustix::fs::fstat(named)?.st_mode;
    set_mode(named, mode | bits)?;
    let done = act();
    set_mode(named, mode)?;
    done
}

fn set_mode(named: &OwnedFd, mode: u32) -> io::Result<()> {
    fs::set_permissions(format!("/proc/self/fd/{}", named.as_raw_fd()), fs::Permissions::from_mode(mode & 0o7777))
}

/// Whether it is the store that fails, and not a single file of the box.
fn is_of_the_store(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    ) || matches!(error.raw_os_error(), Some(libc::EIO | libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Entry {
    /// Makes it at `to`, or gives a directory that is there what belongs to it.
    fn make(&self, to: &Path) -> io::Result<()> {
        let kind = FileType::from_raw_mode(self.stat.st_mode);
        match kind {
            FileType::Directory => {}
            FileType::Symlink => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&self.target), to)?;
            }
            _ => rustix::fs::mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), self.stat.st_rdev)?,
        }
        content::dress(to, &self.stat, &self.attributes)
    }
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Now, by the clock that stamps files; those stamps may lag by less than [`GRAIN_NS`].
pub(in crate::sandbox) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
