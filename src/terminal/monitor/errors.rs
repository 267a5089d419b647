//! The same error again and again.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use regex::{Regex, RegexSet};

use crate::domain::Finding;

/// Lines that report an error. What merely speaks of errors (`0 errors`, `mean error 0.1`, a file's name) is none.
static REPORTS: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = [
        r"(?i)^\W*(?:[\d:.,/TZ+-]+\W+){0,3}(?:error|fatal|critical)(?:\[\w+\])?\s*[:\])!-]",
        r"\b[A-Z]\w*(?:Error|Exception)(?::|\s*$|\s+in\b|\s+at\b)",
        r"(?i)\blevel=(?:error|fatal)\b",
        r"(?:^|[\s\[|])(?:ERROR|FATAL|CRITICAL)(?:[\s\]|:]|$)",
        r"(?i)\b(?:connection refused|connection reset by peer|no space left on device|too many open files|cannot allocate memory|out of memory|permission denied)\b",
    ];
    RegexSet::new(patterns).expect("the patterns are right")
});

/// What says that nothing is wrong, or that it is a measure.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)\b(?:0|no|without|zero)\s+(?:errors?|failures?|fatal)\b|\b(?:errors?|failures?|fatal)\s*[:=]?\s*[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?\s*%?(?:[\s,;|)]|$)|\bexpected (?:error|failure)|(?:ok|passed|xfail)\s*$";
    Regex::new(pattern).expect("the pattern is right")
});

/// How often it must have come.
const OFTEN: u64 = 10;

/// Over which time at least: a compiler that reports ten mistakes at once repeats nothing.
const OVER: Duration = Duration::from_secs(30);

/// Told again when it has come so many times as often.
const AGAIN: u64 = 100;

/// Kinds that are remembered.
const MOST: usize = 64;

/// What is looked at of a line.
const LOOKED_AT: usize = 400;

/// Counts errors by what is the same in them.
#[derive(Debug, Default)]
pub(super) struct RepeatedErrors {
    kinds: HashMap<String, Kind>,
}

#[derive(Debug)]
struct Kind {
    first: String,
    since: Duration,
    count: u64,
    tell_at: u64,
}

impl RepeatedErrors {
    /// Looks at a line.
    pub(super) fn look(&mut self, now: Duration, line: &str) -> Option<Finding> {
        let line: String = line.chars().take(LOOKED_AT).collect();
        if !REPORTS.is_match(&line) || HARMLESS.is_match(&line) {
            return None;
        }
        let shape = shape(&line);
        if self.kinds.len() >= MOST && !self.kinds.contains_key(&shape) {
            return None;
        }
        let kind = self.kinds.entry(shape).or_insert(Kind { first: line, since: now, count: 0, tell_at: OFTEN });
        kind.count += 1;
        if kind.count < kind.tell_at || now.saturating_sub(kind.since) < OVER {
            return None;
        }
        kind.tell_at = kind.count * AGAIN;
        Some(Finding::RepeatedErrors { count: kind.count, line: kind.first.trim().to_owned() })
    }
}

/// The line without what differs from one time to the next: numbers, addresses, times.
fn shape(line: &str) -> String {
    let mut shape = String::with_capacity(line.len());
    for word in line.split_whitespace() {
        if word.bytes().any(|byte| byte.is_ascii_digit()) {
            let kept = word.chars().filter(|c| !c.is_ascii_hexdigit());
            shape.push('#');
            shape.extend(kept);
        } else {
            shape.push_str(word);
        }
        shape.push(' ');
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these lines every five seconds, again and again.
    fn told(lines: &[&str], times: u32) -> Vec<Finding> {
        let mut errors = RepeatedErrors::default();
        let mut found = Vec::new();
        for nth in 0..times {
            for line in lines {
                found.extend(errors.look(Duration::from_secs(5) * nth, line));
            }
        }
        found
    }

    #[test]
    fn an_error_that_comes_again_and_again_is_told_once() {
        for line in [
            "2026-11-22 10:00:01 ERROR worker: connection to db:5432 failed",
            "error: could not fetch https://a/b: timed out",
            "requests.exceptions.ConnectionError: HTTPConnectionPool(host='a')",
            "curl: (7) Failed to connect to 127.0.0.1 port 80: Connection refused",
            "[ERROR] task 12 died",
            "time=1 level=error msg=\"x\"",
        ] {
            let found = told(&[line], 50);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(matches!(&found[0], Finding::RepeatedErrors { count: 10, line: first } if first == line));
        }
    }

    #[test]
    fn what_differs_only_by_numbers_is_the_same() {
        let mut errors = RepeatedErrors::default();
        let found: Vec<_> = (0..20u64)
            .filter_map(|nth| {
                errors.look(Duration::from_secs(5 * nth), &format!("ERROR: try {nth} at 10:00:{nth:02} failed"))
            })
            .collect();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn many_mistakes_at_once_and_words_that_only_speak_of_errors_are_none() {
        let mut errors = RepeatedErrors::default();
        let at_once = (0..100).filter_map(|_| errors.look(Duration::from_secs(1), "error: unknown type name `foo`"));
        assert_eq!(at_once.count(), 0);
        for line in [
            "epoch 3 train error 0.12 test error 0.13",
            "Error: 0.0321",
            "errors: 0, failed: 0",
            "processed 100 rows, 0 errors",
            "gcc -c error.c -o error.o",
            "Compiling thiserror v2.0.21",
            "test errors::are_kept ... ok",
            "Setting up liberror-perl (0.17029-2) ...",
            "mean squared error 1.2e-3",
            "PLAY RECAP ok=3 failed=0",
            "tests/test_errors.py::test_permission_denied PASSED",
        ] {
            assert_eq!(told(&[line], 50), [], "{line}");
        }
    }
}
