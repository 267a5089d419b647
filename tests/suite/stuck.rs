//! A model that goes round in a circle: told so, told so again, and then a person is needed.

use std::process::Command;

use serde_json::json;

use crate::goal::{finish, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

fn ran(mut program: Command) -> Ran {
    Ran::of(&program.output().unwrap())
}

#[test]
fn the_same_failing_command_again_and_again_ends_as_stuck_at_a_bounded_cost() {
    let stage = Stage::new();
    let server = ModelServer::replying(|_| shell("make all"));
    let ran = ran(stage.asking(&server, &["do", "x", "--sandbox", "local"])).exits_with(4);
    let requests = server.requests();
    assert_eq!(requests.len(), 9, "{}", ran.stderr);
    let told: Vec<String> = requests
        .iter()
        .filter(|request| request.body.to_string().contains("going round in a circle"))
        .map(|request| request.last_text().to_owned())
        .collect();
    assert_eq!(told.len(), 6, "from the fourth request on");
    let end = &stage.events_of("run_ended")[0];
    assert_eq!((&end["verdict"], &end["reason"]), (&json!("blocked"), &json!("needs_human")));
    let question = &stage.events_of("question_asked")[0]["question"];
    assert_eq!(question["subject"]["about"], "stuck");
    assert!(question["background"].as_str().unwrap().starts_with("`make all` (exit "), "{question}");
    assert!(end["why"].as_str().unwrap().starts_with("question q1 waits for an answer: "), "{end}");
    let said = stage.events_of("harness_said");
    assert_eq!(said.len(), 2);
    assert!(said[1]["text"].as_str().unwrap().contains("You were told so before"));
    stage.verifies();
}

#[test]
fn a_model_that_takes_another_way_goes_on() {
    let stage = Stage::new();
    let server = ModelServer::replying(|seen| {
        let text = seen.body.to_string();
        match text.contains("going round in a circle") {
            false => shell("make all"),
            true if text.contains("made by hand") => finish("made"),
            true => shell("echo made by hand"),
        }
    });
    let ran = ran(stage.asking(&server, &["do", "x", "--sandbox", "local", "--check", "true"])).exits_with(0);
    assert_eq!(server.requests().len(), 5, "{}", ran.stderr);
    assert_eq!(stage.events_of("harness_said").len(), 1);
}

#[test]
fn two_calls_in_turn_are_seen_through() {
    let stage = Stage::new();
    let mut nth = 0;
    let server = ModelServer::replying(move |_| {
        nth += 1;
        if nth % 2 == 1 { shell("cat missing") } else { Reply::call("read_file", &json!({"path": "missing"})) }
    });
    ran(stage.asking(&server, &["do", "x", "--sandbox", "local"])).exits_with(4);
    assert!(server.requests().len() <= 18);
}
