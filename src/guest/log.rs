//! Logs and records: every byte and every exit, kept where no process of the box can reach.
//!
//! All files are opened relative to a directory descriptor. When the host hands one over, it is the run's own
//! directory, so what was written survives the box and the host's program alike.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// Most bytes that one log keeps; what comes after is counted and dropped.
const LARGEST_LOG: u64 = 16 << 30;

/// Pieces that come faster than this share a line in the timing file.
const TIMING_STEP: Duration = Duration::from_millis(10);

/// Where logs and records are kept.
#[derive(Debug)]
pub(super) struct Store {
    dir: OwnedFd,
    logs: RefCell<Vec<Rc<RawLog>>>,
}

impl Store {
    /// Keeps everything in this directory.
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self { dir, logs: RefCell::default() }
    }

    /// The log of that name, as long as it has been opened here.
    pub(super) fn log(&self, name: &str) -> Option<Rc<RawLog>> {
        self.logs.borrow().iter().find(|log| log.name == name).cloned()
    }

    /// Opens the log `NAME.log` and its timing, to be appended to.
    pub(super) fn open_log(&self, name: &str, now: Instant) -> io::Result<Rc<RawLog>> {
        let name = format!("{name}.log");
        if let Some(log) = self.log(&name) {
            return Ok(log);
        }
        let append = OFlags::CREATE | OFlags::APPEND;
        let file = self.open(&name, append | OFlags::RDWR)?;
        let timing = self.open(&format!("{}.timing", name.trim_end_matches(".log")), append | OFlags::WRONLY)?;
        let size = file.metadata()?.len();
        let log = Rc::new(RawLog {
            name,
            file,
            size: watch::Sender::new(size),
            lost: Cell::new(0),
            timing: RefCell::new(Timing { file: timing, begun: now, last: now, noted: size }),
        });
        self.logs.borrow_mut().push(log.clone());
        Ok(log)
    }

    /// Opens the file in which commands and exits are recorded, and reads what it has.
    pub(super) fn open_records<T: DeserializeOwned>(&self) -> io::Result<(Records, Vec<T>)> {
        let file = self.open("records.jsonl", OFlags::CREATE | OFlags::APPEND | OFlags::RDWR)?;
        let lines = io::BufReader::new(file.try_clone()?).split(b'\n');
        let mut known = Vec::new();
        for line in lines {
            // A line that was cut by the end of an earlier guest says nothing.
            known.extend(serde_json::from_slice(&line?));
        }
        Ok((Records { file, dirty: Cell::new(true) }, known))
    }

    fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }
}

/// What has been started and how it ended, one line each, written before anybody is told.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    dirty: Cell<bool>,
}

impl Records {
    /// Appends a record.
    ///
    /// # Errors
    /// What the system says, such as that the disk is full. The next record begins on a line of its own.
    pub(super) fn append(&self, record: &impl Serialize) -> io::Result<()> {
        let mut line = Vec::with_capacity(512);
        if self.dirty.get() {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        self.dirty.set(true);
        (&self.file).write_all(&line)?;
        self.dirty.set(false);
        Ok(())
    }
}

/// The bytes of one terminal or one check, in order.
#[derive(Debug)]
pub(super) struct RawLog {
    /// Its file's name.
    pub(super) name: String,
    file: File,
    size: watch::Sender<u64>,
    lost: Cell<u64>,
    timing: RefCell<Timing>,
}

#[derive(Debug)]
struct Timing {
    file: File,
    begun: Instant,
    last: Instant,
    noted: u64,
}

impl RawLog {
    /// Appends bytes. What can't be kept is counted in [`RawLog::lost`]: a full disk must not stop the box.
    pub(super) fn append(&self, bytes: &[u8], now: Instant) {
        let size = self.size();
        let room = usize::try_from(LARGEST_LOG.saturating_sub(size)).unwrap_or(usize::MAX);
        let mut kept = 0;
        let fits = &bytes[..bytes.len().min(room)];
        while kept < fits.len() {
            match (&self.file).write(&fits[kept..]) {
                Ok(0) => break,
                Ok(written) => kept += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.lost.set(self.lost.get() + (bytes.len() - kept) as u64);
        self.size.send_replace(size + kept as u64);
        self.timing.borrow_mut().note(size + kept as u64, now);
    }

    /// Ends the step of time that is under way in the timing file.
    pub(super) fn flush_timing(&self, now: Instant) {
        self.timing.borrow_mut().flush(self.size(), now);
    }

    /// Bytes kept.
    pub(super) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// Bytes that could not be kept.
    pub(super) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Tells when it grows.
    pub(super) fn growth(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// At most `len` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let len = len.min(self.size().saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?];
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl Timing {
    /// Notes the log's size: a line of milliseconds since the beginning and size, once for each step of time.
    fn note(&mut self, size: u64, now: Instant) {
        if now.duration_since(self.last) >= TIMING_STEP {
            self.flush(size, now);
        }
    }

    fn flush(&mut self, size: u64, now: Instant) {
        if size == self.noted {
            return;
        }
        let at = now.duration_since(self.begun).as_millis();
        // Only for playing back: a gap here loses no output.
        let _ = writeln!(self.file, "{at} {size}");
        self.last = now;
        self.noted = size;
    }
}

/// A file name for an id that a caller chose: the id itself if it is plain, else its hash.
pub(super) fn file_name_of(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=100).contains(&id.len()) && id.bytes().all(plain) {
        return id.to_owned();
    }
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().fold(String::from("x."), |name, byte| name + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &std::path::Path) -> Store {
        Store::new(File::open(dir).unwrap().into())
    }

    #[test]
    fn a_log_goes_on_where_an_earlier_guest_left_it() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        store(dir.path()).open_log("main", now).unwrap().append(b"one ", now);
        let log = store(dir.path()).open_log("main", now).unwrap();
        log.append(b"two", now);
        assert_eq!((log.size(), log.read(2, 100).unwrap()), (7, b"e two".to_vec()));
        assert_eq!(log.read(100, 5).unwrap(), b"");
    }

    #[test]
    fn records_outlive_a_cut_line_and_are_never_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (records, known) = store(dir.path()).open_records::<String>().unwrap();
        assert_eq!(known, [""; 0]);
        records.append(&"first").unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("records.jsonl"))
            .unwrap()
            .write_all(b"\"cut")
            .unwrap();
        let (records, known) = store(dir.path()).open_records::<String>().unwrap();
        assert_eq!(known, ["first"]);
        records.append(&"second").unwrap();
        assert_eq!(store(dir.path()).open_records::<String>().unwrap().1, ["first", "second"]);
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", other.path().join("records.jsonl")).unwrap();
        assert!(store(other.path()).open_records::<String>().is_err());
    }

    #[test]
    fn ids_become_plain_file_names() {
        assert_eq!(file_name_of("12-call_9"), "12-call_9");
        for odd in ["", "a/b", "..", "a b", &"a".repeat(101)] {
            let name = file_name_of(odd);
            assert!(name.starts_with("x.") && name.len() == 66, "{name}");
        }
    }
}
