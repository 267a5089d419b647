//! What becomes of the channel between host and guest when it breaks, and of what was asked over it.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longhaul::domain::Exit;
use longhaul::guest::{
    Actor, Client, CommandState, Connector, Ends, GuestError, NoWay, OpenSession, Phase, RunCommand, Start, TermSize,
};
use tokio::sync::watch;

use crate::boxless::{Boxless, TOKEN, session};

/// The way to a boxless guest: can be cut, and held shut.
#[derive(Clone)]
struct Wire {
    control: std::path::PathBuf,
    logs: std::path::PathBuf,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    open: watch::Sender<bool>,
    patience: Arc<Mutex<Duration>>,
}

impl Wire {
    async fn to(host: &Boxless) -> (Self, Client) {
        let (control, logs, patience) = (host.control(), host.logs(), Arc::new(Mutex::new(Duration::from_secs(30))));
        let wire = Self { control, logs, streams: Arc::default(), open: watch::Sender::new(true), patience };
        let Ok(Ends::Socket { stream, logs }) = wire.connect().await else { panic!("no way to the guest") };
        let client = Client::connect(stream, TOKEN, logs).await.expect("welcome");
        let client = client.mended_by(wire.clone());
        client.open(open_main()).await.expect("a session");
        (wire, client)
    }

    /// Breaks the connection.
    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).expect("a connected socket");
        }
    }
}

#[async_trait::async_trait]
impl Connector for Wire {
    async fn connect(&self) -> Result<Ends, NoWay> {
        if !*self.open.borrow() {
            return Err(NoWay::Later("held shut".to_owned()));
        }
        let stream = UnixStream::connect(&self.control).map_err(|_| NoWay::Dead)?;
        self.streams.lock().unwrap().push(stream.try_clone().expect("a second descriptor"));
        let logs = std::fs::File::open(&self.logs).expect("a directory");
        Ok(Ends::Socket { stream, logs: Some(logs.into()) })
    }

    fn patience(&self) -> Duration {
        *self.patience.lock().unwrap()
    }
}

fn open_main() -> OpenSession {
    OpenSession {
        session: session("main"),
        shell: None,
        cwd: None,
        env: std::collections::BTreeMap::new(),
        size: TermSize::default(),
    }
}

fn ask(id: &str) -> RunCommand {
    RunCommand { id: id.to_owned(), session: session("main"), cwd: None }
}

fn exit(state: &CommandState) -> Option<Exit> {
    match &state.phase {
        Phase::Ended(end) => end.exit,
        other => panic!("not ended: {other:?}"),
    }
}

/// A FIFO that a command can wait for.
fn fifo(host: &Boxless) -> std::path::PathBuf {
    let path = host.work().join("go");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_the_connection_and_hears_the_end() {
    let host = Boxless::start(&[]);
    let go = fifo(&host);
    let (wire, client) = Wire::to(&host).await;
    let mut mended = client.mended();
    client.run(ask("a"), b"read word <go; echo got $word; exit 3").await.expect("started");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.ended("a").await }
    });
    let log = client.command("a").await.expect("known").log;
    for _ in 0..3 {
        wire.cut();
        mended.recv().await.expect("news of the new connection");
    }
    let grown = client.growth(&log, client.command("a").await.expect("known").log_size);
    let released = tokio::task::spawn_blocking(move || std::fs::write(go, "hello\n"));
    grown.await.expect("output");
    released.await.unwrap().expect("written");
    let (state, output) = waiting.await.unwrap().expect("an end");
    assert_eq!(exit(&state), Some(Exit::Code(3)));
    assert!(String::from_utf8_lossy(&output.expect("small")).contains("got hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_and_ends_without_a_connection_happens_once_and_is_told() {
    let host = Boxless::start(&[]);
    let (wire, client) = Wire::to(&host).await;
    let mut mended = client.mended();
    client.run(ask("a"), b"echo once >>out; while [ ! -e cut ]; do sleep 0.02; done; exit 4").await.expect("started");
    wire.open.send_replace(false);
    wire.cut();
    let ended = tokio::spawn({
        let client = client.clone();
        async move { (client.ended("a").await, client.run(ask("a"), b"echo twice >>out").await) }
    });
    std::fs::write(host.work().join("cut"), "").expect("written");
    let record = host.logs().join("records.jsonl");
    let until = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"ended\"")) {
        assert!(Instant::now() < until, "the command does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!ended.is_finished(), "nothing can have been heard yet");
    wire.open.send_replace(true);
    let (ended, known) = ended.await.unwrap();
    assert_eq!(exit(&ended.expect("an end").0), Some(Exit::Code(4)));
    assert!(matches!(known, Ok(Start::Known(_))), "{known:?}");
    assert!(mended.recv().await.expect("news").after > Duration::ZERO);
    assert_eq!(std::fs::read_to_string(host.work().join("out")).expect("a file"), "once\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_have_arrived_are_not_typed_again() {
    let host = Boxless::start(&[]);
    let (wire, client) = Wire::to(&host).await;
    client.run(ask("a"), b"read line; echo \"[$line]\"; read more").await.expect("started");
    // What is typed before that is the shell's.
    while !matches!(client.command("a").await.expect("known").phase, Phase::Running) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let guest = rustix::process::Pid::from_child(&host.guest);
    // It gets the keys, but can't answer before the connection is cut.
    rustix::process::kill_process(guest, rustix::process::Signal::STOP).expect("stopped");
    let main = session("main");
    let mut typing = Box::pin(client.type_keys(&main, b"typed\r", Actor::Model));
    assert!(futures_util::poll!(&mut typing).is_pending());
    // It is on its way; nothing tells when the socket has taken it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.cut();
    rustix::process::kill_process(guest, rustix::process::Signal::CONT).expect("continued");
    let typed = typing.await;
    assert!(matches!(typed, Err(GuestError::Unanswered)), "{typed:?}");
    let error = typed.unwrap_err().to_string();
    assert!(error.contains("not known whether"), "{error}");
    let state = client.command("a").await.expect("known");
    let mut text = String::new();
    while !text.contains("[typed]") {
        let size = client.growth(&state.log, text.len() as u64).await.expect("output");
        text = String::from_utf8_lossy(&client.read_log(&state.log, 0, size).await.expect("read")).into_owned();
    }
    // The second `read` would have taken a second line.
    assert!(matches!(client.command("a").await.expect("known").phase, Phase::Running));
    assert_eq!(text.matches("typed").count(), 2, "once as it was typed, once as it was printed: {text}");
    client.type_keys(&session("main"), b"\r", Actor::Model).await.expect("typed");
    client.ended("a").await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_dead_is_known_to_be_at_once() {
    let mut host = Boxless::start(&[]);
    let (_wire, client) = Wire::to(&host).await;
    client.run(ask("a"), b"sleep 600").await.expect("started");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.ended("a").await }
    });
    let began = Instant::now();
    host.guest.kill().expect("killed");
    host.guest.wait().expect("reaped");
    assert!(matches!(waiting.await.unwrap(), Err(GuestError::Gone)));
    client.gone().await;
    assert!(matches!(client.sessions().await, Err(GuestError::Gone)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_started_anew_is_not_taken_for_the_old_one() {
    let mut host = Boxless::start(&[]);
    let (wire, client) = Wire::to(&host).await;
    client.run(ask("a"), b"sleep 600").await.expect("started");
    wire.open.send_replace(false);
    host.restart();
    wire.open.send_replace(true);
    let lost = client.ended("a").await;
    assert!(matches!(&lost, Err(GuestError::Lost { why }) if why.contains("started anew")), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_with_a_broken_connection_ends_and_the_reason_is_told() {
    let host = Boxless::start(&[]);
    let (wire, client) = Wire::to(&host).await;
    *wire.patience.lock().unwrap() = Duration::from_secs(2);
    wire.open.send_replace(false);
    let began = Instant::now();
    wire.cut();
    client.gone().await;
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    let lost = client.sessions().await;
    assert!(matches!(&lost, Err(GuestError::Lost { why }) if why.ends_with("held shut")), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_lifeline_is_gone_with_its_connection() {
    let host = Boxless::start(&[]);
    let stream = host.connected_raw();
    let twin = stream.try_clone().expect("a second descriptor");
    let client = Client::connect(stream, TOKEN, None).await.expect("welcome");
    twin.shutdown(Shutdown::Both).expect("cut");
    client.gone().await;
    assert!(matches!(client.sessions().await, Err(GuestError::Gone)));
}
