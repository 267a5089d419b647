//! A session's log as a book to read in: pages by lines or bytes, what is new since it was last shown, a search. Reads in
//! pieces, so that a log of many gigabytes takes little memory.

mod grep;
mod index;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

pub use grep::{GrepReport, GrepSpec, Pattern, PatternCase};

use self::index::LineIndex;
use super::excerpt::head_of;
use super::output::{self, Place};
use super::render::lines;
use super::{Excerpt, Terminal, TerminalError};
use crate::domain::SessionName;
use crate::guest::{Client, GuestError, SessionInfo};

/// Most raw bytes that are rendered for a page.
const LARGEST_PAGE: u64 = 256 << 10;

/// Rendered text of a page.
const SHOWN: usize = 10 << 10;

/// What is read at once.
const PIECE: u64 = 512 << 10;

/// A page from the end of a log is numbered if no more than this has to be counted for it.
const COUNTED_FOR_NUMBERS: u64 = 64 << 20;

/// What is known of the logs: where the model has read to, and where their lines begin.
pub(super) type Books = Arc<Mutex<BTreeMap<SessionName, Book>>>;

/// What is known of one log.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    seen: u64,
    index: LineIndex,
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRange {
    /// So many lines from this one: from 1, or counted from the end where negative.
    Lines {
        /// The first.
        from: i64,
        /// How many.
        count: u64,
    },
    /// So many bytes from this one: from 0, or counted from the end where negative.
    Bytes {
        /// The first.
        from: i64,
        /// How many.
        count: u64,
    },
}

/// A part of a log, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Its text; empty if there is nothing at that place.
    pub text: String,
    /// The raw bytes that were looked at.
    pub bytes: Range<u64>,
    /// The number of its first line, where that is known.
    pub first_line: Option<u64>,
    /// Lines that it shows.
    pub lines: u64,
    /// Whether less is shown than was asked for, because it would be too much at once.
    pub cut: bool,
    /// Where to go on after a cut, where that can be told.
    pub next: Option<LogRange>,
    /// The log's size.
    pub size_bytes: u64,
    /// The log's lines, where they have been counted.
    pub size_lines: Option<u64>,
}

/// What a session has printed since that was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// What is shown of it.
    pub excerpt: Excerpt,
    /// Where it lies in the log.
    pub bytes: Range<u64>,
}

impl Terminal {
    /// What a session has printed since the model was last shown its output; it counts as shown from then on.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn unseen(&self, session: &SessionName) -> Result<Unseen, TerminalError> {
        let info = self.session_info(session).await?;
        let seen = self.seen(session).max(self.board.seen_in(session));
        let bytes = seen.min(info.log_size)..info.log_size;
        let shown_log = format!("{}/{}", self.options.logs, info.log);
        let place =
            Place { log: &info.log, offset: bytes.start, end: bytes.end, shown_log: &shown_log, is_final: false };
        let excerpt = output::excerpt(self.guest(), &place, None, info.size, self.options.budget).await?;
        self.saw(session, bytes.end);
        Ok(Unseen { excerpt, bytes })
    }

    /// Notes that the model was shown all of a session's output so far.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn saw_all(&self, session: &SessionName) -> Result<(), TerminalError> {
        let info = self.session_info(session).await?;
        self.saw(session, info.log_size);
        Ok(())
    }

    /// Notes that the model was shown, or told the size of, everything before `position` of a session's log.
    pub fn saw(&self, session: &SessionName, position: u64) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let book = books.entry(session.clone()).or_default();
        book.seen = book.seen.max(position);
        self.board.mark_session_seen(session, position);
    }

    /// Where in a session's log begins what the model has not been shown.
    pub fn seen(&self, session: &SessionName) -> u64 {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).get(session).map_or(0, |book| book.seen)
    }

    /// Part of a session's log.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn log_page(&self, session: &SessionName, range: LogRange) -> Result<LogPage, TerminalError> {
        let info = self.session_info(session).await?;
        let size = info.log_size;
        let (bytes, first_line, wanted) = match range {
            LogRange::Bytes { from, count } => {
                let begin = if from < 0 { size.saturating_sub(from.unsigned_abs()) } else { from.unsigned_abs() };
                let end = begin.saturating_add(count).min(size);
                (begin.min(end)..end, None, None)
            }
            LogRange::Lines { from, count } if from < 0 => {
                let count = from.unsigned_abs().min(count);
                let begin = self.line_from_end(&info, from.unsigned_abs()).await?;
                let index = match size - self.index(session).counted().min(size) {
                    0..=COUNTED_FOR_NUMBERS => Some(self.counted(&info).await?),
                    _ => None,
                };
                let first = match index {
                    Some(index) => Some(index.number_at(self.guest(), &info.log, begin).await?),
                    None => None,
                };
                (begin..size, first, Some(count))
            }
            LogRange::Lines { from, count } => {
                let index = self.counted(&info).await?;
                let from = from.unsigned_abs().max(1);
                match index.line(self.guest(), &info.log, from).await? {
                    Some(begin) if begin < size => (begin..size, Some(from), Some(count)),
                    Some(_) | None => (size..size, None, Some(count)),
                }
            }
        };
        let mut page = self.page(&info, bytes, wanted).await?;
        page.first_line = first_line;
        if let (Some(LogRange::Lines { from, .. }), first) = (&mut page.next, first_line) {
            match first.and_then(|first| i64::try_from(first).ok()) {
                Some(first) => *from += first,
                None => page.next = None,
            }
        }
        page.size_lines = Some(self.index(session)).filter(|index| index.counted() >= size).map(|index| index.lines());
        Ok(page)
    }

    /// Looks for a pattern in the lines of a session's log.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn grep(&self, session: &SessionName, spec: &GrepSpec) -> Result<GrepReport, TerminalError> {
        let info = self.session_info(session).await?;
        Ok(grep::grep(self.guest(), &info, spec).await?)
    }

    async fn page(&self, info: &SessionInfo, bytes: Range<u64>, wanted: Option<u64>) -> Result<LogPage, GuestError> {
        let end = bytes.end.min(bytes.start.saturating_add(LARGEST_PAGE));
        let mut raw = output::fetch(self.guest(), &info.log, bytes.start, end).await?;
        let mut cut = end < bytes.end;
        if let Some(wanted) = wanted {
            let after = memchr::memchr_iter(b'\n', &raw).nth(usize::try_from(wanted.max(1) - 1).unwrap_or(usize::MAX));
            if let Some(after) = after {
                raw.truncate(after + 1);
                cut = false;
            }
        }
        let looked_at = bytes.start..bytes.start + raw.len() as u64;
        let size = info.size;
        // Drawing takes a moment, so not on a thread that others wait for.
        let raw_lines = memchr::memchr_iter(b'\n', &raw).count() + usize::from(raw.last().is_some_and(|b| *b != b'\n'));
        let drawn = tokio::task::spawn_blocking(move || lines(&raw, size)).await.unwrap_or_default();
        let part = head_of(&drawn, SHOWN);
        let all_drawn = part.whole_lines == drawn.len() && !part.text.ends_with("[…]\n");
        let next = match all_drawn {
            true if cut => i64::try_from(looked_at.end).ok().map(|from| LogRange::Bytes { from, count: 0 }),
            // Counted from the page's first line, until that is known.
            false if drawn.len() == raw_lines => {
                i64::try_from(part.whole_lines).ok().map(|from| LogRange::Lines { from, count: 0 })
            }
            true | false => None,
        };
        cut |= !all_drawn;
        Ok(LogPage {
            text: part.text,
            bytes: looked_at,
            first_line: None,
            lines: part.whole_lines as u64,
            cut,
            next,
            size_bytes: info.log_size,
            size_lines: None,
        })
    }

    /// Where the last `count` lines begin; later if they are too many to be shown.
    async fn line_from_end(&self, info: &SessionInfo, count: u64) -> Result<u64, GuestError> {
        let first = info.log_size.saturating_sub(LARGEST_PAGE);
        let raw = output::fetch(self.guest(), &info.log, first, info.log_size).await?;
        let body = raw.strip_suffix(b"\n").unwrap_or(&raw);
        let before = memchr::memrchr_iter(b'\n', body).nth(usize::try_from(count.max(1) - 1).unwrap_or(usize::MAX));
        Ok(before.map_or(first, |at| first + at as u64 + 1))
    }

    fn index(&self, session: &SessionName) -> LineIndex {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.get(session).map(|book| book.index.clone()).unwrap_or_default()
    }

    /// The lines of a log, counted to its end.
    async fn counted(&self, info: &SessionInfo) -> Result<LineIndex, GuestError> {
        let mut index = self.index(&info.session);
        index.count(self.guest(), &info.log, info.log_size).await?;
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let book = books.entry(info.session.clone()).or_default();
        if book.index.counted() < index.counted() {
            book.index = index.clone();
        }
        Ok(index)
    }
}

/// Reads a log piece by piece; ends early if `take` says so.
async fn each_piece(
    client: &Client,
    log: &str,
    range: Range<u64>,
    take: &mut (dyn FnMut(u64, &[u8]) -> bool + Send),
) -> Result<(), GuestError> {
    let mut at = range.start;
    while at < range.end {
        let piece = client.read_log(log, at, PIECE.min(range.end - at)).await?;
        if piece.is_empty() || !take(at, &piece) {
            return Ok(());
        }
        at += piece.len() as u64;
    }
    Ok(())
}
