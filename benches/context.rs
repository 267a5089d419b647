//! What the conversation costs: counting tokens per MB of text, and of a long run with a window what is sent per step, how
//! much of each request the one before began with, what the driver holds in memory and what the transcript grows by.
//! Prints figures, judges nothing.
//!
//! `cargo bench --bench context [-- STEPS]`; the run has 5,000 steps unless another number is said.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

#[path = "ground/memory.rs"]
mod memory;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use longhaul::model::Tokens;
use serde_json::{Value, json};

use memory::rss_kib;

/// The program.
const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// The window of the run, in tokens.
const WINDOW: &str = "32000";
/// Steps over which figures are averaged.
const AROUND: usize = 50;

fn main() {
    let steps: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5_000);
    let dir = tempfile::Builder::new().prefix("longhaul-bench-").tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir(dir.path().join("project")).unwrap();
    // Before the tables are loaded here, so that nothing of this process is in the figures.
    match long_run(dir.path(), steps) {
        Some(seen) => report(&seen, steps),
        None => println!("the run did not come to its end: is there a local box here? (`agent doctor`)"),
    }
    counting();
}

/// Texts as terminals have them, about a megabyte each.
fn texts() -> Vec<(&'static str, String)> {
    let size = 1 << 20;
    let repeated = |line: &dyn Fn(usize) -> String| {
        let mut text = String::with_capacity(size + 200);
        (0..)
            .map(line)
            .take_while(|line| {
                text.push_str(line);
                text.len() < size
            })
            .for_each(drop);
        text
    };
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = (0..size * 3 / 4).map(|_| random.u8(..)).collect();
    vec![
        (
            "logs",
            repeated(&|n| {
                format!(
                    "2026-11-22T17:{:02}:{:02}Z INFO worker-{} took {} ms for /api/v1/items/{n}\n",
                    n / 60 % 60,
                    n % 60,
                    n % 8,
                    n * 37 % 900
                )
            }),
        ),
        (
            "progress",
            repeated(&|n| {
                format!("\r{:3}%|{:<20}| {n}/10000 [00:{:02}<01:40, 99.5it/s]", n % 101, "█".repeat(n % 21), n % 60)
            }),
        ),
        ("base64", base64::engine::general_purpose::STANDARD.encode(&bytes)),
        ("blanks", " ".repeat(size)),
        ("one letter", "a".repeat(size)),
        ("random bytes", String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

fn counting() {
    let before = rss_kib(std::process::id());
    let (own, guessed) = (Tokens::of_model("gpt-5"), Tokens::of_model("qwen3"));
    let began = Instant::now();
    own.count("loads the tables");
    println!(
        "tables loaded in {:.0} ms, {:.1} MiB more in memory",
        began.elapsed().as_secs_f64() * 1e3,
        rss_kib(std::process::id()).saturating_sub(before) as f64 / 1024.0
    );
    for (name, text) in texts() {
        let mb = text.len() as f64 / 1e6;
        let began = Instant::now();
        let counted = own.count(&text);
        let took = began.elapsed();
        println!(
            "counting {name:12} {:6.1} ms per MB · {:.2} bytes a token ({:.2} with an unknown vocabulary)",
            took.as_secs_f64() * 1e3 / mb,
            text.len() as f64 / counted as f64,
            text.len() as f64 / guessed.count(&text) as f64
        );
    }
}

/// One request as it came.
#[derive(Clone, Copy)]
struct Seen {
    size: usize,
    /// Bytes that it begins with as the one before it.
    kept: usize,
    /// Bytes of the one before it.
    before: usize,
    is_summary: bool,
    rss_kib: u64,
    journal: u64,
}

/// What the server holds between requests.
#[derive(Default)]
struct Shared {
    seen: Vec<Seen>,
    last: Vec<u8>,
    steps: usize,
    pid: u32,
}

/// A real run, of whose steps each is a command with a screenful of output.
fn long_run(dir: &Path, steps: usize) -> Option<Vec<Seen>> {
    let shared: Arc<Mutex<Shared>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (of_server, state) = (Arc::clone(&shared), dir.join("state"));
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (shared, state) = (Arc::clone(&of_server), state.clone());
            std::thread::spawn(move || serve(&stream.unwrap(), &shared, &state, steps));
        }
    });
    let mut agent = Command::new(AGENT);
    agent.args(["do", "go on", "--sandbox", "local", "--max-turns", "100000", "--window", WINDOW]);
    agent.current_dir(dir.join("project")).env("LONGHAUL_STATE_DIR", dir.join("state"));
    agent.env("OPENAI_BASE_URL", &url).env("LONGHAUL_MODEL", "fake");
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = agent.spawn().unwrap();
    shared.lock().unwrap().pid = child.id();
    if !child.wait().unwrap().success() {
        return None;
    }
    println!("{steps} steps in a window of {WINDOW} tokens took {:.1} s", began.elapsed().as_secs_f64());
    let seen = std::mem::take(&mut shared.lock().unwrap().seen);
    Some(seen)
}

fn serve(stream: &TcpStream, shared: &Mutex<Shared>, state: &Path, steps: usize) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, stream);
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
        let mut body = vec![0; size.unwrap()];
        reader.read_exact(&mut body).unwrap();
        let delta = answer(body, shared, state, steps);
        let reason = if delta.get("tool_calls").is_some() { "tool_calls" } else { "stop" };
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        let answer = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length:";
        if write!(&*stream, "{head} {}\r\n\r\n{answer}", answer.len()).is_err() {
            return;
        }
    }
}

/// Notes a request and says what is answered.
fn answer(body: Vec<u8>, shared: &Mutex<Shared>, state: &Path, steps: usize) -> Value {
    let mut shared = shared.lock().unwrap();
    let is_summary = memchr::memmem::find(&body, br#""tool_choice":"none""#).is_some();
    let kept = body.iter().zip(&shared.last).take_while(|(a, b)| a == b).count();
    let seen = Seen {
        size: body.len(),
        kept,
        before: shared.last.len(),
        is_summary,
        rss_kib: rss_kib(shared.pid),
        journal: journal_bytes(state),
    };
    shared.seen.push(seen);
    shared.last = body;
    if is_summary {
        return json!({"content": "Goal: go on. Done: lines were printed, all with exit 0. Next: go on."});
    }
    let nth = shared.steps;
    shared.steps += 1;
    let (tool, arguments) = match nth < steps {
        true => ("shell", json!({"command": format!("seq {nth} {}", nth + 90)})),
        false => ("finish", json!({"summary": "done"})),
    };
    let function = json!({"name": tool, "arguments": arguments.to_string()});
    json!({"tool_calls": [{"index": 0, "id": format!("c{nth}"), "type": "function", "function": function}]})
}

fn journal_bytes(state: &Path) -> u64 {
    let run = std::fs::read_dir(state.join("runs")).ok().and_then(|mut runs| runs.next()?.ok());
    run.and_then(|run| run.path().join("journal.jsonl").metadata().ok()).map_or(0, |meta| meta.len())
}

fn report(seen: &[Seen], steps: usize) {
    let summaries = seen.iter().filter(|seen| seen.is_summary).count();
    let kept: u128 = seen.iter().skip(1).map(|seen| seen.kept as u128).sum();
    let before: u128 = seen.iter().skip(1).map(|seen| seen.before as u128).sum();
    println!("prefix reused from the request before: {:.2} % of its bytes", kept as f64 * 100.0 / before as f64);
    println!("reductions with a summary of the model: {summaries}");
    for at in [50, 500, 5_000].into_iter().filter(|at| *at <= steps) {
        let window = &seen[at.saturating_sub(AROUND).min(seen.len() - 1)..at.min(seen.len())];
        let mean = |of: fn(&Seen) -> u64| window.iter().map(of).sum::<u64>() as f64 / window.len() as f64;
        let journal = seen[at.min(seen.len() - 1)].journal as f64 / at as f64;
        println!(
            "step {at:5}: {:.1} kB sent per request, at most {:.1} · RSS {:.1} MiB · transcript {:.2} kB a step",
            mean(|seen| seen.size as u64) / 1e3,
            window.iter().map(|seen| seen.size).max().unwrap() as f64 / 1e3,
            mean(|seen| seen.rss_kib) / 1024.0,
            journal / 1e3,
        );
    }
}
