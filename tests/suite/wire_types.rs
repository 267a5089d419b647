//! What is sent, against the types of the `openai` Python package as installed by `scripts/servers.sh`: others' word for
//! what a request is.

use std::path::Path;
use std::process::Command;

use longhaul::model::{Message, Wire};
use serde_json::{Value, json};

use crate::goal::{MAIN_JOB, main_job};
use crate::model_server::{ModelServer, Reply};
use crate::responses::{asked, go_on, model, reasons_and_calls};
use crate::stage::{Ran, Stage};

/// What the package's types say of these requests, and whether it is praise; None where it is not installed.
fn judged(requests: &[Value]) -> Option<(bool, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/servers/openai/bin/python");
    if !python.exists() {
        crate::aimock::missing("the openai package");
        return None;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(requests).unwrap()).unwrap();
    let output =
        Command::new(python).arg(root.join("tests/servers/check_requests.py")).arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), said))
}

fn sent_to(server: &ModelServer) -> Vec<Value> {
    server.requests().iter().map(|seen| json!([seen.path, seen.body])).collect()
}

#[test]
fn a_run_s_requests_over_chat_completions_are_as_the_types_say() {
    let (stage, server) = (Stage::new(), main_job());
    let args = [&MAIN_JOB[..], &["--sandbox", "local"]].concat();
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    let requests = sent_to(&server);
    assert_eq!(requests.len(), 4);
    let Some((well, said)) = judged(&requests) else { return };
    assert!(well, "{said}");
}

#[test]
fn a_run_s_requests_over_responses_are_as_the_types_say() {
    let (stage, server) = (Stage::new(), ModelServer::replying(|_| reasons_and_calls()));
    let args = ["do", "x", "--sandbox", "local", "--wire", "responses", "--max-turns", "3"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(5);
    let requests = sent_to(&server);
    assert_eq!(requests.len(), 3);
    assert!(requests[2][1].to_string().contains("encrypted_content"), "reasoning goes along");
    let Some((well, said)) = judged(&requests) else { return };
    assert!(well, "{said}");
}

#[tokio::test]
async fn conversations_with_summaries_and_empty_answers_are_as_the_types_say() {
    let server = ModelServer::replying(|seen| match seen.path.ends_with("responses") {
        true => reasons_and_calls(),
        false => Reply::answer("", &[("shell", "{\"command\": \"true\"}".to_owned())]),
    });
    for wire in [Wire::Chat, Wire::Responses] {
        let model = model(server.base_url(), wire);
        let mut request = asked();
        request.messages.push(Message::User("[harness] What was done before, in short: two numbers.".to_owned()));
        for _ in 0..3 {
            let answer = model.answer(&request, &mut |_| {}).await.unwrap();
            request = go_on(request, &answer);
            request.messages.push(Message::User("[harness] Go on.".to_owned()));
        }
    }
    let Some((well, said)) = judged(&sent_to(&server)) else { return };
    assert!(well, "{said}");
}

#[test]
fn the_types_find_what_is_wrong() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "shell"}});
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "assistant", "tool_calls": [call]}]});
    let Some((well, said)) = judged(&[json!(["/v1/chat/completions", body])]) else { return };
    assert!(!well && said.contains("arguments"), "{said}");
}
