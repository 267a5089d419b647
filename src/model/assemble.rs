//! Pieces of an answer put together, whatever way the server numbers, names and splits its tool calls.

use serde_json::Value;

use crate::domain::{ToolCall, Usage};

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// More words.
    Text(String),
    /// More reasoning.
    Reasoning(String),
    /// More of a tool call.
    Call(CallPiece),
    /// Why the answer ended, in the server's word.
    Finish(String),
    /// Tokens so far; the last one counts.
    Usage(Usage),
}

/// A piece of a tool call. Servers leave out, repeat and reuse all of this.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CallPiece {
    /// The call's number within the answer.
    pub(super) index: Option<u64>,
    /// Its id.
    pub(super) id: Option<String>,
    /// The tool.
    pub(super) name: Option<String>,
    /// More of the arguments.
    pub(super) arguments: Arguments,
    /// What the server wants back with the call.
    pub(super) extra: Option<Value>,
}

/// Arguments in a piece of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Text to append; may be empty.
    More(String),
    /// All of them at once.
    Whole(String),
}

impl Default for Arguments {
    fn default() -> Self {
        Self::More(String::new())
    }
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    reasoning: String,
    calls: Vec<OpenCall>,
    finish: Option<String>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct OpenCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Option<Value>,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Assembled {
    /// Its words.
    pub(super) text: String,
    /// Its reasoning.
    pub(super) reasoning: String,
    /// Its calls in the order in which they began; ids are neither empty nor repeated.
    pub(super) calls: Vec<ToolCall>,
    /// What the server wants back with each call.
    pub(super) extras: Vec<Option<Value>>,
    /// Why it ended; empty where the server does not say.
    pub(super) finish_reason: String,
    /// Tokens, where the server says.
    pub(super) usage: Option<Usage>,
}

impl Assembly {
    /// Adds a piece.
    pub(super) fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.text.push_str(&text),
            Piece::Reasoning(text) => self.reasoning.push_str(&text),
            Piece::Call(piece) => self.take_call(piece),
            Piece::Finish(reason) if !reason.is_empty() => self.finish = Some(reason),
            Piece::Finish(_) => {}
            Piece::Usage(usage) => self.usage = Some(usage),
        }
    }

    /// Whether the server has said why the answer ended: whatever comes then is only the end.
    pub(super) fn has_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether nothing at all has come.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty() && self.calls.is_empty() && self.finish.is_none()
    }

    /// The answer as far as it has come.
    pub(super) fn finish(self) -> Assembled {
        let mut calls: Vec<ToolCall> = Vec::new();
        let mut extras = Vec::new();
        for open in self.calls.into_iter().filter(|call| !call.name.is_empty() || !call.arguments.is_empty()) {
            let id = unused_id(open.id, &calls);
            calls.push(ToolCall { id, name: open.name, arguments: open.arguments });
            extras.push(open.extra);
        }
        Assembled {
            text: self.text,
            reasoning: self.reasoning,
            calls,
            extras,
            finish_reason: self.finish.unwrap_or_default(),
            usage: self.usage,
        }
    }

    fn take_call(&mut self, piece: CallPiece) {
        let at = self.place_of(&piece).unwrap_or_else(|| {
            self.calls.push(OpenCall { index: piece.index, ..OpenCall::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = piece.id.unwrap_or_default();
        }
        if call.name.is_empty() {
            call.name = piece.name.unwrap_or_default();
        }
        match piece.arguments {
            Arguments::More(text) => call.arguments.push_str(&text),
            Arguments::Whole(text) => call.arguments = text,
        }
        call.extra = piece.extra.or(call.extra.take());
    }

    /// Which of the calls a piece continues; None where it begins one.
    fn place_of(&self, piece: &CallPiece) -> Option<usize> {
        let id = piece.id.as_deref().unwrap_or_default();
        let name = piece.name.as_deref().unwrap_or_default();
        if piece.index.is_none() && !id.is_empty() {
            return self.calls.iter().rposition(|call| call.id == id);
        }
        let at = match piece.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index))?,
            None => self.calls.len().checked_sub(1)?,
        };
        let call = &self.calls[at];
        if name.is_empty() || call.name.is_empty() {
            return Some(at);
        }
        // A name again: some servers repeat it with every piece, others number all calls 0.
        let other_id = !id.is_empty() && !call.id.is_empty() && id != call.id;
        let begins_anew = id.is_empty() && (name != call.name || (piece.arguments.opens() && call.is_whole()));
        if other_id || begins_anew { None } else { Some(at) }
    }
}

impl Arguments {
    fn opens(&self) -> bool {
        match self {
            Self::More(text) => text.trim_start().starts_with('{'),
            Self::Whole(_) => true,
        }
    }
}

impl OpenCall {
    fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

fn unused_id(id: String, calls: &[ToolCall]) -> String {
    let is_free = |id: &str| !id.is_empty() && calls.iter().all(|call| call.id != id);
    if is_free(&id) {
        return id;
    }
    let stem = if id.is_empty() { "call" } else { &id };
    let mut numbered = (calls.len()..).map(|number| format!("{stem}_{number}"));
    numbered.find(|id| is_free(id)).expect("there are more numbers than calls")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece as `index id name arguments`, with `-` for what is missing.
    fn piece(text: &str) -> Piece {
        let parts: Vec<&str> = text.splitn(4, ' ').collect();
        let given = |at: usize| Some(parts[at].to_owned()).filter(|part| part != "-");
        Piece::Call(CallPiece {
            index: parts[0].parse().ok(),
            id: given(1),
            name: given(2),
            arguments: Arguments::More(given(3).unwrap_or_default()),
            extra: None,
        })
    }

    fn calls(pieces: &[&str]) -> Vec<String> {
        let mut assembly = Assembly::default();
        for text in pieces {
            assembly.take(piece(text));
        }
        let calls = assembly.finish().calls;
        calls.into_iter().map(|call| format!("{} {} {}", call.id, call.name, call.arguments)).collect()
    }

    #[test]
    fn interleaved_calls_are_told_apart_by_index() {
        let got = calls(&["0 a f -", "1 b g -", "0 - - {\"x\"", "1 - - {\"y\"", "0 - - :1}", "1 - - :2}"]);
        assert_eq!(got, ["a f {\"x\":1}", "b g {\"y\":2}"]);
    }

    #[test]
    fn a_new_id_and_name_under_the_same_index_is_a_new_call() {
        assert_eq!(calls(&["0 a f {}", "0 b f {}"]), ["a f {}", "b f {}"]);
    }

    #[test]
    fn whole_calls_without_ids_under_the_same_index_are_different_calls() {
        assert_eq!(calls(&["0 - f {\"x\":1}", "0 - f {\"x\":2}", "0 - g {}"]).len(), 3);
    }

    #[test]
    fn a_repeated_name_or_a_changing_id_is_the_same_call() {
        assert_eq!(calls(&["0 a f {\"x\"", "0 a f :1}", "0 a f -"]), ["a f {\"x\":1}"]);
        assert_eq!(calls(&["0 - f {\"x\"", "0 - f :1}", "0 - f -"]), ["call_0 f {\"x\":1}"]);
        assert_eq!(calls(&["0 a f {\"x\"", "0 b - :1}"]), ["a f {\"x\":1}"]);
    }

    #[test]
    fn a_missing_index_goes_by_id_or_to_the_last_call() {
        assert_eq!(calls(&["- a f {\"x\"", "- - - :1}", "- b g {}", "- a - -"]), ["a f {\"x\":1}", "b g {}"]);
    }

    #[test]
    fn ids_are_made_up_where_missing_and_never_repeated() {
        assert_eq!(calls(&["0 - f {}", "1 - f {}"]), ["call_0 f {}", "call_1 f {}"]);
        assert_eq!(calls(&["0 a f {}", "1 a f {}"]), ["a f {}", "a_1 f {}"]);
        assert_eq!(calls(&["0 call_1 f {}", "1 - f {}"]), ["call_1 f {}", "call_2 f {}"].map(str::to_owned));
    }

    #[test]
    fn nothing_that_was_cut_is_completed() {
        assert_eq!(calls(&["0 a f {\"cmd\":\"rm -rf /tmp/bu"]), ["a f {\"cmd\":\"rm -rf /tmp/bu"]);
    }
}
