//! News of a directory: the kernel tells when something appears in it, also from inside a container.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Waits for names to appear in a directory.
#[derive(Debug)]
pub(super) struct Arrival {
    notices: AsyncFd<OwnedFd>,
}

impl Arrival {
    /// Watches `dir` from now on. Must be called within a runtime.
    ///
    /// # Errors
    /// When the directory can't be watched.
    pub(super) fn in_dir(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
        // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
        let notices = unsafe { AsyncFd::register(fd) };
        Ok(Self { notices: notices? })
    }

    /// Returns when something has appeared since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn next(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        loop {
            let mut ready = self.notices.readable().await?;
            let read = ready.try_io(|notices| Ok(rustix::io::read(notices.get_ref(), &mut buffer).map(|_| ())?));
            match read {
                Ok(result) => return result,
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_appears_before_and_during_the_wait_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let arrival = Arrival::in_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join("before"), "").unwrap();
        arrival.next().await.unwrap();
        let during = dir.path().join("during");
        let (noticed, ()) = tokio::join!(arrival.next(), async { std::fs::write(during, "").unwrap() });
        noticed.unwrap();
    }
}
