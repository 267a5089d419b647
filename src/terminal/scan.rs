//! A first look at output that is too large to be rendered: counts its lines and finds those that look like errors, in
//! pieces, with a bounded memory whatever the length of a line.

use std::borrow::Cow;

use super::errors::ErrorLines;
use super::render::without_colours;

/// What is looked at of one line.
const LOOKED_AT: usize = 2 << 10;

/// Goes through the raw bytes of an output.
#[derive(Debug)]
pub(super) struct Scan {
    /// The lines that look like errors.
    pub(super) errors: ErrorLines,
    /// Line feeds seen.
    pub(super) lines: u64,
    line: Vec<u8>,
}

impl Scan {
    /// Begins after so many lines.
    pub(super) fn new(lines: u64) -> Self {
        Self { errors: ErrorLines::new(), lines, line: Vec::with_capacity(LOOKED_AT) }
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.keep(&piece[..end]);
            self.lines += 1;
            self.errors.look(self.lines, &plain(visible(&self.line)));
            self.line.clear();
            piece = &piece[end + 1..];
        }
        self.keep(piece);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LOOKED_AT - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }
}

/// What is left of a line after its last return to the first column.
fn visible(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.iter().rposition(|byte| *byte == b'\r') {
        Some(at) => &line[at + 1..],
        None => line,
    }
}

/// The line without colours, which would hide where its words begin.
fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&0x1b) {
        return Cow::Borrowed(line);
    }
    Cow::Owned(without_colours(&String::from_utf8_lossy(line)).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_found_at_any_cut() {
        let output = b"10%\r20%\rerror: one\r\nfine\r\n\x1b[31mfatal: two\x1b[0m\r\nrest";
        for cut in 0..=output.len() {
            let mut scan = Scan::new(10);
            scan.feed(&output[..cut]);
            scan.feed(&output[cut..]);
            let worst: Vec<_> = scan.errors.worst(1000).into_iter().map(|line| (line.number, line.text)).collect();
            assert_eq!(worst, [(11, "error: one".into()), (13, "fatal: two".into())], "cut at {cut}");
            assert_eq!(scan.lines, 13);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut scan = Scan::new(0);
        for _ in 0..1000 {
            scan.feed(&[b'x'; 10_000]);
        }
        assert!(scan.line.capacity() <= LOOKED_AT * 2);
    }
}
