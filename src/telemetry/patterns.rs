//! The shapes of well-known tokens.
//!
//! A pattern must leave ordinary text alone: hashes, UUIDs, paths, class names, base 64. Where a shape alone is too
//! common, a second look at the match decides. Patterns without a fixed length take all they can get: what a match leaves
//! behind must not be a match in turn, or hostile text would cost one pass per token.

use std::ops::Range;

use regex::bytes::Regex;

/// One shape of a secret.
pub(super) struct Pattern {
    /// Its name in the marker.
    pub(super) name: &'static str,
    how: How,
}

enum How {
    /// A regular expression; what goes is its group `secret`, or the whole, if the check says yes.
    Regex(Regex, Check),
    /// Private keys in PEM form.
    Pem,
}

/// A second look at a match.
type Check = fn(&[u8]) -> bool;

/// Name, expression, check.
const TABLE: &[(&str, &str, Check)] = &[
    ("github-token", r"\bgh[pousr]_[A-Za-z0-9]{36,}", always),
    ("github-pat", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{20,}", always),
    ("gitlab-token", r"\bgl(?:pat|ptt|dt|rt|ft|soat|cbt)-[A-Za-z0-9_\-]{20,}", has_digit),
    ("aws-access-key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", always),
    ("aws-secret-key", r#"(?i:aws_?secret_?access_?key)["']?\s*[:=]\s*["']?(?P<secret>[A-Za-z0-9/+]{40})\b"#, always),
    ("google-api-key", r"\bAIza[A-Za-z0-9_\-]{35}\b", always),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", has_digit),
    ("huggingface-token", r"\bhf_[A-Za-z0-9]{30,}", always),
    ("npm-token", r"\bnpm_[A-Za-z0-9]{36}\b", always),
    ("pypi-token", r"\bpypi-AgE[A-Za-z0-9_\-]{50,}", always),
    ("api-key", r"\bsk-[A-Za-z0-9_\-]{20,}", looks_random),
    ("jwt", r"\beyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}", always),
    (
        "authorization",
        r#"(?i:authorization)["']?\s*[:=]\s*["']?(?i:bearer|basic|token)\s+(?P<secret>[A-Za-z0-9._~+/\-]{8,}=*)"#,
        always,
    ),
    ("bearer", r"\b[Bb]earer\s+(?P<secret>[A-Za-z0-9._~+/\-]{20,}=*)", has_digit),
    (
        "url-password",
        r"\b[A-Za-z][A-Za-z0-9+.\-]{1,30}://[^\s/@:'\x22<>]{0,256}:(?P<secret>[^\s/@'\x22<>]{1,256})@",
        no_variable,
    ),
];

/// Every pattern, ready to run.
pub(super) fn patterns() -> Vec<Pattern> {
    let regex = |text: &str| {
        regex::bytes::RegexBuilder::new(text).unicode(false).build().expect("the table holds regular expressions")
    };
    let of_table = TABLE.iter().map(|(name, text, check)| Pattern { name, how: How::Regex(regex(text), *check) });
    of_table.chain([Pattern { name: "private-key", how: How::Pem }]).collect()
}

impl Pattern {
    /// Calls `found` with each place that has to go.
    pub(super) fn find(&self, text: &[u8], found: &mut dyn FnMut(Range<usize>)) {
        match &self.how {
            How::Pem => find_pem(text, found),
            How::Regex(regex, check) if regex.captures_len() == 1 => {
                regex.find_iter(text).filter(|hit| check(hit.as_bytes())).for_each(|hit| found(hit.range()));
            }
            How::Regex(regex, check) => {
                for captures in regex.captures_iter(text) {
                    let secret = captures.name("secret").expect("the one group of the table is the secret");
                    if check(secret.as_bytes()) {
                        found(secret.range());
                    }
                }
            }
        }
    }
}

fn always(_: &[u8]) -> bool {
    true
}

fn has_digit(token: &[u8]) -> bool {
    token.iter().any(u8::is_ascii_digit)
}

/// A URL in a script often takes its password from a variable.
fn no_variable(password: &[u8]) -> bool {
    !password.starts_with(b"$") && !password.iter().all(|b| *b == b'*')
}

/// Tells a key from a hyphenated name: some stretch between hyphens is long and mixes digits and letters.
fn looks_random(token: &[u8]) -> bool {
    token
        .split(|b| matches!(b, b'-' | b'_'))
        .any(|part| part.len() >= 16 && part.iter().any(u8::is_ascii_digit) && part.iter().any(u8::is_ascii_alphabetic))
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const KEY_LINES: [&[u8]; 2] = [b"PRIVATE KEY-----", b"PRIVATE KEY BLOCK-----"];

/// The longest key block: RSA of 16384 bits takes a fifth of it.
const LONGEST_PEM: usize = 64 << 10;

/// Finds key blocks by hand: a regular expression that spans lines would look at hostile text again and again.
fn find_pem(text: &[u8], found: &mut dyn FnMut(Range<usize>)) {
    let mut ends = memchr::memmem::find_iter(text, END).peekable();
    let mut from = 0;
    for start in memchr::memmem::find_iter(text, BEGIN) {
        let Some(body) = key_line(text, start + BEGIN.len()).filter(|_| start >= from) else { continue };
        while ends.next_if(|end| *end < body).is_some() {}
        let closed =
            ends.peek().filter(|end| **end - start <= LONGEST_PEM).and_then(|end| key_line(text, end + END.len()));
        from = closed.unwrap_or_else(|| body + text[body..].iter().take_while(|b| in_key(**b)).count());
        found(start..from);
    }
}

/// Where the line goes on after `RSA PRIVATE KEY-----` or the like.
fn key_line(text: &[u8], from: usize) -> Option<usize> {
    let rest = &text[from..text.len().min(from + 64)];
    KEY_LINES.iter().find_map(|ending| {
        let at = memchr::memmem::find(rest, ending)?;
        let plain = rest[..at].iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ');
        plain.then_some(from + at + ending.len())
    })
}

fn in_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || matches!(byte, b'+' | b'/' | b'=' | b'\\')
}
