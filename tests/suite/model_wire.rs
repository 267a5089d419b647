//! The OpenAI-compatible model against a server that does what servers do wrong.

use std::sync::Arc;
use std::time::Duration;

use longhaul::domain::{ToolCall, Usage};
use longhaul::model::{
    Answer, Delta, Message, Model, ModelChoice, ModelError, ModelErrorKind, Patience, Purpose, Request, ToolSpec, Wire,
    open,
};
use serde_json::{Value, json};

use crate::model_server::{ModelServer, Reply};

/// Waits that don't hold up a test.
fn patience() -> Patience {
    Patience {
        budget: Duration::from_secs(20),
        first_contact: Duration::from_millis(100),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        stall: Duration::from_secs(1),
        answer: Duration::from_secs(60),
        pause: Duration::from_secs(30),
        connect: Duration::from_secs(5),
    }
}

fn model(server: &ModelServer) -> Arc<dyn Model> {
    model_at(server.base_url(), Some("sk-secret-key\n"))
}

fn model_at(url: &str, key: Option<&str>) -> Arc<dyn Model> {
    model_with(url, key, patience())
}

fn model_with(url: &str, key: Option<&str>, patience: Patience) -> Arc<dyn Model> {
    let choice = ModelChoice {
        name: "fake".to_owned(),
        base_url: Some(url.to_owned()),
        api_key: key.map(str::to_owned),
        wire: Wire::Auto,
        patience,
        seed: 1,
    };
    open(&choice).expect("the choice is sound")
}

fn request(messages: Vec<Message>) -> Request {
    let tool = ToolSpec {
        name: "shell".to_owned(),
        description: "Runs a command.".to_owned(),
        parameters: json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}),
        strict: false,
    };
    Request { messages, tools: [tool].into(), purpose: Purpose::Turn }
}

fn hello() -> Request {
    request(vec![Message::System("Be good.".to_owned()), Message::User("Hello.".to_owned())])
}

async fn ask_with(model: &dyn Model, request: &Request) -> (Result<Answer, ModelError>, Vec<Delta>) {
    let mut deltas = Vec::new();
    let answer = model.answer(request, &mut |delta| deltas.push(delta)).await;
    (answer, deltas)
}

/// What comes of one question when the server gives these replies.
async fn ask(replies: impl IntoIterator<Item = Reply>) -> (Result<Answer, ModelError>, Vec<Delta>, ModelServer) {
    let server = ModelServer::start();
    replies.into_iter().for_each(|reply| server.push(reply));
    let (answer, deltas) = ask_with(&*model(&server), &hello()).await;
    if let Err(error) = &answer {
        assert!(!format!("{error:?}").contains("sk-secret-key"), "{error:?}");
    }
    (answer, deltas, server)
}

async fn answered(replies: impl IntoIterator<Item = Reply>) -> Answer {
    ask(replies).await.0.expect("an answer")
}

async fn refused(reply: Reply) -> ModelError {
    let (answer, _, server) = ask([reply]).await;
    assert_eq!(server.requests().len(), 1, "a refusal is not tried again");
    answer.expect_err("a refusal")
}

fn delays(deltas: &[Delta]) -> Vec<(String, Duration)> {
    let delay = |delta: &Delta| match delta {
        Delta::Delayed { why, wait } => Some((why.clone(), *wait)),
        Delta::Text(_) | Delta::Reasoning(_) | Delta::Restarted | Delta::Switched(_) => None,
    };
    deltas.iter().filter_map(delay).collect()
}

fn texts(deltas: &[Delta]) -> String {
    deltas.iter().filter_map(|delta| if let Delta::Text(text) = delta { Some(text.as_str()) } else { None }).collect()
}

/// A stream of these chunks and `[DONE]`.
fn sse(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

#[tokio::test]
async fn text_is_streamed_and_the_answer_is_whole() {
    let (answer, deltas, server) = ask([Reply::text("Hello to you, too.")]).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("Hello to you, too.", "stop"));
    assert_eq!(texts(&deltas), answer.text);
    assert_eq!(deltas.len(), 4, "word by word");
    assert_eq!(answer.usage, Some(Usage { input_tokens: 100, cached_tokens: 0, output_tokens: 10 }));
    assert!(answer.raw.starts_with(b"data: {") && answer.raw.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(answer.opaque, None);
    let seen = &server.requests()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), Some("Bearer sk-secret-key"));
    assert_eq!(seen.header("user-agent"), Some(concat!("longhaul/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn what_is_rendered_is_what_is_sent() {
    let server = ModelServer::start();
    server.push(Reply::text("Hi."));
    let model = model(&server);
    ask_with(&*model, &hello()).await.0.unwrap();
    let rendered = model.render(&hello());
    assert_eq!(server.requests()[0].raw, rendered);
    assert!(!String::from_utf8_lossy(&rendered).contains("secret"));
    let body = &server.requests()[0].body;
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert!(body.get("max_tokens").is_none() && body.get("max_completion_tokens").is_none());
    assert!(body["tools"][0]["function"].get("strict").is_none(), "only servers known to take it are sent it");
}

#[tokio::test]
async fn a_server_without_a_key_is_sent_none() {
    let server = ModelServer::start();
    server.push(Reply::text("Hi."));
    ask_with(&*model_at(server.base_url(), None), &hello()).await.0.unwrap();
    assert_eq!(server.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn parallel_calls_arrive_in_order_with_their_ids() {
    let calls = [("shell", json!({"command": "echo 'é\n\"'"})), ("shell", json!({"command": "b"}))];
    let answer = answered([Reply::calls(&calls)]).await;
    let arguments: Vec<Value> =
        answer.calls.iter().map(|call| serde_json::from_str(&call.arguments).unwrap()).collect();
    assert_eq!(arguments, calls.map(|(_, arguments)| arguments));
    assert_ne!(answer.calls[0].id, answer.calls[1].id);
    assert_eq!(answer.finish_reason, "tool_calls");
}

#[tokio::test]
async fn calls_count_even_where_the_server_says_stop() {
    let call = json!({"index": 0, "id": "", "function": {"name": "shell", "arguments": {"command": "a"}}});
    let chunk = |delta: Value, reason: Value| json!({"choices": [{"delta": delta, "finish_reason": reason}]});
    let body = sse(&[chunk(json!({"tool_calls": [call]}), Value::Null), chunk(json!({}), json!("stop"))]);
    let answer = answered([Reply::raw(body)]).await;
    assert_eq!(answer.calls.len(), 1);
    assert!(!answer.calls[0].id.is_empty());
    assert_eq!(answer.calls[0].arguments, r#"{"command":"a"}"#);
}

#[tokio::test]
async fn reasoning_is_shown_and_goes_back_to_its_server_only() {
    let server = ModelServer::start();
    let chunk = |delta: Value| json!({"choices": [{"delta": delta}]});
    let deltas =
        [json!({"reasoning_content": "Hm, "}), json!({"reasoning_content": "yes."}), json!({"content": "Yes."})];
    server.push(Reply::raw(sse(&deltas.map(chunk))));
    server.push(Reply::text("Good."));
    let model = model(&server);
    let (answer, shown) = ask_with(&*model, &hello()).await;
    let answer = answer.unwrap();
    assert_eq!((answer.reasoning.as_str(), answer.text.as_str()), ("Hm, yes.", "Yes."));
    assert!(shown.contains(&Delta::Reasoning("Hm, ".to_owned())));
    let mut next = hello();
    next.messages.push(Message::Assistant { text: answer.text, calls: vec![], opaque: answer.opaque });
    next.messages.push(Message::User("And?".to_owned()));
    ask_with(&*model, &next).await.0.unwrap();
    assert_eq!(server.requests()[1].body["messages"][2]["reasoning_content"], "Hm, yes.");
    let elsewhere = model_at("https://elsewhere.invalid/v1", None);
    assert!(!String::from_utf8(elsewhere.render(&next)).unwrap().contains("reasoning_content"));
}

#[tokio::test]
async fn streams_are_read_whatever_their_form() {
    let body = sse(&[json!({"choices": [{"delta": {"content": "Grüße"}, "finish_reason": "stop"}]})]);
    let whole = json!({"choices": [{"message": {"content": "Grüße"}, "finish_reason": "stop"}]});
    let cases = [
        ("a BOM", Reply::raw(format!("\u{feff}{body}"))),
        ("CRLF", Reply::raw(body.replace('\n', "\r\n"))),
        ("CR", Reply::raw(body.replace('\n', "\r"))),
        ("comments and pings", Reply::raw(format!(": x\n\nevent: ping\ndata: {{}}\n\n{body}"))),
        ("a blank after [DONE]", Reply::raw(body.replace("[DONE]", "[DONE] "))),
        ("no end of the last line", Reply::raw(body.trim_end())),
        ("no [DONE] after the reason to end", Reply::raw(body.replace("data: [DONE]\n\n", ""))),
        ("junk after the reason to end", Reply::raw(body.replace("[DONE]", "junk"))),
        ("another content type", Reply::raw(body.clone()).header("content-type", "application/octet-stream")),
        ("no stream at all", Reply::status(200).json(&whole)),
    ];
    for (what, reply) in cases {
        let (answer, _, _) = ask([reply]).await;
        assert_eq!(answer.map(|answer| answer.text), Ok("Grüße".to_owned()), "{what}");
    }
    let mut bytes = Reply::status(200).header("content-type", "text/event-stream; charset=utf-8");
    for byte in body.bytes() {
        bytes = bytes.body([byte]);
    }
    assert_eq!(answered([bytes]).await.text, "Grüße", "byte by byte");
}

#[tokio::test]
async fn a_large_argument_arrives_whole() {
    let command = "x".repeat(1 << 20);
    let answer = answered([Reply::call("shell", &json!({"command": command}))]).await;
    assert_eq!(serde_json::from_str::<Value>(&answer.calls[0].arguments).unwrap()["command"], command);
}

#[tokio::test]
async fn what_may_pass_is_waited_out_and_told() {
    let error = |message: &str| json!({"error": {"message": message}});
    let (answer, deltas, server) = ask([
        Reply::status(429).json(&error("slow down")),
        Reply::status(500).body("boom"),
        Reply::status(502).header("content-type", "text/html").body("<html><title>Bad Gateway</title>"),
        Reply::status(503).json(&json!({"detail": "loading"})),
        Reply::status(529).json(&json!({"error": {"type": "overloaded_error", "message": "Overloaded"}})),
        Reply::status(408),
        Reply::status(409),
        Reply::text("At last."),
    ])
    .await;
    assert_eq!(answer.unwrap().text, "At last.");
    assert_eq!(server.requests().len(), 8);
    let whys: Vec<_> = delays(&deltas).into_iter().map(|(why, _)| why).collect();
    insta::assert_snapshot!(whys.join("\n"), @r"
    the model's server limits the rate (429): slow down
    the model's server failed (500): boom
    the model's server failed (502): “Bad Gateway”
    the model's server is overloaded (503): loading
    the model's server is overloaded (529): Overloaded
    the model's server gave up (408)
    the model's server gave up (409)
    ");
}

#[tokio::test]
async fn the_wait_a_server_asks_for_is_the_least() {
    let (answer, deltas, _) = ask([Reply::status(429).header("retry-after-ms", "150"), Reply::text("Now.")]).await;
    answer.unwrap();
    let [(_, wait)] = delays(&deltas)[..] else { panic!("one wait: {deltas:?}") };
    assert!(wait >= Duration::from_millis(150), "{wait:?}");
}

#[tokio::test]
async fn a_wait_longer_than_patience_is_not_begun() {
    let (answer, deltas, _) = ask([Reply::status(429).header("retry-after", "3600")]).await;
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert_eq!(error.because.as_deref(), Some("it asks to wait 3600 s, longer than the 20 s allowed"));
    assert!(delays(&deltas).is_empty());
}

#[tokio::test]
async fn patience_ends() {
    let server = ModelServer::replying(|_| Reply::status(503));
    let patience = Patience { budget: Duration::from_millis(200), ..patience() };
    let error = ask_with(&*model_with(server.base_url(), None, patience), &hello()).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert!(error.because.unwrap().contains(" tries in "));
    assert!(server.requests().len() > 5);
}

#[tokio::test]
async fn a_cut_answer_is_void_and_asked_for_again() {
    let cut = || Reply::answer("Half an answer", &[("shell", "{\"command\": \"rm -rf /tmp/build\"}".to_owned())]);
    let cases = [
        ("broken off", cut().abort_after(6)),
        ("ended without an end", cut().end_after(6)),
        ("stalled", cut().stall_after(6)),
        ("an error in the stream", cut().end_after(4).body("data: {\"error\":{\"message\":\"m\",\"code\":502}}\n\n")),
        ("garbage in the stream", cut().end_after(4).body("data: <html>\n\ndata: [DONE]\n\n")),
    ];
    for (what, reply) in cases {
        let (answer, deltas, server) = ask([reply, Reply::text("Whole.")]).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), answer.calls.len()), ("Whole.", 0), "{what}");
        let at = deltas.iter().position(|delta| *delta == Delta::Restarted).expect(what);
        assert_eq!(texts(&deltas[..at]), "Half an answer", "{what}");
        assert_eq!(texts(&deltas[at..]), "Whole.", "{what}");
        assert_eq!(delays(&deltas).len(), 1, "{what}");
        assert_eq!(server.requests().len(), 2, "{what}");
    }
}

#[tokio::test]
async fn signs_of_life_without_data_do_not_keep_an_answer_alive() {
    let mut pings = Reply::status(200).header("content-type", "text/event-stream");
    for _ in 0..100 {
        pings = pings.body(": still here\n\nevent: ping\ndata: {}\n\n");
    }
    let (answer, deltas, _) = ask([pings.paced(Duration::from_millis(20)), Reply::text("Here.")]).await;
    assert_eq!(answer.unwrap().text, "Here.");
    assert!(delays(&deltas)[0].0.contains("sent nothing for 1 s"), "{deltas:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_cut_and_asked_again() {
    let (answer, _, server) = ask([Reply::mute(), Reply::text("Here.")]).await;
    assert_eq!(answer.unwrap().text, "Here.");
    server.wait_for_leavers(1);
}

#[tokio::test]
async fn a_slow_answer_is_not_cut_as_long_as_it_goes_on() {
    let text = "one two three four five six seven eight nine ten";
    let answer = answered([Reply::text(text).paced(Duration::from_millis(100))]).await;
    assert_eq!(answer.text, text);
    assert!(answer.duration > patience().stall);
}

#[tokio::test]
async fn empty_answers_are_tried_again() {
    let error = json!({"error": {"message": "upstream timed out", "code": 504}});
    for reply in [
        Reply::raw(""),
        Reply::raw("data: [DONE]\n\n"),
        Reply::status(200).json(&error),
        Reply::raw(format!("{error}\n")),
    ] {
        let (answer, _, server) = ask([reply, Reply::text("Full.")]).await;
        assert_eq!((answer.unwrap().text.as_str(), server.requests().len()), ("Full.", 2));
    }
}

#[tokio::test]
async fn what_no_waiting_helps_fails_at_once_and_says_what_to_do() {
    let error = |message: &str, code: &str| json!({"error": {"message": message, "type": "t", "code": code}});
    let page = "<!DOCTYPE html><html><head><title>Welcome</title></head></html>";
    let cases = [
        (Reply::status(401).json(&error("Incorrect API key", "invalid_api_key")), ModelErrorKind::Auth),
        (Reply::status(403).json(&error("no", "region")), ModelErrorKind::Auth),
        (Reply::status(429).json(&error("You exceeded your current quota", "insufficient_quota")), ModelErrorKind::Quota),
        (Reply::status(402).json(&error("Insufficient Balance", "")), ModelErrorKind::Quota),
        (Reply::status(404).json(&error("The model `fake` does not exist", "model_not_found")), ModelErrorKind::UnknownModel),
        (Reply::status(404).body("404 page not found"), ModelErrorKind::Protocol),
        (Reply::status(200).header("content-type", "text/html").body(page), ModelErrorKind::Protocol),
        (Reply::status(404).header("content-type", "text/html").body(page), ModelErrorKind::Protocol),
        (Reply::status(301).header("location", "https://k:p@else.where/v1?key=1"), ModelErrorKind::Protocol),
        (Reply::status(400).json(&json!({"error": {"type": "exceed_context_size_error", "code": 400, "message": "the request exceeds the available context size"}})), ModelErrorKind::ContextLength),
        (Reply::status(400).json(&error("m", "content_filter")), ModelErrorKind::ContentFilter),
        (Reply::status(400).json(&error("bad thing", "")), ModelErrorKind::BadRequest),
    ];
    let mut told = String::new();
    for (reply, kind) in cases {
        let error = refused(reply).await;
        assert_eq!(error.kind, kind, "{error:?}");
        let because = error.because.unwrap_or_default();
        told += &format!("{}\n  because: {because}\n  hint: {}\n", error.what, error.hint.unwrap_or_default());
    }
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn a_refused_field_is_left_out_once_and_remembered() {
    let server = ModelServer::replying(|seen| match seen.body.get("stream_options") {
        Some(_) => Reply::status(400).json(&json!({"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]})),
        None => Reply::text("Fine."),
    });
    let model = model(&server);
    for _ in 0..2 {
        let (answer, deltas) = ask_with(&*model, &hello()).await;
        assert_eq!(answer.unwrap().text, "Fine.");
        assert!(delays(&deltas).is_empty(), "leaving out a field needs no wait");
    }
    assert_eq!(server.requests().len(), 3);
    assert_eq!(server.requests()[2].raw, model.render(&hello()));
}

#[tokio::test]
async fn a_server_that_was_never_reached_is_given_up_soon_and_one_that_was_is_waited_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = ask_with(&*model_at(&format!("http://{free}/v1"), None), &hello()).await.0.unwrap_err();
    assert_eq!((error.kind, error.what.as_str()), (ModelErrorKind::Unavailable, "the model's server can't be reached"));
    assert!(error.because.unwrap().contains("refused"));
    assert!(error.hint.unwrap().contains("OPENAI_BASE_URL"));

    let server = ModelServer::start();
    server.push(Reply::text("Hi."));
    let patience = Patience { budget: Duration::from_millis(500), ..patience() };
    let model = model_with(server.base_url(), None, patience);
    ask_with(&*model, &hello()).await.0.unwrap();
    drop(server);
    let (answer, deltas) = ask_with(&*model, &hello()).await;
    assert_eq!(answer.unwrap_err().kind, ModelErrorKind::Unavailable);
    let waited: Duration = delays(&deltas).into_iter().map(|(_, wait)| wait).sum();
    assert!(waited > patience.first_contact, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_answer_ends_the_request_at_once() {
    for reply in [Reply::mute(), Reply::text("one two three").stall_after(2)] {
        let server = ModelServer::start();
        server.push(reply);
        let model = model(&server);
        let asked = tokio::spawn(async move { ask_with(&*model, &hello()).await });
        server.wait_for_requests(1);
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        server.wait_for_leavers(1);
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = ModelServer::replying(|_| Reply::text("Again."));
    let model = model(&server);
    for _ in 0..20 {
        ask_with(&*model, &hello()).await.0.unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_conversation_with_broken_calls_stays_acceptable() {
    let server = ModelServer::start();
    server.push(Reply::text("Sorry."));
    let calls = vec![ToolCall { id: "a".to_owned(), name: "no such!".to_owned(), arguments: "{\"x\": ".to_owned() }];
    let tool = Message::Tool { call_id: "a".to_owned(), text: "not JSON".to_owned() };
    let conversation =
        vec![Message::User("Go.".to_owned()), Message::Assistant { text: String::new(), calls, opaque: None }, tool];
    ask_with(&*model(&server), &request(conversation)).await.0.unwrap();
    let call = server.requests()[0].body["messages"][1]["tool_calls"][0]["function"].clone();
    assert_eq!(server.requests()[0].last_text(), "not JSON");
    assert_eq!(call, json!({"name": "no_such_", "arguments": r#"{"malformed":"{\"x\": "}"#}));
}

#[test]
fn no_key_and_no_server_is_one_error_that_says_what_to_set() {
    let choice = |name: &str, base_url: Option<&str>, api_key: Option<&str>| ModelChoice {
        name: name.to_owned(),
        base_url: base_url.map(str::to_owned),
        api_key: api_key.map(str::to_owned),
        wire: Wire::Auto,
        patience: Patience::default(),
        seed: 0,
    };
    let error = open(&choice("gpt-4.1", None, Some(" "))).err().unwrap();
    assert_eq!(error.kind, ModelErrorKind::Setup);
    insta::assert_snapshot!(format!("{}\n{}\n{}", error.what, error.because.unwrap(), error.hint.unwrap()));
    assert!(open(&choice("gpt-4.1", None, Some("k"))).is_ok());
    assert!(open(&choice("qwen3", Some("http://127.0.0.1:1/v1"), None)).is_ok());
    assert!(open(&choice(" ", Some("http://127.0.0.1:1/v1"), None)).is_err());
    assert!(!format!("{:?}", choice("m", Some("https://u:pw@h/v1?key=x"), Some("sk-secret"))).contains("secret"));
}
