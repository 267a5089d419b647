//! What a person typed, told from what their terminal says by itself.

use std::time::{Duration, Instant};

/// A person who rests for so long begins a new stretch of typing.
const REST: Duration = Duration::from_secs(2);

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The typing of people into one session.
#[derive(Debug, Default)]
pub(super) struct Typing {
    last: Option<Instant>,
}

impl Typing {
    /// Takes note of what came from a person's terminal; whether a stretch of typing begins with it.
    pub(super) fn begins(&mut self, keys: &[u8], now: Instant) -> bool {
        if !has_keys(keys) {
            return false;
        }
        let before = self.last.replace(now);
        before.is_none_or(|before| now.duration_since(before) >= REST)
    }
}

/// Whether anything of it is a key: terminals also send what they are asked for (where the cursor is, what they are,
/// their colours) and whether their window has the focus.
pub(super) fn has_keys(mut keys: &[u8]) -> bool {
    while let Some(rest) = after_report(keys) {
        keys = rest;
    }
    !keys.is_empty()
}

/// What follows a report at the beginning of `keys`; None if there is none.
fn after_report(keys: &[u8]) -> Option<&[u8]> {
    let (kind, body) = (keys.strip_prefix(&[ESC])?.first()?, &keys[2..]);
    match kind {
        b'[' => {
            let end = body.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            let (arguments, last) = (&body[..end], body[end]);
            let numbers = |prefix: &[u8]| {
                let numbers = arguments.strip_prefix(prefix);
                numbers.is_some_and(|numbers| numbers.iter().all(|byte| byte.is_ascii_digit() || b";$".contains(byte)))
            };
            let report = match last {
                // Row and column. A function key with a modifier looks the same only where both are small.
                b'R' => numbers(b"") && arguments.contains(&b';') || numbers(b"?"),
                b'c' => numbers(b"?") || numbers(b">") || numbers(b"="),
                b'n' => numbers(b"") || numbers(b"?"),
                b'y' => arguments.ends_with(b"$"),
                b't' => numbers(b"") && !arguments.is_empty(),
                b'I' | b'O' => arguments.is_empty(),
                b'u' => numbers(b"?"),
                _ => false,
            };
            report.then(|| &body[end + 1..])
        }
        b']' | b'P' => {
            let end = body.iter().position(|byte| *byte == BEL || *byte == ESC)?;
            match body[end] {
                BEL => Some(&body[end + 1..]),
                _ => body[end + 1..].strip_prefix(b"\\"),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_says_by_itself_is_no_typing() {
        let reports: [&[u8]; 12] = [
            b"",
            b"\x1b[12;40R",
            b"\x1b[?12;40R",
            b"\x1b[?64;1;2c",
            b"\x1b[>0;276;0c",
            b"\x1b[0n",
            b"\x1b[I",
            b"\x1b[O\x1b[I",
            b"\x1b]11;rgb:0000/0000/0000\x07",
            b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\\x1b[1;1R",
            b"\x1bP>|tmux 3.3a\x1b\\",
            b"\x1b[?2026;2$y\x1b[8;48;160t",
        ];
        for report in reports {
            assert!(!has_keys(report), "{report:?}");
        }
    }

    #[test]
    fn keys_are_typing() {
        let typed: [&[u8]; 9] = [
            b"a",
            b"\r",
            b"\x03",
            b"\x1b",
            b"\x1b[A",
            b"\x1bOP",
            b"\x1b[200~pasted\x1b[201~",
            b"\x1b[I\x1b[Oy",
            b"\x1b[<0;10;10M",
        ];
        for keys in typed {
            assert!(has_keys(keys), "{keys:?}");
        }
    }

    #[test]
    fn a_stretch_is_told_once_and_a_new_one_after_a_rest() {
        let (mut typing, begun) = (Typing::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let told = [0, 1500, 3000, 4900, 7000, 7001].map(|ms| typing.begins(b"k", at(ms)));
        assert_eq!(told, [true, false, false, false, true, false]);
        assert!(!typing.begins(b"\x1b[I", at(20_000)));
        assert!(typing.begins(b"k", at(20_001)));
    }
}
