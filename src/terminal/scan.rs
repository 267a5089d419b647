//! A first look at output that is too large to be rendered: counts its lines and finds those that look like errors, in
//! pieces, with a bounded memory whatever the length of a line.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;
use memchr::{memchr, memchr_iter, memrchr};

use super::errors::{ErrorLines, STEMS};
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
    stems: AhoCorasick,
    line: Vec<u8>,
}

impl Scan {
    /// Begins after so many lines.
    pub(super) fn new(lines: u64) -> Self {
        let stems = AhoCorasick::builder().ascii_case_insensitive(true).build(STEMS).expect("the stems are few");
        Self { errors: ErrorLines::new(), lines, stems, line: Vec::with_capacity(LOOKED_AT) }
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, mut piece: &[u8]) {
        if !self.line.is_empty() {
            let Some(end) = memchr(b'\n', piece) else { return self.keep(piece) };
            self.keep(&piece[..end]);
            self.lines += 1;
            self.errors.look(self.lines, &plain(visible(&self.line)));
            self.line.clear();
            piece = &piece[end + 1..];
        }
        let whole_lines = memrchr(b'\n', piece).map_or(0, |last| last + 1);
        self.look_through(&piece[..whole_lines]);
        self.keep(&piece[whole_lines..]);
    }

    /// Looks at those of the lines that hold a stem: few in most outputs, and a gigabyte has many lines.
    fn look_through(&mut self, mut block: &[u8]) {
        while let Some(found) = self.stems.find(block) {
            let begin = memrchr(b'\n', &block[..found.start()]).map_or(0, |last| last + 1);
            let end = memchr(b'\n', &block[found.start()..]).map_or(block.len(), |end| found.start() + end);
            self.lines += memchr_iter(b'\n', &block[..begin]).count() as u64 + 1;
            let line = &block[begin..end.min(begin + LOOKED_AT)];
            self.errors.look(self.lines, &plain(visible(line)));
            block = block.get(end + 1..).unwrap_or_default();
        }
        self.lines += memchr_iter(b'\n', block).count() as u64;
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
    use proptest::prelude::*;

    use super::*;

    /// A word of each kind that the ranks know.
    const WORDS: [&str; 24] = [
        "Traceback (most",
        "panicked",
        "FATAL",
        "Segmentation fault",
        "core dumped",
        "Out of memory",
        "oom",
        "No space left",
        "error",
        "Errors",
        "failed",
        "failure",
        "KeyException",
        "aborted",
        "Permission denied",
        "not found",
        "No such file",
        "undefined",
        "E0308",
        "warning",
        "deprecated",
        "Killed",
        "timed out",
        "timeout",
    ];

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_line_that_looks_like_an_error_is_overlooked(
            words in proptest::collection::vec(
                prop_oneof![
                    "[a-zA-Z0-9_:. ]{0,12}",
                    proptest::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
                    proptest::sample::select(vec!["\n", "\r", "\r\n", " ", "\x1b[31m", "\x1b[0m"]).prop_map(str::to_owned),
                ],
                0..60,
            ),
            cut in 0_usize..400,
        ) {
            let mut output = words.concat().into_bytes();
            output.push(b'\n');
            let cut = cut.min(output.len());
            let mut scan = Scan::new(0);
            scan.feed(&output[..cut]);
            scan.feed(&output[cut..]);
            let mut each = ErrorLines::new();
            let lines: Vec<&[u8]> = output[..output.len() - 1].split(|byte| *byte == b'\n').collect();
            for (at, line) in lines.iter().enumerate() {
                each.look(at as u64 + 1, &plain(visible(line)));
            }
            prop_assert_eq!(scan.lines, lines.len() as u64);
            prop_assert_eq!(scan.errors.worst(10_000), each.worst(10_000));
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
