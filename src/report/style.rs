//! How numbers, times and emphasis look in text for people.

use std::borrow::Cow;

use super::visible_line;

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

/// A duration as people say it: `0.12 s`, `3.4 s`, `2 min 05 s`, `3 h 07 min`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("0.{:02} s", milliseconds / 10),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
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

/// A size: `12 B`, `3.4 kB`, `5.6 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
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
        let said: Vec<String> = [0, 120, 3_456, 125_000, 11_220_000].into_iter().map(duration).collect();
        assert_eq!(said, ["0.00 s", "0.12 s", "3.4 s", "2 min 05 s", "3 h 07 min"]);
        let clock: Vec<String> = [5_000, 754_000, 3_723_000].into_iter().map(elapsed).collect();
        assert_eq!(clock, ["0:05", "12:34", "1:02:03"]);
        let sizes: Vec<String> = [12, 3_456, 5_678_901, 1_200_000_000].into_iter().map(size).collect();
        assert_eq!(sizes, ["12 B", "3.4 kB", "5.6 MB", "1.2 GB"]);
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
