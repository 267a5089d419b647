//! A guest's socket and when it can be used: the kernel tells when something appears in a directory or changes its
//! mode, also from inside a container.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Connects to `address` as soon as someone listens there: waits for the guest to make the socket in `dir` and to open it
/// to us, which it does once it listens. `address` may be another way to say the same path. Waits without bound.
///
/// # Errors
/// What the system says, but for what waiting mends.
pub(super) async fn connect(dir: &Path, address: &Path) -> io::Result<UnixStream> {
    let arrival = Arrival::in_dir(dir)?;
    loop {
        match UnixStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_early(error.kind()) => arrival.next().await?,
            Err(error) => return Err(error),
        }
    }
}

/// Not made, not listened at, not open to us yet.
fn is_early(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied)
}

/// Waits for names to appear in a directory or to change their mode.
#[derive(Debug)]
struct Arrival {
    notices: AsyncFd<OwnedFd>,
}

impl Arrival {
    /// Watches `dir` from now on. Must be called within a runtime.
    ///
    /// # Errors
    /// When the directory can't be watched.
    fn in_dir(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::ATTRIB)?;
        // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
        let notices = unsafe { AsyncFd::register(fd) };
        Ok(Self { notices: notices? })
    }

    /// Returns when something has appeared or changed since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    async fn next(&self) -> io::Result<()> {
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
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_socket_is_found_before_and_after_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listen = async {
            // Others are let run first, so that the wait has begun.
            tokio::task::yield_now().await;
            let listener = UnixListener::bind(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
            listener
        };
        let (stream, listener) = tokio::join!(connect(dir.path(), &path), listen);
        stream.unwrap();
        connect(dir.path(), &path).await.unwrap();
        drop(listener);
    }
}
