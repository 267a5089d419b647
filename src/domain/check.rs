//! What proves that a goal is reached.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A check: run by the harness, outside the model's reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Check {
    /// A command that must exit with 0.
    Command(String),
    /// A number in a JSON file that must lie on one side of another.
    Metric {
        /// The file, in the workspace.
        metric: String,
        /// Where in it: a JSON pointer, such as `/accuracy`.
        pointer: String,
        /// How it is compared.
        is: Comparison,
        /// With what.
        than: f64,
    },
    /// A file that must be there and not be empty.
    File {
        /// The file, in the workspace.
        file: String,
    },
}

/// How a metric is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
    /// `>`
    #[serde(rename = ">")]
    Above,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `<`
    #[serde(rename = "<")]
    Below,
    /// `==`
    #[serde(rename = "==")]
    Equal,
}

impl Comparison {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
            Self::Equal => "==",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => f.write_str(command),
            Self::Metric { metric, pointer, is, than } => write!(f, "{metric}#{pointer}{}{than}", is.sign()),
            Self::File { file } => write!(f, "file {file}"),
        }
    }
}

impl From<String> for Check {
    fn from(command: String) -> Self {
        Self::Command(command)
    }
}
