//! What the host's workspace was when a box was opened: noted down then, so that it can be told later what has changed on
//! the host meanwhile.
//!
//! The kernel's change time of each file would nearly do, and costs nothing. But it does not tell of files that were
//! removed, of directories that changed places, nor of a clock that was set back. So each entry's inode, size, mode and
//! times are listed, on a thread of their own while the box is already at work: the box can't change the host's files,
//! and what the host changes while the list is made has a change time after the opening.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::beneath::{Beneath, Meta, Node, join};

/// The note of the opening.
pub(in crate::sandbox) const OPENED: &str = "opened.json";
/// The list of what the workspace held.
pub(in crate::sandbox) const LIST: &str = "base.zst";
/// Beyond this many entries there is no list, and change times have to do.
const MOST: u64 = 2_000_000;
/// How long the end of a box waits for the list of a workspace that is still being read.
const PATIENCE: Duration = Duration::from_secs(2);
/// No path is longer.
const LONGEST_PATH: u32 = 1 << 20;

/// The opening of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// When, by the clock that stamps files.
    pub(super) at_ns: i64,
    /// The workspace, without links in its path.
    pub(super) workspace: PathBuf,
    /// Paths of the host that the box does not show.
    pub(super) hidden: Vec<PathBuf>,
    /// Whether an engine made the overlay, perhaps as another user.
    #[serde(default)]
    pub(super) by_engine: bool,
}

/// Who makes a box's overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Maker {
    /// This program.
    Own,
    /// A container engine.
    Engine,
}

impl Opened {
    /// Reads it back; None where it was not noted.
    pub(super) fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(OPENED)).ok()?).ok()
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Mark {
    /// Type and permissions.
    pub(in crate::sandbox) mode: u32,
    pub(in crate::sandbox) size: u64,
    pub(in crate::sandbox) mtime_ns: i64,
    pub(in crate::sandbox) ctime_ns: i64,
    pub(in crate::sandbox) inode: u64,
}

impl Mark {
    pub(in crate::sandbox) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, part: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(part);
        Self {
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
        }
    }

    /// Whether both tell of the same state. Of directories only type and permissions count: what is in them has marks of
    /// its own.
    pub(in crate::sandbox) fn is_same(&self, other: &Self) -> bool {
        let both_directories = |mode: u32| mode & libc::S_IFMT == libc::S_IFDIR;
        self == other || (self.mode == other.mode && both_directories(self.mode))
    }

    pub(in crate::sandbox) fn write(&self, path: &Path, to: &mut dyn Write) -> io::Result<()> {
        let path = path.as_os_str().as_bytes();
        to.write_all(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        to.write_all(path)?;
        to.write_all(&self.mode.to_le_bytes())?;
        to.write_all(&self.size.to_le_bytes())?;
        to.write_all(&self.mtime_ns.to_le_bytes())?;
        to.write_all(&self.ctime_ns.to_le_bytes())?;
        to.write_all(&self.inode.to_le_bytes())
    }

    /// None at the end of the list.
    pub(in crate::sandbox) fn read(from: &mut dyn Read) -> io::Result<Option<(PathBuf, Self)>> {
        let length = u32::from_le_bytes(array(from)?);
        if length == 0 {
            return Ok(None);
        }
        if length > LONGEST_PATH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut path = vec![0; length as usize];
        from.read_exact(&mut path)?;
        let mark = Self {
            mode: u32::from_le_bytes(array(from)?),
            size: u64::from_le_bytes(array(from)?),
            mtime_ns: i64::from_le_bytes(array(from)?),
            ctime_ns: i64::from_le_bytes(array(from)?),
            inode: u64::from_le_bytes(array(from)?),
        };
        Ok(Some((PathBuf::from(std::ffi::OsStr::from_bytes(&path)), mark)))
    }
}

fn array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The list of what the workspace held, or the lack of one.
#[derive(Debug)]
pub(super) struct Base {
    opened_ns: Option<i64>,
    marks: Option<HashMap<PathBuf, Mark>>,
}

impl Base {
    /// Reads the list; of it only what is `wanted`, or all for None. Without a list, `opened_ns` has to do.
    pub(super) fn load(dir: &Path, opened_ns: Option<i64>, wanted: Option<&HashSet<&Path>>) -> Self {
        Self { opened_ns, marks: read_list(&dir.join(LIST), wanted).ok() }
    }

    /// Whether there is a list.
    pub(super) fn is_complete(&self) -> bool {
        self.marks.is_some()
    }

    /// What was at `path`; None also where there is no list.
    pub(super) fn mark(&self, path: &Path) -> Option<&Mark> {
        self.marks.as_ref()?.get(path)
    }

    /// Every path of the list that was read.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&PathBuf, &Mark)> {
        self.marks.iter().flatten()
    }

    /// Whether what is at `path` on the host `now` is something else than at the opening.
    pub(super) fn has_changed(&self, path: &Path, now: Option<&Mark>) -> bool {
        let later = |mark: &Mark| !is_directory(mark) && self.opened_ns.is_some_and(|opened| mark.ctime_ns > opened);
        match (&self.marks, now) {
            (Some(marks), now) => match (marks.get(path), now) {
                (None, None) => false,
                (Some(then), Some(now)) => later(then) || !then.is_same(now),
                (Some(_), None) | (None, Some(_)) => true,
            },
            (None, Some(now)) => later(now),
            (None, None) => false,
        }
    }
}

fn is_directory(mark: &Mark) -> bool {
    mark.mode & libc::S_IFMT == libc::S_IFDIR
}

fn read_list(path: &Path, wanted: Option<&HashSet<&Path>>) -> io::Result<HashMap<PathBuf, Mark>> {
    let mut from = BufReader::new(zstd::Decoder::new(File::open(path)?)?);
    let mut marks = HashMap::new();
    while let Some((path, mark)) = Mark::read(&mut from)? {
        if wanted.is_none_or(|wanted| wanted.contains(path.as_path())) {
            marks.insert(path, mark);
        }
    }
    Ok(marks)
}

/// The making of the list, on a thread of its own.
#[derive(Debug)]
pub(in crate::sandbox) struct Listing {
    ended: watch::Receiver<()>,
    stop: Arc<AtomicBool>,
}

impl Listing {
    /// Notes the opening of a box over `workspace` in its directory, and begins the list.
    ///
    /// Where the disk takes neither, later changes of the host are known by less; that is no reason to have no box.
    pub(in crate::sandbox) fn begin(dir: &Path, workspace: &Path, hidden: &[PathBuf], maker: Maker) -> Option<Self> {
        let begun = begin(dir, workspace, hidden, maker);
        if let Err(error) = &begun {
            tracing::warn!(%error, "the state of the workspace is not noted");
        }
        begun.ok()
    }

    /// Waits for the list, but not for long: beyond that it is given up.
    pub(in crate::sandbox) async fn settle(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: the thread's end drops the sender.
        if tokio::time::timeout(PATIENCE, ended.changed()).await.is_err() {
            self.stop.store(true, Ordering::Relaxed);
            let _ = ended.changed().await;
        }
    }
}

fn begin(dir: &Path, named: &Path, hidden: &[PathBuf], maker: Maker) -> io::Result<Listing> {
    let workspace = named.canonicalize()?;
    // Without links too, however the workspace was named.
    let real = |path: &PathBuf| path.strip_prefix(named).map_or_else(|_| path.clone(), |below| workspace.join(below));
    let new = dir.join("opened.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(b"\n")?;
    let stamp = file.metadata()?;
    let opened = Opened {
        at_ns: stamp.ctime().wrapping_mul(1_000_000_000).wrapping_add(stamp.ctime_nsec()),
        hidden: hidden.iter().map(real).filter(|path| path.starts_with(&workspace)).collect(),
        by_engine: maker == Maker::Engine,
        workspace: workspace.clone(),
    };
    file.write_all(&serde_json::to_vec(&opened)?)?;
    fs::rename(&new, dir.join(OPENED))?;
    let (running, ended) = watch::channel(());
    let stop = Arc::new(AtomicBool::new(false));
    let (dir, stopped) = (dir.to_owned(), Arc::clone(&stop));
    std::thread::Builder::new().name("longhaul-base".to_owned()).spawn(move || {
        if let Err(error) = write_list(&dir, &workspace, &stopped) {
            tracing::warn!(%error, "the list of the workspace was not made");
            let _ = fs::remove_file(dir.join("base.new"));
        }
        drop(running);
    })?;
    Ok(Listing { ended, stop })
}

fn write_list(dir: &Path, workspace: &Path, stop: &AtomicBool) -> io::Result<()> {
    let new = dir.join("base.new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut to = BufWriter::new(zstd::Encoder::new(file, 1)?);
    let tree = Beneath::open(workspace)?;
    let mut open = vec![PathBuf::new()];
    let mut seen = 0_u64;
    while let Some(at) = open.pop() {
        // What can't be read here can't be read in the box either, or is gone.
        let Ok(dir) = tree.dir(&at) else { continue };
        for name in dir.names()? {
            let Some(stat) = dir.stat(&name)? else { continue };
            let path = join(&at, &name);
            seen += 1;
            if seen > MOST || stop.load(Ordering::Relaxed) {
                return Err(io::Error::other(format!("given up after {seen} entries")));
            }
            Mark::of(&stat).write(&path, &mut to)?;
            if Meta::of(&stat).node == Node::Directory && !is_never_the_hosts(&workspace.join(&path)) {
                open.push(path);
            }
        }
    }
    to.write_all(&0_u32.to_le_bytes())?;
    to.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
    fs::rename(new, dir.join(LIST))
}

/// Places that every box has fresh, which matters where the workspace is the root.
fn is_never_the_hosts(path: &Path) -> bool {
    ["/proc", "/sys", "/dev", "/run", "/tmp"].iter().any(|fresh| path == Path::new(fresh))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(workspace: &Path, path: &str) -> Option<Mark> {
        let stat = Beneath::open(workspace).expect("there").stat(Path::new(path)).expect("readable");
        stat.as_ref().map(Mark::of)
    }

    #[tokio::test]
    async fn what_changes_on_the_host_after_the_opening_is_known() {
        let place = tempfile::tempdir().expect("a place");
        let (dir, work) = (place.path().join("box"), place.path().join("work"));
        fs::create_dir_all(&dir).expect("a directory");
        for sub in ["left", "right"] {
            fs::create_dir_all(work.join(sub)).expect("a directory");
            fs::write(work.join(sub).join("file"), sub).expect("a file");
        }
        for name in ["same", "edited", "removed", "replaced"] {
            fs::write(work.join(name), name).expect("a file");
        }
        Listing::begin(&dir, &work, &[], Maker::Own).expect("begun").settle().await;
        fs::write(work.join("edited"), "EDITED").expect("a file");
        fs::remove_file(work.join("removed")).expect("removed");
        fs::write(work.join("new"), "new").expect("a file");
        fs::write(work.join("other"), "replaced").expect("a file");
        let old = fs::metadata(work.join("replaced")).expect("there").modified().expect("a time");
        File::options().write(true).open(work.join("other")).and_then(|file| file.set_modified(old)).expect("a time");
        fs::rename(work.join("other"), work.join("replaced")).expect("renamed");
        // Neither file is touched, and yet each path names another one.
        fs::rename(work.join("left"), work.join("aside")).expect("renamed");
        fs::rename(work.join("right"), work.join("left")).expect("renamed");

        let opened = Opened::load(&dir).expect("noted");
        let base = Base::load(&dir, Some(opened.at_ns), None);
        assert!(base.is_complete());
        let changed = |path: &str| base.has_changed(Path::new(path), now(&work, path).as_ref());
        let paths = ["edited", "left", "left/file", "missing", "new", "removed", "replaced", "right/file", "same"];
        let found: Vec<_> = paths.into_iter().filter(|path| changed(path)).collect();
        assert_eq!(found, ["edited", "left/file", "new", "removed", "replaced", "right/file"]);
    }

    #[test]
    fn without_a_list_the_change_time_tells() {
        let mark = Mark { mode: libc::S_IFREG, size: 1, mtime_ns: 5, ctime_ns: 50, inode: 7 };
        let base = Base { opened_ns: Some(40), marks: None };
        assert!(base.has_changed(Path::new("a"), Some(&mark)));
        let base = Base { opened_ns: Some(50), marks: None };
        assert!(!base.has_changed(Path::new("a"), Some(&mark)) && !base.has_changed(Path::new("b"), None));
    }

    #[tokio::test]
    async fn a_cut_list_is_no_list() {
        let place = tempfile::tempdir().expect("a place");
        let (dir, work) = (place.path().join("box"), place.path().join("work"));
        fs::create_dir_all(&dir).expect("a directory");
        fs::create_dir_all(&work).expect("a directory");
        fs::write(work.join("file"), "x").expect("a file");
        Listing::begin(&dir, &work, &[], Maker::Own).expect("begun").settle().await;
        let list = fs::read(dir.join(LIST)).expect("a list");
        fs::write(dir.join(LIST), &list[..list.len() / 2]).expect("cut");
        assert!(!Base::load(&dir, None, None).is_complete());
    }
}
