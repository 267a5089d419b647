//! Looks through files for the host: what some hold, what has changed since a moment, and what runs that could change it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use globset::GlobSet;
use sha2::{Digest as _, Sha256};

use super::facts::{Hashed, Refusal, RefusalKind, Stirred};
use super::globs;
use super::proc::{self, Stat};
use super::supervisor::{Supervisor, refuse};
use crate::domain::{FileHash, size_words};

/// Most entries of directories that are looked through for globs.
const MOST_ENTRIES: u64 = 1_000_000;
/// Most that are looked through for what has changed.
const MOST_STIRRED: u64 = 200_000;
/// Most changed paths that are told.
const MOST_TOLD: usize = 20;
/// The largest program whose content is looked at.
const LARGEST_PROGRAM: u64 = 256 << 20;
/// Directories in which checks leave what no result rests on.
const CACHES: [&str; 6] = [".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"];

/// What may be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Files that match.
    pub(super) files: usize,
    /// Their content.
    pub(super) bytes: u64,
}

/// Hashes the files below `root` that any of the globs matches. Directories that are reached over a link are not entered.
///
/// # Errors
/// `Invalid` for a glob that is none.
pub(super) fn hashed(root: &Path, globs: &[String], most: Most) -> Result<Hashed, Refusal> {
    let set = globs::build(globs.iter().map(String::as_str));
    let set = set.map_err(|error| refuse(RefusalKind::Invalid, error.to_string()))?;
    let mut walk = Walk { root, set, most, left: most.bytes, entries: 0, found: BTreeMap::new(), over: None };
    for base in globs.iter().map(|glob| globs::base(glob)) {
        walk.see(&root.join(base));
    }
    let files = walk.found.into_iter().map(|(path, sha256)| FileHash { path, sha256 });
    Ok(Hashed { files: files.collect(), over: walk.over })
}

struct Walk<'a> {
    root: &'a Path,
    set: GlobSet,
    most: Most,
    left: u64,
    entries: u64,
    found: BTreeMap<String, Option<String>>,
    over: Option<String>,
}

impl Walk<'_> {
    fn see(&mut self, path: &Path) {
        self.entries += 1;
        if self.over.is_some() {
            return;
        }
        if self.entries > MOST_ENTRIES {
            self.over = Some(format!("there are more than {MOST_ENTRIES} files to look through"));
            return;
        }
        let Ok(meta) = fs::symlink_metadata(path) else { return };
        if meta.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.see(&entry.path());
            }
            return;
        }
        let Ok(relative) = path.strip_prefix(self.root) else { return };
        let name = relative.to_string_lossy().into_owned();
        if !self.set.is_match(relative) || self.found.contains_key(&name) {
            return;
        }
        if self.found.len() >= self.most.files {
            self.over = Some(format!("they are more than {} files", self.most.files));
            return;
        }
        match content(path, &meta, self.left) {
            Ok((sha256, size)) => {
                self.left -= size.min(self.left);
                self.found.insert(name, sha256);
            }
            Err(TooLarge) => {
                let most = size_words(self.most.bytes);
                self.over =
                    Some(format!("they are more than {most} with {name}, which has {}", size_words(meta.len())));
            }
        }
    }
}

struct TooLarge;

/// SHA-256 of what a path holds, None where it can't be read, and how much that is; of a link that is where it leads, and
/// the file there.
fn content(path: &Path, meta: &fs::Metadata, most: u64) -> Result<(Option<String>, u64), TooLarge> {
    let mut hash = Sha256::new();
    if meta.is_symlink() {
        hash.update(b"link\0");
        hash.update(fs::read_link(path).unwrap_or_default().as_os_str().as_bytes());
    } else if !meta.is_file() {
        return Ok((Some(hex(Sha256::digest(b"special\0").as_slice())), 0));
    }
    let file = match open(path) {
        Ok(file) => file,
        Err(_) if meta.is_symlink() => return Ok((Some(hex(&hash.finalize())), 0)),
        Err(_) => return Ok((None, 0)),
    };
    if file.metadata().is_ok_and(|meta| meta.len() > most) {
        return Err(TooLarge);
    }
    let (mut piece, mut size) = (vec![0; 1 << 16], 0_u64);
    let mut file = file.take(most.saturating_add(1));
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((Some(hex(&hash.finalize())), size)),
            Ok(read) => {
                hash.update(&piece[..read]);
                size += read as u64;
                if size > most {
                    return Err(TooLarge);
                }
            }
            Err(_) => return Ok((None, size)),
        }
    }
}

/// Opens a regular file without waiting for anything else.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Hashes programs: those with a `/` in their names from `cwd` on, the others where the search path has them first.
pub(super) fn programs(names: Vec<String>, cwd: &Path, path: &str) -> Vec<FileHash> {
    let place = |name: &str| match name.contains('/') {
        true => Some(cwd.join(name)),
        false => path.split(':').map(|dir| Path::new(dir).join(name)).find(|program| program.is_file()),
    };
    let one = |name: String| {
        let program = place(&name).and_then(|program| fs::canonicalize(program).ok());
        let hash = |program: PathBuf| content(&program, &fs::metadata(&program).ok()?, LARGEST_PROGRAM).ok()?.0;
        FileHash { sha256: program.and_then(hash), path: name }
    };
    names.into_iter().map(one).collect()
}

/// What has changed below `root` since then, if that is asked, and what runs in the box beside the guest, idle shells and
/// the view for people.
pub(super) async fn stirred(boss: Rc<Supervisor>, root: PathBuf, since_ns: Option<i64>) -> Stirred {
    let running = running(&boss);
    let now_ns = now_ns();
    let Some(since_ns) = since_ns else { return Stirred { now_ns, running, ..Stirred::default() } };
    let walk = tokio::task::spawn_blocking(move || {
        let mut changes = Changes { root: root.clone(), since_ns, entries: 0, changed: Vec::new() };
        changes.below(&root);
        (changes.entries <= MOST_STIRRED, changes.changed)
    });
    let (whole, changed) = walk.await.unwrap_or_default();
    Stirred { now_ns, running, changed, whole }
}

/// The clock by which files are stamped.
fn now_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in the structure that it is given, which lives as long as the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn running(boss: &Supervisor) -> Vec<String> {
    let sessions: Vec<_> = boss.sessions.borrow().values().map(|session| session.info()).collect();
    let shells: Vec<i32> = sessions.iter().filter_map(|info| i32::try_from(info.pid).ok()).collect();
    let all: Vec<Stat> = proc::descendants().into_iter().filter_map(Stat::of).collect();
    let servers: Vec<i32> = all.iter().map(|stat| stat.pid).filter(|pid| boss.tmux.is_server(*pid)).collect();
    let has_children = |pid: i32| all.iter().any(|stat| stat.parent == pid);
    // A window of the view in which a person could type, and nothing runs.
    let is_idle_window = |stat: &Stat| servers.contains(&stat.parent) && !has_children(stat.pid);
    let others = all.iter().filter(|stat| stat.state != 'Z' && !is_idle_window(stat)).map(|stat| stat.pid);
    let others = others.filter(|pid| !shells.contains(pid) && !boss.tmux.shows(*pid));
    // One that has just ended has no name any more.
    let mut names: Vec<String> = others.map(proc::name).filter(|name| !name.is_empty()).collect();
    // A loop of the shell itself is no process of its own.
    let busy = sessions.iter().filter(|info| info.command.is_some());
    names.extend(busy.map(|info| format!("session {}", info.session)));
    names.sort();
    names.dedup();
    names
}

struct Changes {
    root: PathBuf,
    since_ns: i64,
    entries: u64,
    changed: Vec<String>,
}

impl Changes {
    /// Whether anything in this directory has changed, caches among it.
    fn below(&mut self, dir: &Path) -> bool {
        let mut any = false;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            self.entries += 1;
            if self.entries > MOST_STIRRED || self.changed.len() >= MOST_TOLD {
                return true;
            }
            let path = entry.path();
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let is_new = meta.ctime() * 1_000_000_000 + meta.ctime_nsec() >= self.since_ns;
            any |= is_new;
            if entry.file_name().to_str().is_some_and(|name| CACHES.contains(&name)) {
                continue;
            }
            match meta.is_dir() {
                // Something was taken away, if nothing in it tells why it has changed.
                true if !self.below(&path) && is_new => self.tell(&path),
                false if is_new => self.tell(&path),
                true | false => {}
            }
        }
        any
    }

    fn tell(&mut self, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        self.changed.push(path.to_string_lossy().into_owned());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { files: 3, bytes: 1 << 20 };

    fn paths(hashed: &Hashed) -> Vec<&str> {
        hashed.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn what_matches_is_hashed_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/deep")).unwrap();
        for name in ["t/b.py", "t/deep/a.py", "other.py"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let globs = ["t".to_owned(), "**/a.py".to_owned()];
        let found = hashed(dir.path(), &globs, MOST).unwrap();
        assert_eq!((paths(&found), &found.over), (vec!["t/b.py", "t/deep/a.py"], &None));
        assert_eq!(found.files[0].sha256.as_deref(), Some(hex(Sha256::digest("t/b.py").as_slice()).as_str()));
        let too_many = hashed(dir.path(), &globs, Most { files: 1, ..MOST }).unwrap();
        assert_eq!(too_many.over.as_deref(), Some("they are more than 1 files"));
    }

    #[test]
    fn links_pipes_and_files_too_large_are_waited_for_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("real"), "1").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let look = |glob: &str| hashed(dir.path(), &[glob.to_owned()], MOST).unwrap();
        let before = look("link");
        assert_eq!(look("pipe").files.len(), 1);
        fs::write(at("real"), "2").unwrap();
        assert_ne!(look("link"), before, "what a link leads to counts");
        File::create(at("large")).unwrap().set_len(4 << 30).unwrap();
        let large = look("large").over.unwrap();
        assert_eq!(large, "they are more than 1.0 MB with large, which has 4.2 GB");
    }

    #[test]
    fn what_changed_is_told_but_not_caches_and_what_was_taken_away_by_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "gone", "__pycache__"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("gone/x"), "").unwrap();
        fs::write(dir.path().join("a/old"), "").unwrap();
        // Files are stamped by ticks.
        let since_ns = loop {
            let now = now_ns();
            if fs::metadata(dir.path().join("a/old")).map(|old| old.ctime() * 1_000_000_000 + old.ctime_nsec()).unwrap()
                < now
            {
                break now;
            }
        };
        let look = || {
            let mut changes = Changes { root: dir.path().to_owned(), since_ns, entries: 0, changed: Vec::new() };
            changes.below(dir.path());
            changes.changed.sort();
            changes.changed
        };
        assert!(look().is_empty());
        fs::write(dir.path().join("__pycache__/x.pyc"), "1").unwrap();
        assert!(look().is_empty());
        fs::write(dir.path().join("a/new"), "1").unwrap();
        fs::remove_file(dir.path().join("gone/x")).unwrap();
        assert_eq!(look(), ["a/new", "gone"]);
    }

    #[test]
    fn a_program_is_looked_for_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/tool"), "1").unwrap();
        let path = format!("{}:/nowhere", dir.path().join("bin").display());
        let names = vec!["tool".to_owned(), "./bin/tool".to_owned(), "other".to_owned()];
        let found = programs(names, dir.path(), &path);
        assert_eq!(found[0].sha256, found[1].sha256);
        assert!(found[0].sha256.is_some() && found[2].sha256.is_none());
    }
}
