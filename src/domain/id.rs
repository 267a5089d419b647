//! Names of things: checked once, at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 26 characters of Crockford base 32.
    #[error("`{0}` is not a run id (26 characters of Crockford base 32)")]
    Run(String),
    /// Not a session name: its beginning, and what is wrong with it.
    #[error("`{0}` is not a session name: {1}; a name is 1 to 64 of A-Z a-z 0-9 _ -, beginning with a letter or digit")]
    Session(String, String),
    /// Not a letter and a number: the text, what it should name, and the letter.
    #[error("`{0}` is not a {1} id such as {2}1")]
    Numbered(String, &'static str, char),
}

/// A name made of a letter and a number from 1, unique in its run.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident $letter:literal $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $letter, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($letter).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
                number.map(Self).ok_or_else(|| IdError::Numbered(text.to_owned(), $what, $letter))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

numbered! {
    /// The name of a job: `j1`, `j2`, ….
    JobId 'j' "job"
}
numbered! {
    /// The name of a checkpoint: `k1`, `k2`, ….
    CheckpointId 'k' "checkpoint"
}
numbered! {
    /// The name of a question to a person: `q1`, `q2`, ….
    QuestionId 'q' "question"
}
numbered! {
    /// The name of a decision about a failure: `d1`, `d2`, ….
    DecisionId 'd' "decision"
}

/// The id of a run: a ULID, so that ids sort by the time they were made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Takes a ULID in its text form.
    ///
    /// # Errors
    /// [`IdError::Run`] for anything else.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let fits = text.len() == 26
            && text.bytes().all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b))
            && text.as_bytes()[0] <= b'7';
        if fits { Ok(Self(text)) } else { Err(IdError::Run(text)) }
    }

    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was made.
    pub fn time(&self) -> jiff::Timestamp {
        let ulid: ulid::Ulid = self.0.parse().expect("a run id is a ULID");
        let since_1970 = i64::try_from(ulid.timestamp_ms()).expect("48 bits");
        jiff::Timestamp::from_millisecond(since_1970).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The last eight characters in lower case: short enough for a container's name, random enough to be unique.
    pub fn short(&self) -> String {
        self.0[18..].to_ascii_lowercase()
    }
}

/// The name of a terminal session inside a box.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(String);

impl SessionName {
    /// Takes a name that needs no quoting anywhere: in a path, in a shell, in tmux.
    ///
    /// # Errors
    /// [`IdError::Session`] for anything else.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        match fault(&text) {
            None => Ok(Self(text)),
            Some(fault) => {
                let mut shown: String = text.chars().take(LONGEST_NAME).flat_map(char::escape_debug).collect();
                if text.chars().nth(LONGEST_NAME).is_some() {
                    shown.push('…');
                }
                Err(IdError::Session(shown, fault))
            }
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Longest name of a session.
const LONGEST_NAME: usize = 64;

/// What keeps a text from being the name of a session.
fn fault(name: &str) -> Option<String> {
    let mut odd: Vec<char> = Vec::new();
    for c in name.chars().filter(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')) {
        if !odd.contains(&c) && odd.len() < 8 {
            odd.push(c);
        }
    }
    match name.chars().next() {
        None => Some("it is empty".to_owned()),
        Some(_) if !odd.is_empty() => {
            let odd: Vec<_> = odd.iter().map(|c| format!("{c:?}")).collect();
            Some(format!("it has {}", odd.join(" ")))
        }
        Some(_) if name.len() > LONGEST_NAME => Some(format!("it is {} characters long", name.len())),
        Some(first) if !first.is_ascii_alphanumeric() => Some(format!("it begins with {first:?}")),
        Some(_) => None,
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_form!(RunId);
text_form!(SessionName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_is_plain_text() {
        for good in ["main", "a", "train-2", "9_x", &"a".repeat(64)] {
            assert!(SessionName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "_x", "a b", "a:b", "a.b", "#{x}", "é", "a\n", "../x", &"a".repeat(65)] {
            assert!(SessionName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_told_briefly() {
        let told = |name: &str| SessionName::new(name).unwrap_err().to_string();
        assert!(told("a b:#{c}").contains("it has ' ' ':' '#' '{' '}';"), "{}", told("a b:#{c}"));
        assert!(told("-x").contains("it begins with '-';"));
        let long = told(&"x".repeat(10_000));
        assert!(long.len() < 250 && long.contains("it is 10000 characters long"), "{long}");
        assert!(told(&"\u{1b}".repeat(10_000)).len() < 900);
    }

    #[test]
    fn a_run_id_is_a_ulid() {
        assert!(RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").is_ok());
        for bad in ["", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"] {
            assert!(RunId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_numbered_id_is_a_letter_and_a_number() {
        assert_eq!("j12".parse(), Ok(JobId(12)));
        assert_eq!(CheckpointId(3).to_string(), "k3");
        for bad in ["", "j", "j0", "j-1", "j+1", "12", "J1", "j1 ", "k1", "j99999999999"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        assert_eq!("x".parse::<QuestionId>().unwrap_err().to_string(), "`x` is not a question id such as q1");
    }
}
