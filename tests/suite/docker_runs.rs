//! Whole runs in containers whose images outlive a driver that was killed, and a run that they were made of.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::checkpoints::{checkpoint, told};
use crate::engines::{BUSYBOX, DOCKER, Engine, PODMAN};
use crate::goal::{finish, server_of, shell, until};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

fn docker(words: &[&str]) -> String {
    said(DOCKER, words)
}

fn said(engine: Engine, words: &[&str]) -> String {
    let done = Command::new(engine.program).args(words).output().unwrap();
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// The images that were made for runs of this stage.
fn images(stage: &Stage) -> Vec<String> {
    images_in(DOCKER, stage)
}

fn images_in(engine: Engine, stage: &Stage) -> Vec<String> {
    let label = format!("label=longhaul.state={}", stage.state().display());
    said(engine, &["images", "-aq", "--no-trunc", "--filter", &label]).lines().map(str::to_owned).collect()
}

fn runs(stage: &Stage) -> BTreeSet<String> {
    let runs = fs::read_dir(stage.state().join("runs")).unwrap();
    runs.map(|run| run.unwrap().file_name().into_string().unwrap()).collect()
}

fn asked(stage: &Stage, server: &ModelServer, words: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, words).output().unwrap())
}

fn nothing_is_left_held_or_half_made(engine: Engine) {
    if !engine.is_there() {
        return;
    }
    let (stage, host) = (Stage::new(), format!("unix://{}", engine.socket));
    let large = "head -c 300000000 /dev/urandom >/large";
    let ticking = format!("{large}; (while :; do echo t >>/tick; sleep 0.1; done) & echo begun");
    let server = server_of(vec![shell(&ticking), checkpoint("create", None), finish("it went on")]);
    let asking = |words: &[&str]| {
        let mut program = stage.asking(&server, words);
        program.env("DOCKER_HOST", &host);
        program
    };
    let mut program = asking(&["do", "keep", "--image", BUSYBOX]);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.wait_for_requests(2);
    let name = stage.events_of("box_opened")[0]["facts"]["id"].as_str().unwrap().to_owned();
    let is_held = || said(engine, &["inspect", "--format", "{{.State.Paused}}", &name]) == "true";
    // Podman answers nothing about a container that it makes an image of: a while after the keeping has begun will do.
    if engine.program == DOCKER.program {
        until(is_held);
    } else {
        until(|| fs::read_dir(stage.state().join("layers")).is_ok_and(|layers| layers.count() > 0));
        std::thread::sleep(Duration::from_millis(400));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stage.events_of("checkpoint_taken").is_empty(), "it was killed before the checkpoint was one");

    // The engine ends the making, and the guest the hold, by themselves.
    until(|| !is_held());
    let ticks = || said(engine, &["exec", &name, "wc", "-l", "/tick"]);
    let before = ticks();
    until(|| ticks() != before);
    if engine.program == DOCKER.program {
        assert_eq!(images_in(engine, &stage).len(), 1, "there is an image that no checkpoint names");
    }
    let resumed = Ran::of(&asking(&["resume"]).output().unwrap());
    assert_eq!(stage.events_of("run_resumed")[0]["found"], json!("adopted"), "{}", resumed.stderr);
    assert_eq!(stage.events_of("checkpoint_taken").len(), images_in(engine, &stage).len(), "{:#?}", told(&server));
    stage.verifies();
    let removed = Ran::of(&asking(&["runs", "rm", "last"]).output().unwrap()).exits_with(0);
    assert_eq!(images_in(engine, &stage), [""; 0], "{}", removed.stderr);
    assert_eq!(said(engine, &["ps", "-aq", "--filter", &format!("name={name}")]), "");
}

#[test]
fn a_driver_that_is_killed_while_docker_makes_an_image_leaves_nothing_held_or_half_made() {
    nothing_is_left_held_or_half_made(DOCKER);
}

#[test]
fn a_driver_that_is_killed_while_podman_makes_an_image_leaves_nothing_held_or_half_made() {
    nothing_is_left_held_or_half_made(PODMAN);
}

#[test]
fn what_a_killed_driver_had_half_kept_goes_with_its_run() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let server = server_of(vec![shell("echo x >/made"), checkpoint("create", None), Reply::mute()]);
    let mut program = stage.asking(&server, &["do", "keep", "--image", BUSYBOX]);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.wait_for_requests(3);
    child.kill().unwrap();
    child.wait().unwrap();
    // As if it had come less far: the image is there, and the checkpoint's file is not.
    fs::remove_file(stage.run_dir().join("checkpoints/k1.json")).unwrap();
    assert_eq!(images(&stage).len(), 1);
    let removed = stage.run(&["runs", "rm", "last"]).exits_with(0);
    assert_eq!(images(&stage), [""; 0], "{}", removed.stderr);
}

#[test]
fn a_fork_of_a_container_outlives_the_run_that_it_parted_from() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let server = server_of(vec![
        shell("echo good > result; echo tool >/usr-tool; export WAY=first"),
        checkpoint("create", Some("good")),
        shell("echo bad > result; rm /usr-tool"),
        finish("spoilt"),
    ]);
    let args = ["do", "make a good result", "--image", BUSYBOX, "--check", "test -s result"];
    asked(&stage, &server, &args).exits_with(0);
    let parent = runs(&stage).pop_last().unwrap();

    let other = server_of(vec![
        shell("cat result /usr-tool; echo way $WAY"),
        shell("echo better >> result"),
        checkpoint("create", Some("better")),
        finish("better"),
    ]);
    let from = format!("{parent}@good");
    let words =
        ["fork", &from, "--base-url", other.base_url(), "--message", "Another way.", "--check", "grep better result"];
    asked(&stage, &other, &words).exits_with(0);
    let child = runs(&stage).pop_last().unwrap();
    assert_ne!(child, parent);
    assert!(told(&other)[0].ends_with("good\ntool\nway first"), "{}", told(&other)[0]);
    for run in [&parent, &child] {
        stage.run(&["verify", run]).exits_with(0);
    }
    assert!(stage.run(&["diff", &parent]).exits_with(0).stdout.contains("+bad"));
    assert!(stage.run(&["diff", &child]).exits_with(0).stdout.contains("+better"));

    let removed = stage.run(&["runs", "rm", &parent]).exits_with(0);
    assert_eq!(images(&stage).len(), 2, "what the fork stands on is there: {}", removed.stderr);
    let last = server_of(vec![shell("cat result /usr-tool"), shell("echo best >> result"), finish("best")]);
    let from = format!("{child}@better");
    asked(&stage, &last, &["fork", &from, "--base-url", last.base_url()]).exits_with(0);
    assert!(told(&last)[0].ends_with("good\nbetter\ntool"), "{}", told(&last)[0]);
    let early = server_of(vec![shell("cat result"), shell("echo better >> result"), finish("early")]);
    let from = format!("{child}@good");
    asked(&stage, &early, &["fork", &from, "--base-url", early.base_url()]).exits_with(0);
    assert!(told(&early)[0].ends_with("good"), "{}", told(&early)[0]);
    for run in runs(&stage) {
        stage.run(&["verify", &run]).exits_with(0);
        stage.run(&["runs", "rm", &run]).exits_with(0);
    }
    assert_eq!(images(&stage), [""; 0]);
    assert_eq!(fs::read_dir(stage.state().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_container_that_somebody_removed_is_told_to_be_lost_and_is() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let server = server_of(vec![shell("echo own > result; rm data.txt"), Reply::mute()]);
    let mut program = stage.asking(&server, &["do", "begin", "--image", BUSYBOX]);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.wait_for_requests(2);
    child.kill().unwrap();
    child.wait().unwrap();
    let name = stage.events_of("box_opened")[0]["facts"]["id"].as_str().unwrap().to_owned();
    docker(&["rm", "-f", &name]);
    let server = server_of(vec![shell("ls"), finish("begun anew")]);
    let resumed = asked(&stage, &server, &["resume", "--base-url", server.base_url()]);
    let event = stage.events_of("run_resumed").remove(0);
    assert_eq!(event["found"], json!("lost"), "{event} {}", resumed.stderr);
    assert!(told(&server)[0].ends_with("\ndata.txt"), "the host's files and no others: {}", told(&server)[0]);
    let left = stage.run_dir().join("box/left-1/workspace/result");
    assert_eq!(fs::read_to_string(left).unwrap(), "own\n", "what was written is set aside");
    stage.run(&["runs", "rm", "last"]).exits_with(0);
}
