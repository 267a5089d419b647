//! How numbers, times and emphasis look in text for people.

use std::borrow::Cow;

use super::visible_line;
pub(super) use crate::domain::{duration_words as duration, size_words as size};

/// Ends all emphasis.
const RESET: &str = "\u{1b}[0m";

/// Emphasis, or none: colour never carries meaning alone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// Colour may be used.
    pub(super) colour: bool,
}

impl Style {
    pub(super) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.sgr("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.sgr("31", text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.sgr("33", text)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        // Emphasis within emphasis ends alone.
        let text = text.replace(RESET, &format!("{RESET}\u{1b}[{code}m"));
        format!("\u{1b}[{code}m{text}{RESET}")
    }
}

/// Time since the run began, as a clock: `0:05`, `12:34`, `1:02:03`.
pub(super) fn elapsed(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// `1 turn`, `2 turns`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// One line of recorded text, safe to print, and cut after `most` characters.
pub(super) fn one_line(text: &str, most: usize) -> Cow<'_, str> {
    let Some((at, _)) = text.char_indices().nth(most) else { return visible_line(text) };
    Cow::Owned(format!("{} [... {}]", visible_line(&text[..at]), size((text.len() - at) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_people_say_them() {
        let clock: Vec<String> = [5_000, 754_000, 3_723_000].into_iter().map(elapsed).collect();
        assert_eq!(clock, ["0:05", "12:34", "1:02:03"]);
        assert_eq!(count(1, "turn") + &count(0, "turn"), "1 turn0 turns");
    }

    #[test]
    fn emphasis_within_emphasis_ends_alone() {
        let style = Style { colour: true };
        let nested = style.dim(&format!("{}, 1 s", style.bad("exit 1")));
        assert_eq!(nested, "\u{1b}[2m\u{1b}[31mexit 1\u{1b}[0m\u{1b}[2m, 1 s\u{1b}[0m");
        assert_eq!(Style::default().dim("a"), "a");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        assert_eq!(one_line("äbc", 3), "äbc");
        assert_eq!(one_line("äbcd\n", 3), "äbc [... 2 B]");
    }
}
