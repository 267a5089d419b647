//! Work that takes its time: jobs, waits without requests, messages and limits meanwhile, what is left at the end.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, until};
use crate::model_server::{ModelServer, Reply};
use crate::sandbox_contract::processes_with;
use crate::stage::{Ran, Stage};

/// A command that becomes a job at once, and a wait for its end in the same answer.
fn start_and_wait(command: &str, wait: &Value) -> Reply {
    Reply::calls(&[
        ("shell", json!({"command": command, "session": "work", "yield_s": 0, "expected_s": 21600})),
        ("wait", wait.clone()),
    ])
}

fn start(stage: &Stage, server: &ModelServer, args: &[&str]) -> Child {
    let mut agent = stage.asking(server, &[&["do", "take your time", "--sandbox", "local"], args].concat());
    agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the newest run's transcript has so many events of a kind.
fn until_there_are(stage: &Stage, kind: &str, count: usize) {
    until(|| {
        stage.state().join("runs").is_dir()
            && std::fs::read_to_string(stage.run_dir().join("journal.jsonl"))
                .is_ok_and(|text| text.matches(&format!("\"type\":\"{kind}\"")).count() >= count)
    });
}

fn ended(agent: Child) -> Ran {
    Ran::of(&agent.wait_with_output().unwrap())
}

/// The words that a request ends with, where they tell how things stand.
fn state_block(body: &Value) -> Option<&str> {
    let last = body["messages"].as_array()?.last()?;
    last["content"].as_str().filter(|text| text.starts_with("[harness] How things stand"))
}

/// Where events of these kinds stand among all; each must be there once.
#[track_caller]
fn places(stage: &Stage, kinds: &[&str]) -> Vec<usize> {
    let events = stage.events();
    let place =
        |kind: &&str| events.iter().position(|event| event["type"] == **kind).unwrap_or_else(|| panic!("no {kind}"));
    kinds.iter().map(place).collect()
}

fn job_of_seconds_costs_two_requests(seconds: u32) {
    let stage = Stage::new();
    let command = format!("for i in $(seq {seconds}); do echo step $i; sleep 1; done; exit 3");
    let server =
        server_of(vec![start_and_wait(&command, &json!({"exit": ["work"], "expected_s": seconds})), finish("seen")]);
    let ran = ended(start(&stage, &server, &[])).exits_with(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "one before and one after: {}", ran.stderr);
    let told = last_result(&requests[1].body);
    assert!(told.contains("exit 3") && told.contains(&format!("step {seconds}")), "{told}");
    assert_eq!(state_block(&requests[0].body), None);
    let state = state_block(&requests[1].body).unwrap();
    assert!(state.contains("Jobs that ended lately:\n- j1 · session work · exit 3 after"), "{state}");
    let order = places(&stage, &["job_started", "job_ended", "waited", "box_closed", "run_ended"]);
    assert!(order.is_sorted(), "{order:?}");
    let outcome = &stage.events_of("tool_ended")[1]["outcome"];
    assert_eq!((&outcome["status"], &outcome["exit"]), (&json!("failed"), &json!({"code": 3})));
    let waited = &stage.events_of("waited")[0]["wait"];
    assert!(waited["waited_ms"].as_u64().unwrap() > u64::from(seconds) * 900, "{waited}");
    let report = std::fs::read_to_string(stage.run_dir().join("report.md")).unwrap();
    assert!(
        report.contains("## Jobs") && report.contains("## Waits") && report.contains("j1 failed, exit 3"),
        "{report}"
    );
    let row = report.lines().skip_while(|line| *line != "## Waits").nth(4).unwrap();
    assert_eq!(row.split('|').nth(4).unwrap().trim(), "0", "no request was made meanwhile: {row}");
    stage.verifies();
}

#[test]
fn a_job_of_seconds_costs_a_request_before_and_one_after() {
    job_of_seconds_costs_two_requests(4);
}

#[test]
#[ignore = "takes a minute; the same is shown by the job of some seconds"]
fn a_job_of_a_minute_costs_a_request_before_and_one_after() {
    job_of_seconds_costs_two_requests(60);
}

#[test]
fn how_things_stand_is_said_last_and_what_was_sent_before_stays() {
    let stage = Stage::new();
    let gate = "mkfifo gate; cat gate";
    let server = server_of(vec![
        Reply::call("shell", &json!({"command": gate, "session": "work", "yield_s": 0, "expected_s": 60})),
        Reply::call("shell", &json!({"command": "echo go > gate"})),
        Reply::call("wait", &json!({"exit": ["j1"]})),
        finish("seen"),
    ]);
    ended(start(&stage, &server, &["--max-time", "1h"])).exits_with(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    let states: Vec<&str> = requests.iter().map(|seen| state_block(&seen.body).unwrap()).collect();
    assert!(states[0].contains("Time left for this run: 59 min") && !states[0].contains("Jobs"), "{}", states[0]);
    assert!(states[1].contains("Jobs that run:\n- j1 · session work · runs, for "), "{}", states[1]);
    assert!(states[1].contains(", expected 1 min · mkfifo gate; cat gate"), "{}", states[1]);
    assert!(states[3].contains("- j1 · session work · exit 0 after"), "{}", states[3]);
    for pair in requests.windows(2) {
        let [before, after] =
            [&pair[0].body["messages"], &pair[1].body["messages"]].map(|list| list.as_array().unwrap());
        let kept = before.len() - 1;
        assert_eq!(before[..kept], after[..kept], "only what is said last changes");
        let state = pair[0].raw.windows(9).rposition(|bytes| bytes == b"[harness]").unwrap();
        let common = pair[0].raw.iter().zip(&pair[1].raw).take_while(|(a, b)| a == b).count();
        assert!(common + 64 > state, "{common} bytes of {state} are kept");
    }
    stage.verifies();
}

#[test]
fn a_message_ends_a_wait_and_is_in_the_next_request() {
    let stage = Stage::new();
    let wait = json!({"exit": ["work"], "expected_s": 21600});
    let server = server_of(vec![start_and_wait("sleep 27182", &wait), finish("stopped early")]);
    let agent = start(&stage, &server, &[]);
    until_there_are(&stage, "tool_started", 2);
    let sent = stage.run(&["send", "last", "use batch", "16"]).exits_with(0);
    assert!(sent.stdout.starts_with("left for run "), "{}", sent.stdout);
    let ran = ended(agent).exits_with(0);
    assert!(ran.stderr.contains("you       use batch 16"), "{}", ran.stderr);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let told = last_result(&requests[1].body);
    assert!(told.contains("a person says: use batch 16"), "{told}");
    let messages = requests[1].body["messages"].as_array().unwrap();
    assert_eq!(messages[messages.len() - 2]["content"], "use batch 16", "before how things stand");
    assert_eq!(stage.events_of("waited")[0]["wait"]["cause"], "person");
    assert_eq!(stage.events_of("user_said").len(), 1);
    assert!(!stage.run_dir().join("inbox").exists());
    assert_eq!(processes_with("27182"), 0);
    let late = stage.run(&["send", "last", "too late"]).exits_with(2);
    assert!(late.stderr.contains("is not being driven: nothing would read it"), "{}", late.stderr);
    stage.verifies();
}

#[test]
fn messages_come_in_order_and_cut_no_command() {
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::call("shell", &json!({"command": "touch begun; until [ -e go ]; do sleep 0.05; done; echo whole"})),
        finish("done, with what was said"),
    ]);
    let agent = start(&stage, &server, &["--workspace", "bind"]);
    until(|| stage.project().join("begun").exists());
    for (stdin, words) in [("", &["first"][..]), ("second\nof two lines\n", &["-"])] {
        let mut send = stage.agent(&[&["send", "last"], words].concat());
        let mut send = send.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut send.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
        assert!(send.wait().unwrap().success());
    }
    std::fs::write(stage.project().join("go"), "").unwrap();
    let ran = ended(agent).exits_with(0);
    let requests = server.requests();
    assert!(last_result(&requests[1].body).ends_with("whole"), "{}", last_result(&requests[1].body));
    let said: Vec<_> = stage.events_of("user_said").iter().map(|event| event["text"].clone()).collect();
    assert_eq!(said, ["first", "second\nof two lines"]);
    let messages = requests[1].body["messages"].as_array().unwrap();
    let last: Vec<_> = messages[messages.len() - 2..].iter().map(|message| message["content"].clone()).collect();
    assert_eq!(last, said, "{}", ran.stderr);
    stage.verifies();
}

#[test]
fn a_claim_is_not_taken_up_before_a_message_was_read() {
    let stage = Stage::new();
    // The message comes while the claim is still being written.
    let slow = finish("done").paced(Duration::from_millis(300));
    let server = server_of(vec![slow, finish("done, with what was said")]);
    let agent = start(&stage, &server, &["--check", "true"]);
    until_there_are(&stage, "model_requested", 1);
    stage.run(&["send", "last", "and mind the gap"]).exits_with(0);
    let ran = ended(agent).exits_with(0);
    assert_eq!(ran.stdout, "done, with what was said\n");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(last_result(&requests[1].body).starts_with("not decided: a person has said something"));
    assert_eq!(requests[1].last_text(), "and mind the gap");
    let checked = stage.events_of("check_started");
    let of_claims = checked.iter().filter(|check| check["round"] != 0);
    assert_eq!(of_claims.count(), 1, "nothing was checked for the first claim");
    stage.verifies();
}

#[test]
fn when_the_runs_time_is_over_a_wait_ends_and_then_the_run() {
    let stage = Stage::new();
    let server = server_of(vec![start_and_wait("sleep 16180", &json!({})), finish("never")]);
    let begin = Instant::now();
    let ran = ended(start(&stage, &server, &["--max-time", "3s"])).exits_with(5);
    assert!(begin.elapsed() < Duration::from_secs(45));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(stage.events_of("waited")[0]["wait"]["cause"], "budget");
    let end = &stage.events_of("run_ended")[0];
    assert_eq!((&end["verdict"], &end["why"]), (&json!("stopped"), &json!("the limit of 3.0 s was reached")));
    assert!(ran.stderr.contains("the limit of 3.0 s was reached"), "{}", ran.stderr);
    assert_eq!(processes_with("16180"), 0);
    stage.verifies();
}

#[test]
fn when_the_runs_time_is_over_a_call_and_a_request_end_too() {
    for reply in [Reply::call("shell", &json!({"command": "sleep 14142"})), Reply::mute()] {
        let stage = Stage::new();
        let server = server_of(vec![reply, finish("never")]);
        ended(start(&stage, &server, &["--max-time", "2s"])).exits_with(5);
        assert_eq!(server.requests().len(), 1);
        assert_eq!(processes_with("14142"), 0);
        stage.verifies();
    }
}

#[test]
fn the_jobs_of_a_run_are_listed_while_it_goes_and_afterwards() {
    let stage = Stage::new();
    let command = "echo epoch 1; echo epoch 2; until [ -e go ]; do sleep 0.05; done";
    let server = server_of(vec![start_and_wait(command, &json!({"exit": ["work"]})), finish("seen")]);
    let agent = start(&stage, &server, &["--workspace", "bind"]);
    until_there_are(&stage, "job_started", 1);
    until(|| stage.run(&["jobs", "last"]).exits_with(0).stdout.contains("epoch 2"));
    let listed = stage.run(&["jobs"]).exits_with(0).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("JOB  SESSION  STATE  TIME"), "{listed}");
    assert!(lines[1].starts_with("j1   work     runs   ") && lines[1].contains("6 h"), "{listed}");
    let json: Value = serde_json::from_str(&stage.run(&["jobs", "--json"]).exits_with(0).stdout).unwrap();
    assert_eq!((&json[0]["alive"], &json[0]["now"]["last_line"]), (&json!(true), &json!("epoch 2")));
    std::fs::write(stage.project().join("go"), "").unwrap();
    ended(agent).exits_with(0);
    let after = stage.run(&["jobs", "last"]).exits_with(0).stdout;
    assert!(after.lines().nth(1).unwrap().starts_with("j1   work     exit 0  "), "{after}");
    let json: Value = serde_json::from_str(&stage.run(&["jobs", "--json"]).exits_with(0).stdout).unwrap();
    assert_eq!((&json[0]["alive"], &json[0]["end"]["exit"]["code"]), (&json!(false), &json!(0)));
}

/// A service, a job, and a process that has left its session and its terminal; each sleeps for its own time.
fn a_service_and_others([service, job, stray]: [&str; 3]) -> Vec<Reply> {
    vec![
        Reply::calls(&[
            ("shell", json!({"command": format!("sleep {service}"), "session": "web", "yield_s": 0, "service": true})),
            ("shell", json!({"command": format!("sleep {job}"), "session": "work", "yield_s": 0})),
            ("shell", json!({"command": format!("setsid sleep {stray} >/dev/null 2>&1 & true")})),
        ]),
        finish("the service runs"),
    ]
}

#[test]
fn services_are_kept_when_asked_for_and_nothing_else_is() {
    let stage = Stage::new();
    let server = server_of(a_service_and_others(["17320", "22360", "26457"]));
    let ran = ended(start(&stage, &server, &["--keep-services"])).exits_with(0);
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    let left = ["17320", "22360", "26457"].map(processes_with);
    assert_eq!(left, [1, 0, 0], "{}", ran.stderr);
    let closed = &stage.events_of("box_closed")[0];
    assert_eq!(closed["removed"], false);
    assert!(closed["notes"].to_string().contains("left running: `sleep 17320` in session web"), "{closed}");
    let noticed = &stage.events_of("noticed")[0];
    assert_eq!(noticed["kind"], "services_kept");
    assert_eq!(stage.events_of("job_ended").len(), 1, "the other job's end is on record");
    assert_eq!(stage.events_of("job_ended")[0]["end"]["exit"], json!({"code": 143}));
    for words in [format!("agent attach {run}"), format!("agent runs rm {run}")] {
        assert!(ran.stderr.contains(&words), "{}", ran.stderr);
        assert!(std::fs::read_to_string(stage.run_dir().join("report.md")).unwrap().contains(&words));
    }
    let why = stage.events_of("run_ended")[0]["why"].as_str().unwrap().to_owned();
    assert!(why.ends_with("; with the run end j2 (`sleep 22360`)"), "{why}");
    let listed = stage.run(&["jobs"]).exits_with(0).stdout;
    assert!(listed.contains("j1   web      service, runs"), "{listed}");
    stage.verifies();
    stage.run(&["runs", "rm", &run]).exits_with(0);
    assert_eq!(processes_with("17320"), 0);
}

#[test]
fn without_the_wish_to_keep_them_services_end_with_the_run() {
    let stage = Stage::new();
    let server = server_of(a_service_and_others(["17321", "22361", "26458"]));
    let ran = ended(start(&stage, &server, &[])).exits_with(0);
    assert_eq!(["17321", "22361", "26458"].map(processes_with), [0, 0, 0], "{}", ran.stderr);
    let closed = &stage.events_of("box_closed")[0];
    assert_eq!(closed["removed"], true);
    assert!(closed["notes"].to_string().contains("ended with the box: `sleep 17321` in session web"), "{closed}");
    // As the session's shell says that SIGTERM ended it.
    let ends: Vec<_> = stage.events_of("job_ended").iter().map(|event| event["end"]["exit"].clone()).collect();
    assert_eq!(ends, [json!({"code": 143}), json!({"code": 143})]);
    stage.verifies();
}

#[test]
fn a_run_without_jobs_says_so() {
    let stage = Stage::new();
    let server = server_of(vec![Reply::text("It is 42.")]);
    ended(start(&stage, &server, &[])).exits_with(0);
    let ran = stage.run(&["jobs"]).exits_with(0);
    assert!(ran.stdout.ends_with(" has had no jobs\n"), "{}", ran.stdout);
    assert_eq!(stage.run(&["jobs", "--json"]).exits_with(0).stdout, "[]\n");
    stage.run(&["jobs", "01ABC"]).exits_with(2);
}
