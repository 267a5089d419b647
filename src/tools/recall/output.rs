//! The output of a step's command, from the session's log: numbered lines of plain text, read piece by piece.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::Path;

use crate::domain::PastStep;
use crate::guest::LogReader;
use crate::terminal::{PlainLine, PlainLines};
use crate::tools::facts::{grouped, size};

const DEFAULT_LINES: u32 = 200;
/// Most lines of a page.
const MOST_LINES: u32 = 2_000;
/// Most text of a page.
const SHOWN: usize = 16 << 10;
/// Most bytes of a line.
const LINE_BYTES: usize = 2 << 10;
const PIECE: usize = 256 << 10;

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    from: i64,
    lines: u32,
}

impl Wanted {
    /// Understands what was asked for.
    pub(super) fn read(from: Option<i64>, lines: Option<u32>) -> Result<Self, String> {
        let (from, lines) = (from.unwrap_or(1), lines.unwrap_or(DEFAULT_LINES));
        if from == 0 || lines == 0 {
            return Err("from_line counts from 1 or from -1, and lines is at least 1".to_owned());
        }
        Ok(Self { from, lines: lines.min(MOST_LINES) })
    }
}

/// The lines that are wanted, and the number of the first.
struct Page {
    wanted: Wanted,
    lines: VecDeque<String>,
    bytes: usize,
    first: u64,
    seen: u64,
    is_cut: bool,
}

impl Page {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, lines: VecDeque::new(), bytes: 0, first: 1, seen: 0, is_cut: false }
    }

    fn line(&mut self, line: PlainLine<'_>) {
        self.seen += 1;
        let keep = |line: PlainLine<'_>| {
            let text = String::from_utf8_lossy(&line.text[..line.text.len().min(LINE_BYTES)]).into_owned();
            let goes_on = line.cut || line.text.len() > LINE_BYTES;
            format!("{text}{}", if goes_on { " […]" } else { "" })
        };
        if self.wanted.from < 0 {
            let text = keep(line);
            self.bytes += text.len();
            self.lines.push_back(text);
            let most = usize::try_from(self.wanted.from.unsigned_abs()).unwrap_or(usize::MAX);
            while self.lines.len() > most.min(MOST_LINES as usize) {
                self.bytes -= self.lines.pop_front().map_or(0, |gone| gone.len());
            }
            self.first = self.seen - self.lines.len() as u64 + 1;
            return;
        }
        let from = self.wanted.from.unsigned_abs();
        if self.seen < from || self.seen >= from.saturating_add(self.wanted.lines.into()) {
            return;
        }
        if self.bytes > SHOWN {
            self.is_cut = true;
            return;
        }
        if self.lines.is_empty() {
            self.first = self.seen;
        }
        let text = keep(line);
        self.bytes += text.len();
        self.lines.push_back(text);
    }

    /// What is shown, with the place it has in the whole.
    fn text(mut self, step: &PastStep, size_bytes: u64) -> String {
        if self.wanted.from < 0 {
            self.lines.truncate(self.wanted.lines as usize);
            while self.lines.iter().map(String::len).sum::<usize>() > SHOWN && self.lines.len() > 1 {
                self.lines.pop_back();
                self.is_cut = true;
            }
        }
        let all = grouped(self.seen);
        let whole = format!("step {} · {all} lines, {}", step.number, size(size_bytes));
        if self.lines.is_empty() {
            return format!("[{whole} · nothing from line {}]", self.wanted.from);
        }
        let last = self.first + self.lines.len() as u64 - 1;
        let mut text = format!("[{whole} · lines {} to {last}]", self.first);
        for (at, line) in self.lines.iter().enumerate() {
            text.push_str(&format!("\n{}: {line}", self.first + at as u64));
        }
        if last < self.seen {
            let cut = if self.is_cut { "cut: too much at once; " } else { "" };
            text.push_str(&format!("\n[{cut}on with \"from_line\": {}]", last + 1));
        }
        text
    }
}

/// A page of the output of a step's command, or why there is none.
pub(super) fn page(step: &PastStep, wanted: Wanted, dir: &Path) -> Result<String, String> {
    let number = step.number;
    let output = step.outcome.as_ref().and_then(|outcome| outcome.output.as_ref());
    let Some(output) = output else {
        return Err(format!("step {number} has no output of a command; without from_line its result is shown"));
    };
    let size_bytes = match &step.job {
        Some((_, Some(end))) => end.size_bytes.max(output.size_bytes),
        Some((_, None)) | None => output.size_bytes,
    };
    let gone = |why: &dyn std::fmt::Display| {
        format!(
            "the output of step {number} cannot be had from {}: {why}; what was shown of it is on record",
            output.log
        )
    };
    let (below, name) = output.log.rsplit_once('/').unwrap_or(("", &output.log));
    let is_plain = |part: &str| !part.starts_with('/') && !part.split('/').any(|part| part == "..");
    if !is_plain(below) || name.is_empty() {
        return Err(gone(&"it is no log of this run"));
    }
    let mut log = LogReader::open(&dir.join(below), name).map_err(|error| gone(&error))?;
    if log.size() < output.offset.saturating_add(size_bytes) {
        return Err(gone(&"the log is shorter than it was"));
    }
    log.seek(output.offset);
    let mut page = Page::new(wanted);
    let mut lines = PlainLines::default();
    let mut left = size_bytes;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
        let read = log.read(&mut piece[..most]).map_err(|error| gone(&error))?;
        if read == 0 {
            break;
        }
        lines.feed(&piece[..read], &mut |line| page.line(line));
        left -= read as u64;
    }
    if !lines.rest().text.is_empty() {
        page.line(lines.rest());
    }
    Ok(page.text(step, size_bytes))
}
