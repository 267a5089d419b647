//! How long it takes until a run whose driver was killed goes on: `kill -9` while a job runs and the run waits for it, then
//! `agent resume`; from its start to `run_resumed` in the transcript, and to where its job, its session and its wait are
//! taken over. The job must be the same process in the same session, and its true exit code must be recorded.
//! Prints times, judges nothing else.
//!
//! `cargo bench --bench resume [-- ROUNDS]`; containers are measured with the image that `scripts/setup.sh` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

#[expect(dead_code, reason = "boxes are made by the program itself")]
mod ground;
#[path = "ground/times.rs"]
mod times;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::domain::SandboxKind;
use serde_json::Value;

use ground::{AGENT, IMAGE, backend, directory};
use times::Times;

/// The job's exit code.
const CODE: u64 = 7;

const SCRIPT: &str = r#"
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo $$ >> pids; while [ ! -e go ]; do sleep 0.05; done; exit 7", session = "job", yield_s = 0 }
[[turn]]
[[turn.call]]
tool = "wait"
arguments = { all = ["j1"], deadline_s = 600 }
[[turn]]
[[turn.call]]
tool = "finish"
arguments = { summary = "done" }
"#;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{rounds} drivers killed in the middle of a job; from the start of `agent resume`; p50 (max) in ms");
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        let dir = directory();
        if runtime.block_on(backend(kind, dir.path()).probe()).missing.is_some() {
            println!("{kind:?}: no box of this kind here; not measured");
            continue;
        }
        let taken: Vec<_> = (0..rounds).map(|_| round(kind)).collect();
        let recorded = Times::of(taken.iter().map(|taken| taken.recorded).collect());
        let over = Times::of(taken.iter().map(|taken| taken.over).collect());
        println!(
            "{kind:?}: recorded {:.0} ({:.0}), job taken over {:.0} ({:.0}); same process, session and exit code each time",
            recorded.at(0.5),
            recorded.at(1.0),
            over.at(0.5),
            over.at(1.0)
        );
    }
}

/// What one round took.
struct Taken {
    /// Until `run_resumed` was in the transcript.
    recorded: Duration,
    /// Until the run was driven again, with all that had gone on.
    over: Duration,
}

fn round(kind: SandboxKind) -> Taken {
    let dir = directory();
    let project = dir.path().join("project");
    fs::write(dir.path().join("script.toml"), SCRIPT).unwrap();
    let model = format!("script:{}/script.toml", dir.path().display());
    let mut asked = vec!["do", "work", "--model", &model, "--workspace", "bind"];
    asked.extend(match kind {
        SandboxKind::Docker => ["--image", IMAGE],
        _ => ["--sandbox", "local"],
    });
    let mut driver = agent(dir.path(), &asked).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_wait = |event: &Value| event["type"] == "tool_started" && event["call"]["name"] == "wait";
    soon(|| events(dir.path()).iter().any(is_wait));
    driver.kill().unwrap();
    driver.wait().unwrap();
    let begun = Instant::now();
    let mut again =
        agent(dir.path(), &["resume", "--detach"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    soon(|| has(dir.path(), "run_resumed"));
    let recorded = begun.elapsed();
    assert!(again.wait().unwrap().success());
    let over = begun.elapsed();
    fs::write(project.join("go"), "").unwrap();
    soon(|| has(dir.path(), "run_ended"));
    let all = events(dir.path());
    let of = |wanted: &str| all.iter().filter(|event| event["type"] == wanted).collect::<Vec<_>>();
    assert_eq!(fs::read_to_string(project.join("pids")).unwrap().lines().count(), 1, "the job began twice");
    assert_eq!(of("run_resumed")[0]["found"], "adopted");
    assert_eq!((of("job_started").len(), of("box_opened").len()), (1, 1));
    assert_eq!(of("session_opened").iter().filter(|event| event["session"] == "job").count(), 1);
    let ended = of("job_ended");
    assert_eq!((ended.len(), ended[0]["end"]["exit"]["code"].as_u64()), (1, Some(CODE)), "{ended:?}");
    soon(|| {
        Command::new(AGENT)
            .args(["runs", "rm", "last"])
            .env("LONGHAUL_STATE_DIR", dir.path().join("state"))
            .output()
            .unwrap()
            .status
            .success()
    });
    Taken { recorded, over }
}

fn agent(dir: &Path, args: &[&str]) -> Command {
    let mut agent = Command::new(AGENT);
    agent.args(args).current_dir(dir.join("project")).env("LONGHAUL_STATE_DIR", dir.join("state")).stdin(Stdio::null());
    agent
}

fn journal(dir: &Path) -> Option<PathBuf> {
    let run = fs::read_dir(dir.join("state/runs")).ok()?.flatten().next()?;
    Some(run.path().join("journal.jsonl"))
}

fn events(dir: &Path) -> Vec<Value> {
    let text = journal(dir).and_then(|journal| fs::read_to_string(journal).ok()).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.map(|entry| entry["event"].clone()).collect()
}

fn has(dir: &Path, kind: &str) -> bool {
    events(dir).iter().any(|event| event["type"] == kind)
}

/// Looks every millisecond until it is so.
fn soon(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}
