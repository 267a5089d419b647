//! Search in a log: line by line, in linear time whatever the pattern, with bounded results.

use std::collections::VecDeque;

use regex::bytes::{Regex, RegexBuilder};

use crate::guest::{Client, GuestError, SessionInfo};
use crate::terminal::binary::is_binary;
use crate::terminal::plain::{PlainLine, PlainLines};

/// Longest pattern.
const LONGEST_PATTERN: usize = 4 << 10;

/// Most memory of a compiled pattern.
const LARGEST_PROGRAM: usize = 2 << 20;

/// Most context lines before and after a match.
const MOST_CONTEXT: usize = 20;

/// Matches that are remembered from the beginning, and as many from the end.
const REMEMBERED: usize = 20;

/// Text of each of these halves.
const SHOWN: usize = 5 << 10;

/// Longest piece of a line that is shown.
const LONGEST_SHOWN: usize = 400;

const PIECE: u64 = 512 << 10;

/// A regular expression that was understood.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Takes a pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// What is wrong with it, in the parser's words.
    pub fn new(text: &str, case: PatternCase) -> Result<Self, String> {
        if text.len() > LONGEST_PATTERN {
            return Err(format!("the pattern is {} bytes long; at most {LONGEST_PATTERN} are taken", text.len()));
        }
        let built = RegexBuilder::new(text)
            .case_insensitive(case == PatternCase::Ignored)
            .size_limit(LARGEST_PROGRAM)
            .dfa_size_limit(LARGEST_PROGRAM)
            .build();
        match built {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("the pattern is too large once it is compiled; use smaller repetitions".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether upper and lower case are different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternCase {
    /// They are.
    Significant,
    /// They are not.
    Ignored,
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct GrepSpec {
    /// In a line's plain text: without colours, a progress line at its last state.
    pub pattern: Pattern,
    /// Lines to show before and after each match; at most 20.
    pub context: usize,
    /// Where in the log to begin.
    pub from_byte: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrepReport {
    /// The lines: `12: a match`, `13- context`, `--` between lines that are not neighbours.
    pub text: String,
    /// Lines that match.
    pub matches: u64,
    /// How many of them are shown.
    pub shown: u64,
    /// Lines that were looked at.
    pub lines: u64,
    /// Lines that were too long to be looked at whole.
    pub long_lines: u64,
}

/// Looks through a log.
pub(super) async fn grep(client: &Client, info: &SessionInfo, spec: &GrepSpec) -> Result<GrepReport, GuestError> {
    let mut search = Search::new(spec);
    let mut at = spec.from_byte;
    while at < info.log_size {
        let piece = client.read_log(&info.log, at, PIECE.min(info.log_size - at)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        // Matching takes a moment, so not on a thread that others wait for.
        let searched = tokio::task::spawn_blocking(move || {
            search.feed(&piece);
            search
        });
        match searched.await {
            Ok(further) => search = further,
            Err(error) => return Err(GuestError::Protocol(std::io::Error::other(error))),
        }
    }
    Ok(search.finish())
}

/// A line that is to be shown.
#[derive(Debug)]
struct Shown {
    number: u64,
    is_match: bool,
    text: String,
}

#[derive(Debug)]
struct Search {
    lines: PlainLines,
    found: Found,
}

#[derive(Debug)]
struct Found {
    pattern: Regex,
    context: usize,
    number: u64,
    matches: u64,
    long_lines: u64,
    before: VecDeque<Shown>,
    after: usize,
    head: Vec<Shown>,
    head_matches: usize,
    tail: VecDeque<Shown>,
    tail_matches: usize,
}

impl Search {
    fn new(spec: &GrepSpec) -> Self {
        let found = Found {
            pattern: spec.pattern.0.clone(),
            context: spec.context.min(MOST_CONTEXT),
            number: 0,
            matches: 0,
            long_lines: 0,
            before: VecDeque::new(),
            after: 0,
            head: Vec::new(),
            head_matches: 0,
            tail: VecDeque::new(),
            tail_matches: 0,
        };
        Self { lines: PlainLines::default(), found }
    }

    fn feed(&mut self, piece: &[u8]) {
        let found = &mut self.found;
        self.lines.feed(piece, &mut |line| found.look(line));
    }

    fn finish(mut self) -> GrepReport {
        let rest = self.lines.rest();
        if !rest.text.is_empty() {
            self.found.look(rest);
        }
        self.found.report()
    }
}

impl Found {
    fn look(&mut self, line: PlainLine<'_>) {
        self.number += 1;
        self.long_lines += u64::from(line.cut);
        let is_match = self.pattern.is_match(line.text);
        if !is_match && self.after == 0 && self.context == 0 {
            return;
        }
        let shown = || Shown { number: self.number, is_match, text: shown(line.text) };
        if is_match {
            self.matches += 1;
            self.after = self.context;
            let line = shown();
            for earlier in std::mem::take(&mut self.before) {
                self.keep(earlier);
            }
            self.keep(line);
        } else if self.after > 0 {
            let line = shown();
            self.after -= 1;
            self.keep(line);
        } else {
            let line = shown();
            self.before.push_back(line);
            if self.before.len() > self.context {
                self.before.pop_front();
            }
        }
    }

    fn keep(&mut self, line: Shown) {
        let head_is_open = self.head_matches < REMEMBERED || (!line.is_match && self.tail.is_empty());
        if head_is_open {
            self.head_matches += usize::from(line.is_match);
            self.head.push(line);
            return;
        }
        self.tail_matches += usize::from(line.is_match);
        self.tail.push_back(line);
        // Whole groups go: a match with what leads to it.
        while self.tail_matches > REMEMBERED {
            self.tail_matches -= usize::from(self.tail.pop_front().is_some_and(|line| line.is_match));
        }
    }

    fn report(self) -> GrepReport {
        let (mut text, mut shown, mut last) = (String::new(), 0, None);
        let mut put = |text: &mut String, line: &Shown| {
            if last.is_some_and(|last| last + 1 < line.number) {
                text.push_str("--\n");
            }
            last = Some(line.number);
            shown += u64::from(line.is_match);
            text.push_str(&line.words());
        };
        for line in fitting(self.head.iter()) {
            put(&mut text, line);
        }
        let mut tail = String::new();
        let mut kept: Vec<_> = fitting(self.tail.iter().rev()).collect();
        kept.reverse();
        for line in kept {
            put(&mut tail, line);
        }
        let left_out = self.matches - shown;
        if left_out > 0 {
            text.push_str(&format!("[… {left_out} more matching lines are not shown …]\n"));
            tail = tail.strip_prefix("--\n").map(str::to_owned).unwrap_or(tail);
        }
        text.push_str(&tail);
        GrepReport { text, matches: self.matches, shown, lines: self.number, long_lines: self.long_lines }
    }
}

/// As many of the lines as fit into half of what is shown.
fn fitting<'a>(lines: impl Iterator<Item = &'a Shown>) -> impl Iterator<Item = &'a Shown> {
    let mut left = SHOWN;
    lines.take_while(move |line| {
        let size = line.words().len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    })
}

impl Shown {
    fn words(&self) -> String {
        format!("{}{} {}\n", self.number, if self.is_match { ':' } else { '-' }, self.text)
    }
}

fn shown(line: &[u8]) -> String {
    if is_binary(line) {
        return format!("[binary: {} bytes]", line.len());
    }
    let text = String::from_utf8_lossy(&line[..line.len().min(LONGEST_SHOWN)]);
    let text = text.trim_end();
    if line.len() > LONGEST_SHOWN { format!("{text} […]") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, pattern: &str, context: usize) -> GrepReport {
        let pattern = Pattern::new(pattern, PatternCase::Significant).unwrap();
        let mut search = Search::new(&GrepSpec { pattern, context, from_byte: 0 });
        for piece in text.as_bytes().chunks(7) {
            search.feed(piece);
        }
        search.finish()
    }

    #[test]
    fn matches_are_numbered_and_have_their_context() {
        let text = "one\r\ntwo\r\n\x1b[31mthr\x1b[0mee\r\nfour\r\nfive\r\nsix\r\nthree again";
        insta::assert_snapshot!(found(text, "three", 1).text, @r"
        2- two
        3: three
        4- four
        --
        6- six
        7: three again
        ");
        let none = found(text, "seven", 2);
        assert_eq!((none.text.as_str(), none.matches, none.lines), ("", 0, 7));
    }

    #[test]
    fn many_matches_are_counted_and_the_first_and_last_are_shown() {
        let text: String = (1..=1000).map(|n| format!("match {n}\n")).collect();
        let report = found(&text, "match", 0);
        assert_eq!((report.matches, report.shown), (1000, 40));
        assert!(report.text.starts_with("1: match 1\n2: match 2\n"));
        assert!(report.text.contains("20: match 20\n[… 960 more matching lines are not shown …]\n981: match 981\n"));
        assert!(report.text.ends_with("1000: match 1000\n"));
    }

    #[test]
    fn long_lines_and_many_of_them_take_no_room() {
        let text = format!("{}\n", "x".repeat(100_000)).repeat(200);
        let report = found(&text, "^x+", 3);
        assert_eq!((report.matches, report.long_lines), (200, 200));
        assert!(report.text.len() < 3 * SHOWN, "{}", report.text.len());
    }

    #[test]
    fn a_bad_pattern_is_told_in_the_words_of_the_parser() {
        let told = |pattern: &str| Pattern::new(pattern, PatternCase::Ignored).unwrap_err();
        assert!(told("(a").contains("unclosed group"), "{}", told("(a"));
        assert!(told("(?:a{1000}){1000}").contains("too large"));
        assert!(told(&"a".repeat(5000)).contains("5000 bytes long"));
        assert!(told("(?=a)").contains("look-around"));
    }

    #[test]
    fn a_catastrophic_pattern_is_harmless() {
        let begun = std::time::Instant::now();
        let text = format!("{}!\n", "a".repeat(30_000)).repeat(20);
        assert_eq!(found(&text, r"^(a+)+$", 0).matches, 0);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}
