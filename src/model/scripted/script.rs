//! The script format: what the model will say, to what, and what goes wrong on the way. `docs/SCRIPTS.md` describes it.

use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::model::Message;

/// What a script is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// A few words for people.
    pub title: String,
    /// The goal that the script was written for.
    pub goal: String,
    /// The commands that decide whether it is reached.
    pub checks: Vec<String>,
    /// What is answered when a summary of the conversation is asked for; empty where none is.
    pub summary: String,
    /// Time between words where a turn says nothing of its own.
    chunk_ms: u64,
}

/// A script, read and checked.
#[derive(Debug)]
pub(super) struct Script {
    /// What it is for.
    pub(super) about: About,
    /// What is said, as it stands in the file.
    pub(super) turns: Vec<Turn>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Turn {
    /// Where it begins in the file, from 1.
    pub(super) line: usize,
    /// The pattern that it waits for; None for a turn that comes when its place in the order comes.
    when: Option<Regex>,
    /// How often it may be played.
    times: usize,
    /// The patterns that must have come.
    pub(super) expect: Vec<Regex>,
    /// Its reasoning.
    pub(super) reasoning: String,
    /// Its words.
    pub(super) say: String,
    /// Its calls: tool and arguments.
    pub(super) calls: Vec<(String, String)>,
    /// What goes wrong before it comes, in order.
    pub(super) faults: Vec<Fault>,
    /// Time before its first word.
    pub(super) delay: Duration,
    /// Time between its words.
    pub(super) pace: Duration,
}

/// What of a script has been played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Played {
    /// Answers so far.
    pub(super) answers: usize,
    /// How often each turn was.
    counts: Vec<usize>,
}

/// Something that goes wrong with the model's server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// What goes wrong.
    pub(super) error: FaultKind,
    /// Time until the next try.
    #[serde(default)]
    pub(super) wait_ms: u64,
    /// How often.
    #[serde(default = "once")]
    pub(super) times: u32,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultKind {
    /// The rate is limited; passes.
    RateLimit,
    /// The server is overloaded; passes.
    Overloaded,
    /// The connection breaks in the middle of the answer; passes.
    Drop,
    /// The server stays away.
    Unavailable,
    /// The key is refused.
    Auth,
    /// There is no credit left.
    Quota,
    /// The conversation is too long.
    ContextLength,
}

/// Why a script can't be read: where and what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScriptError {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong there.
    pub(super) what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    script: About,
    #[serde(default)]
    turn: Vec<Spanned<TurnForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnForm {
    when: Option<Spanned<String>>,
    times: Option<usize>,
    #[serde(default)]
    expect: Vec<Spanned<String>>,
    #[serde(default)]
    reasoning: String,
    #[serde(default)]
    say: String,
    #[serde(default)]
    call: Vec<Spanned<CallForm>>,
    #[serde(default)]
    fault: Vec<Fault>,
    #[serde(default)]
    delay_ms: u64,
    chunk_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallForm {
    tool: String,
    arguments: Option<Map<String, Value>>,
    raw: Option<String>,
}

fn once() -> u32 {
    1
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The first mistake with its line.
    pub(super) fn parse(text: &str) -> Result<Self, ScriptError> {
        let line_at = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let form: FileForm = toml::from_str(text).map_err(|error| ScriptError {
            line: error.span().map_or(1, |span| line_at(span.start)),
            what: error.message().to_owned(),
        })?;
        let pace = form.script.chunk_ms;
        let turns = form.turn.into_iter().map(|turn| turn_of(turn, pace, &line_at)).collect::<Result<Vec<_>, _>>()?;
        if turns.is_empty() {
            return Err(ScriptError { line: 1, what: "the script has no `[[turn]]`".to_owned() });
        }
        Ok(Self { about: form.script, turns })
    }

    /// The turn that answers a conversation, and what has been played by then.
    ///
    /// It follows from the conversation alone: earlier answers are gone through the same way, from the last one on that
    /// carries this script's mark. A turn with `when` whose pattern has come goes first; otherwise the next in order
    /// without one. None when no turn is left.
    pub(super) fn turn_for(&self, name: &str, messages: &[Message]) -> (Played, Option<&Turn>) {
        let mark = |(at, message): (usize, &Message)| match message {
            Message::Assistant { opaque, .. } => Some((at, self.read_mark(name, opaque.as_ref()?)?)),
            Message::System(_) | Message::User(_) | Message::Tool { .. } => None,
        };
        let marked = messages.iter().enumerate().rev().find_map(mark);
        let from_the_beginning = || (0, Played { answers: 0, counts: vec![0; self.turns.len()] });
        let (mut begin, mut played) = marked.map_or_else(from_the_beginning, |(at, played)| (at + 1, played));
        for (at, message) in messages.iter().enumerate().skip(begin) {
            if let Message::Assistant { .. } = message {
                if let Some(turn) = self.choose(&news(&messages[begin..at]), &played.counts) {
                    played.counts[turn] += 1;
                }
                begin = at + 1;
                played.answers += 1;
            }
        }
        let turn = self.choose(&news(&messages[begin..]), &played.counts);
        played.answers += 1;
        if let Some(turn) = turn {
            played.counts[turn] += 1;
        }
        (played, turn.map(|turn| &self.turns[turn]))
    }

    /// What the answer carries, so that the next turn is found where the conversation does not reach back to the first:
    /// how many turns of those that come in order are played, and which of the others.
    pub(super) fn mark(&self, name: &str, played: &Played) -> Value {
        let in_order = |at: &usize| self.turns[*at].when.is_none();
        let all = 0..self.turns.len();
        let ordered: usize = all.clone().filter(in_order).map(|at| played.counts[at]).sum();
        let others = all.filter(|at| !in_order(at) && played.counts[*at] > 0);
        let others: Map<String, Value> = others.map(|at| (at.to_string(), played.counts[at].into())).collect();
        json!({"script": name, "answers": played.answers, "in_order": ordered, "others": others})
    }

    fn read_mark(&self, name: &str, mark: &Value) -> Option<Played> {
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        if mark["script"] != name {
            return None;
        }
        let (answers, mut left) = (number(&mark["answers"])?, number(&mark["in_order"])?);
        let mut counts = vec![0; self.turns.len()];
        for (count, turn) in counts.iter_mut().zip(&self.turns).filter(|(_, turn)| turn.when.is_none()) {
            *count = left.min(turn.times);
            left -= *count;
        }
        for (at, count) in mark["others"].as_object()? {
            *counts.get_mut(at.parse::<usize>().ok()?)? = number(count)?;
        }
        Some(Played { answers, counts })
    }

    fn choose(&self, news: &str, played: &[usize]) -> Option<usize> {
        let is_left = |at: &usize| played[*at] < self.turns[*at].times;
        let waits_for = |at: &usize| self.turns[*at].when.as_ref().is_some_and(|when| when.is_match(news));
        let all = 0..self.turns.len();
        let reaction = all.clone().find(|at| is_left(at) && waits_for(at));
        reaction.or_else(|| all.clone().find(|at| is_left(at) && self.turns[*at].when.is_none()))
    }
}

/// What came since the last answer, as one text.
pub(super) fn news(messages: &[Message]) -> String {
    let last = messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    let new = &messages[last.map_or(0, |last| last + 1)..];
    let text = |message: &Message| match message {
        Message::User(text) | Message::Tool { text, .. } => Some(text.clone()),
        Message::System(_) | Message::Assistant { .. } => None,
    };
    new.iter().filter_map(text).collect::<Vec<_>>().join("\n")
}

fn turn_of(turn: Spanned<TurnForm>, pace_ms: u64, line_at: &dyn Fn(usize) -> usize) -> Result<Turn, ScriptError> {
    let line = line_at(turn.span().start);
    let form = turn.into_inner();
    let pattern = |text: &Spanned<String>| {
        let regex = RegexBuilder::new(text.get_ref()).multi_line(true).build();
        regex.map_err(|error| ScriptError {
            line: line_at(text.span().start),
            what: format!("`{}` is no pattern: {}", text.get_ref(), last_line(&error.to_string())),
        })
    };
    let call = |call: &Spanned<CallForm>| {
        let form = call.get_ref();
        let arguments = match (&form.arguments, &form.raw) {
            (Some(_), Some(_)) => Err("a call has either `arguments` or `raw`"),
            (None, Some(raw)) => Ok(raw.clone()),
            (Some(map), None) => Ok(Value::Object(map.clone()).to_string()),
            (None, None) => Ok("{}".to_owned()),
        };
        arguments
            .map(|arguments| (form.tool.clone(), arguments))
            .map_err(|what| ScriptError { line: line_at(call.span().start), what: what.to_owned() })
    };
    let fails_for_good = |fault: &Fault| fault.error.passes().is_none();
    if form.say.is_empty() && form.call.is_empty() && !form.fault.iter().any(fails_for_good) {
        return Err(ScriptError { line, what: "a turn needs `say`, `call` or a fault that lasts".to_owned() });
    }
    Ok(Turn {
        line,
        times: form.times.unwrap_or(1),
        when: form.when.as_ref().map(pattern).transpose()?,
        expect: form.expect.iter().map(pattern).collect::<Result<_, _>>()?,
        calls: form.call.iter().map(call).collect::<Result<_, _>>()?,
        reasoning: form.reasoning,
        say: form.say,
        faults: form.fault,
        delay: Duration::from_millis(form.delay_ms),
        pace: Duration::from_millis(form.chunk_ms.unwrap_or(pace_ms)),
    })
}

impl FaultKind {
    /// What is told while it is waited out; None for a fault that lasts.
    pub(super) fn passes(self) -> Option<&'static str> {
        match self {
            Self::RateLimit => Some("the model's server limits the rate (scripted)"),
            Self::Overloaded => Some("the model's server is overloaded (scripted)"),
            Self::Drop => Some("the connection to the model's server broke (scripted)"),
            Self::Unavailable | Self::Auth | Self::Quota | Self::ContextLength => None,
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script::parse(text).unwrap()
    }

    fn mistake(text: &str) -> (usize, String) {
        let error = Script::parse(text).unwrap_err();
        (error.line, error.what)
    }

    fn user(text: &str) -> Message {
        Message::User(text.to_owned())
    }

    fn said() -> Message {
        Message::Assistant { text: String::new(), calls: Vec::new(), opaque: None }
    }

    fn says(script: &Script, messages: &[Message]) -> Option<String> {
        script.turn_for("s", messages).1.map(|turn| turn.say.clone())
    }

    #[test]
    fn turns_come_in_order_and_reactions_when_their_words_come() {
        let script = script(
            "[[turn]]\nsay = 'one'\n[[turn]]\nwhen = '^FAILED'\ntimes = 2\nsay = 'mend'\n[[turn]]\nsay = 'two'\n",
        );
        let mut talk = vec![Message::System("FAILED".to_owned()), user("go")];
        let mut heard = Vec::new();
        for news in ["FAILED", "fine\nFAILED again", "FAILED once more", "FAILED"] {
            heard.push(says(&script, &talk));
            talk.extend([said(), user(news)]);
        }
        let heard: Vec<_> = heard.iter().flatten().map(String::as_str).collect();
        assert_eq!(heard, ["one", "mend", "mend", "two"]);
        assert_eq!(says(&script, &talk), None);
        assert_eq!(script.turn_for("s", &talk).0.answers, 5);
    }

    #[test]
    fn a_turn_is_found_by_the_mark_of_the_last_answer_where_the_ones_before_are_gone() {
        let script = script(
            "[[turn]]\nsay = 'one'\n[[turn]]\nwhen = '^FAILED'\nsay = 'mend'\n[[turn]]\nsay = 'two'\ntimes = 3\n\
             [[turn]]\nsay = 'three'\n",
        );
        let (mut whole, mut short) = (vec![user("go")], vec![user("go")]);
        for news in ["fine", "FAILED", "fine", "FAILED", "fine", "fine", "fine"] {
            let (played, turn) = script.turn_for("s", &whole);
            assert_eq!(turn.map(|turn| &turn.say), script.turn_for("s", &short).1.map(|turn| &turn.say));
            assert_eq!(script.turn_for("s", &short).0, played);
            let opaque = Some(script.mark("s", &played));
            whole.extend([said(), user(news)]);
            short = vec![
                user("what was before is told here"),
                Message::Assistant { text: String::new(), calls: Vec::new(), opaque },
                user(news),
            ];
        }
        assert_eq!((says(&script, &whole), says(&script, &short)), (None, None));
        assert_eq!(script.turn_for("another", &short).0.answers, 2, "the mark is of another script");
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        assert_eq!(mistake("").0, 1);
        assert_eq!(mistake("[[turn]]\nsay = 'a'\n[[turn]]\nsya = 'b'\n").0, 4);
        assert_eq!(mistake("[[turn]]\nsay = 'a'\nexpect = [\n  'x',\n  '(',\n]\n").0, 5);
        assert_eq!(mistake("[[turn]]\nsay = 'a'\n\n[[turn]]\nexpect = ['x']\n").0, 4);
        assert_eq!(mistake("[[turn]]\nsay = 'a'\n[[turn.call]]\ntool = 't'\nraw = '{'\narguments = {}\n").0, 3);
        assert_eq!(mistake("[[turn]]\n[[turn.fault]]\nerror = 'fire'\n").0, 3);
        assert!(mistake("[[turn]]\nwhen = '['\nsay = 'a'").1.contains("`[` is no pattern"));
    }

    #[test]
    fn arguments_become_json_and_raw_stays_raw() {
        let script = script(
            "[[turn]]\n[[turn.call]]\ntool = 'a'\narguments = { n = 1, s = \"x\\n\", l = [true] }\n\
             [[turn.call]]\ntool = 'b'\nraw = '{\"n\"'\n[[turn.call]]\ntool = 'c'\n",
        );
        let calls = &script.turns[0].calls;
        let first: Value = serde_json::from_str(&calls[0].1).unwrap();
        assert_eq!(first, serde_json::json!({"n": 1, "s": "x\n", "l": [true]}));
        assert_eq!((calls[1].1.as_str(), calls[2].1.as_str()), ("{\"n\"", "{}"));
    }
}
