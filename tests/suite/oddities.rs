//! Answers as servers of all kinds have been seen to send them, byte for byte over a socket, in pieces that respect nothing.

use std::time::Duration;

use longhaul::domain::Usage;
use longhaul::model::{Answer, Delta, Message, ModelChoice, ModelError, ModelErrorKind, Patience, Request, Wire, open};
use serde_json::{Value, json};

use crate::goal::{finish, server_of};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

fn patience() -> Patience {
    Patience {
        budget: Duration::from_secs(30),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        stall: Duration::from_secs(2),
        answer: Duration::from_secs(1),
        ..Patience::default()
    }
}

async fn ask(server: &ModelServer, patience: Patience) -> (Result<Answer, ModelError>, Vec<Delta>) {
    let base_url = Some(server.base_url().to_owned());
    let choice = ModelChoice { name: "m".to_owned(), base_url, api_key: None, wire: Wire::Chat, patience, seed: 1 };
    let request = Request {
        messages: vec![Message::User("Hello.".to_owned())],
        tools: [].into(),
        purpose: longhaul::model::Purpose::Turn,
    };
    let mut deltas = Vec::new();
    let answer = open(&choice).unwrap().answer(&request, &mut |delta| deltas.push(delta)).await;
    (answer, deltas)
}

/// These bytes in pieces of seven, which cut letters, line ends and names in two.
fn in_pieces(bytes: &str) -> Reply {
    let reply = Reply::status(200).header("content-type", "text/event-stream");
    bytes.as_bytes().chunks(7).fold(reply, |reply, piece| reply.body(piece))
}

fn chunk(delta: &Value, reason: &Value) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
}

fn calls(pieces: &[Value], reason: &str) -> String {
    let pieces: String = pieces.iter().map(|piece| chunk(&json!({"tool_calls": [piece]}), &Value::Null)).collect();
    format!("{pieces}{}data: [DONE]\n\n", chunk(&json!({}), &json!(reason)))
}

async fn answered(bytes: &str) -> Answer {
    let (answer, deltas) = ask(&server_of(vec![in_pieces(bytes)]), patience()).await;
    answer.unwrap_or_else(|error| panic!("{error:?}\n{deltas:?}\n{bytes}"))
}

#[tokio::test]
async fn calls_are_told_apart_however_they_are_numbered_named_and_split() {
    let of = |text: &str| json!({"function": {"arguments": text}});
    type Case<'a> = (&'a str, Vec<Value>, &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 8] = [
        (
            "interleaved",
            vec![
                json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}),
                json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{\"y\""}}),
                json!({"index": 0, "function": {"arguments": "{\"é\":1}"}}),
                json!({"index": 1, "function": {"arguments": ":2}"}}),
            ],
            &[("a", "{\"é\":1}"), ("b", "{\"y\":2}")],
        ),
        (
            "no indices",
            vec![
                json!({"id": "a", "function": {"name": "f"}}),
                of("{\"x\""),
                of(":1}"),
                json!({"id": "b", "function": {"name": "f", "arguments": "{}"}}),
            ],
            &[("a", "{\"x\":1}"), ("b", "{}")],
        ),
        (
            "no ids",
            vec![
                json!({"index": 0, "function": {"name": "f", "arguments": "{}"}}),
                json!({"index": 1, "function": {"name": "f", "arguments": "{}"}}),
            ],
            &[("call_0", "{}"), ("call_1", "{}")],
        ),
        (
            "every number is 0, every call whole",
            vec![
                json!({"index": 0, "id": null, "function": {"name": "f", "arguments": {"x": 1}}}),
                json!({"index": 0, "id": "", "function": {"name": "f", "arguments": {"x": 2}}}),
            ],
            &[("call_0", "{\"x\":1}"), ("call_1", "{\"x\":2}")],
        ),
        (
            "ids that come twice",
            vec![
                json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}),
                json!({"index": 1, "id": "a", "function": {"name": "f", "arguments": "{}"}}),
            ],
            &[("a", "{}"), ("a_1", "{}")],
        ),
        (
            "no arguments",
            vec![json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})],
            &[("a", "")],
        ),
        (
            "arguments that are null",
            vec![json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": null}})],
            &[("a", "")],
        ),
        (
            "cut by the server, which says that all is well",
            vec![json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"cmd\":\"rm -rf /tmp/bu"}})],
            &[("a", "{\"cmd\":\"rm -rf /tmp/bu")],
        ),
    ];
    for (what, pieces, expected) in cases {
        let answer = answered(&calls(&pieces, "tool_calls")).await;
        let got: Vec<_> = answer.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
        assert_eq!(got, expected, "{what}");
    }
}

#[tokio::test]
async fn any_reason_to_end_is_one_and_none_is_waited_for() {
    for reason in ["stop", "eos_token", "COMPLETE", "tool_calls"] {
        let answer = answered(&format!(
            "{}{}",
            chunk(&json!({"content": "Hi."}), &json!("")),
            chunk(&json!({}), &json!(reason))
        ))
        .await;
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("Hi.", reason));
    }
    let answer = answered(&format!("{}data: [DONE]\n\n", chunk(&json!({"content": "Hi."}), &Value::Null))).await;
    assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("Hi.", ""));
}

#[tokio::test]
async fn numbers_of_tokens_may_be_wrong_missing_or_absurd() {
    let usage = |usage: Value| {
        let last = format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}));
        format!("{}{last}", chunk(&json!({"content": "Hi."}), &json!("stop")))
    };
    let of = |input_tokens, cached_tokens, output_tokens| Some(Usage { input_tokens, cached_tokens, output_tokens });
    for (given, read) in [
        (json!({"prompt_tokens": 5, "completion_tokens": 1}), of(5, 0, 1)),
        (json!({"prompt_tokens": 5.0, "completion_tokens": 1e300}), of(5, 0, u64::MAX)),
        (json!({"prompt_tokens": -5, "completion_tokens": -1}), of(0, 0, 0)),
        (
            json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "cached_tokens": u64::MAX}),
            of(u64::MAX, u64::MAX, u64::MAX),
        ),
        (json!({"prompt_tokens": "many"}), None),
        (json!({}), None),
        (json!([1, 2]), None),
    ] {
        assert_eq!(answered(&usage(given.clone())).await.usage, read, "{given}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_and_asked_for_again() {
    let cases = [
        ("nothing new in it", chunk(&json!({}), &Value::Null)),
        ("the same word for ever", chunk(&json!({"content": "and "}), &Value::Null)),
        (
            "a call that never ends",
            chunk(
                &json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": " "}}]}),
                &Value::Null,
            ),
        ),
        ("no choices", "data: {\"choices\":[]}\n\n".to_owned()),
    ];
    for (what, more) in cases {
        let endless = Reply::text("Once").endless_after(1, more, Duration::from_millis(20));
        let server = server_of(vec![endless, Reply::text("Whole.")]);
        let (answer, deltas) = ask(&server, patience()).await;
        assert_eq!(answer.unwrap().text, "Whole.", "{what}");
        let told = deltas.iter().any(
            |delta| matches!(delta, Delta::Delayed { why, .. } if why.contains("has not ended its answer after 1 s")),
        );
        assert!(told, "{what}: {deltas:?}");
        server.wait_for_leavers(1);
    }
}

#[tokio::test]
async fn an_answer_that_is_larger_than_any_answer_is_refused() {
    let more = chunk(&json!({"content": "x".repeat(1 << 20)}), &Value::Null);
    let endless = Reply::text("Once").endless_after(1, more, Duration::ZERO);
    let patience = Patience { answer: Duration::from_secs(120), stall: Duration::from_secs(60), ..patience() };
    let (answer, _) = ask(&server_of(vec![endless]), patience).await;
    let error = answer.unwrap_err();
    assert_eq!(
        (error.kind, error.what.as_str()),
        (ModelErrorKind::Protocol, "the model's server sent more than 64 MB")
    );
}

#[test]
fn a_run_does_not_die_of_absurd_counts() {
    let end = finish("done");
    let usage = json!({"choices": [], "usage": {"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX}});
    let absurd = Reply::call(
        "shell",
        &json!({"command": "true", "session": null, "cwd": null, "expected_s": null, "yield_s": null}),
    )
    .end_after(5)
    .body(format!("data: {usage}\n\ndata: [DONE]\n\n"));
    let stage = Stage::new();
    let server = server_of(vec![absurd, end]);
    let args = ["do", "x", "--sandbox", "local", "--price", "1,1,1"];
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    stage.run(&["cost"]).exits_with(0);
    stage.run(&["replay", "last"]).exits_with(0);
    stage.verifies();
}
