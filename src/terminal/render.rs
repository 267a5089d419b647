//! Bytes of a terminal as the text that a person would have seen: colours gone, progress bars at their last state.

use avt::Terminal;
use avt::observer::Transcript;

use super::binary::summed_up;
use crate::guest::TermSize;

/// The lines that `raw` leaves on a terminal of that size, those that scrolled away included.
///
/// Output without cursor movement is taken as it is, so that tabs stay tabs. A full-screen program that was still
/// running is shown by its screen. What is not UTF-8 is replaced, and what is no text at all is summed up.
pub fn lines(raw: &[u8], size: TermSize) -> Vec<String> {
    let raw = summed_up(raw);
    let text = String::from_utf8_lossy(&raw);
    let text = without_colours(&text);
    if is_plain(&text) {
        return plain_lines(&text);
    }
    let Ok(mut terminal) = Terminal::new(size.cols.max(10).into(), size.rows.max(2).into()) else {
        return plain_lines(&text);
    };
    let mut transcript = Transcript::new();
    let mut lines = terminal.feed_with(text.as_str(), &mut transcript);
    lines.extend(transcript.finish(&terminal));
    if terminal.active_screen_kind() == avt::ScreenKind::Alternate {
        let screen = terminal.screen().text();
        let shown = screen.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
        lines.extend(screen.into_iter().take(shown).map(|line| line.trim_end().to_owned()));
    }
    // The emulator draws DEL, which no terminal shows.
    lines.into_iter().map(|line| if line.contains('\x7f') { line.replace('\x7f', "") } else { line }).collect()
}

/// The text without sequences that only colour (`ESC [ … m`).
pub(super) fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(at);
        out.push_str(before);
        let body = &sequence[2..];
        let end = body.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'));
        match end {
            Some(end) if body[end..].starts_with('m') => rest = &body[end + 1..],
            _ => {
                out.push_str("\x1b[");
                rest = body;
            }
        }
    }
    out.push_str(rest);
    out
}

fn is_plain(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => {}
            '\r' if matches!(chars.peek(), Some('\n' | '\r') | None) => {}
            c if c.is_control() => return false,
            _ => {}
        }
    }
    true
}

fn plain_lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(raw: &str) -> Vec<String> {
        lines(raw.as_bytes(), TermSize { cols: 20, rows: 4 })
    }

    #[test]
    fn a_progress_bar_is_its_last_state() {
        assert_eq!(rendered("start\r\n 10%\r 50%\r100%\r\ndone\r\n"), ["start", "100%", "done"]);
        assert_eq!(rendered("abc\x1b[2K\rx\r\n"), ["x"]);
    }

    #[test]
    fn plain_text_keeps_its_tabs_and_long_lines() {
        let long = "x".repeat(50);
        assert_eq!(rendered(&format!("a\tb\r\n{long}\r\n")), ["a\tb", &long]);
        assert_eq!(rendered("\x1b[1;31mred\x1b[0m\tb\r\r\n"), ["red\tb"]);
        assert_eq!(rendered(&format!("{long}\r\n1\r2\r\n")), [long.as_str(), "2"]);
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let hostile = "\x1b]0;title\x07a\x1b]52;c;eHg=\x07b\x1bPq#0\x1b\\c\u{9b}31md\x08\x00\x7f\r\n";
        let shown = rendered(hostile).join("\n");
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }

    #[test]
    fn a_full_screen_program_is_shown_by_its_screen_and_gone_after_it() {
        assert_eq!(rendered("a\r\n\x1b[?1049h\x1b[Hmenu"), ["a", "menu"]);
        assert_eq!(rendered("a\r\n\x1b[?1049h\x1b[Hmenu\x1b[?1049lb\r\n"), ["a", "b"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(lines(b"a\xffb\n", TermSize::default()), ["a\u{fffd}b"]);
    }
}
