//! Sessions with real shells, fed what breaks other harnesses.

use std::time::{Duration, Instant};

use longhaul::domain::Exit;
use longhaul::guest::Stop;
use longhaul::terminal::{CommandReport, ReportState};
use tokio_util::sync::CancellationToken;

use crate::boxless::{Boxless, command, run, run_spec, session};

fn exit_of(report: &CommandReport) -> Option<Exit> {
    match &report.state {
        ReportState::Ended { exit, .. } => *exit,
        other => panic!("not ended: {other:?}\n{}", report.excerpt.text),
    }
}

fn respawned(report: &CommandReport) -> Option<&str> {
    match &report.state {
        ReportState::Ended { respawned, .. } => respawned.as_deref(),
        other => panic!("not ended: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_exit_code_and_its_output() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let report = run(&terminal, "1", "echo hello; (exit 7)").await;
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(7)), "hello\n"));
    assert_eq!(report.cwd.as_deref(), host.work().to_str());
    let report = run(&terminal, "2", "echo $?; export A=b; cd /tmp").await;
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(0)), "7\n"));
    let report = run(&terminal, "3", "echo $A; pwd").await;
    assert_eq!((report.excerpt.text.as_str(), report.cwd.as_deref()), ("b\n/tmp\n", Some("/tmp")));
}

/// Commands with the exit and the output they must have, in every shell.
const HOSTILE: [(&str, Exit, &str); 16] = [
    ("echo a;", Exit::Code(0), "a\n"),
    ("cat <<'EOF'\n$x \"quoted' `\nEOF", Exit::Code(0), "$x \"quoted' `\n"),
    ("echo 'it is'; printf '%s' \"no newline\"", Exit::Code(0), "it is\nno newline\n"),
    ("exit 3", Exit::Code(3), ""),
    ("exec false", Exit::Code(1), ""),
    ("kill -9 $$", Exit::Signal(9), ""),
    ("return 5", Exit::Code(5), ""),
    ("false; true", Exit::Code(0), ""),
    ("sh -c 'kill -TERM $$'", Exit::Code(143), "Terminated\n"),
    ("printf '\\033]133;D;0;AAAA;1;\\007'; (exit 9)", Exit::Code(9), ""),
    ("printf '\\033]133;D;0\\007'; sleep 0.1; (exit 8)", Exit::Code(8), ""),
    ("stty raw -echo", Exit::Code(0), ""),
    ("printf '\\033[?1049hmenu'", Exit::Code(0), "menu\n"),
    ("set -e; false; echo not reached", Exit::Code(1), ""),
    ("unset PS1 PROMPT_COMMAND; PS1=x; (exit 4)", Exit::Code(4), ""),
    ("sleep 5 & echo behind", Exit::Code(0), "behind\n"),
];

async fn survives_hostile_commands(shell: &str) {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let open = longhaul::guest::OpenSession {
        session: session("main"),
        shell: Some(shell.into()),
        cwd: None,
        env: [].into(),
        size: longhaul::guest::TermSize::default(),
    };
    terminal.guest().open(open).await.expect("the shell is there");
    for (at, (text, exit, output)) in HOSTILE.iter().enumerate() {
        let report = run(&terminal, &format!("h{at}"), text).await;
        let shown: Vec<&str> = report.excerpt.text.lines().filter(|line| !line.starts_with('[')).collect();
        assert_eq!(exit_of(&report), Some(*exit), "{shell}: {text}\n{:?}", report.excerpt.text);
        assert_eq!(shown, output.lines().collect::<Vec<_>>(), "{shell}: {text}");
        let report = run(&terminal, &format!("a{at}"), format!("echo alive-{at}")).await;
        assert_eq!(exit_of(&report), Some(Exit::Code(0)), "{shell}: after {text}");
        assert_eq!(report.excerpt.text, format!("alive-{at}\n"), "{shell}: after {text}");
    }
    // Messages are each shell's own.
    for (at, (text, exit)) in [("echo 'unclosed", 2), ("if (", 2), ("no-such-program-here", 127)].iter().enumerate() {
        let report = run(&terminal, &format!("s{at}"), text).await;
        assert_eq!(exit_of(&report), Some(Exit::Code(*exit)), "{shell}: {text}: {}", report.excerpt.text);
        assert_eq!(run(&terminal, &format!("t{at}"), "echo ok").await.excerpt.text, "ok\n", "{shell}: after {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_survives_hostile_commands() {
    survives_hostile_commands("/bin/bash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dash_survives_hostile_commands() {
    survives_hostile_commands("/bin/dash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox_survives_hostile_commands() {
    survives_hostile_commands("/bin/busybox").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_is_ended_is_replaced_where_it_was() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "1", "cd /usr; export GONE=1").await;
    let report = run(&terminal, "2", "echo before; exit 3").await;
    assert_eq!((exit_of(&report), report.excerpt.text.trim_end()), (Some(Exit::Code(3)), "before"));
    assert!(respawned(&report).is_some_and(|why| why.contains("exit 3") && why.contains("/usr")), "{report:?}");
    let report = run(&terminal, "3", "pwd; echo ${GONE-unset}").await;
    assert_eq!((report.excerpt.text.as_str(), respawned(&report)), ("/usr\nunset\n", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_odd_commands_arrive_byte_for_byte() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let megabyte = "x".repeat(1 << 20);
    let report = run(&terminal, "1", format!("a='{megabyte}'; echo ${{#a}}")).await;
    assert_eq!(report.excerpt.text, "1048576\n");
    let report = run(&terminal, "2", b"printf '\xff\xfe' | od -An -tx1").await;
    assert_eq!(report.excerpt.text, " ff fe\n");
    let spec = command("3", b"echo a\0b");
    let refused = terminal.run(spec, &mut |_| {}, &CancellationToken::new()).await.unwrap_err();
    assert!(refused.to_string().contains("NUL"), "{refused}");
    assert_eq!(run(&terminal, "4", "echo ok").await.excerpt.text, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_up_file_delays_and_never_fakes_an_end() {
    let host = Boxless::start(&[(".bashrc", "echo starting; sleep 2; export FROM_RC=yes\n")]);
    let terminal = host.terminal().await;
    let begun = Instant::now();
    let report = run(&terminal, "1", "echo $FROM_RC; (exit 6)").await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(6)), "yes\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn start_up_files_that_meddle_with_the_shell_do_no_harm() {
    let meddling = "PS1='> '; PROMPT_COMMAND='echo prompt; false'; set -eux; trap 'echo trap' DEBUG\n\
                    alias .='echo no'; alias printf='echo no'; alias return='echo no'; alias command='echo no'\n\
                    printf() { echo no; }; cd() { echo no; }; export PS1 PS4='$(exit 9)'\n";
    let host = Boxless::start(&[(".bashrc", meddling)]);
    let terminal = host.terminal().await;
    let mut spec = command("1", "echo ok; (exit 5)");
    spec.cwd = Some("/tmp".into());
    let report = run_spec(&terminal, spec).await;
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(5)), "ok\n"));
    assert_eq!(report.cwd.as_deref(), Some("/tmp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_up_file_that_leaves_or_replaces_the_shell_is_left_out() {
    for rc in ["exit 4\n", "exec cat\n", "read answer\n"] {
        let host = Boxless::start(&[(".bashrc", rc)]);
        let terminal = host.terminal().await;
        let report = run(&terminal, "1", "echo ok").await;
        assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(0)), "ok\n"), "{rc}");
        let note = terminal.sessions().await.expect("sessions")[0].note.clone();
        assert!(note.is_some_and(|note| note.contains(".bashrc")), "{rc}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_lost_its_marks_is_given_new_ones() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    for (at, text) in ["exec bash", "exec dash"].iter().enumerate() {
        let report = run(&terminal, &format!("l{at}"), text).await;
        assert_eq!(exit_of(&report), None, "{text}");
        assert!(respawned(&report).is_some(), "{text}");
        let report = run(&terminal, &format!("m{at}"), "echo ok; (exit 3)").await;
        assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(3)), "ok\n"), "after {text}");
    }
    // The shell is the same one and still knows how the command ended.
    let report = run(&terminal, "x", "exec 2>err.txt; (exit 9)").await;
    assert_eq!((exit_of(&report), respawned(&report)), (Some(Exit::Code(9)), None));
    let report = run(&terminal, "y", "echo ok; (exit 3)").await;
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(3)), "ok\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builtin_that_waits_for_input_is_no_end() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    for (at, text) in ["read x; echo got $x", "cat > /dev/null", "exec cat"].iter().enumerate() {
        let mut spec = command(&format!("r{at}"), text);
        spec.yield_after = Duration::from_millis(1500);
        let report = run_spec(&terminal, spec).await;
        assert!(matches!(report.state, ReportState::Running { .. }), "{text}: {report:?}");
        terminal.guest().signal(&session("main"), Stop::Interrupt).await.expect("interrupted");
        let cancel = CancellationToken::new();
        let report = terminal.resume(&session("main"), Duration::from_secs(10), &mut |_| {}, &cancel).await;
        assert!(exit_of(&report.expect("a report")).is_some_and(|exit| !exit.is_success()), "{text}");
        assert_eq!(run(&terminal, &format!("s{at}"), "echo ok").await.excerpt.text, "ok\n", "after {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_on_is_reported_as_running_and_keeps_its_session() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let mut spec = command("long", "echo begun; while [ ! -e stop ]; do sleep 0.05; done; echo over; (exit 2)");
    spec.yield_after = Duration::from_millis(300);
    let report = run_spec(&terminal, spec.clone()).await;
    assert_eq!((&report.state, report.excerpt.text.as_str()), (&ReportState::Running { note: None }, "begun\n"));
    let busy = run(&terminal, "other", "echo no").await;
    assert!(matches!(&busy.state, ReportState::Busy { command, .. } if command.contains("echo begun")), "{busy:?}");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let again = terminal.run(spec, &mut |_| {}, &cancelled).await.expect("a report");
    assert!(matches!(again.state, ReportState::Running { .. }), "a cancelled call leaves its command running");
    std::fs::write(host.work().join("stop"), "").expect("written");
    let cancel = CancellationToken::new();
    let report = terminal.resume(&session("main"), Duration::from_secs(10), &mut |_| {}, &cancel).await;
    let report = report.expect("a report");
    assert_eq!((exit_of(&report), report.excerpt.text.as_str()), (Some(Exit::Code(2)), "begun\nover\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_shows_the_last_lines_while_a_command_runs() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let mut seen = Vec::new();
    let text = "for i in 1 2 3 4 5 6; do printf '\\rstep %s' $i; sleep 0.15; done; echo; echo done";
    let report = terminal.run(command("1", text), &mut |tail| seen.push(tail), &CancellationToken::new()).await;
    assert_eq!(report.expect("a report").excerpt.text, "step 6\ndone\n");
    assert!(seen.iter().any(|tail| tail.starts_with("step ")), "{seen:?}");
    assert!(seen.iter().all(|tail| !tail.contains("step 1step")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_runs_apart_from_the_sessions_and_is_killed_in_time() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "1", "export A=b; cd /tmp").await;
    let cancel = CancellationToken::new();
    let text = b"echo ${A-unset}; pwd; echo err >&2; test -t 0 || echo no tty; (exit 9)";
    let report = terminal.check("c1", text, None, Duration::from_secs(10), &cancel).await.expect("a report");
    let expected = format!("unset\n{}\nerr\nno tty\n", host.work().display());
    assert_eq!((exit_of(&report), report.excerpt.text), (Some(Exit::Code(9)), expected));
    let begun = Instant::now();
    let report = terminal.check("c2", b"echo a; sleep 60 & sleep 60", None, Duration::from_millis(300), &cancel).await;
    let report = report.expect("a report");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(report.state, ReportState::Ended { timed_out: true, exit: Some(Exit::Signal(9)), .. }));
    assert_eq!(report.excerpt.text, "a\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_can_be_searched_in_the_box() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let report = run(&terminal, "1", "for i in $(seq 1 5000); do echo \"line $i of many\"; done; (exit 3)").await;
    let copy = report.excerpt.text.lines().find_map(|line| line.split("all of it: ").nth(1)).expect("a copy");
    let copy = copy.trim_end_matches(" …]");
    let report = run(&terminal, "2", format!("wc -l < {copy}; grep -n -x 'line 2500 of many' {copy}")).await;
    assert_eq!(report.excerpt.text, "5000\n2500:line 2500 of many\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_cost_disk_and_not_memory() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    run(&terminal, "1", "true").await;
    let before = (rss(host.guest.id()), rss(std::process::id()));
    let text = "seq 1 3000000; echo 'error: in the middle'; seq 1 3500000";
    let mut spec = command("2", text);
    spec.yield_after = Duration::from_secs(120);
    let report = run_spec(&terminal, spec).await;
    let grown = (rss(host.guest.id()) - before.0, rss(std::process::id()) - before.1);
    assert_eq!(exit_of(&report), Some(Exit::Code(0)));
    assert!(report.size_bytes > 50_000_000, "{}", report.size_bytes);
    assert_eq!(report.excerpt.lines, 6_500_001);
    assert!(report.excerpt.text.starts_with("1\n2\n") && report.excerpt.text.ends_with("3499999\n3500000\n"));
    assert!(report.excerpt.text.contains("3000001: error: in the middle"), "{}", report.excerpt.text);
    assert!(report.excerpt.text.len() < 14_000);
    assert!(grown.0 < 20_000 && grown.1 < 20_000, "grown by {grown:?} kB");
}

/// Resident memory of a process in kB.
fn rss(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
