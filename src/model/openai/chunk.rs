//! Chunks of a streamed completion, read as leniently as servers write them; whole completions are read the same way.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::words::Words;
use crate::domain::Usage;
use crate::model::assemble::{Arguments, Assembly, CallPiece, Piece};
use crate::model::{Delta, Sink};

/// An answer as it comes in.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What has come of it.
    pub(super) assembly: Assembly,
    /// Fields of the message that go back to the server as they came.
    pub(super) fields: Map<String, Value>,
}

impl Reading {
    /// Reads a chunk and shows what is new in it.
    ///
    /// # Errors
    /// A [`Fault`] where the chunk is an error, or no JSON at all.
    pub(super) fn take(&mut self, chunk: &Value, sink: Sink<'_>) -> Result<(), Fault> {
        if let Value::String(garbage) = chunk {
            let because = super::words::one_line(garbage);
            return Err(Fault::passing("the model's server sent what is no JSON", because));
        }
        let choice = first(chunk.get("choices"));
        let is_error = chunk.get("object").is_some_and(|kind| kind == "error");
        for place in [Some(chunk), choice] {
            let error = place.filter(|place| is_error || place.get("error").is_some_and(|error| !error.is_null()));
            if let Some(words) = error.and_then(|error| Words::of_json(&without_choices(error))) {
                return Err(Fault::of_error_object(&words));
            }
        }
        let usages = [chunk.get("usage"), chunk.pointer("/x_groq/usage"), choice.and_then(|c| c.get("usage"))];
        if let Some(usage) = usages.into_iter().flatten().find_map(usage) {
            self.assembly.take(Piece::Usage(usage));
        }
        let Some(choice) = choice else { return Ok(()) };
        if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")).filter(|delta| delta.is_object()) {
            self.take_delta(delta, sink);
        }
        match choice.get("finish_reason").and_then(Value::as_str) {
            Some("error" | "abort") => Err(Fault::passing("the model's server broke the answer off", "")),
            Some(reason) => {
                self.assembly.take(Piece::Finish(reason.to_owned()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take_delta(&mut self, delta: &Value, sink: Sink<'_>) {
        let named =
            ["reasoning_content", "reasoning"].into_iter().find_map(|name| Some((name, text(delta.get(name)?)?)));
        if let Some((name, more)) = named {
            append(self.fields.entry(name).or_insert_with(|| Value::String(String::new())), &more);
            self.show(Piece::Reasoning(more), sink);
        }
        for detail in delta.get("reasoning_details").and_then(Value::as_array).into_iter().flatten() {
            let details = self.fields.entry("reasoning_details").or_insert_with(|| Value::Array(Vec::new()));
            add_detail(details, detail);
        }
        for name in ["content", "refusal"] {
            if let Some(more) = delta.get(name).and_then(text) {
                self.show(Piece::Text(more), sink);
            }
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.assembly.take(Piece::Call(call_piece(call)));
        }
    }

    fn show(&mut self, piece: Piece, sink: Sink<'_>) {
        match &piece {
            Piece::Text(text) => sink(Delta::Text(text.clone())),
            Piece::Reasoning(text) => sink(Delta::Reasoning(text.clone())),
            Piece::Call(_) | Piece::Finish(_) | Piece::Usage(_) => {}
        }
        self.assembly.take(piece);
    }
}

fn first(list: Option<&Value>) -> Option<&Value> {
    list?.as_array()?.first()
}

/// An error beside empty or half-empty choices is an error.
fn without_choices(place: &Value) -> Value {
    let mut place = place.clone();
    if let Value::Object(map) = &mut place {
        map.remove("choices");
    }
    place
}

/// Text as a string, or as a list of parts of which only those that are text count. None where there is none.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

fn append(to: &mut Value, more: &str) {
    if let Value::String(text) = to {
        text.push_str(more);
    }
}

/// Adds a piece of structured reasoning: texts of the same part are joined, the rest is kept as it comes.
fn add_detail(details: &mut Value, detail: &Value) {
    let Value::Array(details) = details else { return };
    let same = |last: &&mut Value| ["type", "index"].iter().all(|key| last.get(key) == detail.get(key));
    let (Some(Value::Object(last)), Value::Object(more)) = (details.last_mut().filter(same), detail) else {
        details.push(detail.clone());
        return;
    };
    for (key, value) in more {
        match (last.get_mut(key), value) {
            (Some(text @ Value::String(_)), Value::String(more)) if ["text", "summary", "data"].contains(&&**key) => {
                append(text, more);
            }
            (_, Value::Null) => {}
            _ => {
                last.insert(key.clone(), value.clone());
            }
        }
    }
}

fn call_piece(call: &Value) -> CallPiece {
    let function = call.get("function").filter(|function| function.is_object()).unwrap_or(call);
    let string = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
    let index = call.get("index").and_then(|index| index.as_u64().or_else(|| index.as_str()?.parse().ok()));
    let arguments = match function.get("arguments") {
        Some(Value::String(more)) => Arguments::More(more.clone()),
        Some(whole @ (Value::Object(_) | Value::Array(_))) => Arguments::Whole(whole.to_string()),
        _ => Arguments::default(),
    };
    CallPiece {
        index,
        id: string(call.get("id")),
        name: string(function.get("name")),
        arguments,
        extra: call.get("extra_content").filter(|extra| !extra.is_null()).cloned(),
    }
}

/// Tokens, by whichever names a server gives them.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let map = usage.as_object()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let number = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|float| float as u64));
    let count = |key: &str| map.get(key).and_then(number);
    let detail = |kind: &str| usage.pointer(&format!("/{kind}_details/cached_tokens")).and_then(number);
    let details = detail("prompt_tokens").or_else(|| detail("input_tokens"));
    Some(Usage {
        input_tokens: count("prompt_tokens").or(count("input_tokens"))?,
        cached_tokens: details.or(count("prompt_cache_hit_tokens")).or(count("cached_tokens")).unwrap_or(0),
        output_tokens: count("completion_tokens").or(count("output_tokens")).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(chunks: &[Value]) -> (Reading, Vec<Delta>, Result<(), Fault>) {
        let mut reading = Reading::default();
        let mut deltas = Vec::new();
        let result = chunks.iter().try_for_each(|chunk| reading.take(chunk, &mut |delta| deltas.push(delta)));
        (reading, deltas, result)
    }

    fn delta(delta: &Value) -> Value {
        json!({"choices": [{"delta": delta}]})
    }

    #[test]
    fn odd_chunks_are_read_for_what_they_hold() {
        let (reading, deltas, result) = read(&[
            json!({}),
            json!([]),
            json!(null),
            json!({"choices": null, "created": 1.5}),
            json!({"choices": [{"delta": null, "finish_reason": ""}]}),
            delta(&json!({"content": [{"type": "text", "text": "a"}, {"type": "image"}]})),
            delta(&json!({"content": "b", "tool_calls": null})),
            json!({"choices": [{"message": {"content": "c"}, "finish_reason": "strange"}]}),
        ]);
        result.unwrap();
        assert_eq!(deltas, ["a", "b", "c"].map(|text| Delta::Text(text.to_owned())));
        assert_eq!(reading.assembly.finish().finish_reason, "strange");
    }

    #[test]
    fn usage_counts_wherever_it_stands_and_the_last_one_wins() {
        let (reading, _, result) = read(&[
            json!({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
            json!({"choices": [], "usage": {"prompt_tokens": 10.0, "completion_tokens": 2,
                   "prompt_tokens_details": {"cached_tokens": 7}}}),
            json!({"choices": [], "usage": null}),
        ]);
        result.unwrap();
        let usage = reading.assembly.finish().usage.unwrap();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens), (10, 7, 2));
    }

    #[test]
    fn reasoning_is_kept_under_the_name_it_came_with() {
        let (reading, deltas, _) = read(&[
            delta(&json!({"reasoning_content": "a", "reasoning": "a"})),
            delta(&json!({"reasoning_content": "b", "content": null})),
        ]);
        assert_eq!(reading.fields["reasoning_content"], "ab");
        assert_eq!(deltas.len(), 2);
        let detail = |text: &str| json!({"reasoning_details": [{"type": "t", "index": 0, "text": text, "id": null}]});
        let (reading, _, _) = read(&[delta(&detail("a")), delta(&detail("b"))]);
        assert_eq!(reading.fields["reasoning_details"], json!([{"type": "t", "index": 0, "text": "ab", "id": null}]));
    }

    #[test]
    fn an_error_in_the_stream_is_a_fault() {
        for chunk in [
            json!({"error": {"message": "m", "code": 502}}),
            json!({"error": {"message": "m", "code": 502}, "choices": [{"delta": {}, "finish_reason": "error"}]}),
            json!({"choices": [{"delta": {}, "error": {"message": "m", "code": 502}}]}),
            json!({"object": "error", "message": "m"}),
            json!("garbage"),
            json!({"choices": [{"delta": {}, "finish_reason": "abort"}]}),
        ] {
            assert!(read(std::slice::from_ref(&chunk)).2.is_err(), "{chunk}");
        }
    }
}
