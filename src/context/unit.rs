//! The pieces of a conversation that stay together: an answer with all its results, somebody's words, a summary.

use serde_json::{Value, json};

use super::Step;
use crate::domain::ToolCall;
use crate::model::Message;

/// Opaque items that are no longer than this are never left out.
const SMALL_OPAQUE: usize = 1024;

/// What a piece is, which decides what may become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Instructions and goal: they stay as they are.
    Pinned,
    /// A person's words: they stay, and are cut short only where they alone would be too much.
    Person,
    /// The harness's words.
    Harness,
    /// What stands for older pieces.
    Summary,
    /// An answer with the results of its calls.
    Answer,
}

/// A piece of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The entry that it begins with.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// What the model is shown of it.
    pub messages: Vec<Message>,
    /// Its calls, in order.
    pub steps: Vec<Step>,
}

impl Unit {
    /// Somebody's words.
    pub(super) fn words(seq: u64, kind: Kind, text: String) -> Self {
        Self { seq, kind, messages: vec![Message::User(text)], steps: Vec::new() }
    }

    /// Whether a summary may stand for it.
    pub fn is_foldable(&self) -> bool {
        match self.kind {
            Kind::Answer | Kind::Harness | Kind::Summary => true,
            Kind::Pinned | Kind::Person => false,
        }
    }

    /// How many of its results are left out, a line standing for each.
    pub fn left_out(&self) -> usize {
        let is_stub = |message: &&Message| match message {
            Message::Tool { call_id, text } => {
                self.steps.iter().any(|step| step.call_id == *call_id && step.stub() == *text)
            }
            Message::System(_) | Message::User(_) | Message::Assistant { .. } => false,
        };
        self.messages.iter().filter(is_stub).count()
    }

    /// Shows its results as one line each, where that is shorter.
    pub(super) fn stub(&mut self) {
        for message in &mut self.messages {
            let Message::Tool { call_id, text } = message else { continue };
            let Some(step) = self.steps.iter().find(|step| step.call_id == *call_id) else { continue };
            let stub = step.stub();
            if stub.len() < text.len() {
                *text = stub;
            }
        }
    }

    /// Cuts every text that is longer than `bytes`.
    pub(super) fn clip(&mut self, bytes: usize) {
        if self.kind == Kind::Pinned {
            return;
        }
        for message in &mut self.messages {
            match message {
                Message::System(_) => {}
                Message::User(text) | Message::Tool { text, .. } => clip(text, bytes),
                Message::Assistant { text, calls, opaque } => {
                    clip(text, bytes);
                    calls.iter_mut().for_each(|call| clip_arguments(call, bytes));
                    let is_long = |opaque: &Value| opaque.to_string().len() > bytes.max(SMALL_OPAQUE);
                    *opaque = opaque.take().filter(|opaque| !is_long(opaque));
                }
            }
        }
    }

    /// Bytes of its words.
    pub(super) fn text_bytes(&self) -> usize {
        let bytes = |message: &Message| match message {
            Message::System(text) | Message::User(text) | Message::Tool { text, .. } => text.len(),
            Message::Assistant { text, calls, .. } => {
                text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
            }
        };
        self.messages.iter().map(bytes).sum()
    }
}

/// Cuts a text to `bytes`, its middle left out, with a note of how much that was. Never makes it longer.
pub(super) fn clip(text: &mut String, bytes: usize) {
    if text.len() <= bytes {
        return;
    }
    let note = |left_out: usize| format!("\n[… {left_out} bytes left out …]\n");
    let room = bytes.saturating_sub(note(text.len()).len());
    let head = text.floor_char_boundary(room * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - (room - room * 2 / 3));
    let cut = format!("{}{}{}", &text[..head], note(tail - head), &text[tail..]);
    if cut.len() < text.len() {
        *text = cut;
    }
}

/// Arguments stay an object: servers refuse the whole conversation otherwise.
fn clip_arguments(call: &mut ToolCall, bytes: usize) {
    if call.arguments.len() <= bytes {
        return;
    }
    let left_out = || json!({"left_out_bytes": call.arguments.len()}).to_string();
    let Ok(Value::Object(mut arguments)) = serde_json::from_str(&call.arguments) else {
        call.arguments = left_out();
        return;
    };
    let each = bytes / arguments.len().max(1);
    for value in arguments.values_mut() {
        match value {
            Value::String(text) => clip(text, each),
            Value::Array(_) | Value::Object(_) if value.to_string().len() > each => *value = Value::Null,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
    let clipped = Value::Object(arguments).to_string();
    // Escapes may make it longer than what it was cut to.
    call.arguments = if clipped.len() <= bytes * 2 { clipped } else { left_out() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_cut_fits_and_says_how_much_is_missing() {
        let whole = "é".repeat(5_000);
        for bytes in [64, 100, 1_000, 9_999, 10_000] {
            let mut text = whole.clone();
            clip(&mut text, bytes);
            assert!(text.len() <= bytes, "{} of {bytes}", text.len());
            let again = text.clone();
            clip(&mut text, bytes);
            assert_eq!(text, again);
        }
        let mut text = format!("begin {} end", "x".repeat(10_000));
        clip(&mut text, 100);
        assert!(text.starts_with("begin x") && text.ends_with("x end") && text.contains("bytes left out"), "{text}");
    }

    #[test]
    fn arguments_that_were_cut_are_still_an_object() {
        let long = "x\n".repeat(10_000);
        for arguments in [json!({"path": "a", "content": long}).to_string(), long.clone(), json!([long]).to_string()] {
            let mut call = ToolCall { id: "a".to_owned(), name: "write_file".to_owned(), arguments };
            clip_arguments(&mut call, 500);
            assert!(call.arguments.len() <= 1_000);
            let cut: Value = serde_json::from_str(&call.arguments).unwrap();
            assert!(cut.is_object(), "{cut}");
        }
    }
}
