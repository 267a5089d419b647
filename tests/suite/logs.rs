//! `agent logs`, and the logs that it reads.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::journal::RunLock;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use crate::stage::{Ran, Stage};

const RUN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
/// Colours, a title, a clipboard write, a progress bar, a question that terminals answer.
const HOSTILE: &str =
    "\x1b]0;title\x07\x1b[1;31mred\x1b[0m\r\n 10%\r 60%\r100%\r\n\x1b]52;c;ZXZpbA==\x07done\x1b[6n\r\n$ ";

/// A run with these logs.
fn run_with(logs: &[(&str, &str)]) -> (Stage, PathBuf) {
    let stage = Stage::new();
    let run = stage.state().join("runs").join(RUN);
    fs::create_dir_all(run.join("sessions")).unwrap();
    for (name, text) in logs {
        fs::write(run.join("sessions").join(name), text).unwrap();
    }
    (stage, run)
}

fn command(stage: &Stage, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.arg("logs").args(args).env_clear().env("LONGHAUL_STATE_DIR", stage.state()).env("HOME", stage.home());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn logs(stage: &Stage, args: &[&str]) -> Ran {
    Ran::of(&command(stage, args).output().unwrap())
}

#[test]
fn a_pipe_gets_plain_text_and_all_files_of_a_log() {
    let (stage, run) = run_with(&[("main.log", HOSTILE), ("main.log.1", "second\r\n"), ("main.log.2", "third\r\n")]);
    fs::write(run.join("sessions/check-1.log"), "no session\n").unwrap();
    let text = "red\n100%\ndone\n$ second\nthird\n";
    assert_eq!(logs(&stage, &[RUN]).exits_with(0).stdout, text);
    assert_eq!(logs(&stage, &["last", "main", "--lines", "2"]).exits_with(0).stdout, "$ second\nthird\n");
    assert_eq!(logs(&stage, &["last", "main", "-n", "0"]).exits_with(0).stdout, "");
    let raw = logs(&stage, &["last", "--raw"]).exits_with(0).stdout;
    assert_eq!(raw, format!("{HOSTILE}second\r\nthird\r\n"));
    // Nobody drives the run, so there is nothing to wait for.
    assert_eq!(logs(&stage, &["last", "main", "-f"]).exits_with(0).stdout, text);
}

#[test]
fn a_session_that_is_not_there_is_answered_with_those_that_are() {
    let (stage, _) = run_with(&[("main.log", "a\n"), ("train.log", &"x".repeat(2_000)), ("train.log.1", "yy")]);
    let listed = logs(&stage, &[RUN]).exits_with(0).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("main ") && lines[0].contains("2 B") && lines[0].contains(" UTC"), "{listed}");
    assert!(lines[1].starts_with("train") && lines[1].contains("2.0 kB") && lines.len() == 2, "{listed}");
    for odd in ["eval", "../../run", "ma in", "", &"n".repeat(10_000)] {
        let ran = logs(&stage, &[RUN, odd]).exits_with(2);
        assert!(ran.stderr.contains("main, train") && ran.stderr.len() < 600, "{}", ran.stderr);
    }
    let (empty, _) = run_with(&[]);
    assert!(logs(&empty, &[RUN]).exits_with(2).stderr.contains("no session yet"));
    assert!(logs(&empty, &["0ABC"]).exits_with(2).stderr.contains("there is no run"));
}

/// A follower whose lines can be waited for.
struct Follower {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Follower {
    fn start(stage: &Stage) -> Self {
        let mut child = command(stage, &["last", "main", "-f"]).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    #[track_caller]
    fn says(&self, line: &str) {
        assert_eq!(self.lines.recv_timeout(Duration::from_secs(30)).as_deref(), Ok(line));
    }

    fn code(mut self) -> Option<i32> {
        wait(&mut self.child)
    }
}

/// The exit code, within a generous time.
fn wait(child: &mut Child) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < until, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn append(run: &std::path::Path, log: &str, text: &str) {
    use std::io::Write as _;
    let path = run.join("sessions").join(log);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn following_shows_what_is_written_and_ends_with_the_run() {
    let (stage, run) = run_with(&[("main.log", "first\r\n")]);
    let lock = RunLock::take(&run).unwrap();
    let follower = Follower::start(&stage);
    follower.says("first");
    append(&run, "main.log", "second\r\n");
    follower.says("second");
    append(&run, "main.log.1", "in another file\r\nlast, without an end");
    follower.says("in another file");
    drop(lock);
    follower.says("last, without an end");
    assert_eq!(follower.code(), Some(0));
}

#[test]
fn following_ends_when_nobody_reads_and_when_a_person_has_seen_enough() {
    let (stage, run) = run_with(&[("main.log", "first\r\n")]);
    let _lock = RunLock::take(&run).unwrap();
    let mut unread = command(&stage, &["last", "main", "-f"]).spawn().unwrap();
    let mut stdout = BufReader::new(unread.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    // Nothing is written any more: it is noticed all the same.
    drop(stdout);
    assert_eq!(wait(&mut unread), Some(0));
    let follower = Follower::start(&stage);
    follower.says("first");
    let pid = rustix::process::Pid::from_child(&follower.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(follower.code(), Some(0));
}

#[test]
fn a_terminal_gets_nothing_that_acts_beyond_its_screen() {
    let (stage, _) = run_with(&[("main.log", HOSTILE)]);
    let on_a_terminal = |args: &[&str]| {
        let pty = native_pty_system().openpty(PtySize { rows: 24, cols: 100, ..PtySize::default() }).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_agent"));
        command.args(args);
        command.env_clear();
        command.env("LONGHAUL_STATE_DIR", stage.state());
        let mut child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let mut printed = Vec::new();
        // Ends with an error once the program is gone.
        let _ = pty.master.try_clone_reader().unwrap().read_to_end(&mut printed);
        (child.wait().unwrap().exit_code(), String::from_utf8(printed).unwrap())
    };
    let (code, text) = on_a_terminal(&["logs", RUN]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\x1b[1;31mred") && text.contains(" 60%\r100%"), "{text:?}");
    assert!(!text.contains("\x1b]") && !text.contains("\x1b[6n"), "{text:?}");
    let (code, text) = on_a_terminal(&["logs", RUN, "--raw"]);
    assert!(code == 2 && text.contains("must not go to a terminal") && !text.contains('\x1b'), "{text:?}");
}
