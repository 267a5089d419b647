//! The supervisor itself: whom it lets in, what outlives its hosts, what a person sees through tmux.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use longhaul::domain::Exit;
use longhaul::guest::{Client, GuestError, Phase, RunCommand, Start, TmuxInfo};
use longhaul::terminal::{ReportState, Terminal};
use tokio_util::sync::CancellationToken;

use crate::boxless::{Boxless, TOKEN, command, options, run, run_spec, session};

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_token_is_told_nothing() {
    let host = Boxless::start(&[]);
    let refused = Client::connect(host.connected_raw(), "0123456789abcdee", None).await;
    assert!(matches!(refused, Err(GuestError::NotWelcome)), "{refused:?}");
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100], b"\x10\0\0\0\0\0\0\0{\"version\":99}  "] {
        let mut stream = host.connected_raw();
        stream.write_all(garbage).expect("written");
        let mut answer = Vec::new();
        // Closed with or without a reset, but without a word.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    assert_eq!(run(&host.terminal().await, "1", "echo ok").await.excerpt.text, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_done_twice_when_a_host_dies() {
    let host = Boxless::start(&[]);
    let text = "echo x >> count; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over; (exit 6)";
    let first = host.terminal().await;
    let mut spec = command("once", text);
    spec.yield_after = Duration::from_millis(200);
    let report = run_spec(&first, spec.clone()).await;
    assert!(matches!(report.state, ReportState::Running { .. }));
    drop(first);
    std::fs::write(host.work().join("go"), "").expect("written");

    let second = host.terminal().await;
    spec.yield_after = Duration::from_secs(10);
    let report = run_spec(&second, spec.clone()).await;
    let ended = ReportState::Ended { exit: Some(Exit::Code(6)), timed_out: false, respawned: None };
    assert_eq!((&report.state, report.excerpt.text.as_str()), (&ended, "begun\nover\n"));
    let cancel = CancellationToken::new();
    let found = second.look_up("once", Duration::from_secs(1), &mut |_| {}, &cancel).await.expect("a report");
    assert_eq!(found.state, ended);
    assert_eq!(std::fs::read_to_string(host.work().join("count")).expect("a file"), "x\n");
    let log = std::fs::read(host.logs().join("main.log")).expect("the log");
    assert!(log.windows(4).any(|part| part == b"over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_guest_knows_what_an_earlier_one_had_run() {
    let mut host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "done", "echo x >> count; (exit 4)").await;
    let mut spec = command("lost", "echo y >> count; sleep 60");
    spec.yield_after = Duration::from_millis(300);
    run_spec(&terminal, spec).await;
    host.restart();
    let terminal = host.terminal().await;
    let again = run(&terminal, "done", "echo x >> count; (exit 4)").await;
    assert!(matches!(again.state, ReportState::Ended { exit: Some(Exit::Code(4)), .. }), "{again:?}");
    let lost = run(&terminal, "lost", "echo y >> count").await;
    assert!(matches!(lost.state, ReportState::Ended { exit: None, respawned: Some(_), .. }), "{lost:?}");
    assert_eq!(std::fs::read_to_string(host.work().join("count")).expect("a file"), "x\ny\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_at_once_when_the_guest_is_gone() {
    let mut host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let running = tokio::spawn({
        let terminal = terminal.clone();
        async move { terminal.run(command("1", "sleep 60"), &mut |_| {}, &CancellationToken::new()).await }
    });
    terminal.open(&session("other")).await.expect("open");
    host.guest.kill().expect("killed");
    let begun = Instant::now();
    let error = running.await.expect("no panic").unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(error.to_string().contains("gone"), "{error}");
    terminal.guest().gone().await;
    assert!(matches!(terminal.guest().sessions().await, Err(GuestError::Gone)));
    assert!(host.guest.wait().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_leaves_no_process_behind() {
    let mut host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let report = run(&terminal, "1", "setsid sleep 1000 & (trap '' TERM HUP; sleep 1000) & jobs -p; echo $$").await;
    let pids: Vec<u32> = report.excerpt.text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(pids.len() >= 3, "{}", report.excerpt.text);
    tmux_of(&terminal).await;
    terminal.guest().shutdown().await;
    assert!(host.guest.wait().expect("ended").success());
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_is_idempotent_and_a_busy_session_says_what_it_does() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    let terminal = Terminal::new(client.clone(), options(&host.work()));
    terminal.open(&session("main")).await.expect("open");
    let ask = |id: &str| RunCommand { id: id.into(), session: session("main"), cwd: None };
    let started = client.run(ask("a"), b"sleep 0.3; (exit 2)").await.expect("started");
    assert!(matches!(started, Start::Started(_)));
    let known = client.run(ask("a"), b"echo other").await.expect("known");
    assert!(matches!(&known, Start::Known(state) if state.title == "sleep 0.3; (exit 2)"), "{known:?}");
    assert!(matches!(client.run(ask("b"), b"true").await.expect("busy"), Start::Busy(state) if state.id == "a"));
    let (state, _) = client.ended("a").await.expect("ended");
    assert!(matches!(state.phase, Phase::Ended(end) if end.exit == Some(Exit::Code(2))));
}

async fn tmux_of(terminal: &Terminal) -> TmuxInfo {
    terminal.guest().tmux().await.expect("tmux is installed")
}

fn tmux(info: &TmuxInfo, words: &[&str]) -> String {
    let output = Command::new(&info.program).args(["-S", &info.socket]).args(words).output().expect("tmux runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a window shows, once it shows `text`.
fn screen_with(info: &TmuxInfo, window: &str, text: &str) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        // A window is made after its session: there may be none yet.
        let target = format!("=longhaul:={window}");
        let captured = Command::new(&info.program)
            .args(["-S", &info.socket, "capture-pane", "-p", "-t", &target])
            .output()
            .expect("tmux runs");
        let shown = String::from_utf8_lossy(&captured.stdout).into_owned();
        if shown.contains(text) {
            return shown;
        }
        assert!(Instant::now() < until, "{window} does not show {text:?} but:\n{shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tmux_shows_each_session_and_types_into_it() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "1", "echo from-the-model").await;
    let info = tmux_of(&terminal).await;
    screen_with(&info, "main", "$ echo from-the-model\nfrom-the-model");
    let mut spec = command("2", "echo in-the-second");
    spec.session = session("second");
    run_spec(&terminal, spec).await;
    screen_with(&info, "second", "in-the-second");

    tmux(&info, &["send-keys", "-t", "=longhaul:=main", "echo by-$((40 + 2))-hand; cd /usr", "Enter"]);
    let shown = screen_with(&info, "main", "by-42-hand");
    assert!(!shown.contains("__lh"), "{shown}");
    screen_with(&info, "main", "/usr $");
    let report = run(&terminal, "3", "pwd").await;
    assert_eq!(report.excerpt.text, "/usr\n");

    // A half-typed line is no harm, and a hostile title stays a title.
    tmux(&info, &["send-keys", "-t", "=longhaul:=main", "echo 'half"]);
    screen_with(&info, "main", "echo 'half");
    let pwned = host.work().join("pwned");
    let title = format!("printf '\\033]2;#(touch {})\\007'; (exit 3)", pwned.display());
    let report = run(&terminal, "4", title).await;
    assert!(matches!(report.state, ReportState::Ended { exit: Some(Exit::Code(3)), .. }), "{report:?}");
    assert!(!pwned.exists());
    assert_eq!(run(&terminal, "5", "echo ok").await.excerpt.text, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_work_all_the_same_when_tmux_dies() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "1", "true").await;
    let info = tmux_of(&terminal).await;
    tmux(&info, &["kill-server"]);
    assert_eq!(run(&terminal, "2", "echo ok").await.excerpt.text, "ok\n");
    assert!(host.runtime().join("view.sock").exists());
    assert_eq!(TOKEN.len(), 16);
}
