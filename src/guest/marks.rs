//! Finds a session's marks in the bytes that its shell prints.
//!
//! Marks are OSC 133 sequences that carry the session's nonce; whatever lacks it is ordinary output. The scanner takes
//! nothing away and doesn't mind where the stream is cut.

/// `ESC ] 1 3 3 ;`, with which every mark begins.
const PREFIX: &[u8] = b"\x1b]133;";

/// More than any mark of ours is long.
const LONGEST: usize = 120;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// Something the shell says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The command of that number begins.
    Begin {
        /// The number.
        seq: u64,
    },
    /// The shell shows its prompt.
    Prompt {
        /// `$?`.
        status: i32,
        /// The number of the last command that was begun.
        seq: u64,
        /// True if the marks had been lost and were set anew, so that `status` means nothing.
        rearmed: bool,
    },
}

/// A mark and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The mark.
    pub(super) mark: Mark,
    /// The position of its first byte in the stream.
    pub(super) start: u64,
    /// The position after its last byte.
    pub(super) end: u64,
}

/// Reads a stream piece by piece.
#[derive(Debug)]
pub(super) struct MarkScanner {
    nonce: String,
    position: u64,
    partial: Vec<u8>,
}

impl MarkScanner {
    /// Looks for marks with this nonce in a stream of which `position` bytes have gone by.
    pub(super) fn new(nonce: String, position: u64) -> Self {
        Self { nonce, position, partial: Vec::with_capacity(LONGEST) }
    }

    /// Takes the next piece and calls `found` for each mark that ends in it.
    pub(super) fn feed(&mut self, piece: &[u8], mut found: impl FnMut(Found)) {
        let base = self.position;
        let mut at = 0;
        while at < piece.len() {
            if self.partial.is_empty() {
                let Some(esc) = piece[at..].iter().position(|byte| *byte == ESC) else { break };
                at += esc;
            }
            let byte = piece[at];
            at += 1;
            self.partial.push(byte);
            if self.partial.len() <= PREFIX.len() {
                if !PREFIX.starts_with(&self.partial) {
                    self.restart(byte);
                }
            } else if byte == BEL {
                let end = base + at as u64;
                if let Some(mark) = parse(&self.partial[PREFIX.len()..self.partial.len() - 1], &self.nonce) {
                    found(Found { mark, start: end - self.partial.len() as u64, end });
                }
                self.partial.clear();
            } else if byte == ESC || self.partial.len() > LONGEST {
                self.restart(byte);
            }
        }
        self.position = base + piece.len() as u64;
    }

    fn restart(&mut self, byte: u8) {
        self.partial.clear();
        if byte == ESC {
            self.partial.push(ESC);
        }
    }
}

fn parse(body: &[u8], nonce: &str) -> Option<Mark> {
    let body = std::str::from_utf8(body).ok()?;
    let fields: Vec<&str> = body.split(';').collect();
    match fields.as_slice() {
        ["C", theirs, seq] if *theirs == nonce => Some(Mark::Begin { seq: seq.parse().ok()? }),
        ["D", status, theirs, seq, flag] if *theirs == nonce => {
            Some(Mark::Prompt { status: status.parse().ok()?, seq: seq.parse().ok()?, rearmed: *flag == "r" })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(pieces: &[&[u8]]) -> Vec<Found> {
        let mut scanner = MarkScanner::new("N0".into(), 0);
        let mut seen = Vec::new();
        for piece in pieces {
            scanner.feed(piece, |found| seen.push(found));
        }
        seen
    }

    #[test]
    fn marks_are_found_at_every_cut_of_the_stream() {
        let stream = b"x\x1b[1m\x1b\x1b]133;C;N0;7\x07out\x1b]133;D;3;N0;7;\x07$ \x1b]133;D;0;N0;8;r\x07";
        let whole = scan(&[stream]);
        let marks: Vec<_> = whole.iter().map(|found| found.mark).collect();
        assert_eq!(
            marks,
            [
                Mark::Begin { seq: 7 },
                Mark::Prompt { status: 3, seq: 7, rearmed: false },
                Mark::Prompt { status: 0, seq: 8, rearmed: true }
            ]
        );
        assert_eq!(&stream[whole[0].end as usize..whole[1].start as usize], b"out");
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(scan(&[&stream[..first], &stream[first..second], &stream[second..]]), whole);
            }
        }
    }

    #[test]
    fn a_mark_without_the_nonce_is_output() {
        for forged in ["\x1b]133;D;0\x07", "\x1b]133;D;0;N1;7;\x07", "\x1b]133;C;n0;7\x07", "\x1b]133;D;0;;7;\x07"] {
            assert_eq!(scan(&[forged.as_bytes()]), [], "{forged:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_marks(
            parts in proptest::collection::vec(
                prop_oneof![
                    any::<Vec<u8>>(),
                    Just(b"\x1b]133;C;N0;1\x07".to_vec()),
                    Just(b"\x1b]133;D;0;N0;1;\x07".to_vec()),
                    Just(b"\x1b]133;D;".to_vec()),
                ],
                0..12,
            ),
            size in 1usize..40,
        ) {
            let stream: Vec<u8> = parts.concat();
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(scan(&pieces), scan(&[&stream]));
        }
    }
}
