//! Waits until a path is there, is another, or is gone.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use crate::guest::facts::{Refusal, RefusalKind};
use crate::guest::pty::without_blocking;
use crate::guest::sight::{FileChange, Tried};
use crate::guest::supervisor::{refusal_of, refuse};

/// The time between two looks that no event asked for: an overlay hides from inotify what happens to a file after it
/// was copied up, network file systems what others do, and some boxes have no inotify left.
const STEP: Duration = Duration::from_secs(1);

/// After an event it is waited a moment for more of them, so that a busy directory costs little.
const SETTLES: Duration = Duration::from_millis(10);

/// A path, and what must become of it.
#[derive(Debug)]
pub(in crate::guest) struct Target {
    path: PathBuf,
    change: FileChange,
    first: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Target {
    /// A path as it is now.
    ///
    /// # Errors
    /// For a path that is not absolute or has NUL.
    pub(in crate::guest) fn new(path: String, change: FileChange) -> Result<Self, Refusal> {
        if !path.starts_with('/') || path.contains('\0') {
            let shown: String = path.escape_debug().take(200).collect();
            return Err(refuse(RefusalKind::Invalid, format!("`{shown}` is not an absolute path")));
        }
        let path = PathBuf::from(path);
        let first = look(&path);
        Ok(Self { path, change, first })
    }

    /// Waits until it is met.
    ///
    /// # Errors
    /// When the path can't be looked at at all.
    pub(super) async fn met(self) -> Result<String, Refusal> {
        // Without it the slow look remains.
        let notifier = init(CreateFlags::CLOEXEC).ok().map(|fd| without_blocking(fd, Interest::READABLE));
        let notifier = notifier.transpose().map_err(|error| refusal_of(&error, "inotify"))?;
        loop {
            if let Some(notifier) = &notifier {
                self.watch(notifier);
            }
            let tried = self.tried();
            if tried.met {
                return Ok(tried.what);
            }
            let told = async {
                match &notifier {
                    // Drained, and looked at anew whatever it was.
                    Some(notifier) => while notifier.async_io(Interest::READABLE, drain).await.is_err() {},
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = told => sleep(SETTLES).await,
                () = sleep(STEP) => {}
            }
        }
    }

    /// Looks once.
    pub(super) fn tried(&self) -> Tried {
        let (now, path) = (look(&self.path), self.path.display());
        let (met, what) = match (self.change, &self.first, &now) {
            (FileChange::Exists, _, Some(seen)) => (true, format!("{path} is there ({} bytes)", seen.size)),
            (FileChange::Gone, _, None) => (true, format!("{path} is not there")),
            (FileChange::Exists, _, None) => (false, format!("{path} is not there")),
            (FileChange::Gone, _, Some(_)) => (false, format!("{path} is there")),
            (FileChange::Changes, None, Some(seen)) => (true, format!("{path} has come ({} bytes)", seen.size)),
            (FileChange::Changes, Some(_), None) => (true, format!("{path} has gone")),
            (FileChange::Changes, Some(first), Some(seen)) if first != seen => {
                (true, format!("{path} has changed ({} bytes, {} before)", seen.size, first.size))
            }
            (FileChange::Changes, _, _) => (false, format!("{path} has not changed")),
        };
        Tried { met, what }
    }

    /// Watches the path and the nearest directory above it that is there.
    fn watch(&self, notifier: &AsyncFd<OwnedFd>) {
        let about = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        // To watch again what is watched changes nothing; what can't be watched is looked at slowly.
        let _ = add_watch(notifier.get_ref(), &self.path, about);
        let above = self.path.ancestors().skip(1);
        let _ = above.map(|dir| add_watch(notifier.get_ref(), dir, about)).find(Result::is_ok);
    }
}

fn drain(notifier: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(notifier, &mut space);
    reader.next()?;
    while reader.next().is_ok() {}
    Ok(())
}

fn look(path: &Path) -> Option<Seen> {
    let meta = fs::metadata(path).ok()?;
    Some(Seen {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}
