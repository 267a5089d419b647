//! Tool arguments as the model wrote them, turned into what the tool takes.
//!
//! Lenient where only one meaning is possible: fences, raw control characters and stray backslashes in strings,
//! trailing commas, JSON within a string, numbers as text. Never lenient about an end that is missing: a cut
//! `rm -rf /tmp/bu` must not become a command.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The whole of the arguments, as a place.
const ROOT: &str = "arguments";

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
pub fn decode<T: DeserializeOwned>(text: &str, schema: &Value) -> Result<T, DecodeError> {
    let mut value = arguments(text)?;
    coerce(&mut value, schema);
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { ROOT.to_owned() } else { path };
        DecodeError { path, what: error.into_inner().to_string() }
    })
}

/// The arguments as an object, before they are brought to a schema: what whoever judges a call has to look at.
///
/// # Errors
/// [`DecodeError`] when they are none.
pub fn arguments(text: &str) -> Result<Value, DecodeError> {
    let mut value = parse(text)?;
    if let Value::String(inner) = &value {
        value = parse(inner)?;
    }
    match value.is_object() {
        true => Ok(value),
        false => Err(DecodeError { path: ROOT.to_owned(), what: format!("expected an object, got {}", kind(&value)) }),
    }
}

fn parse(text: &str) -> Result<Value, DecodeError> {
    let text = without_fence(text.trim());
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Ok(value) = serde_json::from_str(&mend(text)) {
        return Ok(value);
    }
    let what = if error.is_eof() {
        "the JSON breaks off before its end: send the whole call again, shorter if it was cut".to_owned()
    } else {
        format!("not JSON: {error}")
    };
    Err(DecodeError { path: ROOT.to_owned(), what })
}

/// The text inside a Markdown fence, where the whole of it stands in one.
fn without_fence(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner.map(|inner| inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
    inner.map_or(text, str::trim)
}

/// Mends what has one meaning only: raw control characters and stray backslashes in strings, trailing commas.
///
/// Adds no bracket, quote, comma or value; where nothing is to mend the text comes back as it is.
fn mend(text: &str) -> String {
    let mut mended = String::with_capacity(text.len() + 16);
    let mut chars = text.char_indices();
    let mut in_string = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                in_string = !in_string;
                mended.push(c);
            }
            '\\' if in_string => {
                if is_escape(&text[at..]) {
                    let (_, escaped) = chars.next().expect("an escape has a second character");
                    mended.extend([c, escaped]);
                } else {
                    mended.push_str("\\\\");
                }
            }
            '\n' if in_string => mended.push_str("\\n"),
            '\r' if in_string => mended.push_str("\\r"),
            '\t' if in_string => mended.push_str("\\t"),
            c if in_string && c.is_ascii_control() => mended.push_str(&format!("\\u{:04x}", u32::from(c))),
            ',' if !in_string && text[at + 1..].trim_start().starts_with(['}', ']']) => {}
            c => mended.push(c),
        }
    }
    mended
}

/// Whether a text that begins with a backslash begins with an escape that JSON knows.
fn is_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
        Some(b'u') => bytes.len() >= 6 && bytes[2..6].iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// Brings values to the types that the schema names, where they can only have been meant so.
fn coerce(value: &mut Value, schema: &Value) {
    let schema = only_member(schema);
    let admits = |kind: &str| match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|other| other == kind),
        _ => false,
    };
    let meant = match &*value {
        Value::String(text) if !admits("string") => from_text(text.trim(), &admits),
        Value::Number(number) if !admits("number") && admits("integer") => whole(number),
        Value::Number(_) | Value::Bool(_)
            if admits("string") && !["number", "integer", "boolean"].into_iter().any(admits) =>
        {
            Some(Value::String(value.to_string()))
        }
        _ => None,
    };
    if let Some(meant) = meant {
        *value = meant;
    }
    match value {
        Value::Array(items) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            items.iter_mut().for_each(|item| coerce(item, inner));
        }
        Value::Object(map) => coerce_properties(map, schema),
        _ => {}
    }
}

fn coerce_properties(map: &mut Map<String, Value>, schema: &Value) {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
    let property = |name: &str| schema.get("properties").and_then(|properties| properties.get(name));
    // Strict schemas make an optional property nullable: null there is the property left out.
    map.retain(|name, value| {
        let left_out = |property: &Value| admits_null(property) || !is_required(name);
        !(value.is_null() && property(name).is_some_and(left_out))
    });
    let further = schema.get("additionalProperties").filter(|further| further.is_object());
    for (name, value) in map {
        if let Some(inner) = property(name).or(further) {
            coerce(value, inner);
        }
    }
}

/// The one member that is not null, for a schema that is a choice between it and null; else the schema itself.
fn only_member(schema: &Value) -> &Value {
    let members = schema.get("anyOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut others = members.iter().filter(|member| member["type"] != "null");
    match (others.next(), others.next()) {
        (Some(only), None) => only,
        _ => schema,
    }
}

fn admits_null(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
        Some(Value::String(kind)) => kind == "null",
        _ => schema.get("anyOf").and_then(Value::as_array).is_some_and(|members| members.iter().any(admits_null)),
    }
}

/// A value that was written as text.
fn from_text(text: &str, admits: &dyn Fn(&str) -> bool) -> Option<Value> {
    if admits("null") && text == "null" {
        return Some(Value::Null);
    }
    let value: Value = parse(text).ok().filter(|_| !text.is_empty())?;
    match &value {
        Value::Number(_) if admits("number") => Some(value),
        Value::Number(number) if admits("integer") => whole(number),
        Value::Array(_) if admits("array") => Some(value),
        Value::Object(_) if admits("object") => Some(value),
        Value::Bool(_) if admits("boolean") => Some(value),
        _ => None,
    }
}

/// A whole number that was written with a point.
fn whole(number: &serde_json::Number) -> Option<Value> {
    if number.is_i64() || number.is_u64() {
        return Some(Value::Number(number.clone()));
    }
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the exact range")]
    let whole = float as i64;
    Some(whole.into())
}

fn kind(value: &Value) -> Cow<'static, str> {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "a boolean".into(),
        Value::Number(_) => "a number".into(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::super::schema::parameters;
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Args {
        command: String,
        #[serde(default)]
        lines: Option<u32>,
        #[serde(default)]
        seconds: f64,
        #[serde(default)]
        force: bool,
        #[serde(default)]
        paths: Option<Vec<String>>,
    }

    fn read(text: &str) -> Result<Args, DecodeError> {
        decode(text, &parameters::<Args>().schema)
    }

    fn command(text: &str) -> String {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}")).command
    }

    #[test]
    fn what_has_one_meaning_is_mended() {
        assert_eq!(command("```json\n{\"command\": \"ls\"}\n```"), "ls");
        assert_eq!(command("{\"command\": \"a\nb\tc\u{1}\"}"), "a\nb\tc\u{1}");
        assert_eq!(command(r#"{"command": "grep \$x C:\dir \u12"}"#), r"grep \$x C:\dir \u12");
        assert_eq!(command(r#"{"command": "a \" \\ \u00e9",}"#), "a \" \\ é");
        assert_eq!(command(r#"{"command": "x", "paths": ["a,]", "b", ] , }"#), "x");
        assert_eq!(command(r#""{\"command\": \"ls\"}""#), "ls");
    }

    #[test]
    fn types_are_brought_to_what_the_schema_names() {
        let args =
            read(r#"{"command": 5, "lines": "7", "seconds": "1.5", "force": "true", "paths": "[\"a\"]"}"#).unwrap();
        let paths = Some(vec!["a".to_owned()]);
        assert_eq!(args, Args { command: "5".to_owned(), lines: Some(7), seconds: 1.5, force: true, paths });
        let args = read(r#"{"command": "{}", "lines": 5.0, "seconds": null, "force": null, "paths": null}"#).unwrap();
        assert_eq!(args, Args { command: "{}".to_owned(), lines: Some(5), seconds: 0.0, force: false, paths: None });
    }

    #[test]
    fn what_was_cut_is_never_completed() {
        let whole = r#"{"command": "rm -rf /tmp/build", "paths": ["a", "b"], "force": true}"#;
        for cut in 1..whole.len() {
            let error = read(&whole[..cut]).unwrap_err();
            assert!(error.what.contains("breaks off"), "{}: {error}", &whole[..cut]);
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let told = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(told(""), "arguments: missing field `command`");
        assert_eq!(told("[1]"), "arguments: expected an object, got an array");
        assert_eq!(told(r#"{"command": null}"#), "command: invalid type: null, expected a string");
        assert_eq!(told(r#"{"command": "x", "paths": ["a", {}]}"#), "paths[1]: invalid type: map, expected a string");
        assert_eq!(told(r#"{"command": "x", "lines": -1}"#), "lines: invalid value: integer `-1`, expected u32");
        assert!(told(r#"{"command": "x", "cmd": 1}"#).contains("unknown field `cmd`, expected one of `command`"));
        assert!(told("{'command': 'x'}").starts_with("arguments: not JSON"));
        assert!(told(&"[".repeat(100_000)).contains("recursion limit"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_good_json_is_left_alone(text in ".*", junk in "[{}\\[\\]\",:\\\\a\n ]{0,40}") {
            let _ = read(&junk);
            let good = serde_json::json!({"command": text}).to_string();
            prop_assert_eq!(command(&good), text);
        }
    }
}
