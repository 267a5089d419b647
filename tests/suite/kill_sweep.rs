//! A driver that is killed at its nth system call of a kind, for every kind that matters, and a run that is then taken
//! up: each command has run exactly once, the chain is whole, the verdict is the same, nothing that was recorded is lost.
//! Once in a box that writes through to the project, and once in one with files of its own, of which a checkpoint is
//! taken and gone back to.
//!
//! `strace` kills the driver and nothing else: what it starts is let go as soon as it is another program. A sample of the
//! points is tried with every run of the suite; `LONGHAUL_KILL_SWEEP=all` tries them all, `LONGHAUL_KILL_SWEEP=fsync,rename`
//! all of these kinds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::containers::traces;
use crate::stage::{Ran, Stage};

/// What a driver does when it writes, syncs, makes files, talks to its box, or takes its lock.
const CALLS: [&str; 12] = [
    "openat",
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "fcntl",
    "ftruncate",
    "sendmsg",
    "close",
    "mkdir",
    "unlink",
];
/// Calls of a kind up to which the sample reaches; beyond are those of the end.
const SPREAD: [usize; 6] = [1, 5, 12, 25, 60, 140];
/// The sample ends after this.
const PATIENCE: Duration = Duration::from_secs(80);

/// What the box's files are.
#[derive(Debug, Clone, Copy)]
enum Files {
    /// Those of the project.
    Through,
    /// Its own.
    Own,
}

const SCRIPT: &str = r#"
[script]
goal = "count"

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo x >> f" }

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "sleep 0.3; echo j >> job", session = "job", yield_s = 0 }
[[turn.call]]
tool = "write_file"
arguments = { path = "wrote", content = "w\n" }

[[turn]]
[[turn.call]]
tool = "wait"
arguments = { all = ["j1"], deadline_s = 60 }
{KEPT}
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo y >> f" }

[[turn]]
[[turn.call]]
tool = "finish"
arguments = { summary = "counted", artifacts = ["f", "job", "wrote"] }
"#;

/// What comes before the last command where the box's files are its own.
const KEPT: &str = r#"
[[turn]]
[[turn.call]]
tool = "checkpoint"
arguments = { do = "create", checkpoint = "good" }

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo bad >> f; rm job" }

[[turn]]
[[turn.call]]
tool = "checkpoint"
arguments = { do = "restore", checkpoint = "good" }
"#;

/// What came of one point.
enum Point {
    /// The driver was killed there.
    Killed,
    /// It came to its end before.
    Passed,
}

#[track_caller]
fn killed_at(files: Files, call: &str, nth: usize) -> Point {
    let stage = Stage::new();
    let (kept, workspace) = match files {
        Files::Through => ("", "bind"),
        Files::Own => (KEPT, "overlay"),
    };
    fs::write(stage.home().join("script.toml"), SCRIPT.replace("{KEPT}", kept)).unwrap();
    let model = format!("script:{}/script.toml", stage.home().display());
    let check = "test \"$(cat job wrote f)\" = \"$(printf 'j\\nw\\nx\\ny')\"";
    let args = ["do", "count", "--model", &model, "--sandbox", "local", "--workspace", workspace, "--check", check];
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qqq", "-b", "execve", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}"), env!("CARGO_BIN_EXE_agent")]);
    let out = stage.as_it_is(strace, &args).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let place = format!("{files:?} {call} {nth}");
    let left = |file: &str| match files {
        Files::Through => fs::read_to_string(stage.project().join(file)).unwrap_or_default(),
        Files::Own => fs::read_to_string(stage.run_dir().join("artifacts").join(file)).unwrap_or_default(),
    };
    let begun = fs::read_dir(stage.state().join("runs")).is_ok_and(|mut runs| runs.next().is_some());
    let has_journal = begun && fs::metadata(stage.run_dir().join("journal.jsonl")).is_ok_and(|file| file.len() > 0);
    if out.status.code() == Some(0) {
        assert_eq!(left("f"), "x\ny\n", "{place}");
        return Point::Passed;
    }
    assert_eq!(out.status.signal(), Some(9), "{place}: {}", String::from_utf8_lossy(&out.stderr));
    if !has_journal {
        assert!(!stage.project().join("f").exists(), "{place}: something was done without a record");
        return Point::Killed;
    }
    let before = fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
    if stage.events_of("run_ended").is_empty() {
        let resumed = stage.run(&["resume", "last"]);
        assert_eq!(resumed.code, 0, "{place}\n{}\n{}", resumed.stderr, before);
    }
    let after = fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
    let whole = before.rfind('\n').map_or("", |end| &before[..=end]);
    assert!(after.starts_with(whole), "{place}: what was recorded is lost");
    for (file, content) in [("f", "x\ny\n"), ("job", "j\n"), ("wrote", "w\n")] {
        assert_eq!(left(file), content, "{place} {file}\n{after}");
    }
    if matches!(files, Files::Own) {
        assert_eq!(fs::read_dir(stage.project()).unwrap().count(), 1, "{place}: the project was changed");
        let taken = stage.events_of("checkpoint_taken");
        let good = taken.iter().filter(|event| event["checkpoint"]["name"] == "good").count();
        assert_eq!((good, stage.events_of("checkpoint_restored").len()), (1, 1), "{place}\n{after}");
    }
    let ended = stage.events_of("run_ended");
    assert_eq!((ended.len(), ended[0]["verdict"].as_str()), (1, Some("verified")), "{place}\n{after}");
    let mut started = BTreeMap::<String, usize>::new();
    for event in stage.events_of("tool_started") {
        *started.entry(event["call"]["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(started.values().all(|&times| times == 1), "{place}: {started:?}");
    let verified = stage.run(&["verify", "last"]);
    assert_eq!(verified.code, 0, "{place}\n{}{}", verified.stdout, verified.stderr);
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    let traces = traces(&stage.state(), &longhaul::domain::RunId::new(run).unwrap());
    assert_eq!(traces, Vec::<String>::new(), "{place}");
    Point::Killed
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-qqq", "-b", "execve", "-o", "/dev/null", "true"]).output();
    let can = traced.is_ok_and(|out| Ran::of(&out).code == 0);
    if !can {
        assert!(std::env::var_os("CI").is_none(), "strace is missing, or may not trace");
        eprintln!("skipped: strace is missing, or may not trace");
    }
    can
}

#[expect(clippy::print_stderr, reason = "how many points there were belongs to the result")]
#[test]
fn a_driver_that_is_killed_at_a_system_call_is_followed_by_one_that_brings_the_run_to_the_same_end() {
    if !can_trace() {
        return;
    }
    let which = std::env::var("LONGHAUL_KILL_SWEEP").ok();
    let all = which.is_some();
    let is_wanted =
        |call: &str| which.as_ref().is_none_or(|which| which == "all" || which.split(',').any(|one| one == call));
    let begun = Instant::now();
    let (mut points, mut tried) = (0, BTreeMap::new());
    let kinds: Vec<_> =
        [Files::Through, Files::Own].into_iter().flat_map(|files| CALLS.map(|call| (files, call))).collect();
    let mut done: Vec<bool> = kinds.iter().map(|(_, call)| !is_wanted(call)).collect();
    for round in 0.. {
        let nth = if all { round + 1 } else { SPREAD.get(round).copied().unwrap_or(usize::MAX) };
        if nth == usize::MAX || done.iter().all(|&done| done) {
            break;
        }
        for (kind, &(files, call)) in kinds.iter().enumerate() {
            let is_other_half = !all && (kind + kind / CALLS.len() + round) % 2 == 1;
            if done[kind] || is_other_half || (!all && begun.elapsed() > PATIENCE) {
                continue;
            }
            match killed_at(files, call, nth) {
                Point::Passed => done[kind] = true,
                Point::Killed => {
                    points += 1;
                    tried.insert(format!("{files:?} {call}"), nth);
                }
            }
        }
    }
    eprintln!("{points} points; the last of each kind: {tried:?}");
    assert!(points > 10, "hardly anything was tried: {tried:?}");
}
