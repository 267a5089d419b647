//! Waiting for a log to grow, for its run to end, for the person or the reader to leave: by the kernel's news.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The kernel tells that the driver closed its lock a moment before it lets the lock go.
const LETTING_GO: Duration = Duration::from_millis(10);

/// How often that moment is waited for.
const LOOKS: u32 = 20;

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something was written, or the run is no longer driven.
    Run,
    /// The person wants no more.
    Person,
    /// Nobody reads what is printed.
    Reader,
}

/// A watch on a run's directories.
pub(super) struct Follow {
    news: AsyncFd<OwnedFd>,
    reader: Option<AsyncFd<OwnedFd>>,
    interrupt: Signal,
}

impl Follow {
    /// Begins to watch.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn begin(run: &Path, sessions: &Path) -> io::Result<Self> {
        let news = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&news, sessions, WatchFlags::MODIFY | WatchFlags::CREATE)?;
        inotify::add_watch(&news, run, WatchFlags::CLOSE_WRITE)?;
        Ok(Self {
            news: registered(news, Interest::READABLE)?,
            // Files and some terminals can't be watched, and don't go away either.
            reader: io::stdout().as_fd().try_clone_to_owned().and_then(|fd| registered(fd, Interest::ERROR)).ok(),
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits until there is something to do; `is_driven` tells whether the run goes on.
    pub(super) async fn next(&mut self, is_driven: impl Fn() -> bool) -> Woken {
        let reader = async {
            match &self.reader {
                // An error of the descriptor is all that it is watched for.
                Some(reader) => drop(reader.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => return Woken::Person,
            () = reader => return Woken::Reader,
            ready = self.news.readable() => if let Ok(mut ready) = ready {
                ready.clear_ready();
            },
        }
        if self.a_file_was_closed() {
            for _ in 0..LOOKS {
                if !is_driven() {
                    break;
                }
                tokio::time::sleep(LETTING_GO).await;
            }
        }
        Woken::Run
    }

    /// Takes what the kernel has told; whether the run's lock was among it.
    fn a_file_was_closed(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.news.get_ref(), &mut buffer);
        let mut closed = false;
        while let Ok(event) = reader.next() {
            closed |= event.file_name().is_some_and(|name| name == c"lock");
        }
        closed
    }
}

fn registered(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
