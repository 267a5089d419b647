//! What a guest sees of its box: the foreground, vitals, conditions, who types; and what it refuses.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use longhaul::guest::{
    Actor, Client, Condition, Event, FileChange, GuestError, Met, OpenSession, Phase, Refusal, RefusalKind, RunCommand,
    Stop, TermSize,
};

use crate::boxless::{Boxless, session};

/// Longer than any of this takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it is watched that something does not happen.
const NEVER: Duration = Duration::from_millis(700);

fn ask(name: &str) -> OpenSession {
    OpenSession { session: session(name), shell: None, cwd: None, env: [].into(), size: TermSize::default() }
}

async fn open(client: &Client, name: &str) {
    client.open(ask(name)).await.expect("a session");
}

async fn begin(client: &Client, id: &str, name: &str, command: &str) {
    let run = RunCommand { id: id.into(), session: session(name), cwd: None };
    client.run(run, command.as_bytes()).await.expect("started");
}

async fn run(client: &Client, id: &str, command: &str) {
    begin(client, id, "main", command).await;
    let (state, _) = client.ended(id).await.expect("ended");
    assert!(matches!(state.phase, Phase::Ended(_)), "{state:?}");
}

async fn met(client: &Client, condition: Condition) -> Met {
    let met = tokio::time::timeout(PATIENCE, client.met(condition.clone())).await;
    met.unwrap_or_else(|_| panic!("{condition:?} is not met")).expect("met")
}

async fn is_not_met(client: &Client, condition: Condition) {
    let met = tokio::time::timeout(NEVER, client.met(condition.clone())).await;
    assert!(met.is_err(), "{condition:?}: {met:?}");
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, GuestError>) -> Refusal {
    match answer {
        Err(GuestError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Asks again until the answer fits.
async fn until<T, F: Future<Output = T>>(mut look: impl FnMut() -> F, fits: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = look().await;
        if fits(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "it never fits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_charged_with_what_its_processes_and_its_shell_use() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "warm", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").await;
    let at_rest = until(async || client.foreground(&session("main")).await.unwrap(), |seen| seen.at_prompt).await;
    assert_eq!((at_rest.processes, at_rest.waits_for_input), (0, Some(false)));
    assert!(at_rest.cpu_ms < 50, "what came before is not charged again: {at_rest:?}");

    begin(&client, "own", "main", "while :; do :; done").await;
    let looping = async || client.foreground(&session("main")).await.unwrap();
    let seen = until(looping, |seen| seen.cpu_ms >= 200).await;
    assert_eq!((seen.program.as_str(), seen.at_prompt, seen.processes), ("bash", false, 0));
    client.signal(&session("main"), Stop::Interrupt).await.unwrap();
    client.ended("own").await.unwrap();

    let work = "sh -c 'head -c 30000000 /dev/zero | sha256sum; head -c 30000000 /dev/urandom >data; sleep 60'";
    begin(&client, "tree", "main", work).await;
    let seen = until(looping, |seen| seen.io_bytes > 60_000_000 && seen.processes >= 2).await;
    assert!(seen.cpu_ms > 0 && seen.memory_bytes > 100_000 && seen.program == "sh", "{seen:?}");
    assert_eq!((seen.echo, seen.lines, seen.waits_for_input), (true, true, Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_the_foreground_and_says_whom() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "ready", "true").await;
    begin(&client, "deaf", "main", "sh -c 'trap \"\" INT TERM; echo set; while :; do sleep 60; done'").await;
    until(
        async || client.read_log("main.log", 0, 1 << 16).await.unwrap(),
        |log| log.windows(5).any(|part| part == b"set\r\n"),
    )
    .await;
    for stop in [Stop::Interrupt, Stop::Terminate, Stop::Kill] {
        let reached = client.signal(&session("main"), stop).await.unwrap();
        assert!(!reached.shell && reached.group > 1 && reached.program == "sh", "{reached:?}");
        let ended = tokio::time::timeout(NEVER, client.ended("deaf")).await;
        assert_eq!(ended.is_ok(), stop == Stop::Kill, "{stop:?}");
    }
    until(async || client.foreground(&session("main")).await.unwrap(), |seen| seen.at_prompt).await;
    assert!(client.signal(&session("main"), Stop::Interrupt).await.unwrap().shell);
    run(&client, "alive", "true").await;
    assert_eq!(refusal(client.signal(&session("nobody"), Stop::Kill).await).kind, RefusalKind::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_session_tells_what_it_ended_and_what_lives_on() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "1", "sleep 1000 & nohup sleep 1001 >/dev/null 2>&1 &").await;
    begin(&client, "2", "main", "sh -c 'trap \"\" HUP; echo set; sleep 1003; sleep 1004'").await;
    until(async || client.foreground(&session("main")).await.unwrap(), |seen| seen.processes == 4).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.met(Condition::Input { session: session("main") }).await }
    });
    let closed = client.close(&session("main")).await.unwrap();
    let count = |list: &[String], name: &str| list.iter().filter(|entry| entry.starts_with(name)).count();
    assert_eq!((count(&closed.ended, "sleep ("), count(&closed.ended, "sh (")), (2, 1), "{closed:?}");
    assert_eq!(count(&closed.left, "sleep ("), 1, "{closed:?}");
    assert!(client.sessions().await.unwrap().is_empty());
    assert_eq!(refusal(waiting.await.unwrap()).kind, RefusalKind::Unknown);
    let (state, _) = client.ended("2").await.unwrap();
    assert!(matches!(&state.phase, Phase::Ended(end) if end.respawned.is_some()), "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_sessions_are_too_many_and_one_closed_makes_room() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    for at in 0..64 {
        open(&client, &format!("s{at}")).await;
    }
    let full = refusal(client.open(ask("one-more")).await);
    assert!(full.kind == RefusalKind::Full && full.what.contains("64") && full.what.contains("s0"), "{full}");
    open(&client, "s7").await;
    client.close(&session("s7")).await.unwrap();
    open(&client, "one-more").await;
    let size = TermSize { cols: 0, rows: 24 };
    let bad = refusal(client.open(OpenSession { size, ..ask("s7") }).await);
    assert!(bad.kind == RefusalKind::Invalid && bad.what.contains("1000 columns"), "{bad}");
    assert_eq!(refusal(client.resize(&session("s1"), size).await).kind, RefusalKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_types_is_told_once_and_their_terminal_is_no_person() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "ready", "true").await;
    let mut events = client.events();
    let main = session("main");
    client.type_keys(&main, b"x", Actor::Model).await.unwrap();
    client.type_keys(&main, b"\x1b[12;1R\x1b[I", Actor::Person).await.unwrap();
    client.type_keys(&main, b"a", Actor::Person).await.unwrap();
    client.type_keys(&main, b"b", Actor::Person).await.unwrap();
    run(&client, "done", "true").await;
    let mut typed = 0;
    while let Ok((event, _)) = events.recv().await {
        match event {
            Event::PersonTyped { session } if session == main => typed += 1,
            Event::CommandEnded(state) if state.id == "done" => break,
            _ => {}
        }
    }
    assert_eq!(typed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_waited_for_until_it_listens() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let condition = |host: &str| Condition::Port { host: host.into(), port };
    is_not_met(&client, condition("127.0.0.1")).await;
    let tried = client.tried(condition("127.0.0.1")).await.unwrap();
    assert!(!tried.met && tried.what.contains("refused"), "{tried:?}");
    let waiting = tokio::spawn({
        let (client, condition) = (client.clone(), condition("localhost"));
        async move { met(&client, condition).await }
    });
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let met = waiting.await.unwrap();
    assert!(met.what.contains("accepts"), "{met:?}");
    assert!(client.tried(condition("127.0.0.1")).await.unwrap().met);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_waited_for_until_it_answers_as_wanted() {
    use axum::http::StatusCode;
    use axum::routing::get;

    let host = Boxless::start(&[]);
    let client = host.client().await;
    let loading = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = loading.clone();
    let health = get(async move || match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0..3 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    });
    let moved = get(async || (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]));
    let app = axum::Router::new().route("/health", health).route("/moved", moved);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let http = |path: &str, status| Condition::Http { url: format!("{base}{path}"), status };
    assert_eq!(met(&client, http("/health", None)).await.what, "HTTP 200 after 4 tries");
    assert_eq!(met(&client, http("/moved", None)).await.what, "HTTP 302");
    assert_eq!(met(&client, http("/none", Some(404))).await.what, "HTTP 404");
    let tried = client.tried(http("/none", None)).await.unwrap();
    assert_eq!((tried.met, tried.what.as_str()), (false, "HTTP 404"));
    server.abort();
    let _ = server.await;
    let tried = client.tried(http("/health", None)).await.unwrap();
    assert!(!tried.met && tried.what.contains("refused"), "{tried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_waited_for_until_it_comes_changes_and_goes() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    let path = host.work().join("not/yet/there.txt");
    let file = |change| Condition::File { path: path.to_str().unwrap().into(), change };
    let waiting = |change| {
        let (client, condition) = (client.clone(), file(change));
        tokio::spawn(async move { met(&client, condition).await.what })
    };
    is_not_met(&client, file(FileChange::Exists)).await;
    let come = waiting(FileChange::Exists);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "one").unwrap();
    assert!(come.await.unwrap().contains("is there"));

    is_not_met(&client, file(FileChange::Changes)).await;
    let (changed, gone) = (waiting(FileChange::Changes), waiting(FileChange::Gone));
    // Written again until it is noticed: the wait may begin only after the first time.
    for size in 4.. {
        std::fs::write(&path, "x".repeat(size)).unwrap();
        if changed.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let what = changed.await.unwrap();
    assert!(what.contains("has changed"), "{what}");
    std::fs::remove_file(&path).unwrap();
    assert!(gone.await.unwrap().contains("is not there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_processors_are_noticed_and_busy_ones_are_not_idle() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "ready", "true").await;
    begin(&client, "busy", "main", "sh -c 'while :; do :; done'").await;
    let idle = Condition::CpuIdle { below_percent: 10.0, for_ms: 600 };
    let busy = tokio::time::timeout(Duration::from_secs(2), client.met(idle.clone())).await;
    assert!(busy.is_err(), "{busy:?}");
    client.signal(&session("main"), Stop::Kill).await.unwrap();
    client.ended("busy").await.unwrap();
    let begun = Instant::now();
    let met = met(&client, idle).await;
    assert!(begun.elapsed() >= Duration::from_millis(600) && met.what.contains('%'), "{met:?}");
    assert_eq!(
        refusal(client.tried(Condition::CpuIdle { below_percent: 1.0, for_ms: 1 }).await).kind,
        RefusalKind::Invalid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_are_what_nvidia_smi_says_and_one_that_hangs_blocks_nobody() {
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("nvidia-smi");
    let says = |text: &str| {
        let script = format!("#!/bin/sh\necho \"$@\" >>{}/asked\n{text}\n", bin.path().display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let env = [("PATH", path.as_str())];
    {
        says("printf 'NVIDIA A100, 3, 512, 81920\\nOther, 97, 1024, 2048\\n'");
        let host = Boxless::start_with(&[], &env);
        let client = host.client().await;
        let vitals = client.vitals().await.unwrap();
        let [a100, other] = &vitals.gpus[..] else { panic!("{vitals:?}") };
        assert_eq!((a100.name.as_str(), a100.busy_percent, a100.memory_size_bytes), ("NVIDIA A100", 3.0, 80 << 30));
        assert_eq!(other.memory_bytes, 1 << 30);
        client.vitals().await.unwrap();
        assert_eq!(std::fs::read_to_string(bin.path().join("asked")).unwrap().lines().count(), 1, "it is asked once");
        is_not_met(&client, Condition::GpuIdle { below_percent: 50.0, for_ms: 500 }).await;
        met(&client, Condition::GpuIdle { below_percent: 98.0, for_ms: 500 }).await;
    }
    says("sleep 1000");
    let host = Boxless::start_with(&[], &env);
    let client = host.client().await;
    let vitals = tokio::spawn({
        let client = client.clone();
        async move { client.vitals().await }
    });
    let begun = Instant::now();
    for _ in 0..20 {
        client.sessions().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "others are served meanwhile");
    let vitals = tokio::time::timeout(PATIENCE, vitals).await.unwrap().unwrap().unwrap();
    assert_eq!(vitals.gpus, []);
    let none = refusal(client.met(Condition::GpuIdle { below_percent: 50.0, for_ms: 100 }).await);
    assert_eq!(none.kind, RefusalKind::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vitals_of_a_box_are_its_own() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    open(&client, "main").await;
    run(&client, "ready", "true").await;
    begin(&client, "busy", "main", "python3 -c 'x = bytearray(60_000_000); print(1)\nwhile 1: pass'").await;
    let seen = until(async || client.vitals().await.unwrap(), |seen| seen.memory_bytes > 60_000_000).await;
    assert!(seen.processes >= 3 && seen.memory_bytes < 4_000_000_000, "{seen:?}");
    let later = until(async || client.vitals().await.unwrap(), |later| later.cpu_ms >= seen.cpu_ms + 300).await;
    let workspace = &later.disks[0];
    assert!(workspace.path.ends_with("/work") && workspace.size_bytes > workspace.free_bytes, "{workspace:?}");
    assert!(workspace.free_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_that_make_no_sense_are_refused_at_once() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    let http = |url: &str| Condition::Http { url: url.into(), status: None };
    let bad = [
        Condition::Port { host: "127.0.0.1".into(), port: 0 },
        Condition::Port { host: "no host".into(), port: 80 },
        http("ftp://127.0.0.1/"),
        http("127.0.0.1:8080"),
        http("http://127.0.0.1:70000/"),
        Condition::File { path: "relative".into(), change: FileChange::Exists },
        Condition::CpuIdle { below_percent: -1.0, for_ms: 10 },
        Condition::GpuIdle { below_percent: 0.0, for_ms: 10 },
    ];
    for condition in bad {
        let refusal = refusal(client.met(condition.clone()).await);
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{condition:?}: {refusal}");
        assert!(refusal.what.len() > 20, "{refusal}");
    }
    let nobody = Condition::Input { session: session("nobody") };
    assert_eq!(refusal(client.met(nobody).await).kind, RefusalKind::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_host_waited_for_is_no_longer_tried() {
    let host = Boxless::start(&[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = host.client().await;
    let waiting = tokio::spawn(async move { client.met(Condition::Http { url, status: Some(599) }).await });
    // Tried again and again while somebody waits: each try is a connection that is hung up on.
    for _ in 0..3 {
        drop(tokio::time::timeout(PATIENCE, listener.accept()).await.expect("it is tried").unwrap());
    }
    waiting.abort();
    let _ = waiting.await;
    let end = Instant::now() + PATIENCE;
    while tokio::time::timeout(NEVER, listener.accept()).await.is_ok() {
        assert!(Instant::now() < end, "it is still tried");
    }
}
