//! Commands that break other harnesses, through the whole program and in every kind of box: exact exit codes in the
//! record, no false completion, and a session that lives on.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engines::{BUSYBOX, DEBIAN, DOCKER};
use crate::goal::{finish, server_of, shell, until};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 2] = ["--sandbox", "local"];

/// A shell call with its session and the time after which it returns.
fn in_session(session: &str, command: Option<&str>, yield_s: f64) -> Reply {
    let cwd = Value::Null;
    Reply::call(
        "shell",
        &json!({"command": command, "session": session, "cwd": cwd, "expected_s": 1, "yield_s": yield_s}),
    )
}

/// Runs `agent do` with this server in this kind of box until it has ended well; the outcomes of its calls.
#[track_caller]
fn outcomes(stage: &Stage, server: &ModelServer, kind: [&str; 2]) -> Vec<Value> {
    let mut program = stage.asking(server, &[&["do", "suffer"][..], &kind].concat());
    Ran::of(&program.output().unwrap()).exits_with(0);
    stage.verifies();
    outcomes_of(stage)
}

fn outcomes_of(stage: &Stage) -> Vec<Value> {
    stage.events_of("tool_ended").iter().map(|event| event["outcome"].clone()).collect()
}

/// How a command ended, in one word or two.
fn end_of(outcome: &Value) -> String {
    match (&outcome["exit"]["code"], &outcome["exit"]["signal"]) {
        (Value::Null, Value::Null) => outcome["status"].as_str().unwrap().to_owned(),
        (Value::Null, signal) => format!("signal {signal}"),
        (code, _) => code.to_string(),
    }
}

fn text_of(outcome: &Value) -> &str {
    outcome["text"].as_str().unwrap()
}

/// Commands and how they end; `|` stands between what may be, depending on the shell.
const HOSTILE: &[(&str, &str)] = &[
    ("echo a;", "0"),
    ("(exit 9);", "9"),
    ("echo a \\", "0"),
    ("echo 'never closed", "2"),
    ("echo \"never closed", "2"),
    ("echo $(never closed", "2"),
    ("if true; then", "2"),
    ("cat <<END; (exit 4)\nin ' a \" heredoc; $HOME\nEND", "4"),
    ("cat <<END\nnever closed", "0"),
    ("echo a\0b", "failed"),
    ("exit 3", "3"),
    ("exec false", "1"),
    ("kill -9 $$", "signal 9"),
    ("kill -HUP $$; sleep 60", "signal 1"),
    ("set -e; false", "1"),
    ("trap 'exit 0' EXIT; exit 6", "0"),
    (r"printf '\033]133;D;0\007\033]133;D;0;AB;1;\007\033]133;A\033\\\n__END__ 0\n$ '; sleep 0.3; (exit 7)", "7"),
    ("stty raw -echo; (exit 4)", "4"),
    (r"printf '\033[?1049h\033[2J\033[H hidden\033[8m'; (exit 5)", "5"),
    (r"printf '\377\376\300\n'; (exit 6)", "6"),
    ("sh -c 'exec >&- 2>&-; exit 5'", "5"),
    ("exec >&-; (exit 4)", "4"),
    ("exec >/dev/null; (exit 4)", "4"),
    ("exec 2>&-; (exit 4)", "4|unknown"),
    ("exec </dev/null; (exit 4)", "4"),
    ("exec sh", "unknown"),
    ("sleep 300 & (exit 8)", "8"),
    ("sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); (:) & [ $((i % 50)) = 0 ] && wait; done; exit 10'", "10"),
    ("PS1='$(exit 1)'; PROMPT_COMMAND='exit 1'; unset PS2; (exit 11)", "11"),
    ("alias printf=false exit=true; cd() { false; }; (\\exit 12)", "12"),
    ("unalias printf exit; unset -f cd", "0"),
    ("mkdir gone; cd gone; rmdir ../gone; (exit 13)", "13"),
];

#[track_caller]
fn survives(kind: [&str; 2]) {
    let stage = Stage::new();
    let long = "x".repeat(1_000_000);
    let argument = format!("x={long}; echo $x | tail -c 4; /bin/echo $x >/dev/null");
    let cases: Vec<_> = HOSTILE.iter().copied().chain([(argument.as_str(), "126")]).collect();
    let replies = cases.iter().flat_map(|(command, _)| [shell(command), shell("echo alive")]);
    let server = server_of(replies.chain([finish("survived")]).collect());
    let outcomes = outcomes(&stage, &server, kind);
    let mut wrong = Vec::new();
    for ((command, ends), pair) in cases.iter().zip(outcomes.chunks(2)) {
        let shown: String = command.chars().take(60).collect();
        if !ends.split('|').any(|end| end == end_of(&pair[0])) {
            wrong.push(format!("{shown:?}: {ends} expected: {}", pair[0]));
        }
        if end_of(&pair[1]) != "0" || !text_of(&pair[1]).ends_with("\nalive") {
            wrong.push(format!("after {shown:?}: {}", pair[1]));
        }
    }
    assert!(wrong.is_empty(), "in {kind:?}:\n{}", wrong.join("\n"));
}

#[test]
fn hostile_commands_end_exactly_and_leave_a_live_session_in_a_local_box() {
    survives(LOCAL);
}

#[test]
fn hostile_commands_end_exactly_and_leave_a_live_session_in_debian() {
    if DOCKER.is_there() {
        survives(["--image", DEBIAN]);
    }
}

#[test]
fn hostile_commands_end_exactly_and_leave_a_live_session_in_busybox() {
    if DOCKER.is_there() {
        survives(["--image", BUSYBOX]);
    }
}

/// Peak memory of a process in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Has a box of this kind run a command that prints this many bytes, and looks at the program's memory meanwhile.
#[track_caller]
fn floods(kind: [&str; 2], command: &str, size_bytes: u64) {
    let (pid, before, after) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (of, first, last) = (Arc::clone(&pid), Arc::clone(&before), Arc::clone(&after));
    let mut replies = [shell("true"), shell(command), shell("echo alive")].into_iter();
    let mut asked = 0;
    let server = ModelServer::replying(move |_| {
        asked += 1;
        let into = if asked == 2 { &first } else { &last };
        into.store(peak(of.load(Ordering::SeqCst)), Ordering::SeqCst);
        replies.next().unwrap_or_else(|| finish("flooded"))
    });
    let stage = Stage::new();
    let mut program = stage.asking(&server, &[&["do", "flood"][..], &kind].concat());
    let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    pid.store(child.id(), Ordering::SeqCst);
    Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    stage.verifies();
    let outcomes = outcomes_of(&stage);
    assert_eq!((end_of(&outcomes[1]).as_str(), end_of(&outcomes[2]).as_str()), ("3", "0"), "{outcomes:?}");
    assert!(outcomes[1]["output"]["size_bytes"].as_u64().unwrap() >= size_bytes, "{}", outcomes[1]);
    assert!(text_of(&outcomes[1]).len() < 20_000, "{} bytes are shown", text_of(&outcomes[1]).len());
    let (before, after) = (before.load(Ordering::SeqCst), after.load(Ordering::SeqCst));
    assert!(before > 0 && after < before + 20_000, "the program's memory grew from {before} to {after} kB");
}

#[test]
fn fifty_megabytes_of_output_cost_disk_and_not_memory() {
    floods(LOCAL, "yes a line of output, neither long nor short | head -c 52428800; (exit 3)", 52_428_800);
}

#[test]
fn a_hundred_megabytes_on_one_line_of_a_container_cost_disk_and_not_memory() {
    if DOCKER.is_there() {
        floods(["--image", DEBIAN], "head -c 100000000 /dev/zero | tr '\\0' a; (exit 3)", 100_000_000);
    }
}

#[test]
fn a_start_up_file_that_sleeps_delays_its_session_and_is_not_the_hosts() {
    let kinds = [LOCAL, ["--image", DEBIAN]];
    for kind in &kinds[..if DOCKER.is_there() { 2 } else { 1 }] {
        let stage = Stage::new();
        let server = server_of(vec![
            shell("echo 'sleep 2; export FROM_RC=yes' > ~/.bashrc"),
            in_session("other", Some("echo $FROM_RC; (exit 6)"), 60.0),
            finish("waited"),
        ]);
        let begun = Instant::now();
        let outcomes = outcomes(&stage, &server, *kind);
        assert!(begun.elapsed() >= Duration::from_secs(2));
        assert_eq!(
            (end_of(&outcomes[1]).as_str(), text_of(&outcomes[1]).ends_with("\nyes")),
            ("6", true),
            "{outcomes:?}"
        );
        assert!(!stage.home().join(".bashrc").exists(), "the host's home is as it was");
    }
}

#[test]
fn a_command_that_waits_for_input_is_told_as_running_until_ctrl_c_ends_the_run() {
    let stage = Stage::new();
    let server = server_of(vec![
        in_session("main", Some("read x; echo got $x"), 1.0),
        in_session("main", None, 0.3),
        in_session("main", Some("echo no"), 1.0),
        in_session("other", Some("echo alive"), 60.0),
        in_session("main", None, 600.0),
    ]);
    let mut program = stage.asking(&server, &["do", "wait", "--sandbox", "local"]);
    let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_requests(5);
    let calls_begun = || {
        let journal = std::fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
        journal.matches("\"type\":\"tool_started\"").count()
    };
    until(|| calls_begun() == 5);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(130);
    let outcomes = outcomes_of(&stage);
    let ends: Vec<_> = outcomes.iter().map(end_of).collect();
    assert_eq!(ends, ["running", "running", "failed", "0", "running"], "{}", ran.stderr);
    assert!(text_of(&outcomes[2]).contains("read x"), "{}", outcomes[2]);
    assert_eq!(stage.events_of("box_closed")[0]["removed"], true);
    stage.verifies();
}
