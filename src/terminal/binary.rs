//! Bytes that are no text, told from text and summed up.

use std::borrow::Cow;

/// Fewer odd bytes than this make no binary: a few control characters stand in many texts.
const FEWEST: usize = 32;

/// One in so many bytes is odd at least.
const SHARE: usize = 10;

/// A line without odd bytes that is shorter than this, between two that have some, belongs to them.
const SHORT: usize = 64;

/// The bytes with each stretch of binary replaced by a line such as `[binary: 3.2 MB]`.
pub(super) fn summed_up(raw: &[u8]) -> Cow<'_, [u8]> {
    if odd_bytes(raw) < FEWEST {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::new();
    let mut stretch = Stretch::default();
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let odd = odd_bytes(line);
        if odd > 0 {
            stretch.take_waiting();
            stretch.held.extend_from_slice(line);
            stretch.odd += odd;
        } else if stretch.odd > 0 && stretch.waiting.is_empty() && line.len() < SHORT {
            stretch.waiting.extend_from_slice(line);
        } else {
            stretch.end(&mut out);
            out.extend_from_slice(line);
        }
    }
    stretch.end(&mut out);
    Cow::Owned(out)
}

/// Whether a line is mostly no text.
pub(super) fn is_binary(line: &[u8]) -> bool {
    let odd = odd_bytes(line);
    odd >= FEWEST && odd * SHARE >= line.len()
}

/// Lines that may turn out to be binary.
#[derive(Default)]
struct Stretch {
    held: Vec<u8>,
    odd: usize,
    waiting: Vec<u8>,
}

impl Stretch {
    fn take_waiting(&mut self) {
        self.held.append(&mut self.waiting);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.odd >= FEWEST && self.odd * SHARE >= self.held.len() {
            out.extend_from_slice(format!("[binary: {}]\r\n", size(self.held.len())).as_bytes());
            self.held.clear();
        }
        out.append(&mut self.held);
        out.append(&mut self.waiting);
        self.odd = 0;
    }
}

/// A size as people write it, in decimal units.
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Bytes that text for a terminal does not have: most control characters, and what is no UTF-8.
fn odd_bytes(bytes: &[u8]) -> usize {
    let odd = |byte: u8| (byte < 0x20 && !matches!(byte, 0x07..=0x0d | 0x1b)) || byte == 0x7f;
    let controls = bytes.iter().filter(|byte| odd(**byte)).count();
    if bytes.is_ascii() {
        return controls;
    }
    controls + bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn binary_between_lines_of_text_is_one_line() {
        let mut raw = b"$ cat photo.jpg\r\n".to_vec();
        raw.extend(noise(3_200_000));
        raw.extend(b"\r\n$ echo done\r\ndone\r\n");
        let text = String::from_utf8(summed_up(&raw).into_owned()).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["$ cat photo.jpg", "[binary: 3.2 MB]", "$ echo done", "done"]);
        assert!(is_binary(&noise(400)));
    }

    #[test]
    fn text_with_some_odd_bytes_is_left_as_it_is() {
        let names = "src/terminal/a_file_name.rs\0".repeat(200);
        let latin = b"Stra\xdfe nach M\xfcnchen, sch\xf6n gr\xfc\xdfen lassen sie alle anderen auch\n".repeat(50);
        let coloured = "\x1b[32mok\x1b[0m\t100%\r".repeat(500);
        for text in [names.as_bytes(), &latin, coloured.as_bytes(), "ünïcödé\n".repeat(99).as_bytes()] {
            assert!(matches!(summed_up(text), Cow::Borrowed(_)) || summed_up(text) == text, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_without_odd_bytes_that_are_long_are_never_lost(lines in proptest::collection::vec("[a-z]{70,90}|[\x01\x02x]{0,80}", 0..40)) {
            let text = lines.join("\n");
            let out = String::from_utf8(summed_up(text.as_bytes()).into_owned()).unwrap();
            for line in lines.iter().filter(|line| line.len() >= 70 && odd_bytes(line.as_bytes()) == 0) {
                prop_assert!(out.contains(line.as_str()));
            }
        }
    }
}
