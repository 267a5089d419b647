//! Model servers, good and bad, through the whole program: one that others wrote, and every way in which one fails.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::aimock::Aimock;
use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];

fn ran(mut program: Command) -> Ran {
    Ran::of(&program.output().unwrap())
}

fn error(status: u16, message: &str, code: &str) -> Reply {
    Reply::status(status).json(&json!({"error": {"message": message, "type": code, "code": code}}))
}

#[test]
fn a_goal_is_reached_with_a_server_that_others_wrote() {
    let Some(server) = Aimock::start() else { return };
    let stage = Stage::new();
    let check = ["--check", "grep -qx forty-two answer.txt"];
    let mut program =
        stage.agent(&[&["do", "Write a file that says forty-two.", "--sandbox", "local"][..], &check].concat());
    program.env("OPENAI_BASE_URL", server.base_url()).env("OPENAI_API_KEY", "sk-mock").env("LONGHAUL_MODEL", "qwen3");
    let ran = ran(program).exits_with(0);
    assert_eq!(ran.stdout, "answer.txt says forty-two.\n");
    assert_eq!(stage.events_of("run_ended")[0]["verdict"], "verified");
    assert!(!stage.project().join("answer.txt").exists());
    stage.verifies();
}

#[test]
fn a_server_that_refuses_is_told_at_once_with_what_to_do() {
    let html = "<!doctype html><title>Welcome</title>";
    let cases = [
        (Reply::status(200).header("content-type", "text/html").body(html), 2, "“Welcome”"),
        (Reply::status(404).header("content-type", "text/html").body(html), 2, "“Welcome”"),
        (error(401, "Incorrect API key provided", "invalid_api_key"), 77, "Incorrect API key provided"),
        (error(403, "Country not supported", "unsupported"), 77, "Country not supported"),
        (error(404, "The model `fake` does not exist", "model_not_found"), 2, "`fake`"),
        (error(400, "messages: too many", "invalid_request_error"), 2, "messages: too many"),
        (error(429, "You exceeded your current quota", "insufficient_quota"), 75, "exceeded your current quota"),
        (error(400, "maximum context length is 10 tokens", "context_length_exceeded"), 5, "maximum context length"),
        (Reply::status(200).json(&json!({"hello": "world"})), 2, ""),
    ];
    for (reply, code, because) in cases {
        let stage = Stage::new();
        let server = server_of(vec![reply.clone(), reply.clone(), reply]);
        let begun = Instant::now();
        let ran = ran(stage.asking(&server, &LOCAL));
        assert_eq!(ran.code, code, "{because}: {}", ran.stderr);
        assert!(begun.elapsed() < Duration::from_secs(5), "{because} took {:?}", begun.elapsed());
        let told = ran.stderr.rsplit("\nerror: ").next().unwrap();
        for part in ["  because: ", because, "\nhint: ", "replay  agent replay "] {
            assert!(told.contains(part), "`{part}` is not in:\n{told}");
        }
        assert!(stage.events_of("tool_started").is_empty());
        assert_eq!(stage.events_of("model_failed").len(), 1);
        assert_eq!(stage.events_of("run_ended").len(), 1);
        stage.verifies();
    }
}

#[test]
fn a_server_that_has_a_bad_moment_is_waited_for_and_told() {
    let stage = Stage::new();
    let server = server_of(vec![
        error(429, "slow down", "rate_limit_exceeded").header("retry-after", "1"),
        error(529, "overloaded", "overloaded_error"),
        Reply::call("shell", &json!({"command": "echo never"})).abort_after(3),
        Reply::text(""),
        shell("echo once >> count; cat count"),
        finish("It went well."),
    ]);
    let ran = ran(stage.asking(&server, &LOCAL)).exits_with(0);
    assert_eq!(ran.stdout, "It went well.\n");
    let waits = stage.events_of("model_delayed");
    for (wait, why) in waits.iter().zip(["limits the rate (429)", "overloaded (529)", "broke"]) {
        assert!(wait["why"].as_str().unwrap().contains(why), "{waits:#?}");
    }
    assert!(waits.len() >= 3 && waits[0]["wait_ms"].as_u64().unwrap() >= 1000, "{waits:#?}");
    assert_eq!(ran.stderr.matches("  waiting   ").count(), waits.len(), "{}", ran.stderr);
    assert_eq!(stage.events_of("tool_started").len(), 2, "nothing of a cut answer is run");
    stage.verifies();
}

#[test]
fn an_answer_of_nothing_but_reasoning_is_reminded_and_then_blocked() {
    let chunk =
        json!({"choices": [{"index": 0, "delta": {"reasoning_content": "I wonder."}, "finish_reason": "stop"}]});
    let thinking = Reply::raw(format!("data: {chunk}\n\ndata: [DONE]\n\n"));
    let stage = Stage::new();
    let server = ModelServer::replying(move |_| thinking.clone());
    let ran = ran(stage.asking(&server, &["do", "x", "--sandbox", "local", "--check", "true"]));
    assert!([4, 75].contains(&ran.code), "{}: {}", ran.code, ran.stderr);
    assert!(server.requests().len() < 20);
    stage.verifies();
}

#[test]
fn a_server_that_is_not_there_is_given_up_soon_and_told_meanwhile() {
    let stage = Stage::new();
    let mut program = stage.agent(&LOCAL);
    program.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1").env("LONGHAUL_MODEL", "fake");
    let begun = Instant::now();
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut stderr) = (Vec::new(), child.stderr.take().unwrap());
    while !String::from_utf8_lossy(&seen).contains("waiting ") {
        let mut piece = [0; 4096];
        let read = stderr.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    assert!(
        child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(3),
        "it is told while it waits"
    );
    stderr.read_to_end(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(begun.elapsed() < Duration::from_secs(15));
    let told = String::from_utf8_lossy(&seen).into_owned();
    for part in
        ["error: the model's server can't be reached\n", "  because: http://127.0.0.1:9: ", "\nhint: check OPENAI"]
    {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    stage.verifies();
}

#[test]
fn an_endless_answer_ends_with_ctrl_c() {
    let chunk = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let mut endless = Reply::raw(chunk("word "));
    for _ in 0..2000 {
        endless = endless.body(chunk("word "));
    }
    let stage = Stage::new();
    let server = server_of(vec![endless.paced(Duration::from_millis(20))]);
    let mut child = stage.asking(&server, &LOCAL).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut stderr) = (Vec::new(), child.stderr.take().unwrap());
    while !String::from_utf8_lossy(&seen).contains("word word word") {
        let mut piece = [0; 4096];
        let read = stderr.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    stderr.read_to_end(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", String::from_utf8_lossy(&seen));
    server.wait_for_leavers(1);
    assert_eq!(stage.events_of("run_ended")[0]["verdict"], "stopped");
    stage.verifies();
}
