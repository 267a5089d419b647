//! Lines that look like errors, ranked, so that the few worth showing are found among millions.

use regex::bytes::RegexSet;

/// Longest piece of such a line that is shown.
const LONGEST: usize = 300;

/// Most lines of one rank that are remembered: the first ones name the cause, so they are kept.
const REMEMBERED: usize = 40;

/// Worst first. The first row that fits a line is its rank.
const RANKS: [&str; 3] = [
    r"(?i)traceback \(|\bpanicked\b|\bfatal\b|segmentation fault|core dumped|out of memory|\boom\b|no space left",
    r"(?i)\berrors?\b|\bfailed\b|\bfailure\b|exception|\babort|permission denied|not found|no such file|\bundefined\b|\bE\d{3,4}\b",
    r"(?i)\bwarn(ing)?\b|\bdeprecated\b|\bkilled\b|timed? ?out",
];

/// Every line that fits a rank holds one of these, in small or capital letters.
#[rustfmt::skip]
pub(super) const STEMS: [&str; 33] = [
    "traceback (", "panicked", "fatal", "segmentation", "core dumped", "out of memory", "oom", "no space left",
    "error", "failed", "failure", "exception", "abort", "permission denied", "not found", "no such file", "undefined",
    "e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9",
    "warn", "deprecated", "killed", "timed", "time out", "timeout",
];

/// A line worth showing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorLine {
    /// From 1.
    pub(super) number: u64,
    /// Its text, cut to a readable length.
    pub(super) text: String,
}

/// Looks at lines one by one and remembers the worst.
#[derive(Debug)]
pub(super) struct ErrorLines {
    ranks: RegexSet,
    found: [Vec<ErrorLine>; 3],
    /// How many lines looked like errors, those included that are not remembered.
    pub(super) count: u64,
}

impl ErrorLines {
    /// Has seen nothing yet.
    pub(super) fn new() -> Self {
        let ranks = RegexSet::new(RANKS).expect("the patterns are right");
        Self { ranks, found: Default::default(), count: 0 }
    }

    /// Looks at the next line.
    pub(super) fn look(&mut self, number: u64, line: &[u8]) {
        let Some(rank) = self.ranks.matches(line).iter().next() else { return };
        self.count += 1;
        if self.found[rank].len() < REMEMBERED {
            let text = String::from_utf8_lossy(&line[..line.len().min(LONGEST)]);
            let text: String = text.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
            self.found[rank].push(ErrorLine { number, text: text.trim_end().to_owned() });
        }
    }

    /// The worst lines whose text fits into `bytes`, in the order of the output; each text once.
    pub(super) fn worst(&self, bytes: usize) -> Vec<ErrorLine> {
        let mut chosen: Vec<ErrorLine> = Vec::new();
        let mut left = bytes;
        for line in self.found.iter().flatten() {
            let size = line.text.len() + 12;
            if size <= left && !chosen.iter().any(|other| other.text == line.text) {
                left -= size;
                chosen.push(line.clone());
            }
        }
        chosen.sort_by_key(|line| line.number);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_lines_win_and_stand_in_order() {
        let mut errors = ErrorLines::new();
        let lines = ["warning: slow", "all good", "error: x", "error: x", "Traceback (most recent call last):"];
        for (at, line) in lines.iter().enumerate() {
            errors.look(at as u64 + 1, line.as_bytes());
        }
        let numbers = |bytes| errors.worst(bytes).iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(1000), [1, 3, 5]);
        assert_eq!(numbers(75), [3, 5]);
        assert_eq!(errors.count, 4);
    }

    #[test]
    fn words_that_only_contain_an_error_do_not_count() {
        let mut errors = ErrorLines::new();
        for line in ["terrors of the night", "unfailed", "mirrored", "0 problems"] {
            errors.look(1, line.as_bytes());
        }
        assert_eq!(errors.count, 0);
    }
}
