//! Names of things: checked once, at the edge.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 26 characters of Crockford base 32.
    #[error("`{0}` is not a run id (26 characters of Crockford base 32)")]
    Run(String),
    /// Not a session name.
    #[error("`{0}` is not a session name (1 to 64 of A-Z a-z 0-9 _ -, beginning with a letter or digit)")]
    Session(String),
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
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits =
            (1..=64).contains(&text.len()) && text.bytes().all(plain) && text.as_bytes()[0].is_ascii_alphanumeric();
        if fits { Ok(Self(text)) } else { Err(IdError::Session(text)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
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
    fn a_run_id_is_a_ulid() {
        assert!(RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").is_ok());
        for bad in ["", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"] {
            assert!(RunId::new(bad).is_err(), "{bad}");
        }
    }
}
