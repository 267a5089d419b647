//! A sign of life of a run's driver, given by a thread of its own, so that others can tell one that hangs from one that
//! waits: the file's time says that it lives, its content how far it has come.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;

/// The file below the run's directory.
pub(super) const FILE: &str = "heartbeat";
/// How often a sign is given.
const EVERY: Duration = Duration::from_secs(5);
/// A driver that has been silent for longer may be taken for dead where no lock can tell.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// What a sign says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The driver's number.
    pub epoch: u64,
    /// The last entry that it has recorded.
    pub seq: u64,
    /// Signs given so far.
    pub count: u64,
}

impl Heartbeat {
    /// The last sign of the driver of the run in `dir`.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }
}

/// Gives signs until dropped, or until another driver has taken over.
#[derive(Debug)]
pub(super) struct Beating {
    seq: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beating {
    /// Gives the first sign and goes on.
    pub(super) fn start(dir: &Path, epoch: Arc<Epoch>) -> io::Result<Self> {
        let seq = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel();
        let beat = Beat { path: dir.join(FILE), epoch, seq: Arc::clone(&seq) };
        beat.give(0)?;
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            let mut count = 1;
            while beat.epoch.is_last() && stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // On a full disk the last sign grows old; what matters then is said elsewhere.
                let _ = beat.give(count);
                count += 1;
            }
        })?;
        Ok(Self { seq, stop: Some(stop), thread: Some(thread) })
    }

    /// Notes how far the driver has come.
    pub(super) fn reached(&self, seq: u64) {
        self.seq.store(seq, Ordering::Relaxed);
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which was printed.
            let _ = thread.join();
        }
    }
}

struct Beat {
    path: PathBuf,
    epoch: Arc<Epoch>,
    seq: Arc<AtomicU64>,
}

impl Beat {
    /// In place: a reader that finds half a sign finds a new time all the same.
    fn give(&self, count: u64) -> io::Result<()> {
        if !self.epoch.is_last() {
            return Ok(());
        }
        let sign = Heartbeat { epoch: self.epoch.number(), seq: self.seq.load(Ordering::Relaxed), count };
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(&sign)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::epoch::silent_for;
    use super::*;

    #[test]
    fn a_driver_that_was_followed_by_another_gives_no_more_signs() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(silent_for(dir.path()), None);
        let beating = Beating::start(dir.path(), Arc::new(Epoch::take(dir.path()).unwrap())).unwrap();
        beating.reached(7);
        assert_eq!(Heartbeat::read(dir.path()), Some(Heartbeat { epoch: 1, seq: 0, count: 0 }));
        assert!(silent_for(dir.path()).unwrap() < LONGEST_SILENCE);
        drop(beating);
        let old = Arc::new(Epoch::take(dir.path()).unwrap());
        Epoch::take(dir.path()).unwrap();
        drop(Beating::start(dir.path(), old).unwrap());
        assert_eq!(Heartbeat::read(dir.path()).unwrap().epoch, 1, "it was written by the one before");
    }
}
