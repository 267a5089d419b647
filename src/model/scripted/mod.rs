//! A model that plays a script file: for demos and tests, and honest about it.
//!
//! It keeps no state: which turn comes follows from the conversation, so a run that is taken up again goes on where it
//! was.

mod script;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::script::{Fault, FaultKind, Played, Script, Turn, news};
use super::{Answer, Delta, Message, Model, ModelError, ModelErrorKind, Purpose, Request, Sink};
use crate::domain::ToolCall;

pub use script::About;

/// Most of what came that an error repeats.
const MAX_SHOWN: usize = 1000;

/// Plays a script.
#[derive(Debug)]
pub struct Scripted {
    file: String,
    script: Script,
}

impl Scripted {
    /// Reads a script file.
    ///
    /// # Errors
    /// [`ModelErrorKind::Setup`] with file and line.
    pub fn from_file(file: &Path) -> Result<Self, ModelError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| ModelError {
            because: Some(error.to_string()),
            hint: Some("`script:FILE` names a TOML file; docs/SCRIPTS.md describes it".to_owned()),
            ..ModelError::new(ModelErrorKind::Setup, format!("the script {name} can't be read"))
        })?;
        Self::from_text(&name, &text)
    }

    /// Reads a script; `name` is what it is called in errors.
    ///
    /// # Errors
    /// [`ModelErrorKind::Setup`] with name and line.
    pub fn from_text(name: &str, text: &str) -> Result<Self, ModelError> {
        let script = Script::parse(text).map_err(|error| ModelError {
            because: Some(error.what),
            hint: Some("docs/SCRIPTS.md describes the format".to_owned()),
            ..ModelError::new(ModelErrorKind::Setup, format!("{name}:{}: this is no script", error.line))
        })?;
        Ok(Self { file: name.to_owned(), script })
    }

    /// What the script is for.
    pub fn about(&self) -> &About {
        &self.script.about
    }

    /// The turn that answers this conversation, once what it expects has come.
    fn turn(&self, messages: &[Message]) -> Result<(Played, &Turn), ModelError> {
        let (played, turn) = self.script.turn_for(&self.file, messages);
        let came = news(messages);
        let Some(turn) = turn else {
            let what = format!("{}: the script has no turn left for answer {}", self.file, played.answers);
            return Err(out_of_step(what, &came));
        };
        if let Some(missing) = turn.expect.iter().find(|pattern| !pattern.is_match(&came)) {
            let what = format!("{}:{}: the turn expects `{missing}`, which did not come", self.file, turn.line);
            return Err(out_of_step(what, &came));
        }
        Ok((played, turn))
    }

    fn summary(&self) -> Answer {
        let text = self.script.about.summary.clone();
        Answer {
            raw: json!({"script": self.file, "summary": text}).to_string().into_bytes(),
            text,
            reasoning: String::new(),
            calls: Vec::new(),
            finish_reason: "stop".to_owned(),
            usage: None,
            opaque: None,
            duration: Duration::ZERO,
        }
    }

    fn lasting(&self, turn: &Turn, kind: FaultKind) -> ModelError {
        let (kind, what) = match kind {
            FaultKind::Auth => (ModelErrorKind::Auth, "the model's server refuses the key (scripted)"),
            FaultKind::Quota => (ModelErrorKind::Quota, "the account has no credit left (scripted)"),
            FaultKind::ContextLength => {
                (ModelErrorKind::ContextLength, "the conversation does not fit the model's window (scripted)")
            }
            FaultKind::Unavailable | FaultKind::RateLimit | FaultKind::Overloaded | FaultKind::Drop => {
                (ModelErrorKind::Unavailable, "the model's server stays away (scripted)")
            }
        };
        let because = Some(format!("the script says so at {}:{}", self.file, turn.line));
        ModelError { because, ..ModelError::new(kind, what) }
    }
}

#[async_trait]
impl Model for Scripted {
    fn render(&self, request: &Request) -> Vec<u8> {
        super::openai::plain_body(&self.file, request)
    }

    fn sums_up(&self) -> bool {
        !self.script.about.summary.is_empty()
    }

    async fn answer(&self, request: &Request, sink: Sink<'_>) -> Result<Answer, ModelError> {
        if request.purpose == Purpose::Summary {
            return Ok(self.summary());
        }
        let (played, turn) = self.turn(&request.messages)?;
        let number = played.answers;
        for fault in &turn.faults {
            for _ in 0..fault.times {
                go_wrong(turn, fault, sink).await.map_err(|kind| self.lasting(turn, kind))?;
            }
        }
        let begin = Instant::now();
        sleep(turn.delay).await;
        speak(&turn.reasoning, turn.pace, Delta::Reasoning, sink).await;
        speak(&turn.say, turn.pace, Delta::Text, sink).await;
        let call = |(at, (name, arguments)): (usize, &(String, String))| ToolCall {
            id: format!("call_{number}_{}", at + 1),
            name: name.clone(),
            arguments: arguments.clone(),
        };
        let calls: Vec<_> = turn.calls.iter().enumerate().map(call).collect();
        let finish_reason = if calls.is_empty() { "stop" } else { "tool_calls" };
        let raw = json!({
            "script": self.file, "line": turn.line, "reasoning": turn.reasoning, "text": turn.say, "calls": calls,
        });
        Ok(Answer {
            text: turn.say.clone(),
            reasoning: turn.reasoning.clone(),
            calls,
            finish_reason: finish_reason.to_owned(),
            usage: None,
            opaque: Some(self.script.mark(&self.file, &played)),
            raw: raw.to_string().into_bytes(),
            duration: begin.elapsed(),
        })
    }
}

/// Plays a fault and the wait after it.
async fn go_wrong(turn: &Turn, fault: &Fault, sink: Sink<'_>) -> Result<(), FaultKind> {
    let why = fault.error.passes().ok_or(fault.error)?;
    if fault.error == FaultKind::Drop {
        let middle = turn.say.floor_char_boundary(turn.say.len() / 2);
        speak(&turn.say[..middle], turn.pace, Delta::Text, sink).await;
        sink(Delta::Restarted);
    }
    let wait = Duration::from_millis(fault.wait_ms);
    sink(Delta::Delayed { why: why.to_owned(), wait });
    sleep(wait).await;
    Ok(())
}

/// Streams a text word by word.
async fn speak(text: &str, pace: Duration, delta: fn(String) -> Delta, sink: Sink<'_>) {
    for word in text.split_inclusive(char::is_whitespace) {
        sink(delta(word.to_owned()));
        if !pace.is_zero() {
            sleep(pace).await;
        }
    }
}

fn out_of_step(what: String, came: &str) -> ModelError {
    let cut = came.floor_char_boundary(MAX_SHOWN.min(came.len()));
    let more = if cut < came.len() { "…" } else { "" };
    ModelError {
        because: Some(format!("what came was: {}{more}", &came[..cut])),
        ..ModelError::new(ModelErrorKind::Script, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn play(script: &str, messages: Vec<Message>) -> (Result<Answer, ModelError>, Vec<Delta>) {
        let model = Scripted::from_text("a.toml", script).unwrap();
        let mut deltas = Vec::new();
        let request = Request { messages, tools: [].into(), purpose: Purpose::Turn };
        let answer = model.answer(&request, &mut |delta| deltas.push(delta)).await;
        (answer, deltas)
    }

    fn go() -> Vec<Message> {
        vec![Message::User("Go, now.".to_owned())]
    }

    #[tokio::test]
    async fn a_turn_is_streamed_word_by_word_with_its_calls() {
        let script = "[[turn]]\nreasoning = 'Hm.'\nsay = 'One two.'\n[[turn.call]]\ntool = 'shell'\n";
        let (answer, deltas) = play(script, go()).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("One two.", "tool_calls"));
        assert_eq!(answer.calls[0].id, "call_1_1");
        let text = |text: &str| Delta::Text(text.to_owned());
        assert_eq!(deltas, [Delta::Reasoning("Hm.".to_owned()), text("One "), text("two.")]);
    }

    #[tokio::test]
    async fn what_did_not_come_is_told_with_the_pattern_and_the_line() {
        let script = "[[turn]]\nexpect = ['^Go', 'tomorrow']\nsay = 'a'\n";
        let error = play(script, go()).await.0.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Script);
        assert_eq!(error.what, "a.toml:1: the turn expects `tomorrow`, which did not come");
        assert_eq!(error.because.unwrap(), "what came was: Go, now.");
        let said = Message::Assistant { text: String::new(), calls: Vec::new(), opaque: None };
        let talk = vec![go()[0].clone(), said, Message::User("On.".to_owned())];
        let error = play("[[turn]]\nsay = 'a'\n", talk).await.0.unwrap_err();
        assert_eq!(error.what, "a.toml: the script has no turn left for answer 2");
    }

    #[tokio::test]
    async fn faults_are_waited_out_or_last() {
        let script = "[[turn]]\nsay = 'One two.'\n[[turn.fault]]\nerror = 'rate-limit'\nwait_ms = 3\ntimes = 2\n\
                      [[turn.fault]]\nerror = 'drop'\n";
        let (answer, deltas) = play(script, go()).await;
        let delays = deltas.iter().filter(|delta| matches!(delta, Delta::Delayed { .. })).count();
        assert_eq!((answer.unwrap().text.as_str(), delays), ("One two.", 3));
        assert_eq!(deltas[2], Delta::Text("One ".to_owned()));
        assert_eq!(deltas[3], Delta::Restarted);
        let error = play("[[turn]]\n[[turn.fault]]\nerror = 'quota'\n", go()).await.0.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Quota);
    }
}
