//! Which driver of a run is the last one: where a lock does not reach, as on a disk that several machines share.
//!
//! Each driver takes the next number by making a file of that name, which succeeds for one of them only. Before it writes
//! or acts, a driver looks whether the number after its own is there: then another has taken over, and it must do nothing
//! more. A driver that was suspended for hours and wakes up writes nothing in this way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, AtFlags, accessat};
use serde::{Deserialize, Serialize};

/// The directory of the numbers below a run's.
const DIR: &str = "epoch";

/// A driver of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub epoch: u64,
    /// The machine's name.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Which boot of the machine.
    pub boot_id: String,
}

impl Holder {
    /// The last driver of the run in `dir`, alive or not.
    pub fn last(dir: &Path) -> Option<Self> {
        let number = last_number(&dir.join(DIR)).ok()?;
        serde_json::from_slice(&fs::read(dir.join(DIR).join(name(number))).ok()?).ok()
    }

    /// Whether it ran on this machine, since this machine was started.
    pub fn is_of_this_boot(&self) -> bool {
        (self.host.as_str(), self.boot_id.as_str()) == (this_host().as_str(), this_boot().as_str())
    }

    /// Whether it ran on this machine.
    pub fn is_of_this_host(&self) -> bool {
        self.host == this_host()
    }
}

/// The right to drive that one number gives, as long as there is no higher one.
#[derive(Debug)]
pub(super) struct Epoch {
    number: u64,
    dir: OwnedFd,
    next: String,
}

impl Epoch {
    /// Takes the next number of the run in `dir`.
    pub(super) fn take(dir: &Path) -> io::Result<Self> {
        let numbers = dir.join(DIR);
        match fs::create_dir(&numbers) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        loop {
            let number = last_number(&numbers)? + 1;
            let path = numbers.join(name(number));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = match file {
                // Somebody was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let holder = Holder { epoch: number, host: this_host(), pid: std::process::id(), boot_id: this_boot() };
            file.write_all(&serde_json::to_vec(&holder)?)?;
            if number > 1 {
                // The first one is the maker of the run, whom nobody can precede.
                file.sync_all()?;
                File::open(&numbers)?.sync_all()?;
            }
            return Ok(Self { number, dir: File::open(&numbers)?.into(), next: name(number + 1) });
        }
    }

    /// The number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether nobody has taken over.
    pub(super) fn is_last(&self) -> bool {
        accessat(&self.dir, self.next.as_str(), Access::EXISTS, AtFlags::empty()).is_err()
    }
}

/// Names that sort as the numbers do.
fn name(number: u64) -> String {
    format!("{number:06}")
}

/// The highest number taken; 0 if none was.
fn last_number(numbers: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(numbers) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut last = 0;
    for entry in entries {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

fn this_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Time since the last sign of life of the driver of the run in `dir`, by the clock of the disk, since machines that share
/// a disk need not agree on the time. None where no sign was ever given, or it can't be told.
pub fn silent_for(dir: &Path) -> Option<Duration> {
    let sign = fs::metadata(dir.join(super::heartbeat::FILE)).ok()?.modified().ok()?;
    let now = tempfile::NamedTempFile::new_in(dir).and_then(|probe| probe.as_file().metadata()?.modified());
    // On a disk that is full or read-only this machine's time must do.
    let now = now.unwrap_or_else(|_| SystemTime::now());
    Some(now.duration_since(sign).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once_and_the_one_before_is_no_longer_the_last() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Holder::last(dir.path()), None);
        let first = Epoch::take(dir.path()).unwrap();
        assert!(first.is_last());
        let second = Epoch::take(dir.path()).unwrap();
        assert_eq!((first.number(), second.number()), (1, 2));
        assert!(!first.is_last() && second.is_last());
        let last = Holder::last(dir.path()).unwrap();
        assert_eq!((last.epoch, last.pid), (2, std::process::id()));
        assert!(last.is_of_this_boot());
        assert!(!Holder { host: "elsewhere".to_owned(), ..last }.is_of_this_boot());
    }

    #[test]
    fn of_many_at_once_each_gets_a_number_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut numbers: Vec<u64> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8).map(|_| scope.spawn(|| Epoch::take(dir.path()).unwrap().number())).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
