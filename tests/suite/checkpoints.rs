//! Checkpoints of whole runs: taken by the model, a person and the harness, gone back to, and what becomes of bad ones.

use serde_json::{Value, json};

use crate::engines::{BUSYBOX, DOCKER};
use crate::goal::{finish, last_result, server_of, shell, until};
use crate::model_server::{ModelServer, Reply};
use crate::small_disk::SmallDisk;
use crate::stage::{Ran, Stage};

pub(crate) fn checkpoint(doing: &str, which: Option<&str>) -> Reply {
    Reply::call("checkpoint", &json!({"do": doing, "checkpoint": which}))
}

/// What the model was told of each of its calls, in order.
pub(crate) fn told(server: &ModelServer) -> Vec<String> {
    server.requests().iter().skip(1).map(|seen| last_result(&seen.body).to_owned()).collect()
}

/// The layers in the store.
fn layers(stage: &Stage) -> Vec<String> {
    let found = std::fs::read_dir(stage.state().join("layers")).into_iter().flatten().flatten();
    found.map(|layer| layer.file_name().into_string().unwrap()).collect()
}

fn destroying_run(destroy: &str) -> ModelServer {
    server_of(vec![
        shell("echo precious > kept.txt; mkdir -p deep/er; cd deep/er; export MOOD=good"),
        shell("false"),
        checkpoint("create", Some("good")),
        shell("echo status $?"),
        shell(destroy),
        shell("ls /bin/ls && cat ../../kept.txt"),
        checkpoint("restore", Some("good")),
        shell("echo mood $MOOD; pwd; cat ../../kept.txt && ls -d /bin/sh"),
        shell("cd ../.. && echo after >> kept.txt"),
        finish("restored"),
    ])
}

#[track_caller]
fn the_run_came_back(stage: &Stage, ran: Ran, server: &ModelServer) {
    let ran = ran.exits_with(0);
    let told = told(server);
    assert!(told[2].starts_with("Checkpoint k1 `good` was taken"), "{}", told[2]);
    assert!(told[3].ends_with("status 1"), "the checkpoint leaves `$?` as it was: {}", told[3]);
    assert!(!told[5].starts_with("[exit 0"), "it is destroyed: {}", told[5]);
    assert!(told[6].starts_with("Restored checkpoint k1 `good`"), "{}", told[6]);
    assert!(told[6].contains("is kept as k"), "{}", told[6]);
    let after = &told[7];
    assert!(after.starts_with("[exit 0") && after.contains("mood good"), "{after}");
    assert!(after.contains("/deep/er") && after.contains("precious") && after.contains("/bin/sh"), "{after}");
    let restored = stage.events_of("checkpoint_restored");
    assert_eq!((restored.len(), &restored[0]["checkpoint"]), (1, &json!("k1")), "{}", ran.stderr);
    let requests = server.requests();
    let state = requests[4].last_text();
    assert!(state.contains("Checkpoints that can be restored: k1 `good` ("), "{state}");
    stage.verifies();
}

const CHECK: [&str; 2] = ["--check", "grep -q after kept.txt && grep -q precious kept.txt"];

#[test]
fn a_run_that_has_destroyed_its_own_box_is_restored_and_goes_on() {
    let (stage, server) = (Stage::new(), destroying_run("rm -rf /usr/bin ../../kept.txt"));
    let args = [&["do", "live dangerously", "--sandbox", "local"], &CHECK[..]].concat();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap());
    the_run_came_back(&stage, ran, &server);
    // The changes are those of the box that it ended with.
    let diff = stage.run(&["diff", "last"]).exits_with(0);
    assert!(diff.stdout.contains("+precious") && diff.stdout.contains("+after"), "{}", diff.stdout);
    let listed = stage.run(&["checkpoint", "list", "last", "--json"]).exits_with(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let reasons: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["passed", "restore", "risk", "model"]);
    assert!(!layers(&stage).is_empty());
    stage.run(&["runs", "rm", "last"]).exits_with(0);
    assert!(layers(&stage).is_empty(), "{:?}", layers(&stage));
}

#[test]
fn a_container_that_was_destroyed_is_restored_too() {
    if !DOCKER.is_there() {
        return;
    }
    let (stage, server) = (Stage::new(), destroying_run("rm -rf ../../kept.txt /bin/[a-r]* /bin/[t-z]*"));
    let args = [&["do", "live dangerously", "--image", BUSYBOX], &CHECK[..]].concat();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap());
    the_run_came_back(&stage, ran, &server);
    stage.run(&["runs", "rm", "last"]).exits_with(0);
}

#[test]
fn a_service_is_started_again_and_another_job_is_named() {
    let stage = Stage::new();
    let job = |command: &str, session: &str, service: bool| {
        Reply::call("shell", &json!({"command": command, "session": session, "yield_s": 0, "service": service}))
    };
    let server = server_of(vec![
        job("echo up; exec sleep 600 # a long line so that the whole command matters", "web", true),
        job("sleep 601", "train", false),
        checkpoint("create", None),
        checkpoint("restore", Some("k1")),
        checkpoint("list", None),
        finish("done"),
    ]);
    let ran = Ran::of(&stage.asking(&server, &["do", "serve", "--sandbox", "local"]).output().unwrap()).exits_with(0);
    let told = told(&server);
    assert!(told[2].contains("Jobs that ran on: j1, j2"), "{}", told[2]);
    assert!(told[3].contains("Service j1 is started again as j3"), "{}", told[3]);
    assert!(told[3].contains("Jobs that ran then and do not run now: j2"), "{}", told[3]);
    assert!(told[4].contains("k2 · taken") && told[4].contains("k1 · taken"), "{}", told[4]);
    let started = stage.events_of("job_started");
    assert_eq!(started.len(), 3, "{}", ran.stderr);
    assert!(started[2]["job"]["command"].as_str().unwrap().starts_with("echo up; exec sleep 600"), "{}", started[2]);
    stage.verifies();
}

#[test]
fn a_risky_command_is_preceded_by_a_checkpoint_where_something_is_new() {
    let stage = Stage::new();
    let server =
        server_of(vec![shell("mkdir d e f"), shell("rm -rf d"), shell("ls"), shell("rm -rf e"), finish("tidy")]);
    let run = |more: &[&str]| {
        let args = [&["do", "tidy up", "--sandbox", "local"], more].concat();
        Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
        stage.events_of("checkpoint_taken").len()
    };
    assert_eq!(run(&["--checkpoint-cap", "1"]), 2);
    assert_eq!(stage.events_of("checkpoint_deleted"), [json!({"type": "checkpoint_deleted", "checkpoint": "k1"})]);
    assert_eq!(layers(&stage).len(), 1, "{:?}", layers(&stage));
    for reply in [shell("mkdir d"), shell("rm -rf d"), finish("tidy")] {
        server.push(reply);
    }
    assert_eq!(run(&["--checkpoints", "off"]), 0);
    stage.verifies();
}

#[test]
fn what_can_not_be_restored_is_told_and_leaves_the_run_where_it_is() {
    let stage = Stage::new();
    let layers_dir = stage.state().join("layers");
    let server = server_of(vec![
        checkpoint("restore", Some("k1")),
        shell("echo 1 > a"),
        checkpoint("create", Some("k3")),
        checkpoint("create", Some("one")),
        checkpoint("delete", Some("one")),
        checkpoint("restore", Some("one")),
        checkpoint("create", None),
        shell("echo 2 > a"),
        finish("done"),
    ]);
    Ran::of(&stage.asking(&server, &["do", "x", "--sandbox", "local"]).output().unwrap()).exits_with(0);
    let told = told(&server);
    assert!(told[0].contains("this run has no checkpoint `k1`; there are: none yet"), "{}", told[0]);
    assert!(told[2].contains("would be taken for an id"), "{}", told[2]);
    assert!(told[4].contains("was deleted"), "{}", told[4]);
    assert!(told[5].contains("checkpoint k1 `one` was deleted"), "{}", told[5]);
    assert_eq!(layers(&stage).len(), 1, "{:?} in {}", layers(&stage), layers_dir.display());
    stage.verifies();
    // An id of another run is no id of this one.
    let none = stage.run(&["checkpoint", "show", "last", "k9"]).exits_with(2);
    assert!(none.stderr.contains("this run has no checkpoint `k9`"), "{}", none.stderr);
    let ended = stage.run(&["checkpoint", "restore", "last", "k2"]).exits_with(2);
    assert!(ended.stderr.contains("agent fork"), "{}", ended.stderr);
    let stopped = stage.run(&["checkpoint", "create", "last"]).exits_with(2);
    assert!(stopped.stderr.contains("the run's box is not up"), "{}", stopped.stderr);
    stage.run(&["checkpoint", "delete", "last", "k2"]).exits_with(0);
    assert!(layers(&stage).is_empty());
    stage.verifies();
}

#[test]
fn a_disk_without_room_costs_the_checkpoint_and_not_the_run() {
    let Some(disk) = SmallDisk::mount() else { return };
    let stage = Stage::new();
    let server = server_of(vec![
        shell("head -c 250000 /dev/urandom > big"),
        checkpoint("create", None),
        shell("rm -f big; echo small > file"),
        checkpoint("create", None),
        finish("done"),
    ]);
    let mut agent = stage.asking(&server, &["do", "x", "--sandbox", "local"]);
    agent.env("LONGHAUL_STATE_DIR", &disk.path);
    Ran::of(&agent.output().unwrap()).exits_with(0);
    let told = told(&server);
    assert!(told[1].starts_with("no checkpoint was taken"), "{}", told[1]);
    assert!(told[3].starts_with("Checkpoint k1 was taken"), "{}", told[3]);
    let left: Vec<_> = std::fs::read_dir(disk.path.join("layers")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_box_that_nobody_drives_is_kept_before_it_is_left() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("echo 1 > a"),
        checkpoint("create", Some("one")),
        shell("echo 2 > a; echo waiting; sleep 600"),
        finish("never"),
    ]);
    let mut agent = stage.asking(&server, &["do", "x", "--sandbox", "local"]);
    let mut agent = agent.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let journal = || std::fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap_or_default();
    until(|| stage.state().join("runs").is_dir() && journal().contains("echo 2 > a"));
    until(|| server.requests().len() == 3 && journal().matches("tool_started").count() == 3);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let taken = stage.run(&["checkpoint", "create", "last", "--name", "left"]).exits_with(0);
    assert!(taken.stdout.contains("taken: checkpoint k2 `left`"), "{}", taken.stdout);
    let back = stage.run(&["checkpoint", "restore", "last", "one"]).exits_with(0);
    assert!(back.stdout.contains("goes on from checkpoint k1 `one`"), "{}", back.stdout);
    assert!(back.stdout.contains("is kept as k3"), "{}", back.stdout);
    let server = server_of(vec![shell("cat a"), finish("back")]);
    let resumed = ["resume", "last", "--base-url", server.base_url()];
    Ran::of(&stage.asking(&server, &resumed).output().unwrap()).exits_with(0);
    let after = last_result(&server.requests()[1].body).to_owned();
    assert!(after.ends_with('1'), "{after}");
    stage.verifies();
    stage.run(&["runs", "rm", "last"]).exits_with(0);
}

#[test]
fn a_layer_that_was_removed_by_hand_is_missed_before_anything_ends() {
    let stage = Stage::new();
    // In a project that is written through: elsewhere a box need not see what the host does meanwhile.
    let gate = stage.project().join("gate");
    let server = server_of(vec![
        shell("echo 1 > a"),
        checkpoint("create", None),
        Reply::call("wait", &json!({"file": {"path": gate, "becomes": "exists"}, "deadline_s": 60})),
        checkpoint("restore", Some("k1")),
        shell("cat a"),
        finish("done"),
    ]);
    let mut agent = stage.asking(&server, &["do", "x", "--sandbox", "local", "--workspace", "bind"]);
    let agent = agent.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until(|| stage.state().join("runs").is_dir() && server.requests().len() == 3);
    for layer in layers(&stage) {
        std::fs::remove_dir_all(stage.state().join("layers").join(layer)).unwrap();
    }
    std::fs::write(&gate, "").unwrap();
    Ran::of(&agent.wait_with_output().unwrap()).exits_with(0);
    let told = told(&server);
    assert!(told[3].contains("can't be restored, and nothing was changed: its layer"), "{}", told[3]);
    assert!(told[4].ends_with('1'), "{}", told[4]);
    assert!(stage.events_of("restore_started").is_empty());
    stage.verifies();
}

#[test]
fn a_person_has_a_run_that_goes_on_take_one_and_a_command_runs_before_it() {
    let stage = Stage::new();
    let gate = stage.project().join("gate");
    let server = server_of(vec![
        Reply::call("wait", &json!({"file": {"path": gate, "becomes": "exists"}, "deadline_s": 60})),
        shell("cat quiet"),
        finish("done"),
    ]);
    let args =
        ["do", "x", "--sandbox", "local", "--workspace", "bind", "--before-checkpoint", "echo written > quiet; exit 3"];
    let mut agent = stage.asking(&server, &args);
    let agent = agent.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until(|| stage.state().join("runs").is_dir() && !server.requests().is_empty());
    stage.run(&["checkpoint", "create", "last", "--name", "now"]).exits_with(0);
    // The model waits, and need not be woken for it.
    until(|| !stage.events_of("checkpoint_taken").is_empty());
    assert_eq!(server.requests().len(), 1);
    std::fs::write(&gate, "").unwrap();
    Ran::of(&agent.wait_with_output().unwrap()).exits_with(0);
    let taken = stage.events_of("checkpoint_taken").remove(0);
    assert_eq!((&taken["checkpoint"]["name"], &taken["checkpoint"]["reason"]), (&json!("now"), &json!("person")));
    let left_out = taken["checkpoint"]["snapshot"]["left_out"].to_string();
    assert!(left_out.contains("failed with exit 3"), "{left_out}");
    assert!(told(&server)[1].ends_with("written"), "{:?}", told(&server));
    stage.verifies();
}
