//! What a step costs over a bare loop: `agent do` with a server that answers at once, against one HTTP round trip and one
//! command over the same channel, in the same run on the same machine. Prints figures, judges nothing.
//!
//! `cargo bench --bench steps [-- STEPS]`; containers are measured with the image that `scripts/setup.sh` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

#[expect(dead_code, reason = "the bench needs less of the server than the tests do")]
#[path = "../tests/suite/model_server.rs"]
mod model_server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longhaul::clock::{Clock as _, SystemClock};
use longhaul::domain::{SandboxKind, SessionName};
use longhaul::guest::TermSize;
use longhaul::journal::new_run_id;
use longhaul::sandbox::docker::Docker;
use longhaul::sandbox::local::Local;
use longhaul::sandbox::{Backend, BoxSpec, Launch, Limits, Network};
use longhaul::terminal::{CommandSpec, ExcerptBudget, Terminal, TerminalOptions};
use model_server::{ModelServer, Reply};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "longhaul-test:bookworm";
const AGENT: &str = env!("CARGO_BIN_EXE_agent");

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let steps = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(300);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{steps} steps of `true`; per step, p50 (p95), in ms");
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        let dir = tempfile::Builder::new().prefix("longhaul-bench-").tempdir_in("/var/tmp").unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        let Some(bare) = runtime.block_on(bare_loop(kind, dir.path(), steps)) else {
            println!("{kind:?}: no box of this kind here; not measured");
            continue;
        };
        let whole = whole_loop(kind, dir.path(), steps);
        report(kind, &bare, &whole);
    }
}

/// Times of the steps, sorted.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, share: f64) -> f64 {
        let nth = ((self.0.len() - 1) as f64 * share).round() as usize;
        self.0[nth].as_secs_f64() * 1e3
    }
}

/// What was measured of `agent do`.
struct Whole {
    steps: Times,
    to_first_request: Duration,
    rss_kib: u64,
}

fn report(kind: SandboxKind, bare: &Times, whole: &Whole) {
    let (b50, b95) = (bare.at(0.5), bare.at(0.95));
    let (w50, w95) = (whole.steps.at(0.5), whole.steps.at(0.95));
    println!(
        "{kind:?}: bare loop {b50:.2} ({b95:.2}) · agent do {w50:.2} ({w95:.2}) · ratio {:.2} · overhead {:.2} ms",
        w50 / b50,
        w50 - b50
    );
    println!(
        "    start to first request {:.1} ms · RSS at the end {:.1} MiB",
        whole.to_first_request.as_secs_f64() * 1e3,
        whole.rss_kib as f64 / 1024.0
    );
}

fn call_true() -> Reply {
    Reply::call("shell", &json!({"command": "true"}))
}

/// One round trip over HTTP and one command over the channel of a box, and nothing else.
async fn bare_loop(kind: SandboxKind, dir: &Path, steps: usize) -> Option<Times> {
    let launch = Launch { program: PathBuf::from(AGENT), state_dir: dir.join("state") };
    let backend: Box<dyn Backend> = match kind {
        SandboxKind::Local => Box::new(Local::new(launch)),
        _ => Box::new(Docker::new(launch, Some(IMAGE.to_owned()), std::env::vars().collect(), None)),
    };
    if backend.probe().await.missing.is_some() {
        return None;
    }
    let sandbox = backend.create(&spec(kind, dir)).await.unwrap();
    let terminal = Terminal::new(sandbox.guest().clone(), options(dir));
    let server = ModelServer::replying(|_| call_true());
    let client = reqwest::Client::new();
    let url = format!("{}/chat/completions", server.base_url());
    let mut times = Vec::new();
    for step in 0..=steps {
        let begin = Instant::now();
        let body = json!({"model": "fake", "messages": [{"role": "user", "content": "go on"}], "stream": true});
        let answer = client.post(&url).json(&body).send().await.unwrap().bytes().await.unwrap();
        assert!(!answer.is_empty());
        let command = CommandSpec {
            id: format!("bare-{step}"),
            session: SessionName::new("main").unwrap(),
            command: b"true".to_vec(),
            cwd: None,
            yield_after: Duration::from_secs(60),
        };
        terminal.run(command, &mut |_| {}, &CancellationToken::new()).await.unwrap();
        times.push(begin.elapsed());
    }
    sandbox.destroy(Duration::from_secs(10)).await;
    // The first step opens the session.
    times.remove(0);
    Some(Times::of(times))
}

/// `agent do` with the same server: a step is the time from one request to the next.
fn whole_loop(kind: SandboxKind, dir: &Path, steps: usize) -> Whole {
    let begin = Instant::now();
    let requests: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let rss: Arc<Mutex<u64>> = Arc::default();
    let pid: Arc<Mutex<u32>> = Arc::default();
    let server = {
        let (requests, rss, pid) = (Arc::clone(&requests), Arc::clone(&rss), Arc::clone(&pid));
        ModelServer::replying(move |_| {
            let mut requests = requests.lock().unwrap();
            requests.push(Instant::now());
            if requests.len() <= steps + 1 {
                return call_true();
            }
            *rss.lock().unwrap() = rss_kib(*pid.lock().unwrap());
            Reply::call("finish", &json!({"summary": "done"}))
        })
    };
    let mut agent = Command::new(AGENT);
    agent.args(["do", "repeat", "--max-turns", "100000"]).current_dir(dir.join("project"));
    match kind {
        SandboxKind::Local => agent.args(["--sandbox", "local"]),
        _ => agent.args(["--image", IMAGE]),
    };
    agent.env("LONGHAUL_STATE_DIR", dir.join("state")).env("OPENAI_BASE_URL", server.base_url());
    agent.env("LONGHAUL_MODEL", "fake").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut child = agent.spawn().unwrap();
    *pid.lock().unwrap() = child.id();
    assert!(child.wait().unwrap().success(), "`agent do` failed after {:?}", begin.elapsed());
    let requests = requests.lock().unwrap();
    let steps = requests.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    Whole { steps: Times::of(steps), to_first_request: requests[0] - started, rss_kib: *rss.lock().unwrap() }
}

/// Resident memory of a process, in KiB.
fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn spec(kind: SandboxKind, dir: &Path) -> BoxSpec {
    let run = new_run_id(SystemClock::new().now(), 1);
    let run_dir = dir.join("state/runs").join(run.as_str());
    fs::create_dir_all(run_dir.join("sessions")).unwrap();
    BoxSpec {
        run,
        run_dir,
        state_dir: dir.join("state"),
        workspace: dir.join("project"),
        bind_workspace: false,
        image: (kind == SandboxKind::Docker).then(|| IMAGE.to_owned()),
        home: None,
        network: Network::Open,
        limits: Limits::default(),
        why: "bench".to_owned(),
        env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())]),
        token: "0123456789abcdef0123456789abcdef".to_owned(),
    }
}

fn options(dir: &Path) -> TerminalOptions {
    TerminalOptions {
        workspace: dir.join("project").to_string_lossy().into_owned(),
        env: BTreeMap::new(),
        size: TermSize::default(),
        logs: "sessions".to_owned(),
        budget: ExcerptBudget::default(),
    }
}
