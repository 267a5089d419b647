//! Events of a streamed response, read as leniently as servers write them; whole responses are read the same way.

use serde_json::Value;

use crate::model::assemble::{Arguments, Assembly, CallPiece, Piece};
use crate::model::openai::chunk::usage;
use crate::model::openai::fault::Fault;
use crate::model::openai::words::{Words, one_line};
use crate::model::{Delta, Sink};

/// An answer as it comes in.
#[derive(Debug, Default)]
pub(in crate::model::openai) struct Reading {
    /// What has come of it.
    pub(in crate::model::openai) assembly: Assembly,
    /// Its items as they came, in order; those that are not whole yet have no type.
    pub(in crate::model::openai) items: Vec<Value>,
    /// The items' ids, where the server gives them before the items are whole.
    ids: Vec<Option<String>>,
    has_text: bool,
}

impl Reading {
    /// Reads an event, or a whole response, and shows what is new in it.
    ///
    /// # Errors
    /// A [`Fault`] where the event is an error, or no JSON at all.
    pub(in crate::model::openai) fn take(&mut self, event: &Value, sink: Sink<'_>) -> Result<(), Fault> {
        if let Value::String(garbage) = event {
            return Err(Fault::passing("the model's server sent what is no JSON", one_line(garbage)));
        }
        let text = |name: &str| event.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.has_text = true;
                self.show(text("delta").map(|text| Piece::Text(text.to_owned())), sink);
            }
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                self.show(text("delta").map(|text| Piece::Reasoning(text.to_owned())), sink);
            }
            "response.output_item.added" => self.begin(event),
            "response.function_call_arguments.delta" => {
                let more = text("delta").unwrap_or_default().to_owned();
                self.call(event, CallPiece { arguments: Arguments::More(more), ..CallPiece::default() });
            }
            "response.output_item.done" => self.item(event, sink),
            "response.completed" | "response.incomplete" | "response.done" => {
                return self.end(event.get("response").unwrap_or(event), sink);
            }
            "response.failed" => return Err(failed(event.get("response").unwrap_or(event))),
            "error" => return Err(failed(event)),
            _ if event.get("output").is_some_and(Value::is_array) => return self.end(event, sink),
            _ if event.get("error").is_some_and(|error| !error.is_null()) => return Err(failed(event)),
            _ => {}
        }
        Ok(())
    }

    /// The place of the item that an event is about: by its number, else by its id, else the last one.
    fn place(&self, event: &Value) -> usize {
        let by_number = event.get("output_index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
        let id = event.get("item_id").or_else(|| event.pointer("/item/id")).and_then(Value::as_str);
        let by_id = || self.ids.iter().rposition(|known| known.is_some() && known.as_deref() == id);
        // No answer has more items than this; a number beyond it is a mistake.
        by_number.filter(|at| *at < 4096).or_else(by_id).unwrap_or_else(|| self.ids.len().saturating_sub(1))
    }

    fn begin(&mut self, event: &Value) {
        let Some(item) = event.get("item") else { return };
        let known = |at: u64| usize::try_from(at).ok().filter(|at| *at < 4096);
        let at = event.get("output_index").and_then(Value::as_u64).and_then(known).unwrap_or(self.ids.len());
        self.make_room(at);
        self.ids[at] = item.get("id").and_then(Value::as_str).map(str::to_owned);
        if item["type"] == "function_call" {
            let piece = CallPiece { arguments: Arguments::default(), ..call_piece(item) };
            self.call_at(at, piece);
        }
    }

    fn make_room(&mut self, at: usize) {
        if self.ids.len() <= at {
            self.ids.resize(at + 1, None);
        }
        if self.items.len() < self.ids.len() {
            self.items.resize(self.ids.len(), Value::Null);
        }
    }

    /// An item that is whole.
    fn item(&mut self, event: &Value, sink: Sink<'_>) {
        let Some(item) = event.get("item") else { return };
        let id = item.get("id").and_then(Value::as_str);
        let is_known = event.get("output_index").is_some()
            || (id.is_some() && self.ids.iter().any(|known| known.as_deref() == id))
            || self.items.last().is_some_and(Value::is_null);
        let at = if is_known { self.place(event) } else { self.ids.len() };
        self.make_room(at);
        self.whole(at, item, sink);
    }

    fn whole(&mut self, at: usize, item: &Value, sink: Sink<'_>) {
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => self.call_at(at, call_piece(item)),
            "message" if !self.has_text => self.show(words_of(item).map(Piece::Text), sink),
            _ => {}
        }
        let mut item = item.clone();
        if let Value::Object(fields) = &mut item {
            // What only tells how far it had come; servers refuse it when it comes back empty.
            fields.remove("status");
        }
        self.items[at] = item;
    }

    fn call(&mut self, event: &Value, piece: CallPiece) {
        self.call_at(self.place(event), piece);
    }

    fn call_at(&mut self, at: usize, piece: CallPiece) {
        self.assembly.take(Piece::Call(CallPiece { index: Some(at as u64), ..piece }));
    }

    /// The end, with all that came: what was not streamed is taken from here.
    fn end(&mut self, response: &Value, sink: Sink<'_>) -> Result<(), Fault> {
        if response["status"] == "failed" || response.get("error").is_some_and(|error| !error.is_null()) {
            return Err(failed(response));
        }
        let output = response.get("output").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (at, item) in output.iter().enumerate() {
            self.make_room(at);
            if self.items[at].is_null() {
                self.whole(at, item, sink);
            }
        }
        if let Some(usage) = response.get("usage").and_then(usage) {
            self.assembly.take(Piece::Usage(usage));
        }
        let why = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
        let has_calls = self.items.iter().any(|item| item["type"] == "function_call");
        let reason = match why {
            Some("max_output_tokens" | "max_tokens") => "length",
            Some(other) => other,
            None if has_calls => "tool_calls",
            None => "stop",
        };
        self.assembly.take(Piece::Finish(reason.to_owned()));
        Ok(())
    }

    fn show(&mut self, piece: Option<Piece>, sink: Sink<'_>) {
        let Some(piece) = piece else { return };
        match &piece {
            Piece::Text(text) => sink(Delta::Text(text.clone())),
            Piece::Reasoning(text) => sink(Delta::Reasoning(text.clone())),
            Piece::Call(_) | Piece::Finish(_) | Piece::Usage(_) => {}
        }
        self.assembly.take(piece);
    }
}

fn call_piece(item: &Value) -> CallPiece {
    let string = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let arguments = match item.get("arguments") {
        Some(Value::String(text)) if !text.is_empty() => Arguments::Whole(text.clone()),
        Some(object @ Value::Object(_)) => Arguments::Whole(object.to_string()),
        _ => Arguments::default(),
    };
    CallPiece {
        index: None,
        id: string("call_id").or_else(|| string("id")),
        name: string("name"),
        arguments,
        extra: None,
    }
}

fn words_of(item: &Value) -> Option<String> {
    let parts = item.get("content")?.as_array()?;
    let text = |part: &Value| part.get("text").or_else(|| part.get("refusal"))?.as_str().map(str::to_owned);
    Some(parts.iter().filter_map(text).collect::<String>()).filter(|text| !text.is_empty())
}

fn failed(response: &Value) -> Fault {
    match Words::of_json(response) {
        Some(words) => Fault::of_error_object(&words),
        None => Fault::passing("the model's server broke the answer off", ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(events: &[Value]) -> (Reading, Vec<Delta>, Result<(), Fault>) {
        let mut reading = Reading::default();
        let mut deltas = Vec::new();
        let result = events.iter().try_for_each(|event| reading.take(event, &mut |delta| deltas.push(delta)));
        (reading, deltas, result)
    }

    fn streamed() -> Vec<Value> {
        let reasoning =
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA", "status": null});
        let call = |arguments: &str| json!({"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "shell", "arguments": arguments});
        vec![
            json!({"type": "response.created", "response": {"status": "in_progress", "output": []}}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}}),
            json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "delta": "hm"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
            json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "id": "m"}}),
            json!({"type": "response.output_text.delta", "item_id": "m", "delta": "I "}),
            json!({"type": "response.output_text.delta", "item_id": "m", "delta": "look."}),
            json!({"type": "response.output_item.done", "output_index": 1,
                   "item": {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "I look."}]}}),
            json!({"type": "response.output_item.added", "output_index": 2, "item": call("")}),
            json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "{\"x\""}),
            json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": ": 1}"}),
            json!({"type": "response.output_item.done", "output_index": 2, "item": call("{\"x\": 1}")}),
            json!({"type": "response.completed", "response": {"status": "completed", "output": [],
                   "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 7}, "output_tokens": 2}}}),
        ]
    }

    #[test]
    fn a_streamed_response_becomes_an_answer() {
        let (reading, deltas, result) = read(&streamed());
        result.unwrap();
        let texts = [Delta::Reasoning("hm".into()), Delta::Text("I ".into()), Delta::Text("look.".into())];
        assert_eq!(deltas, texts);
        assert_eq!(reading.items.len(), 3);
        assert_eq!(
            reading.items[0],
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"})
        );
        let done = reading.assembly.finish();
        assert_eq!(
            (done.text.as_str(), done.reasoning.as_str(), done.finish_reason.as_str()),
            ("I look.", "hm", "tool_calls")
        );
        assert_eq!((done.calls[0].id.as_str(), done.calls[0].arguments.as_str()), ("call_a", "{\"x\": 1}"));
        let usage = done.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens), (10, 7, 2));
    }

    #[test]
    fn servers_that_leave_out_numbers_ids_or_deltas_are_understood() {
        let strip = |event: &Value, names: &[&str]| {
            let mut event = event.clone();
            names.iter().for_each(|name| drop(event.as_object_mut().unwrap().remove(*name)));
            event
        };
        let all = streamed();
        let without_numbers: Vec<Value> = all.iter().map(|event| strip(event, &["output_index"])).collect();
        let without_either: Vec<Value> = all.iter().map(|event| strip(event, &["output_index", "item_id"])).collect();
        let is_delta = |event: &&Value| !event["type"].as_str().unwrap().ends_with(".delta");
        let without_deltas: Vec<Value> = all.iter().filter(is_delta).cloned().collect();
        let output: Vec<Value> = all
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| event["item"].clone())
            .collect();
        let whole =
            vec![json!({"object": "response", "status": "completed", "output": output, "usage": {"input_tokens": 10}})];
        let only_the_end = vec![json!({"type": "response.completed", "response": whole[0]})];
        for events in [without_numbers, without_either, without_deltas, whole, only_the_end] {
            let (reading, _, result) = read(&events);
            result.unwrap();
            assert_eq!(reading.items.len(), 3, "{events:?}");
            let done = reading.assembly.finish();
            assert_eq!(done.text, "I look.", "{events:?}");
            assert_eq!(done.calls.len(), 1, "{events:?}");
            assert_eq!((done.calls[0].id.as_str(), done.calls[0].arguments.as_str()), ("call_a", "{\"x\": 1}"));
            assert_eq!(done.finish_reason, "tool_calls");
        }
    }

    #[test]
    fn parallel_calls_keep_their_arguments() {
        let added = |at: u64, id: &str| {
            json!({"type": "response.output_item.added", "output_index": at,
            "item": {"type": "function_call", "id": format!("i{id}"), "call_id": id, "name": "shell", "arguments": ""}})
        };
        let more = |at: u64, text: &str| json!({"type": "response.function_call_arguments.delta", "output_index": at, "delta": text});
        let (reading, _, result) = read(&[
            added(0, "a"),
            added(1, "b"),
            more(1, "{\"n\":"),
            more(0, "{\"n\":1}"),
            more(1, "2}"),
            json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}),
        ]);
        result.unwrap();
        let done = reading.assembly.finish();
        let calls: Vec<_> = done.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("a", "{\"n\":1}"), ("b", "{\"n\":2}")]);
        assert_eq!(done.finish_reason, "length");
    }

    #[test]
    fn an_error_is_a_fault_wherever_it_stands() {
        for event in [
            json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}),
            json!({"type": "error", "error": {"type": "server_error", "message": "m"}}),
            json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "m"}}}),
            json!({"error": {"message": "m"}}),
            json!({"type": "response.completed", "response": {"status": "failed", "error": {"message": "m"}}}),
            json!("garbage"),
        ] {
            assert!(read(std::slice::from_ref(&event)).2.is_err(), "{event}");
        }
        let (_, _, result) = read(&[
            json!({}),
            json!([]),
            json!(null),
            json!({"type": "response.new_thing", "output_index": 1u64 << 60}),
        ]);
        result.unwrap();
    }
}
