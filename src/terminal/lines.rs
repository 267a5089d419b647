//! Raw output as lines of plain text, piece by piece, with a bounded memory.
//!
//! Not a picture of the screen: a progress bar that is redrawn gives a line each time, marked as such.

use super::render::without_colours;

/// What is kept of one line.
const LONGEST: usize = 4 << 10;

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its text, without control characters and cut to a readable length.
    pub(super) text: String,
    /// Whether the next one takes its place on the screen.
    pub(super) is_redrawn: bool,
}

/// Cuts output into lines.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    line: Vec<u8>,
    /// A carriage return that may belong to a line feed which has not come yet.
    returned: bool,
}

impl LineReader {
    /// Has seen nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece; the lines that it completes. Empty lines that are redrawn are left out.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for &byte in piece {
            match byte {
                b'\n' => {
                    self.returned = false;
                    lines.push(self.take(false));
                }
                // A terminal adds one of its own before each line feed.
                b'\r' => self.returned = true,
                byte => {
                    if std::mem::take(&mut self.returned) {
                        let line = self.take(true);
                        if !line.text.is_empty() {
                            lines.push(line);
                        }
                    }
                    if self.line.len() < LONGEST {
                        self.line.push(byte);
                    }
                }
            }
        }
        lines
    }

    /// Whether a line has begun.
    pub(super) fn has_rest(&self) -> bool {
        !self.line.is_empty()
    }

    /// The line that has begun.
    pub(super) fn rest(&self) -> Option<String> {
        self.has_rest().then(|| plain(&self.line))
    }

    fn take(&mut self, is_redrawn: bool) -> Line {
        let text = plain(&self.line);
        self.line.clear();
        Line { text, is_redrawn }
    }
}

/// Text without colours, other escape sequences and control characters.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.trim_end().to_owned();
    }
    let text = without_colours(&text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

/// Skips what follows an escape character: a control sequence, a title or the like, or a single character.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        Some(' '..='/') => {
            chars.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<(&str, bool)> {
        lines.iter().map(|line| (line.text.as_str(), line.is_redrawn)).collect()
    }

    #[test]
    fn lines_are_the_same_at_any_cut() {
        let output = "10%\r20%\r\nfine\r\n\r\n\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b[K\r\r\nrest é".as_bytes();
        let whole = LineReader::new().feed(output);
        assert_eq!(texts(&whole), [("10%", true), ("20%", false), ("fine", false), ("", false), ("red x", false)]);
        for cut in 0..=output.len() {
            let mut reader = LineReader::new();
            let mut lines = reader.feed(&output[..cut]);
            lines.extend(reader.feed(&output[cut..]));
            assert_eq!(lines, whole, "cut at {cut}");
            assert_eq!(reader.rest().as_deref(), Some("rest é"));
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut reader = LineReader::new();
        for _ in 0..1000 {
            assert!(reader.feed(&[b'x'; 10_000]).is_empty());
        }
        assert!(reader.line.capacity() <= LONGEST * 2);
    }
}
