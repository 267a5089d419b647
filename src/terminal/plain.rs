//! A terminal's bytes as lines of plain text, piece by piece, whatever the length of a line: no sequence, no control
//! character, a progress line at its last state.

/// What is kept of a line.
const LONGEST: usize = 64 << 10;

/// Reads a stream of terminal output.
#[derive(Debug)]
pub struct PlainLines {
    state: State,
    line: Vec<u8>,
    length: u64,
    longest: usize,
}

impl Default for PlainLines {
    fn default() -> Self {
        Self::keeping(LONGEST)
    }
}

/// A line of plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainLine<'a> {
    /// Its bytes without the line feed: its beginning if it was very long.
    pub text: &'a [u8],
    /// Whether there was more of it.
    pub cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// After a return to the first column: the next character overwrites the line.
    Returned,
    /// After the byte that begins the two-byte controls U+0080 to U+009F.
    AfterC2,
    Escape,
    /// After ESC and a byte that takes another one.
    EscapeTakesOne,
    Control,
    /// Inside a string that ends with ST or BEL.
    String,
    StringEscape,
}

impl PlainLines {
    /// Has read nothing yet; keeps so many bytes of a line.
    pub fn keeping(longest: usize) -> Self {
        Self { state: State::Text, line: Vec::new(), length: 0, longest }
    }

    /// Takes the next piece and gives each line that ends in it.
    pub fn feed(&mut self, mut piece: &[u8], give: &mut dyn FnMut(PlainLine<'_>)) {
        while !piece.is_empty() {
            if matches!(self.state, State::Text | State::Returned) {
                let plain = piece.iter().position(|byte| !matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xc1 | 0xc3..));
                let plain = plain.unwrap_or(piece.len());
                if plain > 0 {
                    self.put(&piece[..plain]);
                    piece = &piece[plain..];
                    continue;
                }
            }
            self.step(piece[0], give);
            piece = &piece[1..];
        }
    }

    /// The line that has no end yet.
    pub fn rest(&self) -> PlainLine<'_> {
        PlainLine { text: &self.line, cut: self.length > self.line.len() as u64 }
    }

    fn step(&mut self, byte: u8, give: &mut dyn FnMut(PlainLine<'_>)) {
        self.state = match (self.state, byte) {
            (State::Text | State::Returned, b'\n') => {
                give(self.rest());
                self.line.clear();
                self.length = 0;
                State::Text
            }
            (State::Text | State::Returned, b'\r') => State::Returned,
            (state @ (State::Text | State::Returned), 0x08) => {
                self.back();
                state
            }
            (State::Text | State::Returned, 0x1b) => State::Escape,
            (State::Text | State::Returned, 0xc2) => State::AfterC2,
            (state @ (State::Text | State::Returned), ..0x20 | 0x7f) => state,
            (State::Text | State::Returned, _) => {
                self.put(&[byte]);
                State::Text
            }
            (State::AfterC2, 0x80..=0x9f) => State::Text,
            (State::AfterC2, 0xa0..=0xbf) => {
                self.put(&[0xc2, byte]);
                State::Text
            }
            // No UTF-8: what came before is dropped, this is looked at anew.
            (State::AfterC2, _) => {
                self.state = State::Text;
                return self.step(byte, give);
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape, 0x20..=0x2f) => State::EscapeTakesOne,
            (State::Escape | State::EscapeTakesOne | State::Control, 0x1b) => State::Escape,
            (State::EscapeTakesOne, 0x20..=0x2f) => State::EscapeTakesOne,
            (State::Control, 0x20..=0x3f) => State::Control,
            // A line never goes on beyond its end, whatever sequence was left open.
            (State::Escape | State::EscapeTakesOne | State::Control, b'\n' | b'\r') => {
                self.state = State::Text;
                return self.step(byte, give);
            }
            (State::Escape | State::EscapeTakesOne | State::Control, _) => State::Text,
            (State::String, 0x07) => State::Text,
            (State::String, 0x1b) => State::StringEscape,
            (State::String, b'\n') => {
                self.state = State::Text;
                return self.step(byte, give);
            }
            (State::String, _) => State::String,
            (State::StringEscape, b'\\') => State::Text,
            (State::StringEscape, _) => State::String,
        };
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.state == State::Returned {
            self.line.clear();
            self.length = 0;
        }
        self.state = State::Text;
        let room = self.longest - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
    }

    fn back(&mut self) {
        // A character of more bytes than one goes as a whole.
        while let Some(last) = self.line.pop() {
            self.length = self.line.len() as u64;
            if !matches!(last, 0x80..=0xbf) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut plain, mut out) = (PlainLines::default(), Vec::new());
        for piece in pieces {
            plain.feed(piece, &mut |line| out.push(String::from_utf8_lossy(line.text).into_owned()));
        }
        out.push(String::from_utf8_lossy(plain.rest().text).into_owned());
        out
    }

    #[test]
    fn sequences_are_gone_and_progress_is_at_its_last_state() {
        let raw = b"\x1b]133;C;N;1\x07\x1b[1;31mred\x1b[0m\tx\r\n 1%\r50%\r99%\r\nab\x08c\xc2\x9b\x00\x1b(B\r\n$ ";
        assert_eq!(lines(&[raw]), ["red\tx", "99%", "ac", "$ "]);
        assert_eq!(lines(&["é\x08e\x1b]0;open\nnext".as_bytes()]), ["e", "next"]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut plain = PlainLines::default();
        for _ in 0..100 {
            plain.feed(&[b'x'; 10_000], &mut |_| {});
        }
        assert!(plain.rest().cut && plain.rest().text.len() == LONGEST);
        assert!(plain.line.capacity() <= LONGEST * 2);
    }

    proptest! {
        #[test]
        fn the_cuts_between_pieces_make_no_difference_and_nothing_steers_a_terminal(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(b'\r'), Just(b'\n'), Just(0xc2), any::<u8>()], 0..200),
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let whole = lines(&[&bytes]);
            prop_assert_eq!(&whole, &lines(&[&bytes[..cut], &bytes[cut..]]));
            for line in whole {
                prop_assert!(line.chars().all(|c| c == '\t' || !c.is_control()), "{:?}", line);
            }
        }
    }
}
