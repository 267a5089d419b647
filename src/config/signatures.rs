//! `[[signature]]` tables: what failures say of themselves, as users know it. That their patterns are patterns is not
//! looked at here.

use serde::Deserialize;
use toml::Spanned;

use super::load::{ConfigError, File};
use crate::domain::{FailureClass, most_alike};

/// A row of a `[[signature]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSignature {
    /// What the failure comes from.
    pub class: FailureClass,
    /// Regular expressions, one of which is found in the output.
    pub patterns: Vec<Placed>,
    /// One that is found in the command.
    pub command: Option<Placed>,
    /// The exit codes with which it counts; any where there are none.
    pub exit: Vec<i32>,
}

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The text.
    pub text: String,
    /// File and line.
    pub place: String,
}

#[derive(Debug, Deserialize)]
struct Tables {
    #[serde(default)]
    signature: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    class: Spanned<String>,
    patterns: Vec<Spanned<String>>,
    command: Option<Spanned<String>>,
    #[serde(default)]
    exit: Vec<i32>,
}

/// The name of the tables.
pub(super) const KEY: &str = "signature";

/// Reads those of a file with this text, which is TOML.
///
/// # Errors
/// [`ConfigError::Signature`] with the place of what is wrong.
pub(super) fn read(file: &File, text: &str) -> Result<Vec<OwnSignature>, ConfigError> {
    let place = |at: usize| file.line(at);
    let tables: Tables = toml::from_str(text).map_err(|error| ConfigError::Signature {
        place: place(error.span().map_or(0, |span| span.start)),
        why: error.message().to_owned(),
    })?;
    let placed = |text: Spanned<String>| {
        let place = place(text.span().start);
        Placed { text: text.into_inner(), place }
    };
    let row = |row: Row| {
        let class = placed(row.class);
        let known = FailureClass::ALL.into_iter().find(|known| known.name() == class.text);
        let class = known.ok_or_else(|| {
            let meant = most_alike(&class.text, FailureClass::ALL.into_iter().map(FailureClass::name));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            ConfigError::Signature { place: class.place, why: format!("there is no class `{}`{meant}", class.text) }
        })?;
        let patterns = row.patterns.into_iter().map(placed).collect();
        Ok(OwnSignature { class, patterns, command: row.command.map(placed), exit: row.exit })
    };
    tables.signature.into_iter().map(row).collect()
}
