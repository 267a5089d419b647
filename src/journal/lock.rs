//! One driver per run.
//!
//! The lock belongs to an open file description: the kernel drops it however the driver dies, children that exec don't
//! inherit it, and it can be asked about without being taken.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};

use super::epoch::Holder;

/// Why a run can't be driven.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else drives it.
    #[error("the run is driven by process {}", .pid.map_or("unknown".to_owned(), |pid| pid.to_string()))]
    Held {
        /// Who, as the lock file says.
        pid: Option<u32>,
    },
    /// A driver on another machine, where no lock reaches, was alive a moment ago.
    #[error("the run is driven by process {} on {}, which gave a sign of life {silent_s} s ago", .holder.pid, .holder.host)]
    Elsewhere {
        /// It.
        holder: Box<Holder>,
        /// Time since its last sign of life.
        silent_s: u64,
    },
    /// The system says no.
    #[error("cannot lock the run")]
    Io(#[source] io::Error),
}

/// The right to drive a run, held until dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of the run in `dir`.
    ///
    /// # Errors
    /// [`LockError::Held`] with the other's pid.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        let wanted = whole_file(libc::F_WRLCK);
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&wanted)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                return Err(LockError::Held { pid: pid_in(&mut file) });
            }
            Err(errno) => return Err(LockError::Io(errno.into())),
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        note(&mut file).map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }

    /// The pid of whoever drives the run in `dir`: None if nobody does, `Some(None)` if it can't be told who.
    pub(super) fn holder(dir: &Path) -> Option<Option<u32>> {
        let mut file = File::open(dir.join("lock")).ok()?;
        let mut asked = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked)).ok()?;
        let free = i32::from(asked.l_type) == libc::F_UNLCK;
        (!free).then(|| pid_in(&mut file))
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).expect("lock kinds are small"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("SEEK_SET is 0"),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_driver_is_told_who_drives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunLock::holder(dir.path()), None);
        let lock = RunLock::take(dir.path()).unwrap();
        let own = std::process::id();
        assert!(matches!(RunLock::take(dir.path()), Err(LockError::Held { pid: Some(pid) }) if pid == own));
        assert_eq!(RunLock::holder(dir.path()), Some(Some(own)));
        drop(lock);
        assert_eq!(RunLock::holder(dir.path()), None);
        RunLock::take(dir.path()).unwrap();
    }
}
