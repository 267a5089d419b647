//! `read_file`: lines of a text file.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Outcome, Status};
use crate::guest::Client;
use crate::terminal::TerminalError;

use super::facts::size;
use super::path::resolve;

/// Arguments of `read_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// First line to show, from 1; negative counts from the end; null for 1.
    #[serde(default)]
    pub first_line: Option<i64>,
    /// How many lines to show; null for 400.
    #[serde(default)]
    pub max_lines: Option<u32>,
}

const DEFAULT_LINES: u32 = 400;
/// Most bytes of a file that one result shows.
const SHOWN_BYTES: usize = 24 << 10;
/// Most bytes of one line that are shown.
const LINE_BYTES: usize = 2 << 10;
/// Bytes asked of the guest at a time.
const BLOCK: u64 = 256 << 10;
/// A NUL in this many bytes from the start makes a file binary.
const SNIFFED: usize = 8 << 10;

/// Shows the lines that were asked for.
pub(super) async fn run(args: &Args, workspace: &str, guest: &Client) -> Result<Outcome, TerminalError> {
    let path = resolve(workspace, &args.path);
    let max_lines = args.max_lines.unwrap_or(DEFAULT_LINES);
    if args.first_line == Some(0) || max_lines == 0 {
        return Ok(Outcome::words(
            Status::Malformed,
            "first_line counts from 1 or from -1, and max_lines is at least 1",
        ));
    }
    let (info, start) = guest.read_file(&path, 0, BLOCK).await?;
    if start.iter().take(SNIFFED).any(|&byte| byte == 0) {
        let text = format!("{path} is binary ({}); look at it with a command such as `file` or `xxd`", size(info.size));
        return Ok(Outcome::words(Status::Failed, text));
    }
    let first = args.first_line.unwrap_or(1);
    let (window, place) = if first > 0 {
        from_start(guest, &path, first.unsigned_abs(), max_lines).await?
    } else {
        from_end(guest, &path, info.size, first.unsigned_abs(), max_lines).await?
    };
    let text = format!("[{path} · {} · {place}]\n{}", size(info.size), window.text);
    Ok(Outcome::words(Status::Ok, text.trim_end_matches('\n')))
}

/// Lines that are being collected, within the limits of one result.
struct Window {
    text: String,
    lines: u32,
    max_lines: u32,
}

impl Window {
    fn new(max_lines: u32) -> Self {
        Self { text: String::new(), lines: 0, max_lines }
    }

    fn is_full(&self) -> bool {
        self.lines >= self.max_lines || self.text.len() >= SHOWN_BYTES
    }

    fn push(&mut self, line: &[u8]) {
        let shown = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]);
        self.text.push_str(&shown);
        if line.len() > LINE_BYTES {
            self.text.push_str(&format!("… (the line goes on for {})", size((line.len() - LINE_BYTES) as u64)));
        }
        self.text.push('\n');
        self.lines += 1;
    }
}

/// Splits blocks into lines. Of a line longer than a block, only so much is kept.
#[derive(Default)]
struct Lines {
    part: Vec<u8>,
}

impl Lines {
    /// Calls `take` for every line that ends in `block`; stops early when it answers false.
    fn feed(&mut self, block: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut rest = block;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            self.keep(&rest[..at]);
            let goes_on = take(&self.part);
            self.part.clear();
            rest = &rest[at + 1..];
            if !goes_on {
                return false;
            }
        }
        self.keep(rest);
        true
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = (BLOCK as usize).saturating_sub(self.part.len()).min(piece.len());
        self.part.extend_from_slice(&piece[..room]);
    }
}

async fn from_start(guest: &Client, path: &str, first: u64, max_lines: u32) -> Result<(Window, String), TerminalError> {
    let mut window = Window::new(max_lines);
    let (mut lines, mut number, mut offset) = (Lines::default(), 0, 0);
    let at_end = loop {
        let (_, block) = guest.read_file(path, offset, BLOCK).await?;
        offset += block.len() as u64;
        let take = |line: &[u8]| {
            number += 1;
            if number >= first {
                window.push(line);
            }
            !window.is_full()
        };
        if block.is_empty() {
            break true;
        }
        if !lines.feed(&block, take) {
            break false;
        }
    };
    if at_end && !lines.part.is_empty() {
        number += 1;
        if number >= first {
            window.push(&lines.part);
        }
    }
    let place = match (window.lines, at_end) {
        (0, _) => format!("line {first} is beyond the end; the file has {number} lines"),
        (_, true) => format!("lines {first} to {number}, the end"),
        (_, false) => format!("lines {first} to {number}; go on with first_line {}", number + 1),
    };
    Ok((window, place))
}

async fn from_end(
    guest: &Client,
    path: &str,
    file_size: u64,
    back: u64,
    max_lines: u32,
) -> Result<(Window, String), TerminalError> {
    let mut tail: Vec<u8> = Vec::new();
    let mut begin = file_size;
    while begin > 0 && newlines(&tail) <= back && tail.len() < 64 * BLOCK as usize {
        let len = BLOCK.min(begin);
        begin -= len;
        let (_, block) = guest.read_file(path, begin, len).await?;
        tail.splice(0..0, block.iter().copied());
    }
    let body = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let all: Vec<&[u8]> = body.split(|&byte| byte == b'\n').collect();
    let from = all.len().saturating_sub(usize::try_from(back).unwrap_or(usize::MAX));
    let mut window = Window::new(max_lines);
    for line in &all[from..] {
        if window.is_full() {
            break;
        }
        window.push(line);
    }
    let shown = window.lines as usize;
    let place = match from + shown == all.len() {
        true => format!("the last {shown} lines"),
        false => format!("{shown} lines, beginning {} before the end", all.len() - from),
    };
    Ok((window, place))
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}
