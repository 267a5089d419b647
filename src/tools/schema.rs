//! JSON Schemas of tool arguments in the form that model servers accept.
//!
//! What schemars makes is first cleaned of what servers reject or stumble over; then strict mode's rules are applied:
//! every property required, the optional ones nullable, nothing beyond them, bounds as prose. Where the rules can't
//! hold (maps, tuples, any value) the cleaned schema is used as it is, and says why.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The formats that strict mode knows.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
/// Bounds that strict mode may not know, and how they read as prose.
const BOUNDS: [(&str, &str); 10] = [
    ("minimum", "At least"),
    ("maximum", "At most"),
    ("exclusiveMinimum", "More than"),
    ("exclusiveMaximum", "Less than"),
    ("minLength", "Shortest length:"),
    ("maxLength", "Longest length:"),
    ("minItems", "Fewest items:"),
    ("maxItems", "Most items:"),
    ("pattern", "Must match"),
    ("default", "Default:"),
];
/// What strict mode can't say at all.
const BEYOND_STRICT: [&str; 8] =
    ["prefixItems", "patternProperties", "propertyNames", "not", "if", "$ref", "dependentRequired", "uniqueItems"];

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
pub fn parameters<T: JsonSchema>() -> Parameters {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.for_deserialize().into_generator().into_root_schema_for::<T>().to_value();
    clean(&mut schema);
    if let Value::Object(root) = &mut schema {
        // The tool's manual says what the tool is for.
        root.remove("description");
    }
    let mut strict = schema.clone();
    match to_strict(&mut strict, "arguments") {
        Ok(()) => Parameters { schema: strict, strict: true, not_strict_because: None },
        Err(why) => Parameters { schema, strict: false, not_strict_because: Some(why) },
    }
}

/// Removes what servers reject or stumble over, without changing what is valid.
fn clean(schema: &mut Value) {
    each_subschema(schema, &mut |_, inner| {
        clean(inner);
        Ok(())
    })
    .expect("cleaning does not fail");
    let Value::Object(map) = schema else { return };
    for key in ["$schema", "title"] {
        map.remove(key);
    }
    if map.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
        map.remove("format");
    }
    if let Some(value) = map.remove("const") {
        map.insert("enum".to_owned(), json!([value]));
    }
    if let Some(Value::String(text)) = map.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(folded) = map.get(key).and_then(Value::as_array).and_then(|members| fold_enum(members)) {
            map.remove(key);
            for (name, value) in folded {
                add_or_join(map, &name, value);
            }
        }
    }
}

/// One `enum` out of members that are strings of an enum, or null; their docs become one description.
fn fold_enum(members: &[Value]) -> Option<Map<String, Value>> {
    let mut values = Vec::new();
    let mut docs = Vec::new();
    let mut is_nullable = false;
    for member in members {
        let Some(listed) = member.get("enum").and_then(Value::as_array) else {
            if *member != json!({"type": "null"}) {
                return None;
            }
            is_nullable = true;
            continue;
        };
        if !listed.iter().all(Value::is_string) {
            return None;
        }
        values.extend(listed.iter().cloned());
        if let Some(doc) = member.get("description").and_then(Value::as_str) {
            let name = listed.first().filter(|_| listed.len() == 1).and_then(Value::as_str);
            docs.push(name.map_or_else(|| doc.to_owned(), |name| format!("`{name}`: {doc}")));
        }
    }
    if values.is_empty() {
        return None;
    }
    let mut map = Map::new();
    map.insert("type".to_owned(), if is_nullable { json!(["string", "null"]) } else { json!("string") });
    if !docs.is_empty() {
        map.insert("description".to_owned(), docs.join(" ").into());
    }
    if is_nullable {
        values.push(Value::Null);
    }
    map.insert("enum".to_owned(), values.into());
    Some(map)
}

fn add_or_join(map: &mut Map<String, Value>, name: &str, value: Value) {
    match (map.get_mut(name), value) {
        (Some(Value::String(old)), Value::String(more)) => *old = format!("{old} {more}"),
        (_, value) => {
            map.insert(name.to_owned(), value);
        }
    }
}

/// Calls `act` with the path and the value of every schema directly inside this one.
fn each_subschema(
    schema: &mut Value,
    act: &mut dyn FnMut(&str, &mut Value) -> Result<(), String>,
) -> Result<(), String> {
    let Value::Object(map) = schema else { return Ok(()) };
    for key in ["properties", "$defs"] {
        for (name, inner) in map.get_mut(key).and_then(Value::as_object_mut).into_iter().flatten() {
            act(&format!(".{name}"), inner)?;
        }
    }
    for key in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        for inner in map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            act("", inner)?;
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = map.get_mut(key).filter(|inner| inner.is_object()) {
            act(suffix, inner)?;
        }
    }
    Ok(())
}

/// Makes a cleaned schema strict.
///
/// # Errors
/// The place and why strict mode can't say it.
fn to_strict(schema: &mut Value, path: &str) -> Result<(), String> {
    let Value::Object(map) = schema else { return Err(format!("{path}: any value")) };
    if let Some(beyond) = BEYOND_STRICT.iter().find(|key| map.contains_key(**key)) {
        return Err(format!("{path}: `{beyond}`"));
    }
    if let Some(Value::Array(all)) = map.remove("allOf") {
        let [Value::Object(only)] = all.as_slice() else { return Err(format!("{path}: `allOf`")) };
        for (name, value) in only.clone() {
            add_or_join(map, &name, value);
        }
    }
    if let Some(members) = map.remove("oneOf") {
        map.insert("anyOf".to_owned(), members);
    }
    if !["type", "enum", "anyOf"].iter().any(|key| map.contains_key(*key)) {
        return Err(format!("{path}: any value"));
    }
    if is_kind(map, "object") {
        close_object(map, path)?;
    }
    if is_kind(map, "array") && !map.get("items").is_some_and(Value::is_object) {
        return Err(format!("{path}[]: any value"));
    }
    bounds_to_prose(map);
    each_subschema(schema, &mut |suffix, inner| to_strict(inner, &format!("{path}{suffix}")))
}

fn is_kind(map: &Map<String, Value>, kind: &str) -> bool {
    match map.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|other| other == kind),
        _ => false,
    }
}

fn close_object(map: &mut Map<String, Value>, path: &str) -> Result<(), String> {
    if map.get("additionalProperties").is_some_and(|more| more != &Value::Bool(false)) {
        return Err(format!("{path}: a map"));
    }
    let required: Vec<Value> = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names = Vec::new();
    for (name, inner) in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if !required.iter().any(|other| other == name) {
            admit_null(inner);
        }
        names.push(Value::from(name.as_str()));
    }
    map.entry("properties").or_insert_with(|| json!({}));
    map.insert("required".to_owned(), names.into());
    map.insert("additionalProperties".to_owned(), Value::Bool(false));
    Ok(())
}

/// Lets a schema take null, too.
fn admit_null(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if let Some(Value::Array(members)) = map.get_mut("anyOf") {
        if !members.iter().any(|member| member["type"] == "null") {
            members.push(json!({"type": "null"}));
        }
        return;
    }
    let kinds = match map.get("type") {
        Some(Value::String(kind)) if kind != "null" => json!([kind, "null"]),
        Some(Value::Array(kinds)) if !kinds.iter().any(|kind| kind == "null") => {
            kinds.iter().cloned().chain([json!("null")]).collect()
        }
        _ => return,
    };
    map.insert("type".to_owned(), kinds);
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.push(Value::Null);
    }
}

fn bounds_to_prose(map: &mut Map<String, Value>) {
    for (key, lead) in BOUNDS {
        if let Some(value) = map.remove(key).filter(|value| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"));
            add_or_join(map, "description", format!("{lead} {value}.").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// Which way.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        /// Up.
        North,
        /// Down.
        South,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        /// A property may be called as a keyword is.
        title: String,
        count: u32,
    }

    /// What it is.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Args {
        /// First of
        /// all.
        zebra: String,
        #[serde(default)]
        seconds: Option<f64>,
        /// Turn.
        way: Way,
        #[serde(default)]
        other_way: Option<Way>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        force: bool,
    }

    #[test]
    fn a_plain_struct_becomes_a_strict_schema_in_the_order_of_its_fields() {
        let made = parameters::<Args>();
        assert_eq!(made.not_strict_because, None);
        insta::assert_snapshot!(serde_json::to_string_pretty(&made.schema).unwrap());
        assert_eq!(made, parameters::<Args>());
    }

    #[test]
    fn what_strict_mode_cannot_say_is_sent_plainly_with_the_reason() {
        #[derive(Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Maps {
            env: BTreeMap<String, String>,
        }
        #[derive(Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Anything {
            list: Vec<Value>,
        }
        #[derive(Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Tuple {
            pair: (String, u8),
        }
        let why = |made: Parameters| (made.strict, made.not_strict_because.unwrap_or_default());
        assert_eq!(why(parameters::<Maps>()), (false, "arguments.env: a map".to_owned()));
        assert_eq!(why(parameters::<Anything>()), (false, "arguments.list[]: any value".to_owned()));
        assert_eq!(why(parameters::<Tuple>()), (false, "arguments.pair: `prefixItems`".to_owned()));
    }
}
