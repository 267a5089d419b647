//! The body of a request: the conversation as Chat Completions wants it.
//!
//! `messages` stands last and everything before it is the same in every request of a run, so that a request of a
//! conversation that only grew begins with the bytes of the one before it; caches of servers live on that.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Map, Value, json};

use super::fault::Feature;
use super::tools::Tools;
use crate::domain::ToolCall;
use crate::model::{Message, Purpose, Request, ToolSpec};

/// The longest name of a function that servers take.
const MAX_NAME: usize = 64;

/// A request on its way out.
pub(super) struct Body<'a> {
    /// The model's name at its server.
    pub(super) model: &'a str,
    /// Who sends back what: see [`opaque`].
    pub(super) origin: &'a str,
    /// What is asked.
    pub(super) request: &'a Request,
    /// Which features the server takes.
    pub(super) features: &'a dyn Fn(Feature) -> bool,
    /// The tools as JSON.
    pub(super) tools: &'a Tools,
}

impl Body<'_> {
    /// The bytes to send.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a conversation is made of strings")
    }
}

/// What an assistant's message has to carry so that the server gets back what it sent; None where there is nothing.
pub(super) fn opaque(origin: &str, fields: &Map<String, Value>, extras: &[Option<Value>]) -> Option<Value> {
    let has_extras = extras.iter().any(Option::is_some);
    if fields.is_empty() && !has_extras {
        return None;
    }
    let calls = if has_extras { json!(extras) } else { json!([]) };
    Some(json!({"origin": origin, "fields": fields, "calls": calls}))
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("stream", &true)?;
        if (self.features)(Feature::StreamOptions) {
            map.serialize_entry("stream_options", &json!({"include_usage": true}))?;
        }
        if !self.request.tools.is_empty() {
            let strict = (self.features)(Feature::Strict);
            map.serialize_entry("tools", &*self.tools.json(&self.request.tools, tool_entry, strict))?;
        }
        map.serialize_entry("messages", &Messages(self))?;
        // After the messages, so that these begin with the bytes of the request before.
        if self.request.purpose == Purpose::Summary && !self.request.tools.is_empty() {
            map.serialize_entry("tool_choice", "none")?;
        }
        map.end()
    }
}

fn tool_entry(tool: &ToolSpec, strict: bool) -> Value {
    let mut function =
        json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters.clone()});
    if strict {
        function["strict"] = Value::Bool(tool.strict);
    }
    json!({"type": "function", "function": function})
}

struct Messages<'a>(&'a Body<'a>);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for message in &self.0.request.messages {
            list.serialize_element(&Wire { body: self.0, message })?;
        }
        list.end()
    }
}

struct Wire<'a> {
    body: &'a Body<'a>,
    message: &'a Message,
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.message {
            Message::System(text) => {
                map.serialize_entry("role", "system")?;
                map.serialize_entry("content", text)?;
            }
            Message::User(text) => {
                map.serialize_entry("role", "user")?;
                map.serialize_entry("content", text)?;
            }
            Message::Tool { call_id, text } => {
                map.serialize_entry("role", "tool")?;
                map.serialize_entry("tool_call_id", call_id)?;
                map.serialize_entry("content", text)?;
            }
            Message::Assistant { text, calls, opaque } => {
                let content = Some(text).filter(|text| !text.is_empty() || calls.is_empty());
                map.serialize_entry("role", "assistant")?;
                map.serialize_entry("content", &content)?;
                let own = opaque.as_ref().filter(|opaque| opaque["origin"] == self.body.origin);
                let fields = own.filter(|_| (self.body.features)(Feature::Reasoning)).map(|own| &own["fields"]);
                for (name, value) in fields.and_then(Value::as_object).into_iter().flatten() {
                    map.serialize_entry(name, value)?;
                }
                if !calls.is_empty() {
                    let extra = |at: usize| own.map_or(&Value::Null, |own| &own["calls"][at]);
                    let calls: Vec<_> =
                        calls.iter().enumerate().map(|(at, call)| call_entry(call, extra(at))).collect();
                    map.serialize_entry("tool_calls", &calls)?;
                }
            }
        }
        map.end()
    }
}

fn call_entry(call: &ToolCall, extra: &Value) -> Value {
    let function = json!({"name": plain_name(&call.name), "arguments": object_text(&call.arguments)});
    let mut entry = json!({"id": call.id, "type": "function", "function": function});
    if !extra.is_null() {
        entry["extra_content"] = extra.clone();
    }
    entry
}

/// A name that servers take back: they refuse the whole conversation for one that a model has misspelled.
pub(super) fn plain_name(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let plain: String = name.chars().take(MAX_NAME).map(|c| if is_plain(c) { c } else { '_' }).collect();
    Cow::Owned(if plain.is_empty() { "unnamed".to_owned() } else { plain })
}

/// Arguments that servers take back: several parse them again for their template, and fail for ever on broken JSON.
pub(super) fn object_text(arguments: &str) -> Cow<'_, str> {
    if arguments.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    // Into values: a number that is out of range passes where nothing is kept, and fails at servers.
    let is_object = serde_json::from_str::<Map<String, Value>>(arguments).is_ok();
    if is_object { Cow::Borrowed(arguments) } else { Cow::Owned(json!({"malformed": arguments}).to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> ToolCall {
        ToolCall { id: "a".to_owned(), name: "shell".to_owned(), arguments: arguments.to_owned() }
    }

    fn render(messages: Vec<Message>, features: &dyn Fn(Feature) -> bool) -> String {
        let tool = ToolSpec {
            name: "shell".to_owned(),
            description: "Runs.".to_owned(),
            parameters: json!({"type": "object"}),
            strict: true,
        };
        let request = Request { messages, tools: [tool].into(), purpose: Purpose::Turn };
        Body { model: "m", origin: "here m", request: &request, features, tools: &Tools::default() }.to_json()
    }

    fn conversation() -> Vec<Message> {
        let fields = json!({"reasoning_content": "hm"});
        let opaque = opaque("here m", fields.as_object().unwrap(), &[Some(json!({"sign": 1}))]);
        vec![
            Message::System("s".to_owned()),
            Message::User("u".to_owned()),
            Message::Assistant { text: String::new(), calls: vec![call("{\"x\": 1}")], opaque },
            Message::Tool { call_id: "a".to_owned(), text: "out".to_owned() },
            Message::Assistant { text: "done".to_owned(), calls: vec![], opaque: None },
        ]
    }

    #[test]
    fn a_conversation_looks_as_chat_completions_wants_it() {
        let got: Value = serde_json::from_str(&render(conversation(), &|_| true)).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&got).unwrap());
    }

    #[test]
    fn a_conversation_that_grew_begins_with_the_bytes_it_had() {
        let all = conversation();
        let bodies: Vec<_> = (1..=all.len()).map(|count| render(all[..count].to_vec(), &|_| true)).collect();
        for pair in bodies.windows(2) {
            let head = pair[0].strip_suffix("]}").unwrap();
            assert!(pair[1].starts_with(head), "{}\n{}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_a_server_refuses_or_another_one_sent_is_left_out() {
        let body = render(conversation(), &|_| false);
        assert!(!body.contains("stream_options") && !body.contains("strict") && !body.contains("reasoning_content"));
        let foreign = opaque("there m", json!({"reasoning_content": "hm"}).as_object().unwrap(), &[]);
        let message = Message::Assistant { text: "t".to_owned(), calls: vec![], opaque: foreign };
        assert!(!render(vec![message], &|_| true).contains("reasoning_content"));
    }

    #[test]
    fn broken_calls_are_sent_back_as_servers_can_read_them() {
        for (arguments, sent) in [
            ("", "{}"),
            (" {\"x\": 1}", " {\"x\": 1}"),
            ("{\"x\"", r#"{"malformed":"{\"x\""}"#),
            ("[1]", r#"{"malformed":"[1]"}"#),
            ("{\"x\":1e400}", r#"{"malformed":"{\"x\":1e400}"}"#),
            ("{\"n\":9e1761988505848472}", r#"{"malformed":"{\"n\":9e1761988505848472}"}"#),
            ("{\"n\":[-9e400]}", r#"{"malformed":"{\"n\":[-9e400]}"}"#),
        ] {
            assert_eq!(object_text(arguments), sent);
        }
        assert_eq!(plain_name("run shell!"), "run_shell_");
        assert_eq!(plain_name(""), "unnamed");
        assert_eq!(plain_name(&"é".repeat(99)).len(), MAX_NAME);
    }
}
