//! A terminal session as an asciicast, version 2, from its raw log and the index of its times.

use std::io::{self, BufRead, Read, Write};

use jiff::Timestamp;
use serde_json::json;

/// What the header of a cast says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastHeader {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// When the session began.
    pub started: Timestamp,
    /// What players show as its name.
    pub title: String,
}

/// Writes the cast of a session to `out`.
///
/// `timing` has a line per chunk: milliseconds since the session began, a blank, the size of `raw` after the chunk. What
/// `raw` holds beyond the last line of `timing` is written with the last time; a line that makes no sense is left out.
///
/// # Errors
/// What reading and writing say.
pub fn cast(mut raw: impl Read, timing: impl BufRead, header: &CastHeader, mut out: impl Write) -> io::Result<()> {
    let head = json!({
        "version": 2,
        "width": header.width,
        "height": header.height,
        "timestamp": header.started.as_second(),
        "title": header.title,
        "env": { "TERM": "xterm-256color" },
    });
    writeln!(out, "{head}")?;
    let (mut text, mut at, mut last_ms) = (Text::default(), 0, 0);
    for line in timing.lines() {
        let line = line?;
        let parsed =
            line.split_once(' ').and_then(|(ms, end)| Some((ms.parse::<u64>().ok()?, end.parse::<u64>().ok()?)));
        let Some((ms, end)) = parsed.filter(|(_, end)| *end > at) else { continue };
        last_ms = last_ms.max(ms);
        at += text.take(&mut (&mut raw).take(end - at), |piece| event(&mut out, last_ms, piece))?;
    }
    text.take(&mut raw, |piece| event(&mut out, last_ms, piece))?;
    text.rest(|piece| event(&mut out, last_ms, piece))?;
    out.flush()
}

fn event(out: &mut impl Write, milliseconds: u64, text: &str) -> io::Result<()> {
    writeln!(out, "[{}.{:03}, \"o\", {}]", milliseconds / 1000, milliseconds % 1000, json!(text))
}

/// Bytes on their way to text: a character that is cut between chunks waits for its rest.
#[derive(Default)]
struct Text {
    waiting: Vec<u8>,
}

impl Text {
    /// Reads `input` to its end and gives on what is whole; returns how much was read.
    fn take(&mut self, input: &mut impl Read, mut give: impl FnMut(&str) -> io::Result<()>) -> io::Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let mut sum = 0;
        loop {
            let length = match input.read(&mut buffer) {
                Ok(0) => return Ok(sum),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            sum += length as u64;
            self.waiting.extend_from_slice(&buffer[..length]);
            let whole = whole_characters(&self.waiting);
            if whole > 0 {
                give(&String::from_utf8_lossy(&self.waiting[..whole]))?;
                self.waiting.drain(..whole);
            }
        }
    }

    fn rest(&mut self, mut give: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let rest = std::mem::take(&mut self.waiting);
        if rest.is_empty() { Ok(()) } else { give(&String::from_utf8_lossy(&rest)) }
    }
}

/// How many bytes can be given on without cutting a character that may still become whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    let cut = &bytes[bytes.len() - tail..];
    let may_grow = tail > 0 && std::str::from_utf8(cut).is_err_and(|error| error.error_len().is_none());
    if may_grow { bytes.len() - tail } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast_of(raw: &[u8], timing: &str) -> Vec<String> {
        let started = "2026-01-01T00:00:00Z".parse().unwrap();
        let header = CastHeader { width: 80, height: 24, started, title: "main".into() };
        let mut out = Vec::new();
        cast(raw, timing.as_bytes(), &header, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_byte_of_the_log_is_played_at_its_time() {
        let lines = cast_of("ab\u{1b}[1mcd".as_bytes(), "0 2\n1500 6\n");
        assert_eq!(
            lines[0],
            r#"{"version":2,"width":80,"height":24,"timestamp":1767225600,"title":"main","env":{"TERM":"xterm-256color"}}"#
        );
        assert_eq!(lines[1..], [r#"[0.000, "o", "ab"]"#, r#"[1.500, "o", "\u001b[1m"]"#, r#"[1.500, "o", "cd"]"#]);
    }

    #[test]
    fn a_character_cut_between_chunks_stays_whole() {
        let lines = cast_of("a€b".as_bytes(), "10 2\n20 3\n30 5\n");
        assert_eq!(lines[1..], [r#"[0.010, "o", "a"]"#, r#"[0.030, "o", "€b"]"#]);
        assert_eq!(
            cast_of(b"a\xff\xe2", "10 3\n")[1..],
            ["[0.010, \"o\", \"a\u{fffd}\"]", "[0.010, \"o\", \"\u{fffd}\"]"]
        );
    }

    #[test]
    fn nonsense_in_the_index_is_left_out() {
        assert_eq!(cast_of(b"abc", "x\n5 1\n4 1\n-1 2\n").len(), 3);
        assert_eq!(cast_of(b"", "").len(), 1);
        assert_eq!(cast_of(b"abc", "9 100\n")[1..], [r#"[0.009, "o", "abc"]"#]);
    }
}
