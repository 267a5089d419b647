//! The one place where an event becomes an entry.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;

use jiff::{Timestamp, Unit};

use super::blobs::is_full;
use super::disk::{Disk, DiskFile, SystemDisk};
use super::epoch::{Epoch, Holder, silent_for};
use super::head::HeadFile;
use super::heartbeat::{Beating, LONGEST_SILENCE};
use super::line::write_line;
use super::reader::{ReadError, Reader, TornTail};
use super::{Head, LockError, RunDir, RunLock, Steps};
use crate::clock::Clock;
use crate::domain::{Entry, Event};
use crate::telemetry::Redactor;

/// The transcript's name in its directory.
const JOURNAL: &str = "journal.jsonl";

/// Why an event could not be recorded. The run has to stop: nothing is recorded after any of these.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full.
    #[error("cannot record what happened: the disk is full")]
    Full(#[source] io::Error),
    /// The system says no.
    #[error("cannot record what happened")]
    Io(#[source] io::Error),
    /// The transcript was closed by an earlier error.
    #[error("cannot record what happened: an earlier write failed")]
    Closed,
    /// Another process has taken the run over. Nothing was written.
    #[error("another process drives this run now")]
    TakenOver,
    /// A declared secret is part of a name, so that the event can't be recorded without it.
    #[error("cannot record `{kind}` without a declared secret in it")]
    Secret {
        /// The event's kind.
        kind: String,
    },
}

/// Why the recording of a run can't be begun or taken up again.
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// Somebody else drives the run.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What is there can't be read.
    #[error("cannot take up the transcript")]
    Read(#[source] ReadError),
    /// Entries that were recorded are gone.
    #[error("the tail of the transcript is cut: its head names an entry that is not there")]
    CutTail,
    /// There is a transcript already.
    #[error("the run has a transcript already")]
    Exists,
    /// The system says no.
    #[error("cannot open the transcript")]
    Io(#[source] io::Error),
}

/// Writes the transcript of one run, and holds its lock.
pub struct Recorder {
    run: RunDir,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Whether entries that must be on disk may not be.
    unsynced: bool,
    head: Head,
    head_file: HeadFile,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    failed: bool,
    driving: Driving,
}

/// What makes this process the one that drives the run.
struct Driving {
    epoch: Arc<Epoch>,
    heart: Beating,
    _lock: RunLock,
}

impl Driving {
    fn begin(run: &RunDir, lock: RunLock) -> Result<Self, ReopenError> {
        let epoch = Arc::new(Epoch::take(run.path()).map_err(ReopenError::Io)?);
        let heart = Beating::start(run.path(), Arc::clone(&epoch)).map_err(ReopenError::Io)?;
        Ok(Self { epoch, heart, _lock: lock })
    }
}

/// A transcript that was taken up where it ended.
pub struct Reopened {
    /// Goes on with it.
    pub recorder: Recorder,
    /// A last line that was cut short and has been cut off.
    pub torn: Option<TornTail>,
    /// How many entries the head promised that a power failure took; nothing had followed from any of them.
    pub lost: u64,
}

impl Recorder {
    /// Begins the transcript of a new run.
    ///
    /// # Errors
    /// [`ReopenError::Exists`] if there is one, [`ReopenError::Lock`] if the run is driven, [`ReopenError::Io`].
    pub fn create(run: &RunDir, clock: Arc<dyn Clock>, redactor: Arc<Redactor>) -> Result<Self, ReopenError> {
        Self::create_on(&SystemDisk(run.path().to_owned()), run, clock, redactor)
    }

    /// As [`Recorder::create`], with the transcript and its head on another disk than the lock and the rest.
    ///
    /// # Errors
    /// As [`Recorder::create`].
    pub fn create_on(
        disk: &dyn Disk,
        run: &RunDir,
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
    ) -> Result<Self, ReopenError> {
        let lock = RunLock::take(run.path())?;
        let file = disk.create(JOURNAL).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ReopenError::Exists,
            _ => ReopenError::Io(error),
        })?;
        let driving = Driving::begin(run, lock)?;
        let head = Head::start();
        let head_file = HeadFile::place(disk, &head).map_err(ReopenError::Io)?;
        disk.sync().map_err(ReopenError::Io)?;
        Ok(Self::over(run, file, 0, (head, head_file), clock, redactor, driving))
    }

    /// Takes a transcript up where it ends and gives `each` of its entries away; a torn last line is cut off, on disk.
    ///
    /// Nothing is changed before the whole transcript was read and found sound.
    ///
    /// # Errors
    /// [`ReopenError`]; an edited transcript or one with a cut tail is not taken up.
    pub fn reopen(
        run: &RunDir,
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Reopened, ReopenError> {
        let lock = RunLock::take(run.path())?;
        let before = Holder::last(run.path());
        refuse_elsewhere(run, before.as_ref())?;
        // The head is not synced with each entry, and the entries after the last effect are not either: a power failure may
        // leave less of them than the head says, or blocks of zeros in their place.
        let was_restarted = before.is_some_and(|before| !before.is_of_this_boot());
        let mut reader = Reader::open(&run.journal()).map_err(ReopenError::Read)?;
        let mut zeroed = None;
        for entry in &mut reader {
            match entry {
                Ok(entry) => each(entry),
                Err(ReadError::Line { line, .. }) if was_restarted && has_zeros(run, reader.whole_bytes()) => {
                    zeroed = Some(TornTail { line, size_bytes: file_size(run).saturating_sub(reader.whole_bytes()) });
                    break;
                }
                Err(error) => return Err(ReopenError::Read(error)),
            }
        }
        let head = reader.head();
        let lost = promised_more(run, &head);
        if lost > 0 && !was_restarted {
            return Err(ReopenError::CutTail);
        }
        let (length, torn) = (reader.whole_bytes(), zeroed.or_else(|| reader.torn().cloned()));
        let driving = Driving::begin(run, lock)?;
        let disk = SystemDisk(run.path().to_owned());
        let file = disk.open(JOURNAL).map_err(ReopenError::Io)?;
        file.set_len(length).and_then(|()| file.sync()).map_err(ReopenError::Io)?;
        let head_file = HeadFile::place(&disk, &head).map_err(ReopenError::Io)?;
        let recorder = Self::over(run, file, length, (head, head_file), clock, redactor, driving);
        Ok(Reopened { recorder, torn, lost })
    }

    fn over(
        run: &RunDir,
        file: Arc<dyn DiskFile>,
        length: u64,
        (head, head_file): (Head, HeadFile),
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
        driving: Driving,
    ) -> Self {
        let run = run.clone();
        Self { run, file, length, unsynced: false, head, head_file, clock, redactor, failed: false, driving }
    }

    /// This driver's number: each is higher than those of the drivers before it.
    pub fn epoch(&self) -> u64 {
        self.driving.epoch.number()
    }

    /// The steps of the run, read back from its transcript.
    pub fn steps(&self) -> Steps {
        Steps::of(&self.run)
    }

    /// The last entry's place and hash.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Redacts `event`, writes it down and returns it as it was written.
    ///
    /// When this returns `Ok`, the line is in the file and the head names it: the end of this process can't take it away.
    /// Against a power failure it is safe after [`Recorder::commit`], which belongs before every effect; the last entry
    /// of a run is committed with it.
    ///
    /// # Errors
    /// [`AppendError`]; what was written of the line is cut off again where the disk allows, and every later call fails.
    pub fn append(&mut self, event: Event) -> Result<Entry, AppendError> {
        self.may_write()?;
        let appended = self.try_append(event);
        if appended.is_err() {
            self.failed = true;
            drop(self.file.set_len(self.length));
        }
        appended
    }

    /// Puts every entry that [`must_sync`] on disk. Costs nothing where all are.
    ///
    /// # Errors
    /// [`AppendError`]; every later call fails too.
    pub fn commit(&mut self) -> Result<(), AppendError> {
        self.may_write()?;
        if self.unsynced {
            self.file.sync().inspect_err(|_| self.failed = true).map_err(of_io)?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Nothing may be written, cut or acted on after a failure, or once another driver has taken over.
    fn may_write(&mut self) -> Result<(), AppendError> {
        if self.failed {
            return Err(AppendError::Closed);
        }
        if !self.driving.epoch.is_last() {
            self.failed = true;
            return Err(AppendError::TakenOver);
        }
        Ok(())
    }

    /// Something that puts all entries written so far on disk from another thread, while this one goes on.
    pub fn syncer(&self) -> Syncer {
        Syncer(Arc::clone(&self.file))
    }

    fn try_append(&mut self, event: Event) -> Result<Entry, AppendError> {
        let (event, json) = self.redacted(event)?;
        let seq = self.head.seq.map_or(0, |seq| seq + 1);
        let time = to_milliseconds(self.clock.now());
        let (line, hash) = write_line(seq, time, &self.head.hash, &json);
        self.file.append(line.as_bytes()).map_err(of_io)?;
        self.unsynced |= must_sync(&event);
        let head = Head { seq: Some(seq), hash };
        self.head_file.write(&head).map_err(of_io)?;
        if matches!(event, Event::RunEnded { .. }) {
            self.file.sync().map_err(of_io)?;
            self.unsynced = false;
            self.head_file.sync().map_err(of_io)?;
        }
        self.length += line.len() as u64;
        self.driving.heart.reached(seq);
        self.head = head;
        Ok(Entry { seq, time, event })
    }

    fn redacted(&self, event: Event) -> Result<(Event, String), AppendError> {
        let mut value = serde_json::to_value(&event).map_err(|error| AppendError::Io(error.into()))?;
        let event = if self.redactor.redact_value(&mut value) {
            let unreadable = |kind: &str| AppendError::Secret { kind: kind.to_owned() };
            let redacted: Event = serde_json::from_value(value).map_err(|_| unreadable(event.kind()))?;
            if redacted.kind() != event.kind() || matches!(redacted, Event::Other(_)) {
                return Err(unreadable(event.kind()));
            }
            redacted
        } else {
            event
        };
        let json = serde_json::to_string(&event).map_err(|error| AppendError::Io(error.into()))?;
        Ok((event, json))
    }
}

/// Puts entries on disk beside the recorder's own thread.
pub struct Syncer(Arc<dyn DiskFile>);

impl Syncer {
    /// Returns when they are.
    ///
    /// # Errors
    /// [`AppendError`]: the run has to stop.
    pub fn sync(&self) -> Result<(), AppendError> {
        self.0.sync().map_err(of_io)
    }
}

/// Whether an event must be on disk before anything follows from it.
///
/// A power failure may take what need not, back to the last event that must: a request that was never answered is asked
/// again, which costs a request. A process that dies loses nothing in either case.
pub fn must_sync(event: &Event) -> bool {
    !matches!(event, Event::ModelRequested { .. } | Event::SummaryRequested { .. } | Event::ModelDelayed { .. })
}

fn of_io(error: io::Error) -> AppendError {
    if is_full(&error) { AppendError::Full(error) } else { AppendError::Io(error) }
}

fn to_milliseconds(time: Timestamp) -> Timestamp {
    let options = jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    time.round(options).unwrap_or(time)
}

/// Where no lock reaches, a driver on another machine that gave a sign of life a moment ago is alive.
fn refuse_elsewhere(run: &RunDir, before: Option<&Holder>) -> Result<(), LockError> {
    let elsewhere = before.filter(|before| !before.is_of_this_host());
    match (elsewhere, silent_for(run.path())) {
        (Some(holder), Some(silent)) if silent < LONGEST_SILENCE => {
            Err(LockError::Elsewhere { holder: Box::new(holder.clone()), silent_s: silent.as_secs() })
        }
        _ => Ok(()),
    }
}

/// Whether there are zeros in the transcript from `offset` on: no line ever holds one.
fn has_zeros(run: &RunDir, offset: u64) -> bool {
    let rest = File::open(run.journal()).and_then(|mut file| {
        file.seek(io::SeekFrom::Start(offset))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        Ok(rest)
    });
    rest.is_ok_and(|rest| rest.contains(&0))
}

fn file_size(run: &RunDir) -> u64 {
    fs::metadata(run.journal()).map_or(0, |meta| meta.len())
}

/// How many entries the head names that are not there.
fn promised_more(run: &RunDir, head: &Head) -> u64 {
    let entries = |head: &Head| head.seq.map_or(0, |seq| seq + 1);
    Head::read(run.path()).map_or(0, |promised| entries(&promised).saturating_sub(entries(head)))
}
