//! Holds a file against the schema: every value that is not what belongs there is told at its place, all of them at
//! once, with what would be right.

use regex::Regex;
use serde_json::Value;

use super::mistake::{Mistake, MistakeKind};
use super::tree::{Key, Kind, Node};
use crate::domain::most_alike;

/// More mistakes than a person reads at once.
const MOST: usize = 50;

/// What of a file is not as the schema says.
pub(super) fn mistakes(root: &Node, schema: &Value) -> Vec<Mistake> {
    let mut found = Finding { schema, mistakes: Vec::new() };
    found.look(root, schema, "the workflow");
    found.mistakes.truncate(MOST);
    found.mistakes
}

struct Finding<'s> {
    schema: &'s Value,
    mistakes: Vec<Mistake>,
}

impl<'s> Finding<'s> {
    fn say(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Follows `$ref`.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        target.and_then(|path| self.schema.pointer(path)).unwrap_or(schema)
    }

    /// `name` says what the value is, in words.
    fn look(&mut self, node: &Node, schema: &'s Value, name: &str) {
        let schema = self.resolve(schema);
        let choices = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        if let Some(choices) = choices {
            return self.look_at_choices(node, choices, name);
        }
        if !self.is_kind(node, schema) {
            let mistake = Mistake::new(
                MistakeKind::Shape,
                node.span.clone(),
                format!("{name} must be {}, and is {}", self.expected(schema), node.words()),
            );
            return self.say(mistake.hint_if(quoting(node, schema)));
        }
        match &node.kind {
            Kind::Map(members) => self.look_at_map(node, members, schema, name),
            Kind::List(items) => {
                if let Some(inner) = schema.get("items") {
                    for (nth, item) in items.iter().enumerate() {
                        self.look(item, inner, &format!("item {} of {name}", nth + 1));
                    }
                }
            }
            Kind::Text(text) => self.look_at_text(node, text, schema, name),
            Kind::Number(number) => self.look_at_number(node, number, schema, name),
            Kind::Null | Kind::Bool(_) => {}
        }
    }

    /// The first choice of the value's own kind is what was meant.
    fn look_at_choices(&mut self, node: &Node, choices: &'s [Value], name: &str) {
        let fitting: Vec<&Value> = choices.iter().filter(|choice| self.is_kind(node, self.resolve(choice))).collect();
        let is_null = |choice: &&Value| self.resolve(choice).get("type").and_then(Value::as_str) == Some("null");
        match fitting[..] {
            [] => {
                let words: Vec<String> = choices
                    .iter()
                    .filter(|choice| !is_null(choice))
                    .map(|choice| self.expected(self.resolve(choice)))
                    .collect();
                let what = format!("{name} must be {}, and is {}", words.join(", or "), node.words());
                self.say(Mistake::new(MistakeKind::Shape, node.span.clone(), what));
            }
            [one] => self.look(node, one, name),
            [first, ..] => {
                let before = self.mistakes.len();
                // Several of this kind, such as one of some words, or any text: good if one of them takes it.
                for choice in &fitting {
                    self.look(node, choice, name);
                    if self.mistakes.len() == before {
                        return;
                    }
                    self.mistakes.truncate(before);
                }
                self.look(node, first, name);
            }
        }
    }

    fn look_at_map(&mut self, node: &Node, members: &[(Key, Node)], schema: &'s Value, name: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties");
        let is_open = schema.get("patternProperties").is_some();
        for (key, value) in members {
            if let Some(inner) = properties.and_then(|properties| properties.get(&key.name)) {
                self.look(value, inner, &format!("`{}`", key.name));
                continue;
            }
            if is_open && key.name.starts_with("x-") {
                continue;
            }
            match additional {
                Some(Value::Bool(false)) => self.unknown_key(key, schema, name),
                Some(inner @ Value::Object(_)) => {
                    self.look_at_key(key, schema, name);
                    self.look(value, inner, &format!("`{}`", key.name));
                }
                _ => self.look_at_key(key, schema, name),
            }
        }
        let missing = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for wanted in missing.filter(|wanted| members.iter().all(|(key, _)| key.name != **wanted)) {
            let what = format!("{name} must have `{wanted}`");
            let property = properties.and_then(|properties| properties.get(wanted));
            let hint = property.map(|property| match self.described(property) {
                Some(words) => format!("{wanted}: {words}"),
                None => format!("`{wanted}` must be {}", self.expected(property)),
            });
            let span = node.span.start..node.span.start;
            self.say(Mistake::new(MistakeKind::Shape, span, what).hint_if(hint));
        }
        let least = schema.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        if (members.len() as u64) < least {
            self.say(Mistake::new(MistakeKind::Shape, node.span.clone(), format!("{name} must not be empty")));
        }
    }

    fn unknown_key(&mut self, key: &Key, schema: &Value, name: &str) {
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let names: Vec<&str> = properties.map(|(name, _)| name.as_str()).collect();
        let what = format!("{name} has no `{}`", key.name);
        let meant = most_alike(&key.name, names.iter().copied());
        let hint = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it has {}", names.join(", ")),
        };
        self.say(Mistake::new(MistakeKind::Shape, key.span.clone(), what).hint(hint));
    }

    fn look_at_key(&mut self, key: &Key, schema: &Value, name: &str) {
        let pattern = schema.pointer("/propertyNames/pattern").and_then(Value::as_str);
        if pattern.is_some_and(|pattern| !matches(pattern, &key.name)) {
            let what = format!("`{}` can't be a name in {name}", key.name);
            let hint = "a name has lower-case letters, digits and hyphens, and begins with a letter";
            self.say(Mistake::new(MistakeKind::Shape, key.span.clone(), what).hint(hint));
        }
    }

    fn look_at_text(&mut self, node: &Node, text: &str, schema: &Value, name: &str) {
        let mistake = |what: String| Mistake::new(MistakeKind::Shape, node.span.clone(), what);
        if let Some(words) = words_of(schema)
            && !words.contains(&text)
        {
            let hint = most_alike(text, words.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
            let what = format!("{name} can't be `{text}`");
            return self
                .say(mistake(what).hint_if(hint.or_else(|| Some(format!("it is one of {}", words.join(", "))))));
        }
        if schema.get("pattern").and_then(Value::as_str).is_some_and(|pattern| !matches(pattern, text)) {
            let right = schema.get("description").and_then(Value::as_str).unwrap_or("something else");
            let right = right.split_once('\n').map_or(right, |(first, _)| first).trim_end_matches('.');
            return self.say(mistake(format!("{name} can't be `{text}`")).hint(format!("it is {right}")));
        }
        if text.trim().is_empty() && schema.get("minLength").is_some() {
            self.say(mistake(format!("{name} must not be empty")));
        }
    }

    fn look_at_number(&mut self, node: &Node, number: &serde_json::Number, schema: &Value, name: &str) {
        let Some(value) = number.as_f64() else { return };
        let bound = |bound: &str| schema.get(bound).and_then(Value::as_f64);
        let what = match (bound("minimum"), bound("exclusiveMinimum"), bound("maximum")) {
            (Some(least), ..) if value < least => format!("{name} must be {least} at least, and is {number}"),
            (_, Some(above), _) if value <= above => format!("{name} must be above {above}, and is {number}"),
            (_, _, Some(most)) if value > most => format!("{name} must be {most} at most, and is {number}"),
            _ => return,
        };
        self.say(Mistake::new(MistakeKind::Shape, node.span.clone(), what));
    }

    /// Whether a value is of the kind that a schema is about, whatever it says beyond that.
    fn is_kind(&self, node: &Node, schema: &Value) -> bool {
        let choices = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        if let Some(choices) = choices {
            return choices.iter().any(|choice| {
                let target = choice.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
                let choice = target.and_then(|path| self.schema.pointer(path)).unwrap_or(choice);
                self.is_kind(node, choice)
            });
        }
        let one = |kind: &str| match (&node.kind, kind) {
            (Kind::Null, "null") | (Kind::Bool(_), "boolean") | (Kind::Text(_), "string") => true,
            (Kind::List(_), "array") | (Kind::Map(_), "object") | (Kind::Number(_), "number") => true,
            (Kind::Number(number), "integer") => number.is_i64() || number.is_u64(),
            _ => false,
        };
        match schema.get("type") {
            Some(Value::String(kind)) => one(kind),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(one),
            _ if schema.get("const").is_some() || schema.get("enum").is_some() => matches!(node.kind, Kind::Text(_)),
            _ => true,
        }
    }

    /// What a property is for, in its own words, where those are a sentence that fits.
    fn described(&self, property: &'s Value) -> Option<String> {
        let words = property.get("description")?.as_str()?;
        let first = words.split_once(". ").map_or(words, |(first, _)| first);
        let mut letters = first.trim_end_matches('.').chars();
        Some(letters.next()?.to_lowercase().chain(letters).collect())
    }

    /// What a schema is about, in words.
    fn expected(&self, schema: &'s Value) -> String {
        let schema = self.resolve(schema);
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            let words: Vec<String> =
                choices.iter().map(|choice| self.expected(choice)).filter(|words| words != "null").collect();
            return words.join(", or ");
        }
        if let (Some(words), true) =
            (schema.get("description").and_then(Value::as_str), schema.get("pattern").is_some())
        {
            return words.to_owned();
        }
        if let Some(words) = words_of(schema) {
            return format!("one of {}", words.join(", "));
        }
        let word = |kind: &str| {
            match kind {
                "string" => "text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "true or false",
                "array" => "a list",
                "object" => "a map",
                other => other,
            }
            .to_owned()
        };
        match schema.get("type") {
            Some(Value::String(kind)) => word(kind),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                kinds.map(word).collect::<Vec<_>>().join(" or ")
            }
            _ => "something else".to_owned(),
        }
    }
}

/// The words that a text may be, where it is one of some.
fn words_of(schema: &Value) -> Option<Vec<&str>> {
    let listed = schema.get("enum").and_then(Value::as_array).map(|words| words.iter().filter_map(Value::as_str));
    listed.map(Iterator::collect).or_else(|| schema.get("const").and_then(Value::as_str).map(|word| vec![word]))
}

/// What was written without quotes and was meant as text.
fn quoting(node: &Node, schema: &Value) -> Option<String> {
    let is_text = match schema.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    };
    let is_plain = matches!(node.kind, Kind::Bool(_) | Kind::Number(_) | Kind::Null);
    (is_text && is_plain).then(|| "put it in quotes if it is meant as text".to_owned())
}

/// The schema's patterns are ours, and held by its test.
fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}
