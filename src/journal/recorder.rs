//! The one place where an event becomes an entry.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;

use jiff::{Timestamp, Unit};

use super::blobs::is_full;
use super::head::HeadFile;
use super::line::write_line;
use super::reader::{ReadError, Reader, TornTail};
use super::{Head, LockError, RunDir, RunLock};
use crate::clock::Clock;
use crate::domain::{Entry, Event};
use crate::telemetry::Redactor;

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
    file: Arc<File>,
    length: u64,
    /// Whether entries that must be on disk may not be.
    unsynced: bool,
    head: Head,
    head_file: HeadFile,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    failed: bool,
    _lock: RunLock,
}

impl Recorder {
    /// Begins the transcript of a new run.
    ///
    /// # Errors
    /// [`ReopenError::Exists`] if there is one, [`ReopenError::Lock`] if the run is driven, [`ReopenError::Io`].
    pub fn create(run: &RunDir, clock: Arc<dyn Clock>, redactor: Arc<Redactor>) -> Result<Self, ReopenError> {
        let lock = RunLock::take(run.path())?;
        let file = OpenOptions::new().append(true).create_new(true).open(run.journal()).map_err(|error| match error
            .kind()
        {
            io::ErrorKind::AlreadyExists => ReopenError::Exists,
            _ => ReopenError::Io(error),
        })?;
        let head = Head::start();
        let head_file = HeadFile::place(run.path(), &head).map_err(ReopenError::Io)?;
        sync_directory(run).map_err(ReopenError::Io)?;
        Ok(Self::over(file, 0, (head, head_file), clock, redactor, lock))
    }

    /// Takes a transcript up where it ends; a torn last line is cut off, on disk, and told of.
    ///
    /// # Errors
    /// [`ReopenError`]; an edited transcript or one with a cut tail is not taken up.
    pub fn reopen(
        run: &RunDir,
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
    ) -> Result<(Self, Option<TornTail>), ReopenError> {
        let lock = RunLock::take(run.path())?;
        let mut reader = Reader::open(&run.journal()).map_err(ReopenError::Read)?;
        for entry in &mut reader {
            entry.map_err(ReopenError::Read)?;
        }
        let head = reader.head();
        if let Ok(promised) = Head::read(run.path())
            && promised.seq > head.seq
        {
            return Err(ReopenError::CutTail);
        }
        let (length, torn) = (reader.whole_bytes(), reader.torn().cloned());
        let file = OpenOptions::new().append(true).open(run.journal()).map_err(ReopenError::Io)?;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(ReopenError::Io)?;
        let head_file = HeadFile::place(run.path(), &head).map_err(ReopenError::Io)?;
        Ok((Self::over(file, length, (head, head_file), clock, redactor, lock), torn))
    }

    fn over(
        file: File,
        length: u64,
        (head, head_file): (Head, HeadFile),
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
        lock: RunLock,
    ) -> Self {
        let file = Arc::new(file);
        Self { file, length, unsynced: false, head, head_file, clock, redactor, failed: false, _lock: lock }
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
        if self.failed {
            return Err(AppendError::Closed);
        }
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
        if self.failed {
            return Err(AppendError::Closed);
        }
        if self.unsynced {
            self.file.sync_data().inspect_err(|_| self.failed = true).map_err(of_io)?;
            self.unsynced = false;
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
        (&*self.file).write_all(line.as_bytes()).map_err(of_io)?;
        self.unsynced |= must_sync(&event);
        let head = Head { seq: Some(seq), hash };
        self.head_file.write(&head).map_err(of_io)?;
        if matches!(event, Event::RunEnded { .. }) {
            self.file.sync_data().map_err(of_io)?;
            self.unsynced = false;
            self.head_file.sync().map_err(of_io)?;
        }
        self.length += line.len() as u64;
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
pub struct Syncer(Arc<File>);

impl Syncer {
    /// Returns when they are.
    ///
    /// # Errors
    /// [`AppendError`]: the run has to stop.
    pub fn sync(&self) -> Result<(), AppendError> {
        self.0.sync_data().map_err(of_io)
    }
}

/// Whether an event must be on disk before anything follows from it.
///
/// A power failure may take what need not, back to the last event that must: a request that was never answered is asked
/// again, which costs a request. A process that dies loses nothing in either case.
pub fn must_sync(event: &Event) -> bool {
    match event {
        Event::ModelRequested { .. } | Event::ModelDelayed { .. } => false,
        Event::RunStarted { .. }
        | Event::BoxOpened { .. }
        | Event::BoxClosed { .. }
        | Event::SessionOpened { .. }
        | Event::UserSaid { .. }
        | Event::HarnessSaid { .. }
        | Event::ModelAnswered { .. }
        | Event::ModelFailed { .. }
        | Event::ToolStarted { .. }
        | Event::ToolEnded { .. }
        | Event::FinishClaimed { .. }
        | Event::CheckStarted { .. }
        | Event::CheckEnded { .. }
        | Event::TurnInterrupted { .. }
        | Event::ArtifactCollected { .. }
        | Event::ArtifactRefused { .. }
        | Event::StopAsked { .. }
        | Event::RunEnded { .. }
        | Event::JobStarted { .. }
        | Event::JobNoted { .. }
        | Event::JobEnded { .. }
        | Event::Waited { .. }
        | Event::PersonTyped { .. }
        | Event::SessionClosed { .. }
        | Event::BoxMeasured { .. }
        | Event::Noticed { .. }
        | Event::RunResumed { .. }
        | Event::RunForked { .. }
        | Event::CheckpointTaken { .. }
        | Event::RestoreStarted { .. }
        | Event::CheckpointRestored { .. }
        | Event::CheckpointDeleted { .. }
        | Event::SidecarStarted { .. }
        | Event::SidecarStopped { .. }
        | Event::ImageSaved { .. }
        | Event::Other(_) => true,
    }
}

fn of_io(error: io::Error) -> AppendError {
    if is_full(&error) { AppendError::Full(error) } else { AppendError::Io(error) }
}

fn to_milliseconds(time: Timestamp) -> Timestamp {
    let options = jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    time.round(options).unwrap_or(time)
}

fn sync_directory(run: &RunDir) -> io::Result<()> {
    File::open(run.path())?.sync_data()
}
