//! Logs and records: every byte and every exit, kept where no process of the box can reach.
//!
//! All files are opened relative to a directory descriptor. When the host hands one over, it is the run's own
//! directory, so what was written survives the box and the host's program alike.
//!
//! A disk that takes its time must not stop the guest's one thread: what comes in a flood is written by another one,
//! from a buffer whose size is bounded; while it is full its terminal is not read.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, broadcast, watch};

use super::facts::Event;
use super::segments::{SEGMENT, Segments, size_of_all};

/// Most bytes that all logs of a run keep, unless the set-up says otherwise.
const DEFAULT_CAP: u64 = 16 << 30;

/// The last part of the room for logs is kept for commands that print little, so that a flood that fills the rest
/// leaves nobody blind: an eighth, at most this.
const RESERVE: u64 = 64 << 20;

/// What a command may print into that reserve.
const LITTLE: u64 = 64 << 10;

/// Bytes that may wait to be written, for each log.
const WAITING: usize = 256 << 10;

/// What is written at once, by the guest's own thread, within [`BURST_TIME`]; more is a flood.
const BURST: u64 = 1 << 20;

/// See [`BURST`].
const BURST_TIME: Duration = Duration::from_millis(250);

/// Pieces that come faster than this share a line in the timing file.
const TIMING_STEP: Duration = Duration::from_millis(10);

/// Where logs and records are kept.
#[derive(Debug)]
pub(super) struct Store {
    dir: OwnedFd,
    logs: RefCell<Vec<Rc<RawLog>>>,
    room: Rc<Room>,
}

/// The room that the logs of a run share.
#[derive(Debug)]
struct Room {
    cap: u64,
    kept: Cell<u64>,
    events: broadcast::Sender<(Event, Bytes)>,
}

impl Room {
    /// How much more may be kept of a command that has printed so much.
    fn left(&self, printed: u64) -> u64 {
        let open = (self.cap - RESERVE.min(self.cap / 8)).saturating_sub(self.kept.get());
        let little = LITTLE.saturating_sub(printed).min(self.cap.saturating_sub(self.kept.get()));
        open.max(little)
    }
}

impl Store {
    /// Keeps everything in this directory, logs up to `cap` bytes in all; tells of what can't be kept.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub(super) fn new(dir: OwnedFd, cap: Option<u64>, events: broadcast::Sender<(Event, Bytes)>) -> io::Result<Self> {
        let kept = Cell::new(size_of_all(&dir)?);
        let room = Rc::new(Room { cap: cap.unwrap_or(DEFAULT_CAP), kept, events });
        Ok(Self { dir, logs: RefCell::default(), room })
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
        let segments = Segments::open(self.dir.as_fd().try_clone_to_owned()?, &name, SEGMENT)?;
        let append = OFlags::CREATE | OFlags::APPEND;
        let timing = self.open(&format!("{}.timing", name.trim_end_matches(".log")), append | OFlags::WRONLY)?;
        let size = segments.size();
        let flow = Flow { waiting: Vec::new(), in_flight: 0, burst: 0, burst_began: now, printed: 0 };
        let log = Rc::new(RawLog {
            name,
            segments: Arc::new(segments),
            size: watch::Sender::new(size),
            flow: RefCell::new(flow),
            moved: Notify::new(),
            lost: Cell::new(0),
            room: self.room.clone(),
            timing: RefCell::new(Timing { file: timing, begun: now, last: now, noted: size }),
        });
        self.logs.borrow_mut().push(log.clone());
        Ok(log)
    }

    /// Waits until all that was taken is written.
    pub(super) async fn finish(&self) {
        let logs = self.logs.borrow().clone();
        for log in logs {
            log.written(u64::MAX).await;
        }
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
    /// Its first file's name.
    pub(super) name: String,
    segments: Arc<Segments>,
    size: watch::Sender<u64>,
    flow: RefCell<Flow>,
    moved: Notify,
    lost: Cell<u64>,
    room: Rc<Room>,
    timing: RefCell<Timing>,
}

/// What is on its way to the disk.
#[derive(Debug)]
struct Flow {
    waiting: Vec<u8>,
    in_flight: usize,
    burst: u64,
    burst_began: Instant,
    printed: u64,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }

    /// Whether so many bytes more are still no flood.
    fn is_trickle(&mut self, bytes: u64, now: Instant) -> bool {
        if now.duration_since(self.burst_began) > BURST_TIME {
            self.burst_began = now;
            self.burst = 0;
        }
        self.burst += bytes;
        self.burst <= BURST
    }
}

#[derive(Debug)]
struct Timing {
    file: File,
    begun: Instant,
    last: Instant,
    noted: u64,
}

impl RawLog {
    /// Appends bytes. What can't be kept is counted in [`RawLog::lost`]: a full disk must not stop the box. Whoever
    /// appends much waits for [`RawLog::ready`] before.
    pub(super) fn append(self: &Rc<Self>, bytes: &[u8], now: Instant) {
        let mut flow = self.flow.borrow_mut();
        let left = usize::try_from(self.room.left(flow.printed)).unwrap_or(usize::MAX);
        let (kept, over) = bytes.split_at(bytes.len().min(left));
        if !over.is_empty() {
            self.lose(over.len(), || {
                format!("the logs of the run have reached their limit of {} bytes", self.room.cap)
            });
        }
        self.room.kept.set(self.room.kept.get() + kept.len() as u64);
        flow.printed += kept.len() as u64;
        if flow.is_trickle(kept.len() as u64, now) && flow.is_empty() {
            let (written, error) = self.segments.append(kept);
            self.wrote(kept.len(), written, error);
        } else {
            flow.waiting.extend_from_slice(kept);
            if flow.in_flight == 0 && !flow.waiting.is_empty() {
                flow.in_flight = flow.waiting.len();
                let piece = std::mem::take(&mut flow.waiting);
                tokio::task::spawn_local(self.clone().write(piece));
            }
        }
        drop(flow);
        self.timing.borrow_mut().note(self.size(), now);
    }

    /// Writes a piece and what comes in meanwhile, on another thread.
    async fn write(self: Rc<Self>, mut piece: Vec<u8>) {
        loop {
            let segments = self.segments.clone();
            let writing = tokio::task::spawn_blocking(move || {
                let done = segments.append(&piece);
                (piece, done)
            });
            // Fails only while the guest ends.
            let Ok((mut done, (written, error))) = writing.await else { return };
            self.wrote(done.len(), written, error);
            let mut flow = self.flow.borrow_mut();
            done.clear();
            flow.in_flight = flow.waiting.len();
            piece = std::mem::replace(&mut flow.waiting, done);
            if piece.is_empty() {
                flow.waiting = Vec::new();
            }
            drop(flow);
            self.moved.notify_waiters();
            if piece.is_empty() {
                return;
            }
        }
    }

    fn wrote(&self, tried: usize, written: usize, error: Option<io::Error>) {
        if let Some(error) = error {
            self.room.kept.set(self.room.kept.get().saturating_sub((tried - written) as u64));
            self.lose(tried - written, || error.to_string());
        }
        if written > 0 {
            self.size.send_modify(|size| *size += written as u64);
        }
    }

    fn lose(&self, bytes: usize, why: impl FnOnce() -> String) {
        if self.lost.replace(self.lost.get() + bytes as u64) == 0 {
            // Nobody may be listening; the command's end tells it as well.
            let _ = self.room.events.send((Event::OutputLost { log: self.name.clone(), why: why() }, Bytes::new()));
        }
    }

    /// Waits until there is room for more bytes on their way to the disk.
    pub(super) async fn ready(&self) {
        loop {
            let moved = self.moved.notified();
            if self.flow.borrow().waiting.len() < WAITING {
                return;
            }
            moved.await;
        }
    }

    /// Waits until everything before `position` can be read.
    pub(super) async fn written(&self, position: u64) {
        loop {
            let moved = self.moved.notified();
            if self.is_written(position) {
                return;
            }
            moved.await;
        }
    }

    /// Whether everything before `position` can be read, but for what is lost.
    pub(super) fn is_written(&self, position: u64) -> bool {
        self.size() >= position || self.flow.borrow().is_empty()
    }

    /// Another command begins: it may print a little even where logs have reached their limit.
    pub(super) fn next_command(&self) {
        self.flow.borrow_mut().printed = 0;
    }

    /// Ends the step of time that is under way in the timing file.
    pub(super) fn flush_timing(&self, now: Instant) {
        self.timing.borrow_mut().flush(self.size(), now);
    }

    /// Bytes that can be read.
    pub(super) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// The position after the last byte that was taken.
    pub(super) fn end(&self) -> u64 {
        let flow = self.flow.borrow();
        self.size() + (flow.in_flight + flow.waiting.len()) as u64
    }

    /// Bytes that were seen, kept or not.
    pub(super) fn seen(&self) -> u64 {
        self.end() + self.lost.get()
    }

    /// The position of what was seen after so many bytes.
    pub(super) fn position(&self, seen: u64) -> u64 {
        seen.saturating_sub(self.lost.get()).min(self.end())
    }

    /// Bytes that could not be kept.
    pub(super) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Tells when more can be read.
    pub(super) fn growth(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// At most `len` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.segments.read(offset, len)
    }

    /// The files, for another thread to read.
    pub(super) fn files(&self) -> Arc<Segments> {
        self.segments.clone()
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
        capped(dir, None).0
    }

    fn capped(dir: &std::path::Path, cap: Option<u64>) -> (Store, broadcast::Receiver<(Event, Bytes)>) {
        let (sender, events) = broadcast::channel(8);
        (Store::new(File::open(dir).unwrap().into(), cap, sender).unwrap(), events)
    }

    /// Appends as a terminal does: only when there is room.
    async fn pour(log: &Rc<RawLog>, bytes: u64) {
        let piece = vec![b'x'; 64 << 10];
        let mut left = usize::try_from(bytes).unwrap();
        while left > 0 {
            log.ready().await;
            log.append(&piece[..left.min(piece.len())], Instant::now());
            left -= left.min(piece.len());
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_flood_is_written_by_another_thread_from_a_bounded_buffer() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let log = store(dir.path()).open_log("main", Instant::now()).unwrap();
            pour(&log, 20 << 20).await;
            assert!(log.end() - log.size() <= 2 * (WAITING as u64 + (64 << 10)), "{}", log.end() - log.size());
            assert_eq!(log.end(), 20 << 20);
            log.append(b"last", Instant::now());
            log.written(log.end()).await;
            assert_eq!((log.size(), log.read((20 << 20) - 1, 9).unwrap()), ((20 << 20) + 4, b"xlast".to_vec()));
        });
    }

    #[test]
    fn what_is_over_the_limit_is_counted_and_told_once_and_small_commands_are_still_kept() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let cap = 8 << 20;
            let (store, mut events) = capped(dir.path(), Some(cap));
            let log = store.open_log("main", Instant::now()).unwrap();
            pour(&log, 20 << 20).await;
            log.written(log.end()).await;
            assert_eq!((log.size(), log.lost()), (cap / 8 * 7, (20 << 20) - cap / 8 * 7));
            assert_eq!(log.seen(), 20 << 20);
            let (event, _) = events.try_recv().unwrap();
            assert!(matches!(&event, Event::OutputLost { log, why } if log == "main.log" && why.contains("8388608")));
            log.next_command();
            log.append(b"exit 1", Instant::now());
            log.written(log.end()).await;
            assert_eq!(log.read(log.size() - 6, 6).unwrap(), b"exit 1");
            assert!(events.try_recv().is_err());
            // Another guest of the same run counts what is there.
            let (again, _events) = capped(dir.path(), Some(cap));
            let other = again.open_log("other", Instant::now()).unwrap();
            pour(&other, 1 << 20).await;
            assert_eq!(other.end(), LITTLE);
        });
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
