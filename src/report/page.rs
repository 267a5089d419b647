//! Text laid out in columns: wrapped at the width of a terminal where there is one, and left as it is where not.

use std::borrow::Cow;

use textwrap::core::display_width;
use textwrap::{Options, WordSplitter};

/// The least room that text is given, however narrow the terminal is.
const LEAST_ROOM: usize = 20;

/// How wide the text may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Page {
    /// Columns of the terminal; none: nothing is wrapped.
    pub(super) width: Option<usize>,
}

impl Page {
    /// One line of safe text after `lead`; what does not fit follows from column `indent` on.
    pub(super) fn line(self, lead: &str, indent: usize, text: &str, paint: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        let ahead = display_width(lead).saturating_sub(indent);
        for (n, piece) in self.pieces(indent, ahead, text).iter().enumerate() {
            match (n, piece.is_empty()) {
                (0, true) => out.push_str(lead.trim_end()),
                (0, false) => out.push_str(lead),
                _ => out.extend(std::iter::repeat_n(' ', indent)),
            }
            out.push_str(&paint(piece));
            out.push('\n');
        }
        out
    }

    /// Safe text of any number of lines, all of them below the first.
    pub(super) fn paragraph(self, lead: &str, indent: usize, text: &str) -> String {
        let blank = " ".repeat(indent);
        let lines = text.trim_end_matches('\n').split('\n').enumerate();
        lines.map(|(n, line)| self.line(if n == 0 { lead } else { &blank }, indent, line, str::to_owned)).collect()
    }

    /// Splits a line into what fits; `ahead` columns of the first are taken.
    fn pieces(self, indent: usize, ahead: usize, text: &str) -> Vec<Cow<'_, str>> {
        match self.room(indent) {
            Some(room) if ahead + display_width(text) > room => broken(text, ahead, room),
            Some(_) | None => vec![Cow::Borrowed(text.trim_end())],
        }
    }

    fn room(self, indent: usize) -> Option<usize> {
        self.width.map(|width| width.saturating_sub(indent).max(LEAST_ROOM))
    }
}

fn broken(text: &str, ahead: usize, room: usize) -> Vec<Cow<'static, str>> {
    let taken = " ".repeat(ahead);
    let options = Options::new(room).word_splitter(WordSplitter::NoHyphenation).initial_indent(&taken);
    let pieces = textwrap::wrap(text, options).into_iter().enumerate();
    let bare = |(n, piece): (usize, Cow<'_, str>)| match n {
        0 => piece.get(ahead..).unwrap_or_default().to_owned(),
        _ => piece.into_owned(),
    };
    pieces.map(bare).map(Cow::Owned).collect()
}

/// Safe text wrapped at `width` columns, where there are any; a line feed between lines, none at the end.
pub fn wrapped(text: &str, width: Option<usize>) -> String {
    let lines = text.split('\n').map(|line| Page { width }.line("", 0, line, str::to_owned));
    let mut out: String = lines.collect();
    out.pop();
    out
}

/// The beginning of safe text that takes at most `width` columns.
pub fn fitting(text: &str, width: usize) -> &str {
    let mut columns = 0;
    let mut unit = [0; 4];
    let end = text.char_indices().find(|(_, c)| {
        columns += display_width(c.encode_utf8(&mut unit));
        columns > width
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// Safe text that comes in pieces and is wrapped as it comes. A word is printed once its end is known.
#[derive(Debug, Default)]
pub(super) struct Flow {
    page: Page,
    indent: usize,
    /// Columns taken on the current line, without the indent.
    column: usize,
    /// Columns to leave before the next word.
    blanks: usize,
    /// A line has begun and its indent is not printed yet.
    fresh: bool,
    word: String,
}

impl Flow {
    /// A flow whose lines begin at column `indent`, where the cursor is.
    pub(super) fn new(page: Page, indent: usize) -> Self {
        Self { page, indent, ..Self::default() }
    }

    /// What can be printed now that `text` has come.
    pub(super) fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            match c {
                '\n' => {
                    self.place_word(&mut out);
                    self.next_line(&mut out);
                }
                ' ' => {
                    self.place_word(&mut out);
                    self.blanks += 1;
                }
                c => self.word.push(c),
            }
        }
        out
    }

    /// What is still to be printed at the end.
    pub(super) fn end(mut self) -> String {
        let mut out = String::new();
        self.place_word(&mut out);
        out
    }

    fn next_line(&mut self, out: &mut String) {
        out.push('\n');
        (self.column, self.blanks, self.fresh) = (0, 0, true);
    }

    fn place_word(&mut self, out: &mut String) {
        let word = std::mem::take(&mut self.word);
        if word.is_empty() {
            return;
        }
        let room = self.page.room(self.indent).unwrap_or(usize::MAX);
        if self.column > 0 && self.column + self.blanks + display_width(&word) > room {
            self.next_line(out);
        }
        for (n, piece) in self.page.pieces(self.indent, 0, &word).iter().enumerate() {
            if n > 0 {
                self.next_line(out);
            }
            let indent = if std::mem::take(&mut self.fresh) { self.indent } else { 0 };
            out.extend(std::iter::repeat_n(' ', indent + self.blanks));
            out.push_str(piece);
            self.column += std::mem::take(&mut self.blanks) + display_width(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NARROW: Page = Page { width: Some(30) };

    fn flowed(page: Page, pieces: &[&str]) -> String {
        let mut flow = Flow::new(page, 6);
        let mut out: String = pieces.iter().map(|piece| flow.push(piece)).collect();
        out.push_str(&flow.end());
        out
    }

    #[test]
    fn what_does_not_fit_follows_below_the_text() {
        let text = "one two three four five six seven\n  eight";
        assert_eq!(
            NARROW.paragraph("lead  ", 6, text),
            "lead  one two three four five\n      six seven\n        eight\n"
        );
        assert_eq!(Page::default().paragraph("lead  ", 6, text), format!("lead  {}\n", text.replace('\n', "\n      ")));
    }

    #[test]
    fn a_word_wider_than_the_room_is_broken_and_nothing_is_lost() {
        assert_eq!(
            NARROW.line("> ", 2, &"x".repeat(40), str::to_owned),
            format!("> {}\n  {}\n", "x".repeat(28), "x".repeat(12))
        );
        assert_eq!(NARROW.line("> ", 2, "", str::to_owned), ">\n");
    }

    #[test]
    fn a_lead_may_be_longer_than_the_indent() {
        let text = "a word and some more of them";
        assert_eq!(
            NARROW.line("\u{1b}[1mverdict\u{1b}[0m: ", 2, text, str::to_owned),
            "\u{1b}[1mverdict\u{1b}[0m: a word and some more\n  of them\n"
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(fitting("漢字かな", 5), "漢字");
        assert_eq!(fitting("abc", 5), "abc");
        assert_eq!(
            NARROW.line("", 0, &"漢".repeat(20), str::to_owned),
            format!("{}\n{}\n", "漢".repeat(15), "漢".repeat(5))
        );
    }

    proptest! {
        #[test]
        fn streamed_text_is_laid_out_like_whole_text(text in "[ab漢 \n]{0,120}", cut in 0usize..120) {
            let text = text.trim();
            let cut = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            let whole = flowed(NARROW, &[text]);
            prop_assert_eq!(&flowed(NARROW, &[&text[..cut], &text[cut..]]), &whole);
            let fits = |(n, line): (usize, &str)| display_width(line) + if n == 0 { 6 } else { 0 } <= 30;
            // A run of blanks may push a word over; words alone never do.
            prop_assert!(text.contains("  ") || whole.lines().enumerate().all(fits), "{}", whole);
            let dense = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(dense(&whole), dense(text));
        }
    }
}
