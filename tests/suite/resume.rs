//! Runs whose driver is killed, and that are taken up again: nothing is lost and nothing is done twice.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::containers::traces;
use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

/// Waits for a condition, which must come about within half a minute.
#[track_caller]
pub(crate) fn soon(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A run that is being driven.
pub(crate) struct Driven {
    pub(crate) program: Child,
}

impl Driven {
    pub(crate) fn start(stage: &Stage, server: &ModelServer, args: &[&str]) -> Self {
        let mut program = stage.asking(server, args);
        Self { program: program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap() }
    }

    /// Kills the driver, and nothing else.
    pub(crate) fn kill(mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

pub(crate) fn has_event(stage: &Stage, wanted: impl Fn(&Value) -> bool) -> bool {
    let Ok(runs) = std::fs::read_dir(stage.state().join("runs")) else { return false };
    let Some(run) = runs.flatten().next() else { return false };
    let journal = std::fs::read_to_string(run.path().join("journal.jsonl")).unwrap_or_default();
    let events = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.map(|entry| entry["event"].clone()).any(|event| wanted(&event))
}

pub(crate) fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["type"] == kind
}

pub(crate) fn resume(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, &[&["resume"], args].concat()).output().unwrap())
}

pub(crate) fn nothing_is_left(stage: &Stage) {
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    let run = longhaul::domain::RunId::new(run).unwrap();
    assert_eq!(traces(&stage.state(), &run), Vec::<String>::new());
}

/// The command waits for this file of the project, which the box sees through.
pub(crate) fn go(stage: &Stage) -> PathBuf {
    stage.project().join("go")
}

pub(crate) fn until_go(go: &Path) -> String {
    format!("while [ ! -e {} ]; do sleep 0.02; done", go.display())
}

pub(crate) const BIND: [&str; 4] = ["--sandbox", "local", "--workspace", "bind"];

pub(crate) fn goal(words: &'static str) -> Vec<&'static str> {
    [&["do", words][..], &BIND].concat()
}

#[test]
fn a_command_that_ended_while_nobody_drove_is_told_with_its_true_end_and_not_run_again() {
    let stage = Stage::new();
    let go = go(&stage);
    let server = server_of(vec![
        shell(&format!("{}; echo x >> count; echo from the command; exit 7", until_go(&go))),
        finish("done"),
    ]);
    let driven = Driven::start(&stage, &server, &goal("count"));
    soon("the command", || has_event(&stage, is("tool_started")));
    soon("its process", || stage.project().join("count").exists() || has_event(&stage, is("session_opened")));
    driven.kill();
    std::fs::write(&go, "").unwrap();
    soon("its end", || stage.project().join("count").exists());
    let ran = resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(ran.stdout, "done\n");
    let told = last_result(&server.requests()[1].body).to_owned();
    assert!(told.contains("exit 7") && told.contains("from the command"), "{told}");
    assert_eq!(std::fs::read_to_string(stage.project().join("count")).unwrap(), "x\n");
    let said = server.requests()[1].body["messages"].to_string();
    assert!(said.contains("was interrupted for"), "{said}");
    let resumed = stage.events_of("run_resumed");
    assert_eq!(resumed.len(), 1);
    assert_eq!((resumed[0]["epoch"].as_u64(), resumed[0]["found"].as_str()), (Some(2), Some("adopted")), "{resumed:?}");
    assert_eq!(stage.events_of("box_opened").len(), 1, "it is the same box");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_job_runs_on_and_its_wait_goes_on() {
    let stage = Stage::new();
    let go = go(&stage);
    let wait = json!({"all": ["j1"], "deadline_s": 600});
    let server = server_of(vec![
        Reply::call("shell", &json!({"command": format!("echo $$ >> pids; {}; exit 3", until_go(&go)), "yield_s": 0})),
        Reply::call("wait", &wait),
        finish("trained"),
    ]);
    let driven = Driven::start(&stage, &server, &goal("train"));
    soon("the wait", || has_event(&stage, |event| event["type"] == "tool_started" && event["call"]["name"] == "wait"));
    driven.kill();
    let resumed = Driven::start(&stage, &server, &["resume"]);
    soon("the second driver", || has_event(&stage, is("run_resumed")));
    resumed.kill();
    std::fs::write(&go, "").unwrap();
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(server.requests().len(), 3, "a wait costs no request, however often it is taken up");
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("j1") && told.contains("exit 3"), "{told}");
    assert_eq!(std::fs::read_to_string(stage.project().join("pids")).unwrap().lines().count(), 1);
    assert_eq!(stage.events_of("job_started").len(), 1);
    assert_eq!(stage.events_of("job_ended").len(), 1);
    let epochs: Vec<_> = stage.events_of("run_resumed").iter().map(|event| event["epoch"].as_u64()).collect();
    assert_eq!(epochs, [Some(2), Some(3)]);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_request_that_was_under_way_is_made_once_more_and_repeats_the_one_before() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo one"), Reply::mute(), finish("done")]);
    let driven = Driven::start(&stage, &server, &goal("ask"));
    server.wait_for_requests(2);
    driven.kill();
    resume(&stage, &server, &[]).exits_with(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    let messages = |nth: usize| requests[nth].body["messages"].as_array().unwrap().clone();
    assert_eq!(messages(2)[..messages(1).len()], messages(1)[..], "what was sent before stays as it is");
    let kept: Vec<_> = stage.events_of("model_requested").iter().map(|event| event["kept_bytes"].as_u64()).collect();
    assert!(kept[2] > kept[1], "{kept:?}");
    assert_eq!(stage.events_of("tool_started").len(), 2);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_run_that_reached_its_limit_goes_on_with_a_higher_one_and_a_finished_one_does_not() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo one"), shell("echo two"), finish("done")]);
    let args = [&goal("work")[..], &["--max-turns", "1"]].concat();
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(5);
    let refused = resume(&stage, &server, &[]).exits_with(2);
    assert!(refused.stderr.contains("--max-turns 2"), "{}", refused.stderr);
    let listed = resume(&stage, &server, &["--all"]).exits_with(0);
    assert!(listed.stdout.contains("stopped, exit code 5  work"), "{}", listed.stdout);
    let ran = resume(&stage, &server, &["last", "--max-turns", "9", "--message", "Two more."]).exits_with(0);
    assert_eq!(ran.stdout, "done\n");
    let said = server.requests()[1].body["messages"].to_string();
    assert!(said.contains("The run had ended") && said.contains("Two more."), "{said}");
    assert_eq!(stage.events_of("user_said").len(), 1);
    stage.verifies();
    let finished = resume(&stage, &server, &["last"]).exits_with(2);
    assert!(finished.stderr.contains("has finished: unverified"), "{}", finished.stderr);
    assert!(finished.stderr.contains("agent fork "), "{}", finished.stderr);
    let none = resume(&stage, &server, &[]).exits_with(2);
    assert!(none.stderr.contains("no run to take up"), "{}", none.stderr);
    nothing_is_left(&stage);
}

#[test]
fn a_run_that_is_driven_is_not_taken_up_by_a_second_terminal() {
    let stage = Stage::new();
    let go = go(&stage);
    let server = server_of(vec![shell(&until_go(&go)), finish("done")]);
    let mut driven = Driven::start(&stage, &server, &goal("work"));
    soon("the command", || has_event(&stage, is("session_opened")));
    let before = std::fs::read(stage.run_dir().join("journal.jsonl")).unwrap();
    let refused = resume(&stage, &server, &["last"]).exits_with(2);
    let pid = driven.program.id().to_string();
    assert!(refused.stderr.contains(&format!("is driven by process {pid}")), "{}", refused.stderr);
    assert!(refused.stderr.contains("sign of life") && refused.stderr.contains("agent attach"), "{}", refused.stderr);
    assert!(std::fs::read(stage.run_dir().join("journal.jsonl")).unwrap() == before, "something was written");
    std::fs::write(&go, "").unwrap();
    assert!(driven.program.wait().unwrap().success());
    stage.verifies();
}

#[test]
fn an_edited_transcript_is_not_taken_up_and_a_newer_one_is_named() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo one"), Reply::mute()]);
    let driven = Driven::start(&stage, &server, &goal("work"));
    server.wait_for_requests(2);
    driven.kill();
    let journal = stage.run_dir().join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replace("echo one", "echo two")).unwrap();
    let edited = std::fs::read(&journal).unwrap();
    let refused = resume(&stage, &server, &["last"]).exits_with(3);
    assert!(refused.stderr.contains("cannot be read from line"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&journal).unwrap(), edited, "nothing was written");
    std::fs::write(&journal, text).unwrap();
    server.push(finish("done"));
    resume(&stage, &server, &["last"]).exits_with(0);
    nothing_is_left(&stage);
}

#[test]
fn mail_that_was_recorded_is_not_delivered_twice() {
    let stage = Stage::new();
    let go = go(&stage);
    let server = server_of(vec![shell(&until_go(&go)), Reply::mute(), finish("done")]);
    let driven = Driven::start(&stage, &server, &goal("work"));
    soon("the command", || has_event(&stage, is("tool_started")));
    stage.run(&["send", "last", "use batch 16"]).exits_with(0);
    let inbox = stage.run_dir().join("inbox");
    let letter = std::fs::read_dir(&inbox).unwrap().next().unwrap().unwrap().path();
    let content = std::fs::read(&letter).unwrap();
    std::fs::write(&go, "").unwrap();
    server.wait_for_requests(2);
    driven.kill();
    // As if the driver had been killed between recording it and removing it.
    std::fs::write(&letter, content).unwrap();
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(stage.events_of("user_said").len(), 1);
    stage.verifies();
    nothing_is_left(&stage);
}
