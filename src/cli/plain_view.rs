//! Lets terminal output through to a person's terminal without what acts on it beyond the screen.
//!
//! Titles, clipboard writes, links, queries whose answers become typed input, device strings: gone. Text, colours, cursor
//! movement and erasing: kept, so that full-screen programs still look right.

/// Filters a stream of terminal output; sequences may be cut anywhere between two pieces.
#[derive(Debug, Default)]
pub(super) struct PlainView {
    state: State,
    /// A control sequence that has begun and is not yet known to be harmless.
    held: Vec<u8>,
    /// Whether the alternate screen is on.
    alternate: bool,
    /// Whether anything else of the terminal was changed.
    changed: bool,
}

/// Longest control sequence that is let through.
const LONGEST: usize = 64;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After the byte that begins the two-byte controls U+0080 to U+009F, which some terminals obey.
    AfterC2,
    Escape,
    /// After ESC and one of the bytes that take another one, such as character sets.
    EscapeTakesOne,
    Control,
    /// Inside a string that ends with ST or BEL.
    String,
    StringEscape,
}

impl PlainView {
    /// What of `bytes` may be shown.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.step(byte, &mut shown);
        }
        shown
    }

    /// What brings a terminal back that has shown all this.
    pub(super) fn leave(&self) -> Vec<u8> {
        let mut back = Vec::new();
        if self.alternate {
            back.extend_from_slice(b"\x1b[?1049l");
        }
        if self.changed {
            back.extend_from_slice(b"\x1b7\x1b[r\x1b8\x1b[?25h\x1b[0m");
        }
        if !back.is_empty() {
            back.extend_from_slice(b"\r\n");
        }
        back
    }

    fn step(&mut self, byte: u8, shown: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            (State::Text, 0x1b) => self.hold(byte, State::Escape),
            (State::Text, 0xc2) => State::AfterC2,
            (State::AfterC2, 0x80..=0x9f) => State::Text,
            (State::AfterC2, 0xa0..) => {
                shown.extend([0xc2, byte]);
                State::Text
            }
            // No UTF-8: what came before is dropped, this is looked at anew.
            (State::AfterC2, _) => return self.again(byte, shown),
            (State::Text, b'\n' | b'\r' | b'\t' | 0x08 | 0x20..=0x7e | 0x80..) => {
                shown.push(byte);
                State::Text
            }
            (State::Text, _) => State::Text,
            (State::Escape, b'[') => self.hold(byte, State::Control),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape, b'(' | b')' | b'*' | b'+' | b'#' | b' ') => self.hold(byte, State::EscapeTakesOne),
            (State::Escape, b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'M') => self.release(byte, shown),
            (State::Escape | State::EscapeTakesOne, 0x1b) => self.hold(byte, State::Escape),
            (State::Escape, _) => State::Text,
            (State::EscapeTakesOne, 0x20..=0x7e) => self.release(byte, shown),
            (State::Control, 0x20..=0x3f) if self.held.len() < LONGEST => self.hold_more(byte),
            (State::Control, 0x40..=0x7e) if self.is_harmless(byte) => self.release(byte, shown),
            (State::Control, 0x1b) => self.hold(byte, State::Escape),
            (State::Control | State::EscapeTakesOne, _) => State::Text,
            (State::String, 0x07) => State::Text,
            (State::String, 0x1b) => State::StringEscape,
            (State::String, _) => State::String,
            (State::StringEscape, b'\\') => State::Text,
            (State::StringEscape, _) => State::String,
        };
    }

    fn again(&mut self, byte: u8, shown: &mut Vec<u8>) {
        self.state = State::Text;
        self.step(byte, shown);
    }

    fn hold(&mut self, byte: u8, next: State) -> State {
        if byte == 0x1b {
            self.held.clear();
        }
        self.held.push(byte);
        next
    }

    fn hold_more(&mut self, byte: u8) -> State {
        self.held.push(byte);
        State::Control
    }

    fn release(&mut self, last: u8, shown: &mut Vec<u8>) -> State {
        self.changed = true;
        if matches!(&self.held[..], b"\x1b[?1049" | b"\x1b[?1047" | b"\x1b[?47") {
            self.alternate = last == b'h';
        }
        shown.append(&mut self.held);
        shown.push(last);
        State::Text
    }

    /// Movement, erasing, insertion, scrolling, colours, and the modes of cursor and alternate screen.
    fn is_harmless(&self, last: u8) -> bool {
        let parameters = &self.held[2..];
        match last {
            b'A'..=b'M'
            | b'P'
            | b'S'
            | b'T'
            | b'X'
            | b'@'
            | b'd'
            | b'f'
            | b'`'
            | b'a'
            | b'e'
            | b'm'
            | b'r'
            | b's'
            | b'u' => !parameters.iter().any(|byte| matches!(byte, b'<'..=b'?' | b' '..=b'/')),
            b'h' | b'l' => {
                matches!(parameters, b"4" | b"?1" | b"?7" | b"?25" | b"?47" | b"?1047" | b"?1048" | b"?1049")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(text: &str) -> String {
        String::from_utf8(PlainView::default().pass(text.as_bytes())).unwrap()
    }

    #[test]
    fn text_colours_and_movement_are_kept() {
        for kept in ["a\tb\r\nc", "\x1b[1;31mred\x1b[0m", "\x1b[2J\x1b[10;5H", "\x1b[?1049h\x1b[?25l", "ünï\u{1F600}°"]
        {
            assert_eq!(pass(kept), kept);
        }
    }

    #[test]
    fn what_acts_beyond_the_screen_is_gone() {
        for gone in [
            "\x1b]0;title\x07",
            "\x1b]52;c;aGk=\x1b\\",
            "\x1b]8;;http://x\x07",
            "\x1b[c",
            "\x1b[6n",
            "\x1b[>q",
            "\x1b[21t",
            "\x1b[?2004h",
            "\x1b[?1000h",
            "\x1bPq#0\x1b\\",
            "\x1b_Gf=100\x1b\\",
            "\x1bc",
            "\u{9b}6n",
            "\u{9d}0;title\u{9c}",
            "\x07",
            "\x0e",
        ] {
            let shown = pass(&format!("<{gone}>"));
            // Without their introducer the rest of such a sequence is text.
            assert!(!shown.contains(|c: char| c.is_control()), "{gone:?}: {shown:?}");
            assert!(gone.starts_with(['\u{9b}', '\u{9d}']) || shown == "<>", "{gone:?}: {shown:?}");
        }
    }

    proptest! {
        #[test]
        fn the_cuts_between_pieces_make_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(7), any::<u8>()], 0..200),
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let whole = PlainView::default().pass(&bytes);
            let mut view = PlainView::default();
            let mut parts = view.pass(&bytes[..cut]);
            parts.extend(view.pass(&bytes[cut..]));
            prop_assert_eq!(whole, parts);
        }
    }
}
