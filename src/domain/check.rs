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

/// Why a check can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {expected} is expected")]
pub struct CheckError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What should stand there.
    pub expected: &'static str,
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

impl Comparison {
    /// Every comparison, so that none stands before one that it begins.
    const ALL: [Self; 5] = [Self::AtLeast, Self::AtMost, Self::Equal, Self::Above, Self::Below];

    /// Whether it holds. For what is no number it never does.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::Above => value > bound,
            Self::AtMost => value <= bound,
            Self::Below => value < bound,
            #[expect(clippy::float_cmp, reason = "that is what was asked for")]
            Self::Equal => value == bound,
        }
    }
}

impl Check {
    /// Reads a metric as it is typed, such as `eval.json#/accuracy>=0.9`.
    ///
    /// # Errors
    /// Where it stops making sense, and what should stand there.
    pub fn metric(text: &str) -> Result<Self, CheckError> {
        let wrong = |at: usize, expected| CheckError { column: text[..at].chars().count() + 1, expected };
        let hash = text.find('#').ok_or_else(|| wrong(text.len(), "`#` and a JSON pointer"))?;
        let file = text[..hash].trim();
        if file.is_empty() || file.contains('\0') {
            return Err(wrong(0, "the path of a JSON file"));
        }
        let rest = &text[hash + 1..];
        let sign = Comparison::ALL.into_iter().filter_map(|is| Some((rest.rfind(is.sign())?, is)));
        // Of `>=` and the `>` in it, the longer one.
        let sign = sign.max_by_key(|(at, is)| (*at, is.sign().len()));
        let (at, is) = sign.ok_or_else(|| wrong(text.len(), "one of >=, >, <=, < and =="))?;
        let pointer = rest[..at].trim();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(wrong(hash + 1, "a JSON pointer that begins with `/`"));
        }
        let number = hash + 1 + at + is.sign().len();
        let than: Option<f64> = text[number..].trim().parse().ok().filter(|than: &f64| than.is_finite());
        let than = than.ok_or_else(|| wrong(number, "a number such as 0.9"))?;
        Ok(Self::Metric { metric: file.to_owned(), pointer: pointer.to_owned(), is, than })
    }

    /// Reads the path of a file that must be there.
    ///
    /// # Errors
    /// When it is no path.
    pub fn file(path: &str) -> Result<Self, CheckError> {
        match path.trim() {
            "" => Err(CheckError { column: 1, expected: "the path of a file" }),
            path if path.contains('\0') => Err(CheckError { column: 1, expected: "the path of a file" }),
            path => Ok(Self::File { file: path.to_owned() }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_as_it_is_typed() {
        let read = |text: &str| match Check::metric(text) {
            Ok(Check::Metric { metric, pointer, is, than }) => format!("{metric} {pointer} {} {than}", is.sign()),
            Ok(other) => panic!("{other:?} is no metric"),
            Err(error) => error.to_string(),
        };
        assert_eq!(read("eval.json#/accuracy>=0.9"), "eval.json /accuracy >= 0.9");
        assert_eq!(read("a b.json # /x/0/y == -1e3 "), "a b.json /x/0/y == -1000");
        assert_eq!(read("n.json#>3"), "n.json  > 3");
        assert_eq!(read("n.json#/a<b<=3"), "n.json /a<b <= 3");
        assert_eq!(read("n.json#/x<3"), "n.json /x < 3");
        assert_eq!(read("eval.json"), "column 10: `#` and a JSON pointer is expected");
        assert_eq!(read("#/x>1"), "column 1: the path of a JSON file is expected");
        assert_eq!(read("é.json#x>1"), "column 8: a JSON pointer that begins with `/` is expected");
        assert_eq!(read("e.json#/x=1"), "column 12: one of >=, >, <=, < and == is expected");
        assert_eq!(read("e.json#/x>=good"), "column 12: a number such as 0.9 is expected");
        assert_eq!(read("e.json#/x>=NaN"), "column 12: a number such as 0.9 is expected");
    }

    #[test]
    fn what_is_no_number_meets_no_bound() {
        for is in Comparison::ALL {
            assert!(!is.holds(f64::NAN, 0.0), "{}", is.sign());
        }
        assert!(Comparison::AtLeast.holds(0.9, 0.9) && !Comparison::Above.holds(0.9, 0.9));
        assert!(Comparison::AtMost.holds(0.9, 0.9) && !Comparison::Below.holds(0.9, 0.9));
    }
}
