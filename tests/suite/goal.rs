//! `agent do` from end to end: a server on the wire, a box, a terminal, files, checks, the transcript.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage, contents, with_model};

/// The text of the last tool result in a request.
pub(crate) fn last_result(body: &Value) -> &str {
    let messages = body["messages"].as_array().unwrap();
    let result = messages.iter().rev().find(|message| message["role"] == "tool");
    result.and_then(|message| message["content"].as_str()).unwrap_or_default()
}

/// A server that gives these answers one after the other.
pub(crate) fn server_of(replies: Vec<Reply>) -> ModelServer {
    let server = ModelServer::start();
    replies.into_iter().for_each(|reply| server.push(reply));
    server
}

pub(crate) fn finish(summary: &str) -> Reply {
    Reply::call("finish", &json!({"summary": summary, "artifacts": null, "outcome": null}))
}

pub(crate) fn shell(command: &str) -> Reply {
    Reply::call(
        "shell",
        &json!({"command": command, "session": null, "cwd": null, "expected_s": null, "yield_s": null}),
    )
}

/// Asks for a shell, a file and the end, as the model of the main job would.
pub(crate) fn main_job() -> ModelServer {
    server_of(vec![
        Reply::answer(
            "I look at the data and count the lines.",
            &[
                ("shell", json!({"command": "wc -l < data.txt; export COUNTED=yes"}).to_string()),
                ("read_file", json!({"path": "data.txt"}).to_string()),
            ],
        ),
        Reply::calls(&[
            ("write_file", json!({"path": "out/result.txt", "content": "lines: 3\n"})),
            ("shell", json!({"command": "test \"$COUNTED\" = yes && cat out/result.txt"})),
        ]),
        Reply::call("edit_file", &json!({"path": "out/result.txt", "old": "3", "new": "three"})),
        Reply::call("finish", &json!({"summary": "Counted three lines.", "artifacts": ["out"]})),
    ])
}

pub(crate) const MAIN_JOB: [&str; 4] = ["do", "count the lines of data.txt", "--check", "grep -q three out/result.txt"];

/// Everything that must hold after the main job, whatever box it ran in.
#[track_caller]
pub(crate) fn main_job_went_well(stage: &Stage, ran: Ran, server: &ModelServer) {
    let ran = ran.exits_with(0);
    assert_eq!(ran.stdout, "Counted three lines.\n");
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(ran.stderr.contains(&format!("look in   agent attach {run}")), "{}", ran.stderr);
    let results: Vec<String> = server.requests().iter().map(|seen| last_result(&seen.body).to_owned()).collect();
    assert_eq!(results.len(), 4, "one request a turn: {results:#?}");
    assert!(results[1].contains("one\ntwo\nthree"), "{}", results[1]);
    assert!(results[2].starts_with("[exit 0") && results[2].ends_with("lines: 3"), "{}", results[2]);
    let kinds: Vec<_> = stage.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.first().map(String::as_str), Some("run_started"));
    assert_eq!(kinds.last().map(String::as_str), Some("run_ended"));
    let ended = stage.events_of("run_ended").remove(0);
    assert_eq!((ended["verdict"].as_str(), ended["reason"].as_str()), (Some("verified"), Some("done")));
    let closed = stage.events_of("box_closed").remove(0);
    assert_eq!(closed["removed"], true, "{closed}");
    let stored = std::fs::read_to_string(stage.run_dir().join("artifacts/out/result.txt")).unwrap();
    assert_eq!(stored, "lines: three\n");
    assert!(stage.run_dir().join("report.md").is_file());
    let cast = std::fs::read_to_string(stage.run_dir().join("sessions/main.cast")).unwrap();
    let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["version"] == 2 && cast.contains("cat out/result.txt"), "{cast}");
    assert!(!stage.project().join("out").exists(), "the host's project is as it was");
    stage.verifies();
}

#[test]
fn the_main_job_works_in_a_local_box() {
    let (stage, server) = (Stage::new(), main_job());
    let before = contents(&stage.project());
    let ran = Ran::of(&stage.asking(&server, &[&MAIN_JOB[..], &["--sandbox", "local"]].concat()).output().unwrap());
    main_job_went_well(&stage, ran, &server);
    assert_eq!(contents(&stage.project()), before);
}

#[test]
fn a_failed_check_goes_back_to_the_model_which_may_mend_it() {
    let stage = Stage::new();
    let server = server_of(vec![finish("done, I believe"), shell("echo ok > state"), finish("now it is")]);
    let ran = Ran::of(
        &stage
            .asking(&server, &["do", "make state ok", "--check", "grep -qx ok state || { echo NOT-OK; exit 3; }"])
            .output()
            .unwrap(),
    );
    let ran = ran.exits_with(0);
    assert_eq!(ran.stdout, "now it is\n");
    let told = last_result(&server.requests()[1].body).to_owned();
    assert!(told.contains("1 of 1 checks failed") && told.contains("exit 3") && told.contains("NOT-OK"), "{told}");
    stage.verifies();
}

#[test]
fn a_model_that_only_claims_to_be_done_needs_a_person_after_three_rounds() {
    let stage = Stage::new();
    let server = server_of((0..9).map(|_| finish("done!")).collect());
    let args = ["do", "lie", "--check", "echo wrong; false"];
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(4);
    assert_eq!(server.requests().len(), 3);
    assert!(
        ran.stderr.contains("question q1 waits for an answer: A check failed each of the 3 times"),
        "{}",
        ran.stderr
    );
    let question = &stage.events_of("question_asked")[0]["question"];
    assert!(question["background"].as_str().unwrap().contains("\nwrong"), "{question}");
    assert_eq!(stage.events_of("run_ended")[0]["verdict"], "blocked");
    stage.verifies();
    // Whoever takes the run up without an answer is told so, and nothing is begun.
    let events = stage.events().len();
    let refused = stage.run(&["resume"]).exits_with(4);
    assert!(refused.stderr.contains("question q1 waits for an answer"), "{}", refused.stderr);
    assert_eq!(stage.events().len(), events);
    stage.run(&["answer", "q1", "stop"]).exits_with(0);
    Ran::of(&stage.asking(&server, &["resume"]).output().unwrap()).exits_with(3);
    assert_eq!(stage.events_of("run_ended")[1]["verdict"], "failed");
    stage.verifies();
}

#[test]
fn malformed_calls_come_back_with_the_place_of_the_mistake() {
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::answer("", &[("shell", r#"{"command": "rm -rf /tmp/bu"#.to_owned())]),
        Reply::answer("", &[("sh", "{}".to_owned()), ("shell", r#"{"command": "touch ran"}"#.to_owned())]),
        Reply::answer("", &[("shell", r#"{"command": "true", "yield_s": "soon"}"#.to_owned())]),
        Reply::answer("", &[("finish", "{}".to_owned())]),
    ]);
    let ran = Ran::of(&stage.asking(&server, &["do", "anything"]).output().unwrap()).exits_with(4);
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "three answers of nothing but malformed calls end the run: {}", ran.stderr);
    assert!(last_result(&requests[1].body).contains("malformed"), "{}", last_result(&requests[1].body));
    let results = stage.events_of("tool_ended");
    let text = |nth: usize| results[nth]["outcome"]["text"].as_str().unwrap().to_owned();
    assert!(text(1).contains("there is no tool `sh`") && text(1).contains("finish"), "{}", text(1));
    assert!(text(2).contains("not run"), "{}", text(2));
    assert!(text(3).contains("yield_s"), "{}", text(3));
    assert!(stage.events_of("tool_started").is_empty());
    stage.verifies();
}

#[test]
fn calls_with_the_same_id_are_told_apart() {
    let stage = Stage::new();
    let call = |command: &str| {
        let arguments = json!({"command": command}).to_string();
        let delta = json!({"tool_calls": [{"index": 0, "id": "same", "type": "function",
            "function": {"name": "shell", "arguments": arguments}}]});
        let chunk = json!({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]});
        Reply::raw(format!("data: {chunk}\n\ndata: [DONE]\n\n"))
    };
    let server = server_of(vec![call("echo first"), call("echo second"), finish("done")]);
    Ran::of(&stage.asking(&server, &["do", "two calls"]).output().unwrap()).exits_with(0);
    let ids: Vec<_> = stage.events_of("tool_started").iter().map(|event| event["call"]["id"].clone()).collect();
    assert_eq!(ids[..2], [json!("same"), json!("same-2")]);
    assert!(last_result(&server.requests()[2].body).ends_with("second"));
    stage.verifies();
}

#[test]
fn calls_in_different_sessions_run_at_the_same_time() {
    let stage = Stage::new();
    let meet = |own: &str, other: &str| {
        let command = format!("touch {own}; until [ -e {other} ]; do sleep 0.05; done; echo met");
        ("shell", json!({"command": command, "session": own, "yield_s": 30}))
    };
    let server = server_of(vec![Reply::calls(&[meet("a", "b"), meet("b", "a")]), finish("met")]);
    Ran::of(&stage.asking(&server, &["do", "meet"]).output().unwrap()).exits_with(0);
    let outcomes: Vec<_> = stage.events_of("tool_ended");
    assert!(outcomes[..2].iter().all(|event| event["outcome"]["status"] == "ok"), "{outcomes:#?}");
    stage.verifies();
}

#[test]
fn words_without_a_call_get_one_reminder_and_then_the_run_is_blocked() {
    let stage = Stage::new();
    let server = server_of(vec![Reply::text("All done."), Reply::text("Really, all done.")]);
    let ran = Ran::of(&stage.asking(&server, &["do", "x", "--check", "true"]).output().unwrap()).exits_with(4);
    assert!(server.requests()[1].last_text().contains("finish"), "{}", ran.stderr);
    assert_eq!(stage.events_of("check_started").len(), 0);
    stage.verifies();
}

#[test]
fn an_answer_in_words_is_enough_where_nothing_is_to_be_checked() {
    let stage = Stage::new();
    let server = server_of(vec![Reply::text("It is 42.")]);
    let ran = Ran::of(&stage.asking(&server, &["do", "what is it?"]).output().unwrap()).exits_with(0);
    assert_eq!(ran.stdout, "It is 42.\n");
    let server = server_of(vec![Reply::text("It is 42.")]);
    Ran::of(&stage.asking(&server, &["do", "what is it?", "--require-verified"]).output().unwrap()).exits_with(8);
}

#[test]
fn the_turn_limit_ends_a_run_with_its_own_code() {
    let stage = Stage::new();
    let server = server_of((0..9).map(|_| shell("true")).collect());
    Ran::of(&stage.asking(&server, &["do", "loop", "--max-turns", "3"]).output().unwrap()).exits_with(5);
    assert_eq!(server.requests().len(), 3);
    stage.verifies();
}

#[test]
fn a_request_repeats_the_one_before_byte_for_byte() {
    let (stage, server) = (Stage::new(), main_job());
    Ran::of(&stage.asking(&server, &MAIN_JOB).output().unwrap()).exits_with(0);
    let bodies: Vec<_> = server.requests().into_iter().map(|seen| seen.raw).collect();
    for pair in bodies.windows(2) {
        let common = pair[0].iter().zip(&pair[1]).take_while(|(a, b)| a == b).count();
        assert!(common + 64 > pair[0].len(), "only {common} of {} bytes are kept", pair[0].len());
    }
    for event in stage.events_of("model_requested").iter().skip(1) {
        assert!(event["rest"]["size_bytes"].as_u64().unwrap() < 4096, "{event}");
    }
}

#[test]
fn keys_and_secrets_reach_neither_the_transcript_nor_the_screen_nor_the_model() {
    let stage = Stage::new();
    let server = server_of(vec![shell("env; echo leak=$(printf 'sk-%s' test-0123456789abcdef)"), finish("done")]);
    let mut program = stage.asking(&server, &["do", "look around"]);
    program.env("DEPLOY_TOKEN", "hunter2-hunter2");
    let ran = Ran::of(&program.output().unwrap()).exits_with(0);
    let mut everything = ran.stderr.into_bytes();
    everything.extend(server.requests().into_iter().flat_map(|seen| seen.raw));
    // The raw logs of the terminal are what the terminal printed, byte for byte; all else is redacted.
    for (_, content) in contents(&stage.run_dir())
        .into_iter()
        .filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "sessions"))
    {
        everything.extend(zstd::decode_all(&content[..]).unwrap_or(content));
    }
    let everything = String::from_utf8_lossy(&everything);
    for secret in ["hunter2-hunter2", "sk-test-0123456789abcdef"] {
        let at = everything.find(secret);
        assert!(at.is_none(), "{secret} is in: …{}…", &everything[at.unwrap().saturating_sub(200)..][..250]);
    }
}

#[test]
fn a_signal_ends_the_run_and_leaves_nothing_behind() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let stage = Stage::new();
        let server = server_of(vec![shell("echo started; sleep 600"), finish("never")]);
        let mut agent = stage.asking(&server, &["do", "sleep"]);
        let child = agent.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let journal = || stage.run_dir().join("journal.jsonl");
        until(|| {
            stage.state().join("runs").is_dir()
                && std::fs::read_to_string(journal()).is_ok_and(|text| text.contains("tool_started"))
        });
        Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(code);
        assert_eq!(stage.events_of("run_ended")[0]["verdict"], "stopped", "{}", ran.stderr);
        assert_eq!(stage.events_of("box_closed")[0]["removed"], true);
        stage.verifies();
    }
}

#[test]
fn an_ordinary_user_gets_the_main_job_done_too() {
    if !rustix::process::geteuid().is_root() {
        return; // The other tests ran as one.
    }
    let (stage, server) = (Stage::new(), main_job());
    let user = "12345";
    Command::new("chown")
        .args(["-R", &format!("{user}:{user}")])
        .arg(stage.project().parent().unwrap())
        .status()
        .unwrap();
    // The test's own build lies where only root may look.
    let agent = stage.project().parent().unwrap().join("agent");
    std::fs::copy(env!("CARGO_BIN_EXE_agent"), &agent).unwrap();
    let mut program = Command::new("setpriv");
    program.args(["--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--"]).arg(&agent);
    let mut program = stage.as_it_is(program, &[&MAIN_JOB[..], &["--sandbox", "local"]].concat());
    with_model(&mut program, &server);
    let ran = Ran::of(&program.output().unwrap());
    main_job_went_well(&stage, ran, &server);
}

#[test]
fn a_chroot_is_no_obstacle_for_root() {
    if !rustix::process::geteuid().is_root() {
        return; // An ordinary user can't enter a chroot.
    }
    const IN_CHROOT: &str = r#"
        root=$1; shift
        for dir in bin dev etc home lib lib64 proc root sbin sys tmp usr var; do
            [ -L "/$dir" ] && { cp -P "/$dir" "$root/$dir"; continue; }
            [ -d "/$dir" ] && mkdir "$root/$dir" && mount --rbind "/$dir" "$root/$dir"
        done
        exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
    "#;
    let (stage, server) = (Stage::new(), main_job());
    let root = stage.project().parent().unwrap().join("root");
    std::fs::create_dir(&root).unwrap();
    // The test's own build may lie where the chroot does not lead.
    let agent = stage.project().parent().unwrap().join("agent");
    std::fs::copy(env!("CARGO_BIN_EXE_agent"), &agent).unwrap();
    let mut program = Command::new("unshare");
    program.args(["-m", "sh", "-euc", IN_CHROOT, "sh"]).arg(&root).arg(&agent);
    let mut program = stage.as_it_is(program, &[&MAIN_JOB[..], &["--sandbox", "local"]].concat());
    with_model(&mut program, &server);
    main_job_went_well(&stage, Ran::of(&program.output().unwrap()), &server);
}

/// Waits for a condition of another process that tells of itself only by files.
#[track_caller]
pub(crate) fn until(condition: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it did not come about within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}
