//! Floods of output: nobody else's answer waits for them, memory does not grow with them, what is over the limit is told.
//! The figures that count are those of the bench of the same name; here the limits are generous.

use std::fs;
use std::time::{Duration, Instant};

use longhaul::domain::Event;
use longhaul::terminal::ReportState;
use tokio_util::sync::CancellationToken;

use crate::boxless::{Boxless, command, run, run_spec, session};

const FLOOD: &str = "while :; do yes 'a line of output that comes again and again' | head -c 10000000; done";

/// Resident memory of a process, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_floods_neither_stall_a_ninth_session_nor_fill_the_memory() {
    let host = Boxless::start_capped(1 << 30);
    let terminal = host.terminal().await;
    run(&terminal, "idle", "true").await;
    let idle = memory(host.guest.id());
    for nth in 0..8 {
        let mut flood = command(&format!("flood-{nth}"), FLOOD);
        (flood.session, flood.yield_after) = (session(&format!("flood-{nth}")), Duration::ZERO);
        let report = run_spec(&terminal, flood).await;
        assert!(matches!(report.state, ReportState::Running { .. }), "{report:?}");
    }
    let (mut times, mut peak, mut printed) = (Vec::new(), 0, 0);
    let until = Instant::now() + Duration::from_secs(60);
    while times.len() < 40 || (printed <= 20_000_000 && Instant::now() < until) {
        let begun = Instant::now();
        let id = format!("echo-{}", times.len());
        assert_eq!(run(&terminal, &id, "echo hello").await.excerpt.text, "hello\n");
        times.push(begun.elapsed());
        peak = peak.max(memory(host.guest.id()));
        printed = terminal.sessions().await.expect("sessions").iter().map(|info| info.log_size).sum::<u64>();
    }
    for nth in 0..8 {
        terminal.guest().close(&session(&format!("flood-{nth}"))).await.expect("closed");
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_secs(1), "{times:?}");
    assert!(printed > 20_000_000, "the floods were none: {printed} bytes");
    assert!(peak < idle + (40 << 20), "from {idle} to {peak} bytes of memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_is_told_and_small_outputs_are_still_seen() {
    let host = Boxless::start_capped(4 << 20);
    let terminal = host.terminal().await;
    let mut much = command("much", "yes 'forty characters of output in each line.' | head -c 20000000");
    much.yield_after = Duration::from_secs(120);
    let report = run_spec(&terminal, much).await;
    let ReportState::Ended { exit, respawned, .. } = &report.state else { panic!("{report:?}") };
    assert!(exit.is_some_and(longhaul::domain::Exit::is_success));
    assert!(
        respawned.as_ref().is_some_and(|note| note.contains("bytes of its output could not be kept")),
        "{report:?}"
    );
    assert!((3 << 20..4 << 20).contains(&report.size_bytes), "{}", report.size_bytes);
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Event::Noticed { text, .. } = terminal.board().news().await {
                return text;
            }
        }
    });
    let told = told.await.expect("it is told");
    assert!(told.contains("sessions/main.log") && told.contains("limit of 4194304 bytes"), "{told}");
    let report = run(&terminal, "little", "echo still here; exit 3").await;
    assert_eq!(report.excerpt.text, "still here\n");
    let on_disk = fs::metadata(host.logs().join("main.log")).expect("a log").len();
    assert!(on_disk <= 4 << 20, "{on_disk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_is_whole_in_the_log_when_its_end_is_told() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let mut spec = command("1", "seq 1 1000000; echo the end");
    spec.yield_after = Duration::from_secs(120);
    let report = run_spec(&terminal, spec).await;
    assert!(report.excerpt.text.ends_with("1000000\nthe end\n"), "{}", report.excerpt.text);
    let end = report.offset + report.size_bytes;
    let log = fs::read(host.logs().join("main.log")).expect("a log");
    let begin = usize::try_from(report.offset).expect("it fits");
    let output = &log[begin..usize::try_from(end).expect("it fits")];
    let text: String = (1..=1_000_000).fold(String::new(), |text, n| text + &n.to_string() + "\r\n") + "the end\r\n";
    assert!(output == text.as_bytes(), "what lies in the log is not what was printed");
    let again = terminal.look_up("1", Duration::ZERO, &mut |_| {}, &CancellationToken::new()).await.expect("a report");
    assert_eq!(again.size_bytes, text.len() as u64);
}
