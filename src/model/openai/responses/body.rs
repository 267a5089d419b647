//! The body of a request: the conversation as the Responses API wants it, growing at its end only.

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Value, json};

use crate::domain::ToolCall;
use crate::model::openai::body::{object_text, plain_name};
use crate::model::openai::fault::Feature;
use crate::model::openai::tools::Tools;
use crate::model::{Message, Purpose, Request, ToolSpec};

/// A request on its way out.
pub(in crate::model::openai) struct Body<'a> {
    /// The model's name at its server.
    pub(in crate::model::openai) model: &'a str,
    /// Who sends back what: see [`opaque`].
    pub(in crate::model::openai) origin: &'a str,
    /// What is asked.
    pub(in crate::model::openai) request: &'a Request,
    /// Which features the server takes.
    pub(in crate::model::openai) features: &'a dyn Fn(Feature) -> bool,
    /// The tools as JSON.
    pub(in crate::model::openai) tools: &'a Tools,
    /// Whether the server is known to keep to schemas that are strict.
    pub(in crate::model::openai) takes_strict: bool,
}

/// What an assistant's message has to carry so that the server gets its reasoning back: the order of its items, with
/// those that are only the server's as they came. None where there are none of these.
pub(in crate::model::openai) fn opaque(origin: &str, items: &[Value]) -> Option<Value> {
    let is_reasoning = |item: &Value| item["type"] == "reasoning";
    items.iter().any(is_reasoning).then(|| {
        let items = items.iter().map(|item| if is_reasoning(item) { item.clone() } else { item["type"].clone() });
        json!({"origin": origin, "items": items.collect::<Vec<_>>()})
    })
}

impl Body<'_> {
    /// The bytes to send.
    pub(in crate::model::openai) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a conversation is made of strings")
    }

    fn instructions(&self) -> Option<&str> {
        self.request.messages.iter().find_map(|message| match message {
            Message::System(text) => Some(text.as_str()),
            Message::User(_) | Message::Assistant { .. } | Message::Tool { .. } => None,
        })
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("stream", &true)?;
        map.serialize_entry("store", &false)?;
        if (self.features)(Feature::Reasoning) {
            map.serialize_entry("include", &["reasoning.encrypted_content"])?;
        }
        if !self.request.tools.is_empty() {
            let strict = (self.features)(Feature::Strict);
            let entry = if self.takes_strict { tool_entry } else { loose_entry };
            map.serialize_entry("tools", &*self.tools.json(&self.request.tools, entry, strict))?;
        }
        if let Some(instructions) = self.instructions() {
            map.serialize_entry("instructions", instructions)?;
        }
        map.serialize_entry("input", &Input(self))?;
        // After the input, so that this begins with the bytes of the request before.
        if self.request.purpose == Purpose::Summary && !self.request.tools.is_empty() {
            map.serialize_entry("tool_choice", "none")?;
        }
        map.end()
    }
}

/// Where `strict` is left out, it means yes here: so it is always said, unless the server refuses the word.
fn tool_entry(tool: &ToolSpec, strict: bool) -> Value {
    let mut entry = json!({
        "type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters.clone(),
    });
    if strict {
        entry["strict"] = Value::Bool(tool.strict);
    }
    entry
}

/// For a server that is not known to keep to strict schemas.
fn loose_entry(tool: &ToolSpec, strict: bool) -> Value {
    tool_entry(&ToolSpec { strict: false, ..tool.clone() }, strict)
}

struct Input<'a>(&'a Body<'a>);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for message in &self.0.request.messages {
            match message {
                Message::System(_) => {}
                Message::User(text) => list.serialize_element(&json!({"role": "user", "content": text}))?,
                Message::Tool { call_id, text } => {
                    let output = json!({"type": "function_call_output", "call_id": call_id, "output": text});
                    list.serialize_element(&output)?;
                }
                Message::Assistant { text, calls, opaque } => {
                    for item in self.answer(text, calls, opaque.as_ref()) {
                        list.serialize_element(&item)?;
                    }
                }
            }
        }
        list.end()
    }
}

impl Input<'_> {
    /// An answer's items: in the order in which the same server sent them, else words before calls.
    fn answer(&self, text: &str, calls: &[ToolCall], opaque: Option<&Value>) -> Vec<Value> {
        let own = opaque.filter(|opaque| opaque["origin"] == self.0.origin && (self.0.features)(Feature::Reasoning));
        let order = own.and_then(|own| own["items"].as_array()).map_or(&[][..], Vec::as_slice);
        let words = (!text.is_empty()).then(
            || json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}),
        );
        let (mut words, mut calls) = (words.into_iter(), calls.iter().map(call_item));
        let mut items = Vec::new();
        for item in order {
            match item.as_str() {
                None => items.push(item.clone()),
                Some("message") => items.extend(words.next()),
                Some("function_call") => items.extend(calls.next()),
                Some(_) => {}
            }
        }
        items.extend(words);
        items.extend(calls);
        items
    }
}

fn call_item(call: &ToolCall) -> Value {
    json!({
        "type": "function_call", "call_id": call.id, "name": plain_name(&call.name),
        "arguments": object_text(&call.arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), name: "shell".to_owned(), arguments: "{\"x\": 1}".to_owned() }
    }

    fn conversation() -> Vec<Message> {
        let items = [
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}),
            json!({"type": "function_call", "call_id": "a"}),
            json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gBBB"}),
            json!({"type": "message"}),
        ];
        vec![
            Message::System("s".to_owned()),
            Message::User("u".to_owned()),
            Message::Assistant { text: "look".to_owned(), calls: vec![call("a")], opaque: opaque("here m", &items) },
            Message::Tool { call_id: "a".to_owned(), text: "out".to_owned() },
            Message::Assistant { text: "both".to_owned(), calls: vec![call("b"), call("c")], opaque: None },
        ]
    }

    fn render(messages: Vec<Message>, features: &dyn Fn(Feature) -> bool) -> String {
        let tool = ToolSpec {
            name: "shell".to_owned(),
            description: "Runs.".to_owned(),
            parameters: json!({"type": "object"}),
            strict: false,
        };
        let request = Request { messages, tools: [tool].into(), purpose: Purpose::Turn };
        let tools = &Tools::default();
        Body { model: "m", origin: "here m", request: &request, features, tools, takes_strict: true }.to_json()
    }

    #[test]
    fn a_conversation_looks_as_the_responses_api_wants_it() {
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
    fn what_another_server_sent_or_this_one_refuses_is_left_out() {
        assert!(render(conversation(), &|_| true).contains("gAAA"));
        assert!(!render(conversation(), &|feature| feature != Feature::Reasoning).contains("gAAA"));
        let items = [json!({"type": "reasoning", "encrypted_content": "gAAA"})];
        let foreign = opaque("there m", &items);
        let message = Message::Assistant { text: "t".to_owned(), calls: vec![], opaque: foreign };
        assert!(!render(vec![message], &|_| true).contains("gAAA"));
        assert_eq!(opaque("here m", &[json!({"type": "message"})]), None);
    }
}
