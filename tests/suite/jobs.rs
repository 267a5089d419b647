//! Jobs: commands that outlive their call, what is recorded of them, and how their readiness is told.

use std::time::{Duration, Instant};

use longhaul::domain::{Event, Exit, Finding, InputKind, JobId, Status};
use serde_json::json;

use crate::desk::Desk;

/// The kinds of facts.
fn kinds(facts: &[Event]) -> Vec<&str> {
    facts.iter().map(Event::kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_outlives_its_call_is_a_job_from_its_start_to_its_end() {
    let desk = Desk::new().await;
    std::fs::create_dir_all(desk.place.workspace()).unwrap();
    let started = desk
        .call(
            "shell",
            json!({"command": "mkfifo gate; read go < gate; echo done; exit 3", "session": "train",
            "expected_s": 5, "yield_s": 0}),
        )
        .await;
    assert_eq!(
        (started.outcome.status, kinds(&started.facts)),
        (Status::Running, vec!["session_opened", "job_started"])
    );
    assert!(started.outcome.text.contains("[job j1: it runs on; wait for it with wait]"), "{}", started.outcome.text);
    let Event::JobStarted { job } = &started.facts[1] else { panic!() };
    assert_eq!((job.id, job.session.as_str(), job.expected_s), (JobId(1), "train", Some(5.0)));
    // Asked for again it is the same job.
    let again = desk.call("shell", json!({"command": null, "session": "train", "yield_s": 0})).await;
    assert!(again.outcome.text.contains("job j1"), "{}", again.outcome.text);
    assert_eq!(kinds(&again.facts), Vec::<&str>::new());
    let busy = desk.call("shell", json!({"command": "true", "session": "train"})).await;
    assert_eq!(busy.outcome.status, Status::Failed);
    desk.call("shell", json!({"command": "while ! [ -p gate ]; do :; done; echo go > gate"})).await;
    let ended = desk.call("wait", json!({"exit": ["train"]})).await;
    assert_eq!((ended.outcome.status, ended.outcome.exit), (Status::Failed, Some(Exit::Code(3))));
    assert!(ended.outcome.text.contains("done"), "{}", ended.outcome.text);
    let Event::Waited { wait } = ended.facts.last().unwrap() else { panic!("{:?}", ended.facts) };
    assert_eq!(wait.what, "j1 ended: exit 3");
    // Told by the wait, it is still recorded once.
    let later = desk.call("wait", json!({"exit": ["j1"]})).await;
    assert_eq!(kinds(&later.facts), ["waited"]);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_asks_is_noticed_with_what_it_asks_for() {
    let desk = Desk::new().await;
    desk.job("install", "echo preparing; read -p 'Continue? [Y/n] ' answer").await;
    let begun = Instant::now();
    let woken = desk.call("wait", json!({"exit": ["j1"], "deadline_s": 60})).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(woken.outcome.status, Status::Running, "{}", woken.outcome.text);
    assert!(woken.outcome.text.contains("waits for a yes or no: Continue? [Y/n]"), "{}", woken.outcome.text);
    let noted = woken.facts.iter().any(|fact| {
        matches!(fact, Event::JobNoted { finding: Finding::NeedsInput { kind: InputKind::YesNo, .. }, .. })
    });
    assert!(noted, "{:?}", woken.facts);
    // It has been told of: the next wait is for what comes after.
    let waited = desk.call("wait", json!({"exit": ["j1"], "deadline_s": 3})).await;
    assert!(waited.outcome.text.contains("deadline"), "{}", waited.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_no_number_wakes_and_is_told_with_its_line() {
    let desk = Desk::new().await;
    desk.job("train", "echo 'epoch 1/10 loss 0.5'; echo 'epoch 2/10 loss nan'; sleep 600").await;
    let woken = desk.call("wait", json!({"exit": ["j1"], "deadline_s": 60})).await;
    assert!(woken.outcome.text.contains("loss diverges: epoch 2/10 loss nan"), "{}", woken.outcome.text);
    let views = desk.board().jobs();
    assert_eq!((views[0].progress.as_deref(), views[0].lines), (Some("epoch 2/10"), 2));
    desk.close().await;
}

/// A server that listens after so many seconds, in Python.
fn server(seconds: u32, port: u16) -> String {
    format!(
        "python3 -c 'import time, http.server; time.sleep({seconds}); \
         http.server.HTTPServer((\"127.0.0.1\", {port}), http.server.SimpleHTTPRequestHandler).serve_forever()'"
    )
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_started_when_its_probe_has_passed_and_not_before() {
    let desk = Desk::new().await;
    let port = free_port();
    let begun = Instant::now();
    let url = format!("http://127.0.0.1:{port}/");
    let ready = json!({"url": url, "within_s": 60});
    let arguments = json!({"command": server(3, port), "session": "web", "ready": ready});
    let started = desk.call("shell", arguments).await;
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(started.outcome.status, Status::Ok, "{}", started.outcome.text);
    assert!(started.outcome.text.starts_with("[j1 is ready after "), "{}", started.outcome.text);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let job = desk.board().jobs().remove(0).job;
    assert!(job.service && job.readiness.is_some());
    let waited = desk.call("wait", json!({"ready": "web"})).await;
    assert_eq!(waited.outcome.status, Status::Ok, "{}", waited.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_never_passes_is_a_failure_that_says_what_was_met() {
    let desk = Desk::new().await;
    for (session, ready, words) in [
        ("a", json!({"port": free_port(), "within_s": 2}), "refused"),
        ("b", json!({"pattern": "listening on", "within_s": 1}), "no line of its output matches"),
        ("c", json!({"command": "echo not yet; exit 7", "within_s": 25}), "exit 7: not yet"),
    ] {
        let arguments = json!({"command": "echo starting; sleep 600", "session": session, "ready": ready});
        let started = desk.call("shell", arguments).await;
        assert_eq!(started.outcome.status, Status::Failed, "{}", started.outcome.text);
        assert!(started.outcome.text.contains("is not ready"), "{}", started.outcome.text);
        assert!(started.outcome.text.contains(words), "{}", started.outcome.text);
        assert!(kinds(&started.facts).contains(&"job_noted"), "{:?}", started.facts);
    }
    // That has been told: it wakes nobody again.
    let waited = desk.call("wait", json!({"exit": ["a"], "deadline_s": 1})).await;
    assert!(waited.outcome.text.starts_with("[deadline: "), "{}", waited.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_before_it_is_ready_is_told_at_once() {
    let desk = Desk::new().await;
    let ready = json!({"port": free_port(), "within_s": 600});
    let arguments = json!({"command": "sleep 0.3; echo broken; exit 4", "session": "web", "ready": ready});
    let started = desk.call("shell", arguments).await;
    assert_eq!((started.outcome.status, started.outcome.exit), (Status::Failed, Some(Exit::Code(4))));
    assert!(started.outcome.text.contains("broken"), "{}", started.outcome.text);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_puts_itself_into_the_background_is_ready_when_its_probe_passes() {
    let desk = Desk::new().await;
    let port = free_port();
    let command = format!("({} >/dev/null 2>&1 &)", server(1, port));
    let arguments = json!({"command": command, "ready": {"port": port, "within_s": 60}});
    let started = desk.call("shell", arguments).await;
    assert_eq!(started.outcome.status, Status::Ok, "{}", started.outcome.text);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_output_and_of_commands_pass() {
    let desk = Desk::new().await;
    for (session, ready) in [
        ("a", json!({"pattern": "^listening on port \\d+", "within_s": 60})),
        ("b", json!({"command": "test -e up", "within_s": 60})),
    ] {
        let command = "sleep 1; touch up; echo listening on port 80; sleep 600";
        let started = desk.call("shell", json!({"command": command, "session": session, "ready": ready})).await;
        assert_eq!(started.outcome.status, Status::Ok, "{}", started.outcome.text);
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_box_uses_is_measured() {
    let desk = Desk::new().await;
    desk.call("shell", json!({"command": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"})).await;
    let usage = desk.board().measure().await;
    assert!(
        usage.cpu_ms.is_some() && usage.memory_peak_bytes > Some(0) && usage.disk_free_bytes > Some(0),
        "{usage:?}"
    );
    desk.close().await;
}
