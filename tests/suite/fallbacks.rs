//! Models in the place of one that can't answer: when they are asked, what they are sent, what they cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longhaul::model::{
    Answer, Delta, Fallback, Message, Model, ModelChoice, ModelError, ModelErrorKind, Patience, Purpose, Request, Wire,
    open_all,
};
use serde_json::{Value, json};

use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

fn patience() -> Patience {
    Patience {
        budget: Duration::from_secs(20),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        stall: Duration::from_secs(1),
        pause: Duration::from_millis(300),
        ..Patience::default()
    }
}

fn choice(name: &str, server: &ModelServer) -> ModelChoice {
    ModelChoice {
        name: name.to_owned(),
        base_url: Some(server.base_url().to_owned()),
        api_key: Some(format!("sk-{name}")),
        wire: Wire::Chat,
        patience: patience(),
        seed: 1,
    }
}

fn model(first: &ModelServer, second: &ModelServer) -> Arc<dyn Model> {
    open_all(&choice("one", first), &[("two@there".to_owned(), choice("two", second))]).unwrap()
}

fn hello() -> Request {
    Request { messages: vec![Message::User("Hello.".to_owned())], tools: [].into(), purpose: Purpose::Turn }
}

/// Asks as the driver does; the waits and the switches in words.
async fn ask(model: &dyn Model, request: &Request) -> (Result<Answer, ModelError>, Vec<String>) {
    let mut told: Vec<String> = Vec::new();
    told.extend(model.choose().map(|switch| format!("{} -> {}: {}", switch.from, switch.to, switch.why)));
    let mut sink = |delta| match delta {
        Delta::Delayed { why, .. } => told.push(format!("wait: {why}")),
        Delta::Switched(switch) => told.push(format!("{} -> {}: {}", switch.from, switch.to, switch.why)),
        Delta::Text(_) | Delta::Reasoning(_) | Delta::Restarted => {}
    };
    let answer = model.answer(request, &mut sink).await;
    (answer, told)
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::status(status).json(&json!({"error": {"message": "no", "code": code}}))
}

#[tokio::test]
async fn what_no_waiting_helps_leads_to_the_next_model_at_once() {
    for (reply, why) in [
        (refused(401, "invalid_api_key"), "the model's server refuses the key: no"),
        (refused(429, "insufficient_quota"), "the account has no credit left: no"),
        (refused(404, "model_not_found"), "the model's server does not know the model: no"),
    ] {
        let (first, second) = (server_of(vec![reply]), server_of(vec![Reply::text("Two."), Reply::text("Two.")]));
        let model = model(&first, &second);
        let begin = Instant::now();
        let (answer, told) = ask(&*model, &hello()).await;
        assert_eq!(answer.unwrap().text, "Two.");
        assert_eq!(told, [format!("one -> two@there: {why}")]);
        assert!(begin.elapsed() < Duration::from_secs(1));
        let (answer, told) = ask(&*model, &hello()).await;
        assert_eq!((answer.unwrap().text.as_str(), told.len()), ("Two.", 0), "it stays with who answers");
        assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
        let sent = &second.requests()[0];
        assert_eq!((&sent.body["model"], sent.header("authorization")), (&json!("two"), Some("Bearer sk-two")));
        assert_eq!(sent.raw, model.render(&hello()), "what is recorded is what is sent");
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_and_then_probed_with_one_request() {
    let mut nth = 0;
    let first = ModelServer::replying(move |_| {
        nth += 1;
        if nth <= 4 { Reply::status(503) } else { Reply::text("One.") }
    });
    let second = ModelServer::replying(|_| Reply::text("Two."));
    let model = model(&first, &second);
    let (answer, told) = ask(&*model, &hello()).await;
    assert_eq!((answer.unwrap().text.as_str(), told.len()), ("Two.", 3), "two waits, one switch: {told:?}");
    assert_eq!(first.requests().len(), 3);
    for _ in 0..5 {
        assert_eq!(ask(&*model, &hello()).await.0.unwrap().text, "Two.");
    }
    assert_eq!(first.requests().len(), 3, "nothing is sent to it while it is left alone");
    tokio::time::sleep(Duration::from_millis(310)).await;
    let (answer, told) = ask(&*model, &hello()).await;
    assert_eq!(answer.unwrap().text, "Two.");
    assert_eq!(told.len(), 2, "there and back: {told:?}");
    assert_eq!(first.requests().len(), 4, "one probe");
    tokio::time::sleep(Duration::from_millis(310)).await;
    assert_eq!(ask(&*model, &hello()).await.0.unwrap().text, "Two.", "the pause has doubled");
    tokio::time::sleep(Duration::from_millis(310)).await;
    let (answer, told) = ask(&*model, &hello()).await;
    assert_eq!(answer.unwrap().text, "One.");
    assert_eq!(told, ["two@there -> one: it has been left alone for long enough to be asked again"]);
}

#[tokio::test]
async fn a_wait_that_is_longer_than_its_share_is_not_begun() {
    let first = server_of(vec![Reply::status(429).header("retry-after", "3600")]);
    let second = server_of(vec![Reply::text("Two.")]);
    let (answer, told) = ask(&*model(&first, &second), &hello()).await;
    assert_eq!((answer.unwrap().text.as_str(), told.len()), ("Two.", 1), "{told:?}");
}

#[tokio::test]
async fn where_all_fail_the_first_to_come_back_is_waited_for() {
    let mut nth = 0;
    let first = ModelServer::replying(move |_| {
        nth += 1;
        if nth <= 4 { Reply::status(503) } else { Reply::text("One.") }
    });
    let second = ModelServer::replying(|_| Reply::status(529));
    let (answer, told) = ask(&*model(&first, &second), &hello()).await;
    assert_eq!(answer.unwrap().text, "One.", "{told:?}");
}

#[tokio::test]
async fn where_none_can_answer_each_is_told_with_its_reason() {
    let (first, second) = (server_of(vec![refused(401, "a")]), server_of(vec![refused(402, "b")]));
    let error = ask(&*model(&first, &second), &hello()).await.0.unwrap_err();
    assert_eq!((error.kind, error.what.as_str()), (ModelErrorKind::Auth, "none of the 2 models answers"));
    let because = "one: the model's server refuses the key (no); two@there: the account has no credit left (no)";
    assert_eq!(error.because.as_deref(), Some(because));
    let all_down = || ModelServer::replying(|_| Reply::status(503));
    let (first, second) = (all_down(), all_down());
    let patience = Patience { budget: Duration::from_millis(700), ..patience() };
    let of = |name: &str, server: &ModelServer| ModelChoice { patience, ..choice(name, server) };
    let model = open_all(&of("one", &first), &[("two".to_owned(), of("two", &second))]).unwrap();
    let begin = Instant::now();
    assert_eq!(ask(&*model, &hello()).await.0.unwrap_err().kind, ModelErrorKind::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn what_is_wrong_with_the_conversation_is_not_tried_elsewhere() {
    let first = server_of(vec![refused(400, "context_length_exceeded")]);
    let second = ModelServer::start();
    let error = ask(&*model(&first, &second), &hello()).await.0.unwrap_err();
    assert_eq!((error.kind, second.requests().len()), (ModelErrorKind::ContextLength, 0));
}

#[tokio::test]
async fn what_one_server_wants_back_is_not_sent_to_another() {
    let reasons = |text: &str| json!({"choices": [{"delta": {"reasoning_content": text, "content": "Hm."}, "finish_reason": "stop"}]});
    let first = server_of(vec![
        Reply::raw(format!("data: {}\n\ndata: [DONE]\n\n", reasons("secret of one"))),
        refused(402, "x"),
    ]);
    let second = server_of(vec![Reply::text("Two.")]);
    let model = model(&first, &second);
    let answer = ask(&*model, &hello()).await.0.unwrap();
    let mut next = hello();
    next.messages.push(Message::Assistant { text: answer.text, calls: vec![], opaque: answer.opaque });
    next.messages.push(Message::User("And?".to_owned()));
    ask(&*model, &next).await.0.unwrap();
    let has = |server: &ModelServer, nth: usize| {
        String::from_utf8(server.requests()[nth].raw.clone()).unwrap().contains("secret of one")
    };
    assert!(has(&first, 1));
    assert!(!has(&second, 0));
}

#[test]
fn a_run_goes_on_with_another_model_and_tells_what_each_cost() {
    let first = server_of(vec![shell("echo one"), refused(402, "insufficient_quota")]);
    let second = server_of(vec![shell("echo two"), finish("done")]);
    let stage = Stage::new();
    let there = format!("other@{}=100,100,100", second.base_url());
    let host = second.base_url().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let variable = format!("LONGHAUL_KEY_{}", host.replace(['.', ':'], "_"));
    let args = ["do", "x", "--sandbox", "local", "--price", "10,1,10", "--fallback", &there];
    let mut program = stage.asking(&first, &args);
    let ran = Ran::of(&program.env(&variable, "sk-of-the-other-server").output().unwrap()).exits_with(0);
    assert!(ran.stderr.contains("answers from here on, not fake: the account has no credit left"), "{}", ran.stderr);
    assert_eq!((first.requests().len(), second.requests().len()), (2, 2));
    assert_eq!(second.requests()[0].header("authorization"), Some("Bearer sk-of-the-other-server"));
    let requested = stage.events_of("model_requested");
    assert_eq!(requested.len(), 4, "each request is on record as it was sent");
    let started = stage.events_of("run_started")[0]["spec"].clone();
    let name = format!("other@{}", second.base_url());
    assert_eq!(started["fallbacks"], json!([name]));
    let switched = &stage.events_of("model_switched")[0];
    assert_eq!((&switched["from"], &switched["to"]), (&json!("fake"), &json!(name)));
    let told: Value = serde_json::from_str(&stage.run(&["cost", "--json"]).exits_with(0).stdout).unwrap();
    let line = |at: usize| (told["models"][at]["model"].clone(), told["models"][at]["cost_micro_usd"].clone());
    assert_eq!((line(0), line(1)), ((json!("fake"), json!(1_100)), (json!("other"), json!(22_000))));
    assert_eq!(told["cost_micro_usd"], 23_100);
    for file in ["journal.jsonl", "run.json"] {
        let text = std::fs::read_to_string(stage.run_dir().join(file)).unwrap();
        assert!(!text.contains("sk-of-the-other-server"));
    }
    stage.verifies();
}

#[test]
fn a_fallback_that_makes_no_sense_and_a_price_that_is_not_known_are_told_before_anything_begins() {
    let server = ModelServer::start();
    let stage = Stage::new();
    let failed = |args: &[&str]| {
        let args = [&["do", "x", "--sandbox", "local"], args].concat();
        Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(2).stderr
    };
    let told = failed(&["--fallback", "script:x.toml"]);
    assert!(told.contains("no model to fall back on") && told.contains("MODEL@URL"), "{told}");
    let told = failed(&["--max-cost", "1", "--price", "1,2", "--fallback", "other"]);
    assert!(told.contains("the price of `other`") && told.contains("--fallback other=INPUT,CACHED,OUTPUT"), "{told}");
    assert!(server.requests().is_empty());
    assert_eq!(Fallback::parse("m@http://h/v1").unwrap().shown(), "m@http://h/v1");
}
