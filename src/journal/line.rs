//! The bytes of one line of a transcript, and the rule of the hash.
//!
//! A line is `{"seq":N,"time":"T","prev":"P","hash":"H","event":{…}}` in exactly this layout. `H` is the SHA-256 of the
//! line itself without its hash member and without the line feed, that is of
//! `{"seq":N,"time":"T","prev":"P","event":{…}}`; so every byte of a line is either hashed or compared.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// What the first line names as its predecessor.
pub(super) const NO_PREDECESSOR: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line taken apart, not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLine<'a> {
    /// Its place.
    pub(super) seq: u64,
    /// Its time, as it stands there.
    pub(super) time: &'a str,
    /// The hash of the line before.
    pub(super) prev: &'a str,
    /// Its own hash, as it stands there.
    pub(super) hash: &'a str,
    /// The event as JSON, as it stands there.
    pub(super) event: &'a str,
    start: usize,
    line: &'a str,
}

impl<'a> RawLine<'a> {
    /// Takes a line without its line feed apart; None unless it has exactly the layout.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("{\"seq\":")?;
        let (digits, rest) = rest.split_once(",\"time\":\"")?;
        let (time, rest) = rest.split_once("\",\"prev\":\"")?;
        let (prev, rest) = split_hash(rest)?;
        let rest = rest.strip_prefix("\",")?;
        let start = line.len() - rest.len();
        let (hash, rest) = split_hash(rest.strip_prefix("\"hash\":\"")?)?;
        let event = rest.strip_prefix("\",\"event\":")?.strip_suffix('}')?;
        let seq: u64 = digits.parse().ok().filter(|seq: &u64| seq.to_string() == digits)?;
        Some(Self { seq, time, prev, hash, event, start, line })
    }

    /// What its hash ought to be.
    pub(super) fn computed_hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(&self.line.as_bytes()[..self.start]);
        hasher.update(&self.line.as_bytes()[self.start + HASH_MEMBER..]);
        hex(&hasher.finalize())
    }
}

/// Length of `"hash":"<64 hex>",`.
const HASH_MEMBER: usize = "\"hash\":\"\",".len() + 64;

/// Writes a line with its line feed; returns it and its hash.
pub(super) fn write_line(seq: u64, time: Timestamp, prev: &str, event: &str) -> (String, String) {
    let head = format!("{{\"seq\":{seq},\"time\":\"{time:.3}\",\"prev\":\"{prev}\",");
    let tail = format!("\"event\":{event}}}");
    let mut hasher = Sha256::new();
    hasher.update(head.as_bytes());
    hasher.update(tail.as_bytes());
    let hash = hex(&hasher.finalize());
    (format!("{head}\"hash\":\"{hash}\",{tail}\n"), hash)
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// True for 64 digits of lower-case hex.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_hash(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(64).filter(|(hash, _)| is_hash(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> String {
        let time = "2026-01-02T03:04:05.678Z".parse().expect("a timestamp");
        let (line, hash) = write_line(7, time, NO_PREDECESSOR, r#"{"type":"user_said","text":"é"}"#);
        assert!(line.contains(&hash));
        line.trim_end().to_owned()
    }

    #[test]
    fn a_written_line_comes_apart_again() {
        let line = sample();
        let raw = RawLine::parse(&line).expect("the layout");
        assert_eq!((raw.seq, raw.time, raw.prev), (7, "2026-01-02T03:04:05.678Z", NO_PREDECESSOR));
        assert_eq!(raw.event, r#"{"type":"user_said","text":"é"}"#);
        assert_eq!(raw.computed_hash(), raw.hash);
    }

    #[test]
    fn the_hash_is_that_of_the_line_without_its_hash_member() {
        let line = sample();
        let raw = RawLine::parse(&line).expect("the layout");
        let bare = line.replacen(&format!("\"hash\":\"{}\",", raw.hash), "", 1);
        assert_eq!(hex(&Sha256::digest(bare.as_bytes())), raw.hash);
    }

    #[test]
    fn another_layout_is_not_a_line() {
        let line = sample();
        for bad in
            ["", "{}", &line.replace("\"seq\":7", "\"seq\":07"), &line.replace("\"seq\":7", "\"seq\": 7"), &line[1..]]
        {
            assert_eq!(RawLine::parse(bad), None, "{bad}");
        }
        assert_eq!(RawLine::parse(&line.replacen("0000", "00G0", 1)), None);
    }
}
