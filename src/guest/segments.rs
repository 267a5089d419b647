//! A log as it lies on disk: `NAME.log`, then `NAME.log.1`, `NAME.log.2`, …, each of a bounded size, together one row
//! of bytes. A byte's position never changes; old runs with one large `NAME.log` read the same way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, statat};

/// Size at which a log goes on in another file.
pub(super) const SEGMENT: u64 = 256 << 20;

/// The file name of a part of a log, from 0.
fn file_name(log: &str, part: usize) -> String {
    if part == 0 { log.to_owned() } else { format!("{log}.{part}") }
}

/// Whether a file of that name is part of a log.
fn is_part(name: &[u8]) -> bool {
    let stem = match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if name.len() > dot + 1 && name[dot + 1..].iter().all(u8::is_ascii_digit) => &name[..dot],
        _ => name,
    };
    stem.ends_with(b".log")
}

/// Bytes of all logs in a directory.
///
/// # Errors
/// When the directory can't be read.
pub(super) fn size_of_all(dir: &OwnedFd) -> io::Result<u64> {
    let mut sum = 0;
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if is_part(entry.file_name().to_bytes()) {
            // Gone since it was listed.
            let Ok(stat) = statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            sum += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(sum)
}

fn sizes(dir: impl AsFd, log: &str) -> Vec<u64> {
    let size = |part| statat(&dir, file_name(log, part), AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_size);
    (0..).map_while(size).map(|size| u64::try_from(size).unwrap_or(0)).collect()
}

fn open(dir: impl AsFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Where a position lies: the part and the position in it. The end of a part is the beginning of the next.
fn place(sizes: &[u64], position: u64) -> Option<(usize, u64)> {
    let mut begin = 0;
    for (part, size) in sizes.iter().enumerate() {
        if position < begin + size {
            return Some((part, position - begin));
        }
        begin += size;
    }
    None
}

/// A log that is written. One thread at a time appends; any may read.
#[derive(Debug)]
pub(super) struct Segments {
    dir: OwnedFd,
    log: String,
    limit: u64,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    sizes: Vec<u64>,
    last: Arc<File>,
}

impl Segments {
    /// Opens the log, to go on at its end; a part is full at `limit` bytes.
    pub(super) fn open(dir: OwnedFd, log: &str, limit: u64) -> io::Result<Self> {
        let mut sizes = sizes(&dir, log);
        if sizes.is_empty() {
            sizes.push(0);
        }
        let last = open(&dir, &file_name(log, sizes.len() - 1), OFlags::CREATE | OFlags::APPEND | OFlags::RDWR)?;
        Ok(Self { dir, log: log.to_owned(), limit, parts: Mutex::new(Parts { sizes, last: Arc::new(last) }) })
    }

    /// Bytes kept.
    pub(super) fn size(&self) -> u64 {
        self.lock().sizes.iter().sum()
    }

    /// Appends bytes; how many were written, and why not all of them.
    pub(super) fn append(&self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let full = |parts: &Parts| parts.sizes.last().is_some_and(|size| *size >= self.limit);
        let (file, room) = {
            let mut parts = self.lock();
            if full(&parts) {
                let name = file_name(&self.log, parts.sizes.len());
                parts.last = Arc::new(open(&self.dir, &name, OFlags::CREATE | OFlags::APPEND | OFlags::RDWR)?);
                parts.sizes.push(0);
            }
            let used = parts.sizes.last().copied().unwrap_or(0);
            (Arc::clone(&parts.last), usize::try_from(self.limit - used).unwrap_or(usize::MAX))
        };
        // Without the lock: the disk may take its time, and readers must not wait for that.
        let written = (&*file).write(&bytes[..bytes.len().min(room)])?;
        if let Some(size) = self.lock().sizes.last_mut() {
            *size += written as u64;
        }
        Ok(written)
    }

    /// At most `len` bytes from `position`.
    pub(super) fn read(&self, position: u64, len: u64) -> io::Result<Vec<u8>> {
        let len = len.min(self.size().saturating_sub(position));
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?];
        let mut read = 0;
        while read < bytes.len() {
            let more = self.read_some(&mut bytes[read..], position + read as u64)?;
            if more == 0 {
                break;
            }
            read += more;
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn read_some(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let (file, at, left) = {
            let parts = self.lock();
            let Some((part, at)) = place(&parts.sizes, position) else { return Ok(0) };
            let file = if part + 1 == parts.sizes.len() {
                Arc::clone(&parts.last)
            } else {
                Arc::new(open(&self.dir, &file_name(&self.log, part), OFlags::RDONLY)?)
            };
            (file, at, parts.sizes[part] - at)
        };
        let end = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_at(&mut into[..end], at)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log that somebody else may be writing, read from a run's directory.
#[derive(Debug)]
pub struct LogReader {
    dir: OwnedFd,
    log: String,
    sizes: Vec<u64>,
    open: Option<(usize, File)>,
    at: u64,
}

impl LogReader {
    /// Opens the log of that file name, such as `main.log`, in a directory.
    ///
    /// # Errors
    /// When there is no such log.
    pub fn open(dir: &Path, log: &str) -> io::Result<Self> {
        let dir: OwnedFd = File::open(dir)?.into();
        // Says why, if it can't be had.
        let first = open(&dir, log, OFlags::RDONLY)?;
        let sizes = sizes(&dir, log);
        Ok(Self { dir, log: log.to_owned(), sizes, open: Some((0, first)), at: 0 })
    }

    /// Its size now.
    pub fn size(&mut self) -> u64 {
        self.sizes = sizes(&self.dir, &self.log);
        self.sizes.iter().sum()
    }

    /// Goes to a position.
    pub fn seek(&mut self, position: u64) {
        self.at = position;
    }

    /// Where it stands.
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl Read for LogReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if place(&self.sizes, self.at).is_none() {
            self.size();
        }
        let Some((part, at)) = place(&self.sizes, self.at) else { return Ok(0) };
        if self.open.as_ref().is_none_or(|(open, _)| *open != part) {
            self.open = Some((part, open(&self.dir, &file_name(&self.log, part), OFlags::RDONLY)?));
        }
        let (_, file) = self.open.as_ref().expect("it was opened just now");
        let end = into.len().min(usize::try_from(self.sizes[part] - at).unwrap_or(usize::MAX));
        let read = file.read_at(&mut into[..end], at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path) -> Segments {
        Segments::open(File::open(dir).unwrap().into(), "main.log", 10).unwrap()
    }

    #[test]
    fn a_range_spans_the_files_of_a_log_and_positions_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (b'a'..=b'z').collect();
        assert_eq!(log(dir.path()).append(&text[..7]).0, 7);
        let again = log(dir.path());
        assert_eq!(again.append(&text[7..]).0, 19);
        assert_eq!((again.size(), again.read(8, 15).unwrap()), (26, text[8..23].to_vec()));
        assert_eq!((again.read(25, 9).unwrap(), again.read(26, 1).unwrap()), (vec![b'z'], vec![]));
        let sizes =
            ["main.log", "main.log.1", "main.log.2"].map(|name| dir.path().join(name).metadata().unwrap().len());
        assert_eq!(sizes, [10, 10, 6]);
        std::fs::write(dir.path().join("main.timing"), "0 7\n").unwrap();
        assert_eq!(size_of_all(&File::open(dir.path()).unwrap().into()).unwrap(), 26);
    }

    #[test]
    fn a_reader_follows_a_log_into_files_that_were_not_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let written = log(dir.path());
        written.append(b"0123456789abc");
        let mut reader = LogReader::open(dir.path(), "main.log").unwrap();
        reader.seek(8);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), reader.position()), ("89abc", 13));
        written.append(b"defghijklmn");
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), reader.size()), ("89abcdefghijklmn", 24));
        assert!(LogReader::open(dir.path(), "other.log").is_err());
    }

    #[test]
    fn a_log_of_an_old_run_is_one_file_of_any_size() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main.log"), "longer than ten bytes").unwrap();
        let log = log(dir.path());
        log.append(b"!");
        assert_eq!(log.read(17, 9).unwrap(), b"ytes!");
        assert_eq!(std::fs::read(dir.path().join("main.log.1")).unwrap(), b"!");
    }
}
