//! Questions that nobody answers: what becomes of the run is what was said, and silence is never an answer.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::questions::{ask, run};
use crate::resume::{has_event, is, nothing_is_left, soon};
use crate::stage::Stage;

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];

/// When the first entry of a kind was recorded.
#[track_caller]
fn time_of(stage: &Stage, kind: &str) -> Timestamp {
    let journal = std::fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
    let entries = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let entry = entries.into_iter().find(|entry| entry["event"]["type"] == kind).expect(kind);
    entry["time"].as_str().unwrap().parse().unwrap()
}

fn kill_the_driver(stage: &Stage) {
    let shown = stage.run(&["runs", "show", "--json"]).exits_with(0).stdout;
    let pid = serde_json::from_str::<Value>(&shown).unwrap()["pid"].as_u64().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    soon("its end", || !stage.run(&["runs", "show"]).stdout.contains("driven by process"));
}

#[test]
fn a_question_may_be_given_up_and_the_run_goes_on_without_an_answer() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went the way that can be undone")]);
    let begun = Instant::now();
    let args = [&LOCAL[..], &["--on-silence", "fail", "--answer-within", "1s"]].concat();
    run(&stage, &server, &args).exits_with(0);
    assert!(begun.elapsed() > Duration::from_secs(1), "it was given its time");
    let told = last_result(&server.requests()[1].body).to_owned();
    assert!(told.starts_with("[timeout q1]\nNobody has answered within 1."), "{told}");
    let late = stage.run(&["answer", "last", "q1", "left"]).exits_with(2);
    assert!(late.stderr.contains("is over") && late.stderr.contains("nobody answered"), "{}", late.stderr);
    stage.verifies();
}

#[test]
fn where_silence_ends_things_claims_and_circles_end_the_run() {
    let stage = Stage::new();
    let server = server_of((0..9).map(|_| finish("done!")).collect());
    let args = [&LOCAL[..], &["--on-silence", "fail", "--check", "false"]].concat();
    run(&stage, &server, &args).exits_with(3);
    assert_eq!((server.requests().len(), stage.events_of("question_closed").len()), (3, 1));
    assert_eq!(stage.events_of("run_ended")[0]["verdict"], "failed");
    stage.verifies();
}

#[test]
fn a_run_in_the_background_stops_with_its_question_when_its_time_is_over_and_people_get_it_anew() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    let args = [&LOCAL[..], &["--detach", "--on-silence", "pause", "--answer-within", "1s"]].concat();
    run(&stage, &server, &args).exits_with(0);
    soon("its end", || has_event(&stage, is("run_ended")));
    let end = &stage.events_of("run_ended")[0];
    assert_eq!((&end["verdict"], &end["reason"]), (&json!("blocked"), &json!("needs_human")));
    assert!(end["why"].as_str().unwrap().contains("nobody has answered within 1.0 s"), "{end}");
    stage.run(&["answer", "q1", "left"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(0);
    assert_eq!(last_result(&server.requests()[1].body), "[answered q1: left]");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn the_time_for_an_answer_counts_from_the_question_whoever_drives_the_run() {
    const WITHIN: f64 = 6.0;
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    let args = [&LOCAL[..], &["--detach", "--on-silence", "fail", "--answer-within", "6s"]].concat();
    run(&stage, &server, &args).exits_with(0);
    soon("the question", || has_event(&stage, is("question_asked")));
    kill_the_driver(&stage);
    let asked = time_of(&stage, "question_asked");
    let waited = |until: Timestamp| until.duration_since(asked).as_secs_f64();
    soon("half of the time", || waited(Timestamp::now()) > WITHIN / 2.0);
    run(&stage, &server, &["resume", "--detach"]).exits_with(0);
    soon("its end", || has_event(&stage, is("run_ended")));
    let closed = waited(time_of(&stage, "question_closed"));
    assert!((WITHIN..WITHIN * 1.4).contains(&closed), "{closed} s");
}

#[test]
fn an_approval_takes_a_choice_and_what_was_approved_runs_once() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo ran >> count; cat count"), finish("done")]);
    run(&stage, &server, &[&LOCAL[..], &["--mode", "ask"]].concat()).exits_with(4);
    let refused = stage.run(&["answer", "q1", "yess"]).exits_with(2);
    assert!(refused.stderr.contains("`yess` is no answer to q1"), "{}", refused.stderr);
    assert!(refused.stderr.contains("it has to be one of yes, "), "{}", refused.stderr);
    stage.run(&["answer", "q1", "yes"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(0);
    let told = last_result(&server.requests()[1].body).to_owned();
    assert!(told.ends_with("ran") && told.matches("ran").count() == 1, "{told}");
    stage.verifies();
}
