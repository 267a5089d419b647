//! What happens where a run is kept: a person interrupts, services end with the run and are there again with it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::checkpoints::{checkpoint, told};
use crate::goal::{finish, server_of, shell, until};
use crate::model_server::Reply;
use crate::resume::{has_event, nothing_is_left, resume};
use crate::stage::{Ran, Stage};

#[test]
fn services_of_a_run_that_was_stopped_are_started_again_with_it() {
    let stage = Stage::new();
    let service = json!({"command": "echo up; exec sleep 600", "session": "web", "yield_s": 0, "service": true});
    let job = json!({"command": "sleep 601", "session": "train", "yield_s": 0});
    let server = server_of(vec![
        Reply::call("shell", &service),
        Reply::call("shell", &job),
        shell("pgrep -c -f 'sleep 60[0]'"),
        finish("served"),
    ]);
    let args = ["do", "serve", "--sandbox", "local", "--max-turns", "2"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(5);
    nothing_is_left(&stage);
    resume(&stage, &server, &["last", "--max-turns", "9"]).exits_with(0);
    let messages = server.requests()[2].body["messages"].to_string();
    assert!(messages.contains("Service j1 is started again as j3"), "{messages}");
    assert!(!messages.contains("is started again as j4"), "what is no service has ended: {messages}");
    assert!(told(&server)[2].ends_with('1'), "{:?}", told(&server));
    let started = stage.events_of("job_started");
    assert_eq!((started.len(), &started[2]["job"]["command"]), (3, &json!("echo up; exec sleep 600")));
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn who_interrupts_while_a_checkpoint_is_taken_is_heard_at_once() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("sleep 600 & head -c 3G /dev/zero > big"),
        checkpoint("create", Some("large")),
        shell("echo not run"),
        finish("never"),
    ]);
    let mut agent = stage.asking(&server, &["do", "fill", "--sandbox", "local"]);
    let agent = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let layers = stage.state().join("layers");
    let is_begun = || {
        let mut names = std::fs::read_dir(&layers).into_iter().flatten().flatten().map(|layer| layer.file_name());
        names.any(|name| name.to_string_lossy().starts_with(".tmp-"))
    };
    until(is_begun);
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &agent.id().to_string()]).status().unwrap().success());
    until(|| has_event(&stage, |event| event["type"] == "stop_asked"));
    let heard = asked.elapsed();
    Ran::of(&agent.wait_with_output().unwrap()).exits_with(130);
    assert!(heard < Duration::from_secs(2), "{heard:?}");
    let noticed = stage.events_of("noticed");
    let why = noticed.iter().find(|event| event["kind"] == "checkpoint_failed").expect("it is told");
    assert!(why["text"].as_str().unwrap().ends_with("it was interrupted"), "{why}");
    // As the box goes its files are kept all the same: that costs no copy.
    let taken = stage.events_of("checkpoint_taken");
    assert_eq!((taken.len(), &taken[0]["checkpoint"]["reason"]), (1, &json!("end")));
    assert_eq!(server.requests().len(), 2, "nothing was asked after it");
    assert!(!is_begun(), "nothing half-made is left");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn much_is_kept_without_a_copy_where_nothing_runs_and_the_model_is_told() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("mkdir -p deep; cd deep; export MOOD=good; head -c 600M /dev/zero > big"),
        checkpoint("create", Some("large")),
        shell("echo $MOOD in $PWD; wc -c < big; echo more > more"),
        shell("head -c 600M /dev/zero > bigger; sleep 600 & echo"),
        checkpoint("create", Some("while-it-runs")),
        finish("kept"),
    ]);
    let ran = stage.asking(&server, &["do", "keep", "--sandbox", "local"]).output().unwrap();
    Ran::of(&ran).exits_with(0);
    let told = told(&server);
    assert!(told[1].contains("Checkpoint k1 `large` was taken") && told[1].contains("made anew"), "{}", told[1]);
    assert!(told[1].contains("nothing ran") && told[1].contains("functions and aliases are gone"), "{}", told[1]);
    assert!(told[2].contains("good in ") && told[2].contains("/deep") && told[2].contains("629145600"), "{}", told[2]);
    assert!(told[4].contains("was taken") && told[4].contains("processes were held"), "{}", told[4]);
    assert!(!told[4].contains("made anew"), "{}", told[4]);
    let taken = stage.events_of("checkpoint_taken");
    let took_ms = |nth: usize| taken[nth]["checkpoint"]["snapshot"]["took_ms"].as_u64().unwrap();
    assert!(took_ms(0) < took_ms(1), "{} and {} ms", took_ms(0), took_ms(1));
    stage.verifies();
    nothing_is_left(&stage);
}
