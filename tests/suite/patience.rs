//! Outages of the model's server that outlive the driver: a wait goes on where it stood, and counts once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::goal::{finish, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{Driven, has_event, is, nothing_is_left, resume, soon};
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];

/// A server that answers the second request with this, and the moments at which requests came.
fn limited(reply: Reply) -> (ModelServer, std::sync::Arc<std::sync::Mutex<Vec<Instant>>>) {
    let came = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let moments = std::sync::Arc::clone(&came);
    let server = ModelServer::replying(move |_| {
        let mut moments = moments.lock().unwrap();
        moments.push(Instant::now());
        match moments.len() {
            1 => shell("echo once >> once; cat once"),
            2 => reply.clone(),
            _ => finish("done"),
        }
    });
    (server, came)
}

fn seconds(wait: u64) -> Reply {
    Reply::status(429).header("retry-after", &wait.to_string()).json(&json!({"error": {"message": "slow down"}}))
}

#[test]
fn a_run_that_is_killed_while_it_waits_for_the_server_goes_on_waiting() {
    let stage = Stage::new();
    let (server, came) = limited(seconds(8));
    let first = Driven::start(&stage, &server, &LOCAL);
    soon("a wait", || has_event(&stage, is("model_delayed")));
    first.kill();
    // A second driver goes on with the wait, and is killed in it, too.
    let second = Driven::start(&stage, &server, &["resume", "last"]);
    let delays = || stage.events_of("model_delayed");
    soon("the rest of the wait", || delays().len() == 2);
    second.kill();
    let ran = resume(&stage, &server, &["last"]).exits_with(0);
    let came = came.lock().unwrap();
    assert_eq!(came.len(), 3, "exactly one more request reaches the server: {}", ran.stderr);
    let waited = came[2].duration_since(came[1]);
    assert!((8.0..20.0).contains(&waited.as_secs_f32()), "{waited:?}");
    let rest: Vec<u64> = delays().iter().map(|delay| delay["wait_ms"].as_u64().unwrap()).collect();
    assert!(rest.len() == 3 && rest[0] > rest[1] && rest[1] > rest[2], "each goes on where the last stood: {rest:?}");
    assert!(ran.stderr.contains("limits the rate (429)"), "it is shown: {}", ran.stderr);
    let calls: Vec<_> = stage.events_of("tool_started");
    let commands = calls.iter().filter(|event| event["call"]["name"] == "shell").count();
    assert_eq!(commands, 1, "{calls:?}");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_wait_that_is_over_when_the_run_is_taken_up_is_not_begun_again() {
    let stage = Stage::new();
    let (server, came) = limited(seconds(1));
    let first = Driven::start(&stage, &server, &LOCAL);
    soon("a wait", || has_event(&stage, is("model_delayed")));
    first.kill();
    std::thread::sleep(Duration::from_secs(2));
    let begin = Instant::now();
    resume(&stage, &server, &["last"]).exits_with(0);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!((came.lock().unwrap().len(), stage.events_of("model_delayed").len()), (3, 1));
}

#[test]
fn what_was_waited_before_counts_to_the_patience() {
    let stage = Stage::new();
    let mut nth = 0;
    let server = ModelServer::replying(move |_| {
        nth += 1;
        if nth == 1 { shell("true") } else { seconds(4) }
    });
    let args = [&LOCAL[..], &["--patience", "7s"]].concat();
    let first = Driven::start(&stage, &server, &args);
    soon("a wait", || has_event(&stage, is("model_delayed")));
    first.kill();
    let ran = resume(&stage, &server, &["last", "--patience", "7s"]).exits_with(75);
    assert!(ran.stderr.contains("the model's server limits the rate (429)"), "{}", ran.stderr);
    // The rest of the first wait, one request, and no second wait: that would have ended beyond seven seconds.
    assert_eq!(server.requests().len(), 3);
    assert_eq!(stage.events_of("model_delayed").len(), 2);
}

#[test]
fn a_wait_that_goes_on_can_be_ended() {
    let stage = Stage::new();
    let (server, came) = limited(seconds(600));
    let first = Driven::start(&stage, &server, &LOCAL);
    soon("a wait", || has_event(&stage, is("model_delayed")));
    first.kill();
    let second = Driven::start(&stage, &server, &["resume", "last"]);
    soon("the rest of the wait", || stage.events_of("model_delayed").len() == 2);
    let pid = rustix::process::Pid::from_raw(i32::try_from(second.program.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = Ran::of(&second.program.wait_with_output().unwrap());
    assert_eq!(ended.code, 143);
    assert_eq!(came.lock().unwrap().len(), 2);
    assert_eq!(stage.events_of("run_ended")[0]["reason"], "terminated");
}

/// A server on which a job is begun, and which then refuses.
fn begins_a_job_and_refuses(status: u16, code: &'static str) -> ModelServer {
    let mut nth = 0;
    ModelServer::replying(move |_| {
        nth += 1;
        match nth {
            1 => Reply::call(
                "shell",
                &json!({"command": "while [ ! -e go ]; do sleep 0.05; done; echo trained > model.bin",
                    "session": "train", "cwd": null, "expected_s": 3600, "yield_s": 1}),
            ),
            2 => Reply::status(status).json(&json!({"error": {"message": "no", "code": code}})),
            3 => shell("touch go; while [ ! -e model.bin ]; do sleep 0.05; done; cat model.bin"),
            _ => finish("done"),
        }
    })
}

#[test]
fn where_credentials_or_credit_are_refused_jobs_live_on_and_are_named_with_the_way_on() {
    for (status, code, exit) in [(401, "invalid_api_key", 77), (402, "insufficient_quota", 75)] {
        let stage = Stage::new();
        let server = begins_a_job_and_refuses(status, code);
        let begin = Instant::now();
        let args = [&LOCAL[..], &["--check", "grep -q trained model.bin"]].concat();
        let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(exit);
        assert!(begin.elapsed() < Duration::from_secs(30), "at once");
        assert_eq!(server.requests().len(), 2);
        let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
        for part in ["jobs left running: j1 in session train", &format!("go on with `agent resume {run}`")] {
            assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
        }
        let told = stage.run(&["jobs", "last"]).exits_with(0).stdout;
        assert!(told.contains("j1"), "{told}");
        resume(&stage, &server, &["last"]).exits_with(0);
        assert_eq!(stage.events_of("run_ended").last().unwrap()["verdict"], "verified");
        assert_eq!(stage.events_of("job_started").len(), 1, "the same job, not another one");
        nothing_is_left(&stage);
    }
}
