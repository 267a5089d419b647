//! What a step costs over a bare loop: `agent do` with a server that answers at once, against a loop that does one HTTP
//! round trip with a request of the same size and one command over the same channel, in the same run on the same machine.
//! Prints figures, judges nothing.
//!
//! `cargo bench --bench steps [-- STEPS]`; containers are measured with the image that `scripts/setup.sh` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

mod ground;
#[path = "ground/memory.rs"]
mod memory;
#[path = "ground/sessions.rs"]
mod sessions;
#[path = "ground/times.rs"]
mod times;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longhaul::domain::{SandboxKind, SessionName};
use longhaul::sandbox::Limits;
use longhaul::terminal::{CommandSpec, Terminal};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use ground::{AGENT, IMAGE, backend, directory, spec};
use memory::rss_kib;
use sessions::options;
use times::Times;

/// The arguments of the call that a step makes: each another, since a run of the same calls is taken for a circle.
fn true_of(nth: usize) -> String {
    format!("{{\"command\": \"true {nth:06}\"}}")
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let steps = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(300);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{steps} steps of `true`; per step, p50 (p95), in ms");
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        let dir = directory();
        if runtime.block_on(backend(kind, dir.path()).probe()).missing.is_some() {
            println!("{kind:?}: no box of this kind here; not measured");
            continue;
        }
        let whole = whole_loop(kind, dir.path(), steps);
        let bare = runtime.block_on(bare_loop(kind, dir.path(), &whole.sizes));
        report(kind, &bare, &whole);
    }
}

/// What was measured of `agent do`.
struct Whole {
    steps: Times,
    /// Bytes of each request.
    sizes: Vec<usize>,
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
        "    start to first request {:.1} ms · RSS at the end {:.1} MiB · requests of {} to {} bytes",
        whole.to_first_request.as_secs_f64() * 1e3,
        whole.rss_kib as f64 / 1024.0,
        whole.sizes[0],
        whole.sizes[whole.sizes.len() - 1]
    );
}

/// A request that came.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    size: usize,
}

/// A server that answers every request at once with one tool call, and does nothing else with it.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `call` names the tool and its arguments for the nth request, from 0.
    fn start(call: impl Fn(usize) -> (&'static str, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (shared, call) = (Arc::clone(&seen), Arc::new(call));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, call) = (Arc::clone(&shared), Arc::clone(&call));
                std::thread::spawn(move || serve(&stream.unwrap(), &shared, &*call));
            }
        });
        Self { url, seen }
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<Seen>>, call: &dyn Fn(usize) -> (&'static str, String)) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let mut body = Vec::new();
    loop {
        let mut size = None;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let value = line.to_ascii_lowercase().strip_prefix("content-length:").map(str::trim).map(str::to_owned);
            size = value.map(|value| value.parse().unwrap()).or(size);
        }
        body.resize(size.unwrap(), 0);
        reader.read_exact(&mut body).unwrap();
        let nth = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen { at: Instant::now(), size: body.len() });
            seen.len() - 1
        };
        let (tool, arguments) = call(nth);
        let function = json!({"name": tool, "arguments": arguments});
        let delta =
            json!({"tool_calls": [{"index": 0, "id": format!("c{nth}"), "type": "function", "function": function}]});
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]});
        let answer = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length:";
        if write!(&*stream, "{head} {}\r\n\r\n{answer}", answer.len()).is_err() {
            return;
        }
    }
}

/// One round trip over HTTP and one command over the channel of a box, and nothing else.
async fn bare_loop(kind: SandboxKind, dir: &Path, sizes: &[usize]) -> Times {
    let sandbox = backend(kind, dir).create(&spec(kind, dir, Limits::default())).await.unwrap();
    let terminal = Terminal::new(sandbox.guest().clone(), options(dir));
    let server = Server::start(|nth| ("shell", true_of(nth)));
    let client = reqwest::Client::new();
    let url = format!("{}/chat/completions", server.url);
    let mut times = Vec::new();
    for (step, size) in sizes.iter().enumerate() {
        let body = vec![b'x'; *size];
        let begin = Instant::now();
        let answer = client.post(&url).body(body).send().await.unwrap().bytes().await.unwrap();
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
    Times::of(times)
}

/// `agent do` with the same kind of server: a step is the time from one request to the next.
fn whole_loop(kind: SandboxKind, dir: &Path, steps: usize) -> Whole {
    let rss: Arc<Mutex<u64>> = Arc::default();
    let pid: Arc<Mutex<u32>> = Arc::default();
    let (shared_rss, shared_pid) = (Arc::clone(&rss), Arc::clone(&pid));
    let server = Server::start(move |nth| {
        if nth <= steps {
            return ("shell", true_of(nth));
        }
        *shared_rss.lock().unwrap() = rss_kib(*shared_pid.lock().unwrap());
        ("finish", r#"{"summary": "done"}"#.to_owned())
    });
    let mut agent = Command::new(AGENT);
    agent.args(["do", "repeat", "--max-turns", "100000"]).current_dir(dir.join("project"));
    match kind {
        SandboxKind::Local => agent.args(["--sandbox", "local"]),
        _ => agent.args(["--image", IMAGE]),
    };
    agent.env("LONGHAUL_STATE_DIR", dir.join("state")).env("OPENAI_BASE_URL", &server.url);
    agent.env("LONGHAUL_MODEL", "fake").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut child = agent.spawn().unwrap();
    *pid.lock().unwrap() = child.id();
    assert!(child.wait().unwrap().success(), "`agent do` failed");
    let seen = server.seen.lock().unwrap().clone();
    let times = seen.windows(2).skip(1).map(|pair| pair[1].at - pair[0].at).collect();
    Whole {
        steps: Times::of(times),
        sizes: seen.iter().map(|seen| seen.size).collect(),
        to_first_request: seen[0].at - started,
        rss_kib: *rss.lock().unwrap(),
    }
}
