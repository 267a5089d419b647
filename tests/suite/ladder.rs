//! What a failed command leads to, in a real box with a model that follows its script.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{Driven, goal, has_event, is, nothing_is_left, resume, soon};
use crate::stage::{Ran, Stage};

/// A server that answers request after request with the next of these, and the last one for ever.
struct Web {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Web {
    fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answers) =
            (Arc::clone(&asked), answers.iter().map(|&answer| answer.to_owned()).collect::<Vec<_>>());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let nth = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (head, body) = answers[nth].split_once('|').unwrap_or((&answers[nth], ""));
                let length = body.len();
                let _ =
                    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Fetches it, fails where it is refused, and shows what the server says.
    fn fetch(&self) -> Reply {
        shell(&format!("curl -sS -i --fail-with-body {}", self.url))
    }
}

/// Runs to its end, with this server as the model.
fn run(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    let args = [&["do", "x", "--sandbox", "local"], args].concat();
    Ran::of(&stage.asking(server, &args).output().unwrap())
}

/// What was decided, in order.
fn chosen(stage: &Stage) -> Vec<String> {
    let made = stage.events_of("decision_made");
    made.iter().map(|event| event["decision"]["chosen"]["action"].as_str().unwrap().to_owned()).collect()
}

/// How that turned out, in order of the judgments.
fn turned_out(stage: &Stage) -> Vec<String> {
    let judged = stage.events_of("decision_judged");
    judged.iter().map(|event| event["turned_out"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_passes_by_itself_is_tried_again_without_a_turn_of_the_model() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "503 Service Unavailable", "200 OK|here it is"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (3, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 2);
    assert_eq!(chosen(&stage), ["retry_as_is", "retry_as_is"]);
    assert_eq!(turned_out(&stage), ["failed", "worked"]);
    let waits: Vec<u64> = stage
        .events_of("decision_made")
        .iter()
        .map(|event| event["decision"]["chosen"]["after_ms"].as_u64().unwrap())
        .collect();
    assert!((5_000..6_000).contains(&waits[0]) && (10_000..12_000).contains(&waits[1]), "{waits:?}");
    let ended = &stage.events_of("tool_ended")[0]["outcome"];
    let text = ended["text"].as_str().unwrap();
    assert!(text.contains("[tried 2 times before by the harness, which failed: network each time]"), "{text}");
    assert!(text.contains("here it is") && ended["failure"].is_null(), "{text}");
    assert_eq!(last_result(&server.requests()[1].body), text);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn what_is_not_there_is_not_tried_again() {
    let stage = Stage::new();
    let web = Web::answering(&["404 Not Found"]);
    let server = server_of(vec![web.fetch(), finish("it is not there")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (1, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 0);
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["fix_forward".to_owned()], vec!["unknown".to_owned()]));
    let decision = &stage.events_of("decision_made")[0]["decision"];
    assert_eq!(
        (&decision["class"], &decision["options"][0]["reaction"]["action"]),
        (&json!("not_found"), &json!("retry_as_is"))
    );
    assert!(decision["options"][0]["why"].as_str().unwrap().starts_with("left out: "), "{decision}");
    stage.verifies();
}

#[test]
fn a_command_that_may_do_harm_twice_is_left_to_the_model() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "200 OK|x"]);
    let command = format!("echo begun >> log; curl -sS -f {}", web.url);
    let server = server_of(vec![shell(&command), shell("cat log"), finish("x")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!(web.asked(), 1);
    assert_eq!(chosen(&stage), ["fix_forward"]);
    assert!(last_result(&server.requests()[2].body).ends_with("begun"), "once");
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_the_other_side_says() {
    let stage = Stage::new();
    let web = Web::answering(&["429 Too Many Requests\r\nRetry-After: 2", "200 OK|slowly"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2));
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["park".to_owned()], vec!["worked".to_owned()]));
    stage.verifies();
}

#[test]
fn a_driver_that_is_killed_while_it_waits_is_followed_by_one_that_waits_on() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "200 OK|here it is"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    let driven = Driven::start(&stage, &server, &goal("x"));
    soon("the decision", || has_event(&stage, is("decision_made")));
    driven.kill();
    assert_eq!(web.asked(), 1);
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 1);
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["retry_as_is".to_owned()], vec!["worked".to_owned()]));
    let text = stage.events_of("tool_ended")[0]["outcome"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("tried once before by the harness") && text.contains("here it is"), "{text}");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn what_credentials_refuse_is_asked_about_at_once_and_nothing_is_tried() {
    let stage = Stage::new();
    let web = Web::answering(&["401 Unauthorized"]);
    let server = server_of(vec![web.fetch(), finish("x")]);
    run(&stage, &server, &[]).exits_with(4);
    assert_eq!((web.asked(), server.requests().len()), (1, 1));
    assert_eq!(chosen(&stage), ["ask"]);
    let question: Value = stage.events_of("question_asked")[0]["question"].clone();
    assert_eq!((&question["subject"]["about"], &question["subject"]["decision"]), (&json!("failure"), &json!("d1")));
    assert_eq!(question["options"].as_array().unwrap().len(), 3);
    assert_eq!(question["recommended"], "retry");
    stage.verifies();
}
