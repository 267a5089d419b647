//! Waiting: each condition for real, hours in a moment, suspended machines, clocks that are set, and bad input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use longhaul::clock::VirtualClock;
use longhaul::domain::{Event, Exit, Status, WaitRecord, WakeCause};
use serde_json::{Value, json};

use crate::desk::{Called, Desk, Waiting};
use crate::jobs::free_port;

fn record(called: &Called) -> &WaitRecord {
    match called.facts.last() {
        Some(Event::Waited { wait }) => wait,
        other => panic!("no wait was recorded but {other:?}: {}", called.outcome.text),
    }
}

fn cause(called: &Called) -> WakeCause {
    record(called).cause
}

/// Ends jobs that wait for it: a FIFO in the project directory.
async fn open_gate(desk: &Desk, name: &str) {
    let gate = desk.place.workspace().join(name);
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n").unwrap()).await.unwrap();
}

/// A job that prints a word when its gate opens, and exits so.
async fn gated(desk: &Desk, name: &str, exit: i32) {
    let fifo = desk.place.workspace().join(name);
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    desk.job(name, &format!("read go < {name}; echo {name} is done; (exit {exit})")).await;
}

fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new("2026-11-22T22:00:00Z".parse().unwrap()))
}

async fn closed(desk: Arc<Desk>) {
    Arc::into_inner(desk).expect("nobody else has it").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_six_hours_ends_one_wait_once() {
    let clock = clock();
    let desk = Arc::new(Desk::by(clock.clone()).await);
    gated(&desk, "train", 0).await;
    let mut waiting = Waiting::begin(&desk, json!({"exit": ["j1"], "expected_s": 18000})).await;
    let mut standing = None;
    for _ in 0..6 {
        standing = waiting.pass(&clock, 3600).await;
    }
    let standing = standing.expect("it still waits");
    assert_eq!((standing.waited_ms, standing.wakes_in_ms), (6 * 3600 * 1000, None));
    assert_eq!((standing.what.as_str(), standing.job.as_str()), ("the end of j1", "j1 train"));
    open_gate(&desk, "train").await;
    let called = waiting.ends().await;
    assert_eq!((called.outcome.status, called.outcome.exit), (Status::Ok, Some(Exit::Code(0))));
    let expected = "[j1 ended: exit 0 · at 04:00:00 UTC · waited 6 h 00 min, expected 5 h 00 min]";
    assert!(called.outcome.text.starts_with(expected), "{}", called.outcome.text);
    assert!(called.outcome.text.contains("train is done"), "{}", called.outcome.text);
    assert_eq!((record(&called).waited_ms, record(&called).expected_s), (6 * 3600 * 1000, Some(18000.0)));
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_suspended_tells_so_once_and_calls_it_no_silence() {
    let clock = clock();
    let desk = Arc::new(Desk::by(clock.clone()).await);
    gated(&desk, "train", 0).await;
    let arguments = json!({"silence": {"for_s": 60, "job": "train"}, "exit": ["j1"]});
    let mut waiting = Waiting::begin(&desk, arguments).await;
    waiting.pass(&clock, 20).await.expect("it still waits");
    clock.suspend(Duration::from_secs(8 * 3600));
    waiting.pass(&clock, 20).await.expect("a suspended machine is not silent");
    clock.advance(Duration::from_secs(20));
    let called = waiting.ends().await;
    assert_eq!(cause(&called), WakeCause::Condition, "{}", called.outcome.text);
    let suspended = "[the machine was suspended for 8 h 00 min meanwhile; it is now 2026-11-23 06:01 UTC]";
    assert!(called.outcome.text.contains(suspended), "{}", called.outcome.text);
    assert_eq!((record(&called).waited_ms, record(&called).suspended_ms), (60_000, 8 * 3600 * 1000));
    open_gate(&desk, "train").await;
    let next = desk.call("wait", json!({"exit": ["j1"]})).await;
    assert!(!next.outcome.text.contains("suspended"), "{}", next.outcome.text);
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_counts_the_time_that_the_machine_was_suspended() {
    let clock = clock();
    let desk = Arc::new(Desk::by(clock.clone()).await);
    let mut waiting = Waiting::begin(&desk, json!({"deadline_s": 8 * 3600})).await;
    assert_eq!(waiting.pass(&clock, 60).await.and_then(|standing| standing.wakes_in_ms), Some((8 * 3600 - 60) * 1000));
    clock.suspend(Duration::from_secs(8 * 3600));
    clock.advance(Duration::from_secs(1));
    let called = waiting.ends().await;
    assert_eq!((cause(&called), called.outcome.status), (WakeCause::Deadline, Status::Running));
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_moves_moments_and_no_deadline() {
    let clock = clock();
    let desk = Arc::new(Desk::by(clock.clone()).await);
    let mut waiting = Waiting::begin(&desk, json!({"deadline_s": 3600})).await;
    for wall in ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"] {
        clock.set_wall(wall.parse().unwrap());
        waiting.pass(&clock, 60).await.expect("an hour has not passed");
    }
    clock.advance(Duration::from_secs(3600));
    assert_eq!(cause(&waiting.ends().await), WakeCause::Deadline);
    let mut waiting = Waiting::begin(&desk, json!({"until": "2031-06-01T12:00Z"})).await;
    waiting.pass(&clock, 3600).await.expect("it is not 2031");
    clock.set_wall("2031-06-01T12:00:00Z".parse().unwrap());
    clock.advance(Duration::from_secs(1));
    let called = waiting.ends().await;
    assert!(called.outcome.text.starts_with("[deadline: it is 2031-06-01T12:00:00Z"), "{}", called.outcome.text);
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_dies_early_wakes_at_once_with_its_last_words() {
    let desk = Desk::new().await;
    desk.job("train", "sleep 0.5; echo 'CUDA error: out of memory'; exit 1").await;
    let begun = Instant::now();
    let called =
        desk.call("wait", json!({"output": {"pattern": "epoch 10/10", "job": "j1"}, "expected_s": 21600})).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!((cause(&called), called.outcome.status), (WakeCause::JobEnded, Status::Failed));
    assert!(
        called.outcome.text.contains("out of memory") && called.outcome.text.contains("expected 6 h 00 min"),
        "{}",
        called.outcome.text
    );
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_set_wakes_when_the_last_has_ended_or_one_has_failed() {
    let desk = Arc::new(Desk::new().await);
    for name in ["a", "b", "c", "d"] {
        gated(&desk, name, i32::from(name == "d")).await;
    }
    let waiting = Waiting::begin(&desk, json!({"all": ["a", "b"]})).await;
    open_gate(&desk, "b").await;
    open_gate(&desk, "a").await;
    let called = waiting.ends().await;
    assert_eq!(called.outcome.status, Status::Ok, "{}", called.outcome.text);
    for words in
        ["all have ended: j1 exit 0, j2 exit 0", "a is done", "b is done", "[other jobs]\n[j3 in session c: runs"]
    {
        assert!(called.outcome.text.contains(words), "{words}: {}", called.outcome.text);
    }
    let waiting = Waiting::begin(&desk, json!({"all": ["c", "d"]})).await;
    open_gate(&desk, "d").await;
    let called = waiting.ends().await;
    assert_eq!((cause(&called), called.outcome.status), (WakeCause::JobEnded, Status::Failed));
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_output_that_was_not_shown_counts() {
    let desk = Desk::new().await;
    let command = "echo ready 1; read go < gate; printf '\\033[32mrea\\033[0mdy 2'; sleep 600";
    std::process::Command::new("mkfifo").arg(desk.place.workspace().join("gate")).status().unwrap();
    desk.call("shell", json!({"command": command, "session": "s", "yield_s": 1})).await;
    let called = desk.call("wait", json!({"output": {"pattern": "^ready"}, "deadline_s": 1})).await;
    assert_eq!(cause(&called), WakeCause::Deadline, "{}", called.outcome.text);
    open_gate(&desk, "gate").await;
    // Without a line feed, in colours, printed before the wait began.
    let called = desk.call("wait", json!({"output": {"pattern": "^ready \\d"}, "deadline_s": 60})).await;
    assert_eq!(record(&called).what, "output of j1 matches `^ready \\d`: ready 2");
    assert!(!called.outcome.text.contains("ready 1"), "{}", called.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_job_count_though_it_has_ended() {
    let desk = Desk::new().await;
    desk.job("s", "sleep 0.3; printf 'saved model'").await;
    let called = desk.call("wait", json!({"output": {"pattern": "saved", "job": "s"}})).await;
    assert_eq!(cause(&called), WakeCause::Condition, "{}", called.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_begins_anew_with_each_output() {
    let desk = Desk::new().await;
    desk.job("s", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; sleep 600").await;
    let begun = Instant::now();
    let called = desk.call("wait", json!({"silence": {"for_s": 1.5}, "deadline_s": 60})).await;
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(cause(&called), WakeCause::Condition, "{}", called.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_asks_ends_a_wait_for_input() {
    let desk = Desk::new().await;
    desk.job("s", "sleep 0.5; read -p 'name: ' name").await;
    let called = desk.call("wait", json!({"input": "s", "wake_on": "conditions", "deadline_s": 60})).await;
    assert_eq!((cause(&called), called.outcome.status), (WakeCause::Condition, Status::Ok), "{}", called.outcome.text);
    assert!(called.outcome.text.contains("name:"), "{}", called.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_urls_and_files_of_the_box_end_a_wait() {
    let desk = Arc::new(Desk::new().await);
    let port = free_port();
    let waiting = Waiting::begin(&desk, json!({"port": {"port": port}, "deadline_s": 60})).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    assert_eq!(cause(&waiting.ends().await), WakeCause::Condition);

    let app = Router::new().route("/health", get(|| async { StatusCode::NO_CONTENT }));
    let app = app.route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let called = desk.call("wait", json!({"http": {"url": url("health")}, "deadline_s": 60})).await;
    assert_eq!(cause(&called), WakeCause::Condition, "{}", called.outcome.text);
    let called = desk.call("wait", json!({"http": {"url": url("broken")}, "deadline_s": 1})).await;
    assert_eq!(cause(&called), WakeCause::Deadline, "{}", called.outcome.text);
    let called = desk.call("wait", json!({"http": {"url": url("broken"), "status": 500}, "deadline_s": 60})).await;
    assert_eq!(cause(&called), WakeCause::Condition, "{}", called.outcome.text);
    serving.abort();

    let file = desk.place.workspace().join("model.bin");
    let waiting = Waiting::begin(&desk, json!({"file": {"path": "model.bin"}, "deadline_s": 60})).await;
    std::fs::write(&file, "x").unwrap();
    assert_eq!(cause(&waiting.ends().await), WakeCause::Condition);
    let gone = json!({"file": {"path": "model.bin", "becomes": "gone"}, "deadline_s": 60});
    let waiting = Waiting::begin(&desk, gone).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cause(&waiting.ends().await), WakeCause::Condition);
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_and_the_runs_limit_end_a_wait_and_not_the_job() {
    let desk = Arc::new(Desk::new().await);
    gated(&desk, "train", 0).await;
    let waiting = Waiting::begin(&desk, json!({"exit": ["j1"]})).await;
    waiting.attention.wake(WakeCause::Person, "a person says: use batch 16");
    let called = waiting.ends().await;
    assert_eq!((cause(&called), called.outcome.status), (WakeCause::Person, Status::Running));
    assert!(called.outcome.text.contains("use batch 16"), "{}", called.outcome.text);
    let waiting = Waiting::begin(&desk, json!({"exit": ["j1"]})).await;
    waiting.attention.wake(WakeCause::Budget, "the run's time is over");
    waiting.attention.cancel();
    assert_eq!(cause(&waiting.ends().await), WakeCause::Budget);
    let waiting = Waiting::begin(&desk, json!({"exit": ["j1"]})).await;
    waiting.attention.cancel();
    assert_eq!(cause(&waiting.ends().await), WakeCause::Person);
    assert!(desk.board().jobs()[0].end.is_none());
    closed(desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_and_no_job_at_all_return_at_once() {
    let desk = Desk::new().await;
    let nothing = desk.call("wait", json!({})).await;
    assert_eq!(nothing.outcome.status, Status::Malformed);
    assert!(nothing.outcome.text.starts_with("nothing to wait for: no job runs"), "{}", nothing.outcome.text);
    desk.job("s", "sleep 0.2; exit 5").await;
    desk.call("wait", json!({})).await;
    for _ in 0..2 {
        let called = desk.call("wait", json!({"exit": "j1"})).await;
        assert_eq!((cause(&called), called.outcome.exit), (WakeCause::Condition, Some(Exit::Code(5))));
    }
    let nothing = desk.call("wait", json!({})).await;
    assert!(nothing.outcome.text.contains("j1 (session s, exit 5)"), "{}", nothing.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_an_outcome_that_says_what_is_wrong() {
    let desk = Desk::new().await;
    desk.job("s", "sleep 600").await;
    let wrong: [(Value, &str); 22] = [
        (json!({"exit": ["j9"]}), "exit: there is no job `j9`; jobs: j1 (session s, runs)"),
        (json!({"all": ["s", "nope"]}), "all: there is no job `nope`"),
        (json!({"exit": ["x".repeat(10_000)]}), "xxx…`"),
        (json!({"exit": []}), "exit: names no job"),
        (json!({"all": []}), "all: names no job"),
        (json!({"ready": "j1"}), "ready: j1 has no probe"),
        (json!({"input": "nope"}), "input: no job `nope` runs and there is no session `nope`; sessions: s"),
        (json!({"output": {"pattern": "(", "job": "s"}}), "output.pattern: regex parse error"),
        (json!({"output": {"pattern": "(a{1000}){1000}{1000}", "job": "s"}}), "output.pattern: "),
        (json!({"port": {"port": 0}}), "port.port: 0 is not a port"),
        (json!({"port": {"port": 70000}}), "port.port: 70000 is not a port"),
        (json!({"port": {"port": -1}}), "port.port: -1 is not a port"),
        (json!({"http": {"url": "ftp://x"}}), "http.url: `ftp://x` is not an http:// or https:// URL"),
        (json!({"http": {"url": "http://x", "status": 9}}), "http.status: 9 is not an HTTP status"),
        (json!({"silence": {"for_s": -1}}), "silence.for_s: -1 is not between 0 and"),
        (json!({"deadline_s": -5}), "deadline_s: -5 is not between 0 and"),
        (json!({"deadline_s": 1e300}), "deadline_s: 1"),
        (json!({"deadline_s": "NaN"}), "deadline_s: "),
        (json!({"expected_s": -1}), "expected_s: -1"),
        (json!({"until": "tomorrow"}), "until: `tomorrow` is not a moment with its zone"),
        (json!({"cpu_idle": {"below_percent": 0, "for_s": 1}}), "cpu_idle.below_percent: 0"),
        (json!({"wake_on": "never"}), "wake_on"),
    ];
    for (arguments, words) in wrong {
        let shown = arguments.to_string();
        let called = desk.call("wait", arguments).await;
        assert_eq!(
            called.outcome.status,
            Status::Malformed,
            "{}: {}",
            &shown[..shown.len().min(80)],
            called.outcome.text
        );
        assert!(called.outcome.text.contains(words), "{words}: {}", called.outcome.text);
        assert!(called.outcome.text.len() < 2000, "{}", called.outcome.text.len());
    }
    for (arguments, words) in [
        (json!({"command": "x", "ready": {}}), "ready: takes exactly one of"),
        (json!({"command": "x", "ready": {"port": 1, "url": "http://x"}}), "ready: takes exactly one of"),
        (json!({"command": "x", "ready": {"port": 0}}), "ready.port: 0 is not a port"),
        (json!({"command": "x", "ready": {"pattern": "["}}), "ready.pattern: regex parse error"),
        (json!({"command": "x", "ready": {"port": 1, "within_s": -1}}), "ready.within_s: -1"),
        (json!({"command": null, "ready": {"port": 1}}), "ready: belongs to the call that starts the command"),
        (json!({"command": "x", "expected_s": -1}), "expected_s: -1"),
    ] {
        let called = desk.call("shell", arguments).await;
        assert_eq!(called.outcome.status, Status::Malformed, "{}", called.outcome.text);
        assert!(called.outcome.text.contains(words), "{words}: {}", called.outcome.text);
    }
    // Any pattern takes time in proportion to what it reads.
    desk.call(
        "shell",
        json!({"command": "yes a | head -c 200000 | tr -d '\\n'; echo b; sleep 600", "session": "t", "yield_s": 0}),
    )
    .await;
    let begun = Instant::now();
    let harmless = json!({"output": {"pattern": "(a*)*(a|aa)+$", "job": "t"}, "deadline_s": 60});
    desk.call("wait", harmless).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    desk.close().await;
}
