//! Runs that outlive the terminal they were started at, or never had one.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal};

use crate::containers::traces;
use crate::goal::{finish, server_of, shell};
use crate::model_server::ModelServer;
use crate::stage::{Ran, Stage};

/// Waits for a condition, which must come about within half a minute.
#[track_caller]
fn soon(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run_id(dir: &Path) -> longhaul::domain::RunId {
    longhaul::domain::RunId::new(dir.file_name().unwrap().to_str().unwrap().to_owned()).unwrap()
}

/// A command that waits for a file in the project, which the box sees through.
fn waits_for(stage: &Stage) -> (String, PathBuf) {
    let go = stage.project().join("go");
    assert!(!go.exists());
    (format!("echo waiting; while [ ! -e {} ]; do sleep 0.05; done; echo went on", go.display()), go)
}

fn words(args: &[&str]) -> Vec<String> {
    ["--sandbox", "local", "--workspace", "bind"].iter().chain(args).map(|word| (*word).to_owned()).collect()
}

/// The program as leader of a session on a terminal.
fn at_a_terminal(stage: &Stage, server: &ModelServer) -> (Box<dyn Child + Send + Sync>, Box<dyn MasterPty + Send>) {
    let pty = native_pty_system().openpty(PtySize { rows: 40, cols: 100, ..PtySize::default() }).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_agent"));
    command.args(["do", "wait for it"]);
    command.args(words(&[]));
    command.cwd(stage.project());
    command.env_clear();
    for (name, value) in [("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("TERM", "xterm"), ("LONGHAUL_MODEL", "fake")] {
        command.env(name, value);
    }
    command.env("OPENAI_BASE_URL", server.base_url());
    command.env("OPENAI_API_KEY", "sk-test-0123456789abcdef");
    command.env("HOME", stage.home());
    command.env("LONGHAUL_STATE_DIR", stage.state());
    let child = pty.slave.spawn_command(command).unwrap();
    (child, pty.master)
}

#[test]
fn a_run_goes_on_to_its_end_when_its_terminal_is_closed() {
    let stage = Stage::new();
    let (command, go) = waits_for(&stage);
    let server = server_of(vec![shell(&command), finish("seen to its end")]);
    let (mut child, master) = at_a_terminal(&stage, &server);
    let mut screen = master.try_clone_reader().unwrap();
    let mut shown = String::new();
    let mut buffer = [0; 4096];
    while !shown.contains("| waiting") {
        let read = screen.read(&mut buffer).unwrap();
        assert!(read > 0, "the program has ended:\n{shown}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    // The terminal is gone when nobody holds its other end.
    drop((screen, master));
    soon("a note of it", || !stage.events_of("noticed").is_empty());
    assert!(stage.events_of("tool_ended").is_empty(), "the command was cut short");
    std::fs::write(&go, "").unwrap();
    assert_eq!(child.wait().unwrap().exit_code(), 0);
    assert_eq!(stage.events_of("noticed")[0]["kind"], "headless");
    let outcome = &stage.events_of("tool_ended")[0]["outcome"];
    assert!(outcome["text"].as_str().unwrap().contains("went on"), "{outcome}");
    assert_eq!(stage.events_of("run_ended")[0]["answer"], "seen to its end");
    let run = stage.run_dir();
    assert!(std::fs::read_to_string(run.join("report.md")).unwrap().contains("seen to its end"));
    let log = std::fs::read_to_string(run.join("agent.log")).unwrap();
    assert!(log.contains("seen to its end") && log.contains("agent verify"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    stage.verifies();
}

#[test]
fn a_hang_up_signal_ends_no_run_and_is_noted_once() {
    let stage = Stage::new();
    let (command, go) = waits_for(&stage);
    let server = server_of(vec![shell(&command), finish("done all the same")]);
    let mut program = stage.asking(&server, &["do", "wait for it"]);
    let child = program.args(words(&[])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_requests(1);
    soon("the command", || !stage.events_of("tool_started").is_empty());
    for _ in 0..2 {
        rustix::process::kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    }
    std::fs::write(&go, "").unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    assert_eq!(stage.events_of("noticed").len(), 1);
    // What was no terminal is still there and written to.
    assert!(ran.stdout.contains("done all the same"), "{ran:?}");
    assert!(!stage.run_dir().join("agent.log").exists());
}

#[test]
fn a_detached_run_says_where_it_is_and_goes_on_alone() {
    let stage = Stage::new();
    let (command, go) = waits_for(&stage);
    let server = server_of(vec![shell(&command), finish("all alone")]);
    let args = words(&["--detach"]);
    let args: Vec<&str> = ["do", "wait for it"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    let dir = stage.run_dir();
    let run = run_id(&dir);
    assert_eq!(ran.stdout, format!("{run}\n"));
    for way in ["agent attach ", "agent logs ", "agent jobs ", "agent send "] {
        assert!(ran.stderr.contains(&format!("{way}{run}")), "{}", ran.stderr);
    }
    assert_eq!(stage.events_of("run_started").len(), 1, "it had begun when the program returned");
    let driver = soon_driven(&stage);
    assert_eq!(rustix::process::getsid(Some(driver)).unwrap(), driver, "it leads a session of its own");
    for fd in 0..3 {
        let path = std::fs::read_link(format!("/proc/{}/fd/{fd}", driver.as_raw_nonzero())).unwrap();
        let wanted = if fd == 0 { PathBuf::from("/dev/null") } else { dir.join("agent.log") };
        assert_eq!(path, wanted);
    }
    std::fs::write(&go, "").unwrap();
    soon("the run's end", || !stage.events_of("run_ended").is_empty());
    soon("its report", || std::fs::read_to_string(dir.join("agent.log")).unwrap().contains("agent verify"));
    assert_eq!(stage.events_of("run_ended")[0]["reason"], "done");
    soon("its process to end", || traces(&stage.state(), &run).is_empty());
    stage.verifies();
}

/// The process that drives the newest run, as `runs rm` names it.
fn soon_driven(stage: &Stage) -> Pid {
    let refused = stage.run(&["runs", "rm", "last"]).exits_with(2);
    let pid = refused.stderr.split("process ").nth(1).and_then(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Pid::from_raw(digits.parse().ok()?)
    });
    pid.unwrap_or_else(|| panic!("no driver is named: {}", refused.stderr))
}

#[test]
fn a_detached_runs_json_goes_to_its_log_and_its_goal_may_be_piped_in() {
    let stage = Stage::new();
    let server = server_of(vec![finish("quietly")]);
    let mut program = stage.asking(&server, &["do", "-", "--detach", "--output-format", "stream-json"]);
    program.args(["--sandbox", "local"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"a goal from a pipe\n").unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    let dir = stage.run_dir();
    assert_eq!(ran.stdout, format!("{}\n", run_id(&dir)));
    assert_eq!(stage.events_of("run_started")[0]["spec"]["goal"], "a goal from a pipe");
    let log = dir.join("agent.log");
    soon("the last line", || std::fs::read_to_string(&log).unwrap().contains("\"quietly\""));
    soon("its process to end", || traces(&stage.state(), &run_id(&dir)).is_empty());
    let text = std::fs::read_to_string(&log).unwrap();
    let objects = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(objects >= 2, "{text}");
}

#[test]
fn a_detached_run_that_cannot_begin_says_so_where_it_was_started() {
    let stage = Stage::new();
    for (args, code, said) in [
        (&["do", "", "--detach"][..], 2, "the goal is empty"),
        (&["do", "x", "--detach", "--model", "script:nowhere"], 2, "the script nowhere"),
        (&["do", "-", "--detach"], 2, "the goal is empty"),
    ] {
        let ran = stage.run(args).exits_with(code);
        assert!(ran.stderr.contains(said) && ran.stdout.is_empty(), "{ran:?}");
    }
    let file = stage.home().join("file");
    std::fs::write(&file, "").unwrap();
    let mut program = stage.agent(&["do", "x", "--detach", "--model", "fake", "--base-url", "http://127.0.0.1:9/v1"]);
    let ran = Ran::of(&program.env("LONGHAUL_STATE_DIR", &file).output().unwrap());
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("error: ") && ran.stdout.is_empty(), "{ran:?}");
}

#[test]
fn ctrl_c_in_the_foreground_still_ends_a_run_without_a_person() {
    let stage = Stage::new();
    let (command, _) = waits_for(&stage);
    let server = server_of(vec![shell(&command), finish("never")]);
    let mut program = stage.asking(&server, &["do", "wait for it"]);
    let child = program.args(words(&[])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_requests(1);
    soon("the command", || !stage.events_of("tool_started").is_empty());
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    Ran::of(&child.wait_with_output().unwrap()).exits_with(130);
    assert_eq!(traces(&stage.state(), &run_id(&stage.run_dir())), [""; 0]);
}
