//! The Responses API: the same model over the other wire, against a scripted server and against one that others wrote.

use std::sync::Arc;
use std::time::Duration;

use longhaul::model::{
    Answer, Message, Model, ModelChoice, ModelErrorKind, Patience, Purpose, Request, ToolSpec, Wire, open,
};
use serde_json::{Value, json};

use crate::aimock::Aimock;
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

pub(crate) fn model(url: &str, wire: Wire) -> Arc<dyn Model> {
    let patience = Patience {
        budget: Duration::from_secs(20),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        ..Patience::default()
    };
    let (name, base_url) = ("some-model".to_owned(), Some(url.to_owned()));
    open(&ModelChoice { name, base_url, api_key: None, wire, patience, seed: 1 }).unwrap()
}

pub(crate) fn asked() -> Request {
    let tool = ToolSpec {
        name: "shell".to_owned(),
        description: "Runs a command.".to_owned(),
        parameters: json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}),
        strict: true,
    };
    let messages = vec![Message::System("Be good.".to_owned()), Message::User("Give me two numbers.".to_owned())];
    Request { messages, tools: [tool].into(), purpose: Purpose::Turn }
}

/// The conversation after this answer, with a result for every call.
pub(crate) fn go_on(mut request: Request, answer: &Answer) -> Request {
    let (text, calls, opaque) = (answer.text.clone(), answer.calls.clone(), answer.opaque.clone());
    let result =
        |call: &longhaul::domain::ToolCall| Message::Tool { call_id: call.id.clone(), text: "exit 0".to_owned() };
    let results: Vec<_> = calls.iter().map(result).collect();
    request.messages.push(Message::Assistant { text, calls, opaque });
    request.messages.extend(results);
    request
}

/// A stream of events, each with its name, as OpenAI sends it.
fn events(events: &[Value]) -> String {
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect()
}

fn streamed(events: &str) -> Reply {
    Reply::raw(events)
}

/// Reasoning, then a call.
pub(crate) fn reasons_and_calls() -> Reply {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"});
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "shell",
        "arguments": "{\"command\": \"true\"}", "status": "completed"});
    streamed(&events(&[
        json!({"type": "response.created", "response": {"status": "in_progress"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "id": "fc_1",
            "call_id": "call_a", "name": "shell", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"command\""}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": ": \"true\"}"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": call}),
        json!({"type": "response.completed", "response": {"status": "completed",
            "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 9}}}),
    ]))
}

fn says(text: &str) -> Reply {
    streamed(&events(&[
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}}),
        json!({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": text}),
        json!({"type": "response.completed", "response": {"status": "completed"}}),
    ]))
}

#[tokio::test]
async fn reasoning_goes_back_to_its_server_in_its_place() {
    let server = ModelServer::start();
    server.push(reasons_and_calls());
    server.push(says("Done."));
    let model = model(server.base_url(), Wire::Responses);
    let request = asked();
    let first = model.answer(&request, &mut |_| {}).await.unwrap();
    assert_eq!((first.calls[0].id.as_str(), first.calls[0].arguments.as_str()), ("call_a", "{\"command\": \"true\"}"));
    assert_eq!(first.usage.map(|usage| usage.cached_tokens), Some(64));
    let request = go_on(request, &first);
    assert_eq!(model.answer(&request, &mut |_| {}).await.unwrap().text, "Done.");
    let seen = server.requests();
    assert!(seen.iter().all(|request| request.path == "/v1/responses"));
    assert_eq!(seen[1].raw, model.render(&request), "what is recorded is what is sent");
    assert!(seen[1].raw.starts_with(seen[0].raw.strip_suffix(b"]}").unwrap()), "a request grows at its end");
    let input: Vec<&str> =
        seen[1].body["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap_or("user")).collect();
    assert_eq!(input, ["user", "reasoning", "function_call", "function_call_output"]);
    assert_eq!(seen[1].body["input"][1]["encrypted_content"], "gAAA");
    assert_eq!((&seen[1].body["store"], &seen[1].body["instructions"]), (&json!(false), &json!("Be good.")));
}

#[tokio::test]
async fn a_server_that_wants_the_other_api_is_asked_over_it_from_then_on() {
    let refusals = [
        "This model is only supported in v1/responses and not in v1/chat/completions.",
        "Function tools with reasoning_effort are not supported in /v1/chat/completions. Please use /v1/responses instead.",
    ];
    for refusal in refusals {
        let server = ModelServer::start();
        server.push(Reply::status(400).json(&json!({"error": {"message": refusal, "type": "invalid_request_error"}})));
        server.push(says("one"));
        server.push(says("two"));
        let model = model(server.base_url(), Wire::Auto);
        for text in ["one", "two"] {
            assert_eq!(model.answer(&asked(), &mut |_| {}).await.unwrap().text, text);
        }
        let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths, ["/v1/chat/completions", "/v1/responses", "/v1/responses"]);
    }
}

#[tokio::test]
async fn whoever_says_which_api_gets_that_one_or_an_error() {
    let refusal = || Reply::status(400).json(&json!({"error": {"message": "only supported in v1/responses"}}));
    let server = ModelServer::start();
    server.push(refusal());
    let error = model(server.base_url(), Wire::Chat).answer(&asked(), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(error.hint.unwrap().contains("--wire responses"));
    server.push(Reply::status(404).json(&json!({"detail": "Not Found"})));
    let error = model(server.base_url(), Wire::Responses).answer(&asked(), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Protocol);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn faults_within_a_stream_are_waited_out() {
    let server = ModelServer::start();
    let failed = json!({"type": "response.failed", "response": {"status": "failed",
        "error": {"code": "server_error", "message": "The server had an error"}}});
    server.push(streamed(&events(&[failed])));
    server.push(streamed(&events(&[json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"})])));
    server.push(reasons_and_calls().end_after(0));
    server.push(streamed(&events(&[json!({"type": "response.created", "response": {}})])));
    server.push(says("at last"));
    let answer = model(server.base_url(), Wire::Responses).answer(&asked(), &mut |_| {}).await.unwrap();
    assert_eq!(answer.text, "at last");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_conversation_works_with_a_server_that_others_wrote() {
    let Some(server) = Aimock::start() else { return };
    let model = model(&server.base_url(), Wire::Responses);
    let request = asked();
    let answer = model.answer(&request, &mut |_| {}).await.unwrap();
    assert_eq!(answer.text, "I ask for both at once, in words that take more than one chunk.");
    let commands: Vec<Value> = answer.calls.iter().map(|call| serde_json::from_str(&call.arguments).unwrap()).collect();
    assert_eq!(commands[0], json!({"command": "echo forty-one"}));
    assert_eq!(commands.len(), 2);
    let answer = model.answer(&go_on(request, &answer), &mut |_| {}).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.calls.len()), ("They are 41 and 42.", 0));
}

#[test]
fn a_goal_is_reached_over_the_responses_api() {
    let Some(server) = Aimock::start() else { return };
    let stage = Stage::new();
    let args = ["do", "Write a file that says forty-two.", "--sandbox", "local", "--wire", "responses"];
    let mut program = stage.agent(&[&args[..], &["--check", "grep -qx forty-two answer.txt"]].concat());
    program.env("OPENAI_BASE_URL", server.base_url()).env("OPENAI_API_KEY", "sk-mock").env("LONGHAUL_MODEL", "some");
    let ran = Ran::of(&program.output().unwrap()).exits_with(0);
    assert_eq!(ran.stdout, "answer.txt says forty-two.\n");
    stage.verifies();
}
