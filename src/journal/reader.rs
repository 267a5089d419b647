//! Reads a transcript entry by entry and believes nothing that the chain does not prove.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::Head;
use super::line::RawLine;
use crate::domain::{Entry, Event, FORMAT_MAJOR};

/// The longest line that is read, in bytes; nothing that is recorded comes near it.
pub(super) const LONGEST_LINE: u64 = 256 << 20;

/// Why a transcript can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A line is not what it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        #[source]
        problem: ReadProblem,
    },
    /// The path can't be opened as a transcript.
    #[error("cannot read {path}")]
    Open {
        /// As given.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory holds no run.
    #[error("{0} is a directory without a transcript (no journal.jsonl in it)")]
    NoRun(String),
    /// There is not one whole line.
    #[error("the transcript is empty")]
    Empty,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson,
    /// JSON, but not laid out as a line of a transcript.
    #[error("not a line of a transcript")]
    Layout,
    /// Not the hash of what stands there.
    #[error("edited: its hash is not that of its content")]
    Edited,
    /// Another place than expected.
    #[error("{} removed or reordered: this is entry {found}, expected {expected}", gap(*.expected, *.found))]
    Gap {
        /// The place it should have.
        expected: u64,
        /// The place it says.
        found: u64,
    },
    /// It does not follow on the line before.
    #[error("broken chain: it does not follow on the line before")]
    Chain,
    /// Not a time.
    #[error("`{0}` is not a time in UTC with milliseconds")]
    Time(String),
    /// A known kind of event with wrong fields.
    #[error("`{0}` with missing or wrong fields")]
    Event(String),
    /// Written by a newer version.
    #[error("written in transcript format {major}.{minor}; this program reads format {FORMAT_MAJOR}")]
    Newer {
        /// Major version.
        major: u64,
        /// Minor version.
        minor: u64,
    },
    /// The first entry does not say what run this is.
    #[error("a transcript begins with `run_started`, this begins with `{0}`")]
    Beginning(String),
    /// Longer than any line that is ever written.
    #[error("longer than {} MiB", LONGEST_LINE >> 20)]
    TooLong,
    /// Reading failed.
    #[error("cannot be read")]
    Io(#[source] io::Error),
}

/// A last line that was cut in the middle: whoever wrote it was stopped, or somebody cut it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// From 1.
    pub line: u64,
    /// How much of it is there.
    pub size_bytes: u64,
}

/// Yields the entries of a transcript, each proved by the chain; after an error, nothing more.
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    lines: u64,
    whole_bytes: u64,
    head: Head,
    torn: Option<TornTail>,
    done: bool,
}

impl Reader<BufReader<File>> {
    /// Opens a transcript file, or the one in a run's directory.
    ///
    /// # Errors
    /// [`ReadError::Open`], [`ReadError::NoRun`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let shown = path.display().to_string();
        let directory = path.is_dir();
        let file = if directory { path.join("journal.jsonl") } else { path.to_owned() };
        match File::open(file) {
            Ok(file) => Ok(Self::new(BufReader::with_capacity(1 << 18, file))),
            Err(error) if directory && error.kind() == io::ErrorKind::NotFound => Err(ReadError::NoRun(shown)),
            Err(source) => Err(ReadError::Open { path: shown, source }),
        }
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a transcript from anything that yields its bytes.
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), lines: 0, whole_bytes: 0, head: Head::start(), torn: None, done: false }
    }

    /// The last entry read.
    pub fn head(&self) -> Head {
        self.head.clone()
    }

    /// Lines read so far, a torn one not counted.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes of the whole lines read so far.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The torn last line, once the end is reached.
    pub fn torn(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ReadProblem> {
        self.buffer.clear();
        let length =
            self.input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.buffer).map_err(ReadProblem::Io)? as u64;
        if self.buffer.pop_if(|last| *last == b'\n').is_none() {
            if length == LONGEST_LINE {
                return Err(ReadProblem::TooLong);
            }
            self.torn = (length > 0).then_some(TornTail { line: self.lines + 1, size_bytes: length });
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.buffer).map_err(|_| ReadProblem::NotJson)?;
        let expected = self.head.seq.map_or(0, |seq| seq + 1);
        let (entry, hash) = entry_of(text, expected, &self.head.hash)?;
        self.head = Head { seq: Some(entry.seq), hash };
        self.lines += 1;
        self.whole_bytes += length;
        Ok(Some(entry))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let line = self.lines + 1;
        let next = self.read_entry().map_err(|problem| ReadError::Line { line, problem }).transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Proves one line and takes it apart: the entry and its hash.
fn entry_of(text: &str, expected: u64, prev: &str) -> Result<(Entry, String), ReadProblem> {
    let Some(raw) = RawLine::parse(text) else { return Err(why_no_line(text)) };
    if raw.computed_hash() != raw.hash {
        return Err(ReadProblem::Edited);
    }
    if raw.seq != expected {
        return Err(ReadProblem::Gap { expected, found: raw.seq });
    }
    if raw.prev != prev {
        return Err(ReadProblem::Chain);
    }
    let time = raw.time.parse().map_err(|_| ReadProblem::Time(raw.time.to_owned()))?;
    if raw.seq == 0 {
        check_beginning(raw.event)?;
    }
    let event = event_of(raw.event)?;
    Ok((Entry { seq: raw.seq, time, event }, raw.hash.to_owned()))
}

pub(super) fn event_of(json: &str) -> Result<Event, ReadProblem> {
    let event: Event = serde_json::from_str(json).map_err(|_| ReadProblem::NotJson)?;
    if let Event::Other(value) = &event {
        let kind = value.get("type").and_then(Value::as_str);
        let Some(kind) = kind else { return Err(ReadProblem::Layout) };
        if Event::KINDS.contains(&kind) {
            return Err(ReadProblem::Event(kind.to_owned()));
        }
    }
    Ok(event)
}

/// The first event must say what run this is, in a format that this program reads.
fn check_beginning(json: &str) -> Result<(), ReadProblem> {
    let event: Value = serde_json::from_str(json).map_err(|_| ReadProblem::NotJson)?;
    check_version(&event)?;
    match event.get("type").and_then(Value::as_str) {
        Some("run_started") => Ok(()),
        other => Err(ReadProblem::Beginning(other.unwrap_or("something else").to_owned())),
    }
}

fn check_version(event: &Value) -> Result<(), ReadProblem> {
    let number = |name: &str| event.get(name).and_then(Value::as_u64);
    match number("format_major") {
        Some(major) if major > u64::from(FORMAT_MAJOR) => {
            Err(ReadProblem::Newer { major, minor: number("format_minor").unwrap_or(0) })
        }
        _ => Ok(()),
    }
}

/// What to say of a line that has not the layout: a newer format may have another.
fn why_no_line(text: &str) -> ReadProblem {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return ReadProblem::NotJson };
    let newer = value.get("event").map(check_version);
    match newer {
        Some(Err(problem)) => problem,
        _ => ReadProblem::Layout,
    }
}

fn gap(expected: u64, found: u64) -> String {
    match found.saturating_sub(expected) {
        0 => "a line was".to_owned(),
        1 => format!("the line with entry {expected} was"),
        _ => format!("the lines with entries {expected} to {} were", found - 1),
    }
}
