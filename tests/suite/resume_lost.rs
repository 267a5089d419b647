//! Runs whose box went with their driver, as after a power failure, and calls of which the transcript knows no end.

use std::fs::{self, File, FileTimes};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::engines::{BUSYBOX, DOCKER};
use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{Driven, go, goal, has_event, nothing_is_left, resume, soon, until_go};
use crate::stage::Stage;

/// Ends the box's first process, and with it all that runs in the box.
fn kill_box(stage: &Stage) {
    let opened = stage.events_of("box_opened");
    let pid = opened.last().unwrap()["facts"]["id"].as_str().unwrap().to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    soon("the end of the box", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

fn job(command: &str) -> Reply {
    Reply::call("shell", &json!({"command": command, "session": "job", "yield_s": 0}))
}

fn begun(stage: &Stage, command: &str) -> bool {
    let is_call = |event: &Value| {
        event["type"] == "tool_started"
            && event["call"]["arguments"].as_str().is_some_and(|text| text.contains(command))
    };
    has_event(stage, is_call)
}

/// All that was sent to the model beside its own words, in one request.
fn said(server: &ModelServer, nth: usize) -> String {
    server.requests()[nth].body["messages"].to_string()
}

#[test]
fn a_box_that_went_with_its_driver_is_started_again_with_its_files_and_what_ran_is_unknown() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("echo kept > kept.txt"),
        job("sleep 1000"),
        shell("echo half > half.txt; sleep 999"),
        shell("cat kept.txt half.txt"),
        finish("done"),
    ]);
    let driven = Driven::start(&stage, &server, &["do", "work", "--sandbox", "local"]);
    soon("the command", || begun(&stage, "sleep 999"));
    let half = || {
        let found = Command::new("find").arg(stage.run_dir()).args(["-name", "half.txt"]).output().unwrap();
        !found.stdout.is_empty()
    };
    soon("its work", half);
    driven.kill();
    kill_box(&stage);
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "restarted");
    let told = last_result(&server.requests()[3].body).to_owned();
    assert!(told.contains("how it ended can't be found out: look how far it came"), "{told}");
    let said = said(&server, 3);
    assert!(said.contains("Jobs that ran then and do not run now: j1 (`sleep 1000`)"), "{said}");
    let ended = stage.events_of("job_ended");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0]["end"].get("exit").is_none(), "{ended:?}");
    assert_eq!(stage.events_of("tool_ended")[2]["outcome"]["status"], "unknown");
    let read = last_result(&server.requests()[4].body).to_owned();
    assert!(read.contains("kept\nhalf"), "{read}");
    stage.verifies();
    nothing_is_left(&stage);
}

/// A run whose box went while it pushed; where the pushes are counted.
fn pushing(stage: &Stage, server: &ModelServer) -> std::path::PathBuf {
    let pushes = stage.project().join("pushes");
    let script = format!("#!/bin/sh\necho pushed >> pushes\n{}\n", until_go(&go(stage)));
    fs::write(stage.project().join("git"), script).unwrap();
    // Nobody is asked before the push: what is asked here is what became of it.
    fs::create_dir_all(stage.home().join(".config/longhaul")).unwrap();
    let allows = "[[rule]]\npermit = 'allow'\ncommand = 'git push'\n";
    fs::write(stage.home().join(".config/longhaul/config.toml"), allows).unwrap();
    let driven = Driven::start(stage, server, &goal("publish"));
    soon("the push", || pushes.exists());
    driven.kill();
    kill_box(stage);
    pushes
}

fn push_call(stage: &Stage) -> String {
    stage.events_of("tool_started")[0]["call"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_push_of_which_nobody_knows_is_asked_about_and_goes_on_as_a_person_says() {
    for (word, status, advice) in [
        ("ran", "unknown", "a person says that it took effect"),
        ("not-run", "cancelled", "a person says that it did not take effect"),
        ("look", "unknown", "find out whether it did"),
    ] {
        let stage = Stage::new();
        let server = server_of(vec![shell("sh ./git; git push"), finish("published")]);
        let pushes = pushing(&stage, &server);
        let call = push_call(&stage);
        let before = fs::read(stage.run_dir().join("journal.jsonl")).unwrap();
        for _ in 0..2 {
            let asked = resume(&stage, &server, &[]).exits_with(4);
            assert!(asked.stderr.contains("a person has to say"), "{}", asked.stderr);
            assert!(asked.stderr.contains("git push") && asked.stderr.contains(&format!("--settle {call}=ran")));
            assert!(fs::read(stage.run_dir().join("journal.jsonl")).unwrap() == before, "something was written");
        }
        let ran = resume(&stage, &server, &["last", "--settle", &format!("{call}={word}")]).exits_with(0);
        assert_eq!(ran.stdout, "published\n");
        assert_eq!(stage.events_of("run_resumed")[0]["found"], "restarted", "however often it was asked before");
        let told = last_result(&server.requests()[1].body).to_owned();
        assert!(told.contains(advice), "{told}");
        let ended = stage.events_of("tool_ended");
        assert_eq!(
            (ended[0]["outcome"]["status"].as_str(), ended[0]["call_id"].as_str()),
            (Some(status), Some(&*call))
        );
        assert_eq!(stage.events_of("tool_started").iter().filter(|event| event["call"]["id"] == *call).count(), 1);
        assert_eq!(fs::read_to_string(pushes).unwrap(), "pushed\n");
        stage.verifies();
        nothing_is_left(&stage);
    }
}

#[test]
fn a_box_whose_directory_was_removed_by_hand_is_said_to_be_lost() {
    let stage = Stage::new();
    let server =
        server_of(vec![shell("echo made > made.txt"), shell("touch data.txt; sleep 999"), shell("ls"), finish("done")]);
    let driven = Driven::start(&stage, &server, &["do", "work", "--sandbox", "local"]);
    soon("the command", || begun(&stage, "sleep 999"));
    driven.kill();
    kill_box(&stage);
    fs::remove_dir_all(stage.run_dir().join("box")).unwrap();
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "lost");
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("the files of the box are not those it worked on"), "{told}");
    let seen = last_result(&server.requests()[3].body).to_owned();
    assert!(seen.contains("data.txt") && !seen.contains("made.txt"), "{seen}");
    assert_eq!(stage.events_of("box_opened").len(), 2);
    stage.verifies();
    stage.run(&["runs", "rm", "last"]).exits_with(0);
}

/// What lies in the file when the next driver comes.
enum Meanwhile {
    /// What the call made of it.
    Done,
    /// What it was before, untouched since.
    Untouched,
    /// Something else.
    Changed,
}

/// A run that is killed after this call has done its work, and whose transcript is then that of a driver which was killed
/// before it could record its end; what the model is told of the call.
fn cut_after_effect(tool: &str, arguments: &Value, meanwhile: &Meanwhile) -> String {
    let stage = Stage::new();
    let file = stage.project().join("data.txt");
    let old = fs::read(&file).unwrap();
    let server = server_of(vec![Reply::call(tool, arguments), Reply::mute(), finish("done")]);
    let driven = Driven::start(&stage, &server, &goal("write"));
    server.wait_for_requests(2);
    driven.kill();
    let journal = stage.run_dir().join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let at = text.find("\"tool_started\"").unwrap();
    let end = at + text[at..].find('\n').unwrap() + 1;
    File::options().write(true).open(&journal).unwrap().set_len(end as u64).unwrap();
    fs::remove_file(stage.run_dir().join("head")).unwrap();
    match meanwhile {
        Meanwhile::Done => {}
        Meanwhile::Untouched => {
            fs::write(&file, old).unwrap();
            let hour_ago = SystemTime::now() - Duration::from_secs(3600);
            File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_times(FileTimes::new().set_modified(hour_ago))
                .unwrap();
        }
        Meanwhile::Changed => fs::write(&file, "someone else\n").unwrap(),
    }
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(stage.events_of("tool_started").iter().filter(|event| event["call"]["name"] == tool).count(), 1);
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "adopted");
    let new = if matches!(meanwhile, Meanwhile::Changed) { "someone else\n" } else { "one\n2\nthree\n" };
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
    stage.verifies();
    nothing_is_left(&stage);
    last_result(&server.requests()[2].body).to_owned()
}

#[test]
fn a_file_that_was_being_written_is_looked_at() {
    let write = json!({"path": "data.txt", "content": "one\n2\nthree\n"});
    let edit = json!({"path": "data.txt", "old": "two", "new": "2"});
    for (tool, arguments) in [("write_file", write), ("edit_file", edit)] {
        let told = cut_after_effect(tool, &arguments, &Meanwhile::Done);
        assert!(told.contains("it took effect before the run was interrupted"), "{tool}: {told}");
        let told = cut_after_effect(tool, &arguments, &Meanwhile::Untouched);
        assert!(!told.contains("interrupted") && told.contains("data.txt"), "{tool}: {told}");
        let told = cut_after_effect(tool, &arguments, &Meanwhile::Changed);
        assert!(
            told.contains("how it ended can't be found out") && told.contains("was changed since"),
            "{tool}: {told}"
        );
    }
}

#[test]
fn a_container_that_went_with_its_driver_is_started_again_with_its_files() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let server = server_of(vec![
        shell("echo kept > kept.txt"),
        job("sleep 1000"),
        Reply::call("wait", &json!({"all": ["j1"], "deadline_s": 600})),
        shell("cat kept.txt"),
        finish("done"),
    ]);
    let driven = Driven::start(&stage, &server, &["do", "work", "--image", BUSYBOX]);
    soon("the wait", || has_event(&stage, |event| event["type"] == "tool_started" && event["call"]["name"] == "wait"));
    driven.kill();
    let container = stage.events_of("box_opened")[0]["facts"]["id"].as_str().unwrap().to_owned();
    assert!(Command::new("docker").args(["kill", &container]).output().unwrap().status.success());
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "restarted");
    let ended = stage.events_of("job_ended");
    assert_eq!((ended.len(), ended[0]["end"].get("exit")), (1, None), "{ended:?}");
    let told = last_result(&server.requests()[3].body).to_owned();
    assert!(told.contains("j1"), "{told}");
    assert!(last_result(&server.requests()[4].body).contains("kept"));
    stage.verifies();
    nothing_is_left(&stage);
}
