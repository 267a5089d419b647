//! What kind of failure it was, by evidence and in this order: counters of the box, signals and exit codes, what the
//! last lines of the output say. Without evidence it is unknown, and stays so.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::Deserialize;

use super::fingerprint::fingerprint;
use crate::domain::{Exit, Failure, FailureClass};

/// So many lines of an output are looked at, from its end: what decides stands there.
const LAST_LINES: usize = 200;
/// And so many bytes at most.
const LAST_BYTES: usize = 64 << 10;
/// Characters of a line that is named as evidence.
const NAMED: usize = 200;

static BUILTIN: LazyLock<Signatures> =
    LazyLock::new(|| Signatures::parse(include_str!("signatures.toml")).expect("the table is held by a test"));

/// What is known of a command that ended.
#[derive(Debug, Clone, Default)]
pub struct Evidence<'a> {
    /// The command.
    pub command: &'a str,
    /// How it ended; None where nobody knows.
    pub exit: Option<Exit>,
    /// The last lines of its output, as people would read them.
    pub output: &'a str,
    /// Processes that the kernel has ended meanwhile for want of memory.
    pub oom_kills: u64,
    /// Processes that a limit has kept from being made meanwhile.
    pub forks_denied: u64,
    /// A disk of the box that has no room.
    pub full: Option<Full<'a>>,
}

/// A disk without room.
#[derive(Debug, Clone, Copy)]
pub struct Full<'a> {
    /// A path on it.
    pub path: &'a str,
    /// Whether it has no inodes; else it has no bytes.
    pub of_inodes: bool,
    /// Whether it had room when the command began.
    pub meanwhile: bool,
}

impl Full<'_> {
    fn words(&self) -> String {
        let what = if self.of_inodes { "inodes are" } else { "room is" };
        format!("no {what} left on the disk of {}", self.path)
    }
}

/// Checks that a text is a pattern.
///
/// # Errors
/// [`SignatureError`] that says why it is none.
pub fn check_pattern(pattern: &str) -> Result<(), SignatureError> {
    regex(pattern).map(drop)
}

/// Signatures are no table of such.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignatureError(String);

/// Knows what a failure comes from: by a table that comes with the program, and by others that are tried before it.
#[derive(Debug, Default)]
pub struct Classifier {
    own: Option<Signatures>,
}

/// What failures say of themselves, as a table: the first row that fits decides.
#[derive(Debug)]
pub struct Signatures {
    signatures: Vec<Signature>,
    /// All patterns in order, to be tried in one pass.
    all: RegexSet,
    /// Of each of them, the signature it belongs to.
    owners: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    signature: Vec<SignatureRow>,
}

/// A row of such a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRow {
    /// What the failure comes from.
    pub class: FailureClass,
    /// Regular expressions, one of which is found in the last lines of the output; case does not matter.
    pub patterns: Vec<String>,
    /// One that is found in the command, where the output alone would say too little.
    #[serde(default)]
    pub command: Option<String>,
    /// The exit codes with which it counts; any where there are none.
    #[serde(default)]
    pub exit: BTreeSet<i32>,
}

#[derive(Debug)]
struct Signature {
    class: FailureClass,
    /// Each is a part of the set of all; made into an expression of its own only when it is needed.
    patterns: Vec<String>,
    command: Option<Regex>,
    exit: BTreeSet<i32>,
}

impl Signature {
    fn read(row: &SignatureRow) -> Result<Self, SignatureError> {
        Ok(Self {
            class: row.class,
            patterns: row.patterns.clone(),
            command: row.command.as_deref().map(regex).transpose()?,
            exit: row.exit.clone(),
        })
    }

    fn fits(&self, evidence: &Evidence<'_>) -> bool {
        let exit = match evidence.exit {
            Some(Exit::Code(code)) => self.exit.is_empty() || self.exit.contains(&code),
            Some(Exit::Signal(_)) | None => self.exit.is_empty(),
        };
        exit && self.command.as_ref().is_none_or(|command| command.is_match(evidence.command))
    }
}

impl Signatures {
    /// Reads a table in TOML.
    ///
    /// # Errors
    /// [`SignatureError`] with the place of what is wrong.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let table: Table = toml::from_str(text).map_err(|error| SignatureError(error.to_string()))?;
        Self::of(&table.signature)
    }

    /// Makes a table of its rows.
    ///
    /// # Errors
    /// [`SignatureError`] for a pattern that is none.
    pub fn of(rows: &[SignatureRow]) -> Result<Self, SignatureError> {
        let signatures: Vec<Signature> = rows.iter().map(Signature::read).collect::<Result<_, _>>()?;
        let patterns = rows.iter().flat_map(|row| &row.patterns);
        let all = RegexSetBuilder::new(patterns).multi_line(true).case_insensitive(true).build();
        let all = all.map_err(|error| SignatureError(error.to_string()))?;
        let owner = |(at, row): (usize, &SignatureRow)| std::iter::repeat_n(at, row.patterns.len());
        let owners = rows.iter().enumerate().flat_map(owner).collect();
        Ok(Self { signatures, all, owners })
    }

    /// Makes the table that comes with the program, which takes a moment the first time: nobody has to wait for it later.
    pub fn prepare() {
        LazyLock::force(&BUILTIN);
    }

    fn find(&self, evidence: &Evidence<'_>, output: &str) -> Option<(FailureClass, String)> {
        let found: BTreeSet<usize> = self.all.matches(output).iter().map(|at| self.owners[at]).collect();
        let signature = found.into_iter().map(|at| &self.signatures[at]).find(|signature| signature.fits(evidence))?;
        // The last line that says so: what came before it may have been got over.
        let last = |pattern: &String| Some(regex(pattern).ok()?.find_iter(output).last()?.start());
        let at = signature.patterns.iter().filter_map(last).max()?;
        Some((signature.class, line_at(output, at)))
    }
}

impl Classifier {
    /// Knows what comes with the program.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Tries these before what comes with the program.
    pub fn with(own: Signatures) -> Self {
        Self { own: Some(own) }
    }

    /// What kind of failure it was; None for what has not failed.
    pub fn classify(&self, evidence: &Evidence<'_>) -> Option<Failure> {
        let has_failed = evidence.exit.is_none_or(|exit| !exit.is_success());
        let ran_full = evidence.full.is_some_and(|full| full.meanwhile);
        if !has_failed && evidence.oom_kills == 0 && !ran_full {
            return None;
        }
        let output = last_lines(evidence.output);
        let (class, words) = by_counters(evidence)
            .or_else(|| by_exit(evidence))
            .or_else(|| self.by_words(evidence, output))
            .or_else(|| by_signal(evidence))
            .or_else(|| evidence.full.map(|full| (FailureClass::DiskFull, full.words())))
            .unwrap_or_else(|| (FailureClass::Unknown, last_words(output)));
        let fingerprint = fingerprint(class, evidence.command, &words);
        Some(Failure { class, evidence: words, fingerprint })
    }

    fn by_words(&self, evidence: &Evidence<'_>, output: &str) -> Option<(FailureClass, String)> {
        let own = self.own.as_ref().and_then(|own| own.find(evidence, output));
        own.or_else(|| BUILTIN.find(evidence, output))
    }
}

fn regex(pattern: &str) -> Result<Regex, SignatureError> {
    let regex = RegexBuilder::new(pattern).multi_line(true).case_insensitive(true).build();
    regex.map_err(|error| SignatureError(format!("`{pattern}` is no pattern: {error}")))
}

/// What the box counted can't be hidden by an exit code of 0.
fn by_counters(evidence: &Evidence<'_>) -> Option<(FailureClass, String)> {
    let processes = |count: u64| if count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
    let ran_full = || evidence.full.filter(|full| full.meanwhile).map(|full| (FailureClass::DiskFull, full.words()));
    match (evidence.oom_kills, evidence.forks_denied) {
        (0, 0) => ran_full(),
        (0, _) if evidence.exit.is_some_and(Exit::is_success) => ran_full(),
        (0, denied) => {
            Some((FailureClass::ResourceLimit, format!("the box's limit of processes denied {}", processes(denied))))
        }
        (kills, _) => {
            Some((FailureClass::Oom, format!("the kernel ended {} of the box for want of memory", processes(kills))))
        }
    }
}

/// Exit codes that mean one thing alone, whatever the words.
fn by_exit(evidence: &Evidence<'_>) -> Option<(FailureClass, String)> {
    let runs_timeout =
        || evidence.command.split_whitespace().any(|word| word == "timeout" || word.ends_with("/timeout"));
    let (class, words) = match evidence.exit? {
        Exit::Code(124) if runs_timeout() => (FailureClass::Timeout, "exit 124: `timeout` ended it"),
        Exit::Code(137) if runs_timeout() => (FailureClass::Timeout, "exit 137: `timeout` killed it"),
        Exit::Code(130) | Exit::Signal(2) => (FailureClass::Interrupted, "SIGINT: it was interrupted"),
        Exit::Code(143) | Exit::Signal(15) => (FailureClass::Interrupted, "SIGTERM: somebody ended it"),
        Exit::Code(129) | Exit::Signal(1) => (FailureClass::Interrupted, "SIGHUP: its terminal went away"),
        Exit::Code(152) | Exit::Signal(24) => {
            (FailureClass::ResourceLimit, "SIGXCPU: over its limit of processor time")
        }
        Exit::Code(153) | Exit::Signal(25) => (FailureClass::ResourceLimit, "SIGXFSZ: over its limit of file sizes"),
        _ => return None,
    };
    Some((class, words.to_owned()))
}

/// What a signal says where no words say more.
fn by_signal(evidence: &Evidence<'_>) -> Option<(FailureClass, String)> {
    let number = match evidence.exit? {
        Exit::Signal(number) => number,
        Exit::Code(code @ 129..=159) => code - 128,
        Exit::Code(_) => return None,
    };
    let (class, words) = match number {
        4 => (FailureClass::Crash, "SIGILL: an illegal instruction"),
        6 => (FailureClass::Crash, "SIGABRT: it aborted itself"),
        7 => (FailureClass::Crash, "SIGBUS: an address without memory"),
        8 => (FailureClass::Crash, "SIGFPE: an impossible calculation"),
        // Without the kernel's count of victims it was somebody's kill.
        9 => (FailureClass::Interrupted, "SIGKILL, and not for want of memory: somebody killed it"),
        11 => (FailureClass::Crash, "SIGSEGV: an invalid address"),
        _ => return None,
    };
    Some((class, words.to_owned()))
}

fn last_lines(output: &str) -> &str {
    let mut from = output.len().saturating_sub(LAST_BYTES);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    let end = output[from..].trim_end();
    let starts = end.rmatch_indices('\n').nth(LAST_LINES - 1);
    starts.map_or(end, |(at, _)| &end[at + 1..])
}

fn line_at(text: &str, at: usize) -> String {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    named(text[start..].lines().next().unwrap_or_default())
}

fn last_words(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(|| "it said nothing".to_owned(), named)
}

fn named(line: &str) -> String {
    let line: String = line.trim().chars().filter(|c| !c.is_control()).take(NAMED + 1).collect();
    match line.char_indices().nth(NAMED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(command: &str, exit: i32, output: &str) -> FailureClass {
        let evidence = Evidence { command, exit: Some(Exit::Code(exit)), output, ..Evidence::default() };
        Classifier::builtin().classify(&evidence).expect("a failure").class
    }

    #[test]
    fn counters_come_before_exit_codes_and_those_before_words() {
        let killed = Evidence { exit: Some(Exit::Code(0)), output: "fine", oom_kills: 1, ..Evidence::default() };
        let failure = Classifier::builtin().classify(&killed).unwrap();
        assert_eq!(failure.class, FailureClass::Oom);
        assert_eq!(failure.evidence, "the kernel ended 1 process of the box for want of memory");
        assert_eq!(class("timeout 5 curl x", 124, "Connection refused"), FailureClass::Timeout);
        assert_eq!(class("train", 137, ""), FailureClass::Interrupted);
        assert_eq!(class("train", 139, ""), FailureClass::Crash);
        assert_eq!(class("train", 134, "terminate called: std::bad_alloc\nAborted"), FailureClass::Oom);
    }

    #[test]
    fn a_disk_that_ran_full_meanwhile_is_a_failure_whatever_the_exit_code_and_one_that_was_full_explains_silence() {
        let full = |exit, output, meanwhile| {
            let full = Some(Full { path: "/tmp", of_inodes: true, meanwhile });
            let evidence = Evidence { command: "x", exit: Some(Exit::Code(exit)), output, full, ..Evidence::default() };
            Classifier::builtin().classify(&evidence).map(|failure| (failure.class, failure.evidence))
        };
        let words = || "no inodes are left on the disk of /tmp".to_owned();
        assert_eq!(full(0, "fine", true), Some((FailureClass::DiskFull, words())));
        assert_eq!(full(0, "fine", false), None);
        assert_eq!(full(1, "", false), Some((FailureClass::DiskFull, words())));
        assert_eq!(full(1, "curl: Connection refused", false).unwrap().0, FailureClass::Network);
    }

    #[test]
    fn what_succeeded_is_no_failure_and_what_says_nothing_is_unknown() {
        let fine = Evidence { exit: Some(Exit::Code(0)), output: "error: none", ..Evidence::default() };
        assert_eq!(Classifier::builtin().classify(&fine), None);
        let silent = Evidence { command: "false", exit: Some(Exit::Code(1)), ..Evidence::default() };
        let failure = Classifier::builtin().classify(&silent).unwrap();
        assert_eq!((failure.class, failure.evidence.as_str()), (FailureClass::Unknown, "it said nothing"));
    }

    #[test]
    fn the_last_line_that_says_so_is_the_evidence_and_only_the_end_is_looked_at() {
        let output = format!("error: old\n{}error: new\n", "x\n".repeat(10));
        let evidence = Evidence { exit: Some(Exit::Code(1)), output: &output, ..Evidence::default() };
        assert_eq!(Classifier::builtin().classify(&evidence).unwrap().evidence, "error: new");
        let long = format!("CUDA out of memory\n{}", "line\n".repeat(500));
        assert_eq!(class("x", 1, &long), FailureClass::Unknown);
    }

    #[test]
    fn quota_and_credentials_are_never_taken_for_what_passes() {
        assert_eq!(class("x", 1, "429 Too Many Requests: insufficient_quota"), FailureClass::Quota);
        assert_eq!(class("git push", 128, "fatal: Authentication failed for 'https://h/'"), FailureClass::Auth);
        let may_pass = FailureClass::ALL.into_iter().filter(|class| class.may_pass()).collect::<Vec<_>>();
        assert_eq!(may_pass, [FailureClass::Network, FailureClass::RateLimit, FailureClass::LostHost]);
    }

    #[test]
    fn own_signatures_are_tried_before_those_that_come_with_the_program() {
        let rows = [SignatureRow {
            class: FailureClass::Quota,
            patterns: vec!["no more builds today".to_owned(), "Connection refused".to_owned()],
            command: Some("^make".to_owned()),
            exit: BTreeSet::new(),
        }];
        let classifier = Classifier::with(Signatures::of(&rows).unwrap());
        let class = |command, output| {
            let evidence = Evidence { command, exit: Some(Exit::Code(1)), output, ..Evidence::default() };
            classifier.classify(&evidence).unwrap().class
        };
        assert_eq!(class("make all", "No more builds today."), FailureClass::Quota);
        assert_eq!(class("make all", "Connection refused"), FailureClass::Quota);
        assert_eq!(class("curl x", "Connection refused"), FailureClass::Network);
        assert_eq!(class("make all", "No space left on device"), FailureClass::DiskFull);
    }

    #[test]
    fn a_table_with_a_mistake_is_refused_with_its_place() {
        let wrong = Signatures::parse("[[signature]]\nclass = \"netwrok\"\npatterns = []\n").unwrap_err().to_string();
        assert!(wrong.contains("line 2") && wrong.contains("netwrok"), "{wrong}");
        let wrong = Signatures::parse("[[signature]]\nclass = \"network\"\npatterns = ['(']\n").unwrap_err();
        assert!(wrong.to_string().contains("unclosed group"), "{wrong}");
    }
}
