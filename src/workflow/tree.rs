//! YAML as a tree that knows where everything stands, so that each mistake can be shown at its place.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;
use serde_saphyr::budget::BudgetBreach;

use super::mistake::{Mistake, MistakeKind};

/// The largest file that is read.
pub(super) const LARGEST_FILE: usize = 8 << 20;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The name of a member of a map, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Range<usize>,
}

/// One step of the way from the root to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Into a map.
    Member(String),
    /// Into a list.
    Item(usize),
}

impl Node {
    /// Reads a file. The first thing that is no YAML is all that can be told of it.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        if text.len() > LARGEST_FILE {
            let words = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
            return Err(Mistake::new(MistakeKind::Syntax, 0..0, words));
        }
        let budget = serde_saphyr::budget! { max_depth: 64, max_documents: 1, max_anchors: 1_000, max_aliases: 1_000 };
        let options = serde_saphyr::options! { budget: budget, strict_booleans: true };
        let parsed: Spanned<Raw> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| no_yaml(&error, text))?;
        Ok(node(parsed, text))
    }

    /// The value without its places.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(is) => Value::Bool(*is),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Map(members) => {
                Value::Object(members.iter().map(|(key, node)| (key.name.clone(), node.value())).collect())
            }
        }
    }

    /// What it is, in words.
    pub(super) fn words(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// The member of this name, if it is a map that has one.
    pub(super) fn member(&self, name: &str) -> Option<(&Key, &Self)> {
        let Kind::Map(members) = &self.kind else { return None };
        members.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// Where the value at the end of a way stands, or the nearest one on the way to it.
    pub(super) fn span_of(&self, way: &[Way]) -> Range<usize> {
        let mut node = self;
        for step in way {
            let next = match (step, &node.kind) {
                (Way::Member(name), _) => node.member(name).map(|(_, node)| node),
                (Way::Item(at), Kind::List(items)) => items.get(*at),
                (Way::Item(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.span.clone()
    }
}

/// As it comes from the parser.
enum Raw {
    Scalar(Kind),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Null))
    }

    fn visit_bool<E: de::Error>(self, is: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Bool(is)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Number(number.into())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Number(number.into())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Raw, E> {
        let finite = serde_json::Number::from_f64(number);
        finite.map(|number| Raw::Scalar(Kind::Number(number))).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Text(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Raw::Map(map))
    }
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let span = span(raw.referenced, text);
    let kind = match raw.value {
        Raw::Scalar(kind) => kind,
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(members) => {
            let member = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                let place = self::span(key.referenced, text);
                (Key { name: key.value, span: place }, node(value, text))
            };
            Kind::Map(members.into_iter().map(member).collect())
        }
    };
    Node { span, kind }
}

/// In bytes, within the file.
fn span(location: serde_saphyr::Location, text: &str) -> Range<usize> {
    let span = location.span();
    let within = |at: Option<u64>| usize::try_from(at.unwrap_or(0)).unwrap_or(usize::MAX).min(text.len());
    if span.byte_offset().is_none() {
        let start = start_of(location, text);
        return start..text.ceil_char_boundary((start + 1).min(text.len()));
    }
    let start = text.floor_char_boundary(within(span.byte_offset()));
    let end = start.saturating_add(within(span.byte_len()));
    start..text.ceil_char_boundary(end.min(text.len()))
}

/// Of a place that is known by line and column alone.
fn start_of(location: serde_saphyr::Location, text: &str) -> usize {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let line = text.split_inclusive('\n').take(number(location.line()).saturating_sub(1)).map(str::len).sum::<usize>();
    let rest = &text[line..];
    let column = rest.char_indices().nth(number(location.column()).saturating_sub(1));
    line + column.map_or(rest.len(), |(at, _)| at)
}

fn no_yaml(error: &serde_saphyr::Error, text: &str) -> Mistake {
    let error = error.without_snippet();
    let place = error.location().map_or(0..0, |location| span(location, text));
    let words = match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is here twice"),
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "a file holds one workflow: there is a second document in it".to_owned()
        }
        serde_saphyr::Error::Budget { .. } => {
            "it comes to more than a workflow needs, by its anchors or its depth".to_owned()
        }
        other => {
            let words = other.to_string();
            let words = words.lines().next().unwrap_or_default();
            words.split_once(" at line ").map_or(words, |(words, _)| words).to_owned()
        }
    };
    let mistake = Mistake::new(MistakeKind::Syntax, place.clone(), words);
    let line = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
    let indent = text[line..].find(|c: char| c != ' ' && c != '\t').map_or("", |end| &text[line..line + end]);
    match indent.contains('\t') {
        true => mistake.hint("indent with blanks: YAML allows no tabs there"),
        false => mistake,
    }
}
