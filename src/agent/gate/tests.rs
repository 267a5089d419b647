//! What an approval lets run, and what it does not.

use super::*;
use crate::domain::{AnsweredAt, BlobRef, Entry, Event, QuestionId, RunId, RunMode, RunSpec};

const PUSH: &str = r#"{"command":"git push"}"#;

fn state() -> State {
    State::new(RunSpec::new(RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a ULID"), RunMode::Goal, "g"))
}

fn sees(state: &mut State, event: Event) {
    state.apply(&Entry { seq: 0, time: jiff::Timestamp::UNIX_EPOCH, event });
}

fn call(id: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "shell".to_owned(), arguments: arguments.to_owned() }
}

fn answers(state: &mut State, calls: &[ToolCall]) {
    sees(
        state,
        Event::ModelAnswered {
            turn: 1,
            text: String::new(),
            reasoning: String::new(),
            calls: calls.to_vec(),
            finish_reason: String::new(),
            usage: None,
            response: BlobRef { sha256: String::new(), size_bytes: 0 },
            duration_ms: 0,
            opaque: None,
        },
    );
}

/// Puts the question that is due, and answers it.
fn reply(state: &mut State, choice: &str) {
    let Step::Ask(question) = state.next() else { panic!("not asked: {:?}", state.next()) };
    let id = question.id;
    sees(state, Event::QuestionAsked { question: *question });
    assert_eq!(state.next(), Step::AwaitAnswer(id));
    let reply = Reply { choice: Some(choice.to_owned()), text: String::new() };
    sees(state, Event::QuestionAnswered { question: id, reply, at: AnsweredAt::Terminal, mail: None });
}

fn refused_because(state: &State) -> String {
    match state.next() {
        Step::AnswerCall { outcome, .. } if outcome.status == Status::Refused => outcome.text,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_was_allowed_is_what_runs_and_nothing_else() {
    let mut run = state();
    answers(&mut run, &[call("a", PUSH)]);
    reply(&mut run, YES);
    assert_eq!(run.next(), Step::RunCalls(vec![call("a", PUSH)]));
    // The same id with other arguments is another call.
    answers(&mut run, &[call("a", r#"{"command":"git push  "}"#)]);
    assert!(refused_because(&run).contains("what a person allowed is not this call"));
    answers(&mut run, &[call("b", PUSH)]);
    assert!(matches!(run.next(), Step::Ask(_)), "a yes is good for once");
}

#[test]
fn only_what_was_offered_can_be_chosen() {
    for choice in [NO, ALL, "YES!", ""] {
        let mut run = state();
        answers(&mut run, &[call("a", PUSH)]);
        reply(&mut run, choice);
        refused_because(&run);
        answers(&mut run, &[call("b", PUSH)]);
        assert!(matches!(run.next(), Step::Ask(_)), "{choice}");
    }
}

#[test]
fn a_fork_asks_for_itself() {
    let mut run = state();
    answers(&mut run, &[call("a", PUSH)]);
    reply(&mut run, ALWAYS);
    answers(&mut run, &[call("b", PUSH)]);
    assert_eq!(run.next(), Step::RunCalls(vec![call("b", PUSH)]));
    let spec = run.spec().clone();
    sees(&mut run, Event::RunForked { spec });
    for id in ["a", "b", "c"] {
        answers(&mut run, &[call(id, PUSH)]);
        let Step::Ask(question) = run.next() else { panic!("{id} is not asked for") };
        assert_eq!(question.id, QuestionId(2));
    }
}

#[test]
fn what_comes_before_it_runs_first_and_what_makes_no_sense_is_told_so() {
    let mut run = state();
    let (ls, push) = (call("a", r#"{"command":"ls"}"#), call("b", PUSH));
    answers(&mut run, &[ls.clone(), push.clone()]);
    assert_eq!(run.next(), Step::RunCalls(vec![ls]));
    let odd = call("c", r#"{"command":"git push","comand":1}"#);
    answers(&mut run, &[odd.clone(), push.clone()]);
    assert_eq!(run.next(), Step::RunCalls(vec![odd, push]), "the driver finds it malformed");
    for lenient in ["```json\n{\"command\": \"git push\"}\n```", r#""{\"command\": \"git push\"}""#] {
        answers(&mut run, &[call("d", lenient)]);
        assert!(matches!(run.next(), Step::Ask(_)), "what is read leniently is judged as it is read: {lenient}");
    }
}

#[test]
fn what_belongs_to_the_box_is_no_outside() {
    let mut run = state();
    let drop = call("a", r#"{"command":"psql -h db -c 'select 1'"}"#);
    answers(&mut run, std::slice::from_ref(&drop));
    assert!(matches!(run.next(), Step::Ask(_)));
    sees(&mut run, Event::SidecarStarted { name: "db".to_owned(), image: None, id: String::new() });
    assert_eq!(run.next(), Step::RunCalls(vec![drop]));
}
