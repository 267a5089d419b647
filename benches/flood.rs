//! What floods of output cost: eight sessions print as fast as they can while a ninth runs `echo`; then one command prints
//! a gigabyte. Memory of the guest and of this process, which is the host's side, and the distribution of the echo's times.
//! Prints figures, judges nothing.
//!
//! `cargo bench --bench flood [-- SECONDS]`; containers are measured with the image that `scripts/setup.sh` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

mod ground;
#[path = "ground/memory.rs"]
mod memory;
#[path = "ground/sessions.rs"]
mod sessions;
#[path = "ground/times.rs"]
mod times;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longhaul::domain::{SandboxKind, SessionName};
use longhaul::sandbox::Limits;
use longhaul::terminal::{CommandSpec, JobWish, Terminal};
use tokio_util::sync::CancellationToken;

use ground::{backend, directory, spec};
use memory::rss_kib;
use sessions::options;
use times::Times;

const FLOODS: usize = 8;
/// Some hundred megabytes, and again.
const FLOOD: &str = "while :; do yes 'a line of output that comes again and again' | head -c 300000000; done";
const GIGABYTE: &str = "yes 'a line of output that comes again and again' | head -c 1000000000";
/// Time between two echoes.
const PACE: Duration = Duration::from_millis(20);
/// Most that the logs of a box may take on the disk.
const LOGS: u64 = 6 << 30;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(15);
    // As the program itself runs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        let dir = directory();
        runtime.block_on(async {
            if backend(kind, dir.path()).probe().await.missing.is_some() {
                println!("{kind:?}: no box of this kind here; not measured");
                return;
            }
            measure(kind, dir.path(), Duration::from_secs(seconds)).await;
        });
    }
}

async fn measure(kind: SandboxKind, dir: &Path, time: Duration) {
    let sandbox = backend(kind, dir)
        .create(&spec(kind, dir, Limits { log_bytes: Some(LOGS), ..Limits::default() }))
        .await
        .unwrap();
    let terminal = Terminal::new(sandbox.guest().clone(), options(dir));
    let guest = match kind {
        SandboxKind::Local => sandbox.facts().id.parse().unwrap(),
        _ => container_pid(&sandbox.facts().id),
    };
    for nth in 0..FLOODS {
        terminal.open(&flood(nth)).await.unwrap();
    }
    let idle = Times::of(echoes(&terminal, "idle", Duration::from_secs(3)).await);
    println!("{kind:?}");
    println!("  echo, idle:      {}", words(&idle));

    let memory = Memory::watch(guest);
    for nth in 0..FLOODS {
        let spec = command(&format!("flood-{nth}"), flood(nth), FLOOD, Duration::ZERO);
        let report = terminal.run(spec, &mut |_| {}, &CancellationToken::new()).await.unwrap();
        terminal.board().keep(&report, &flood(nth), JobWish::default());
    }
    let begun = Instant::now();
    let flooded = Times::of(echoes(&terminal, "flooded", time).await);
    let printed: u64 = terminal.sessions().await.unwrap().iter().map(|info| info.log_size).sum();
    println!("  echo, flooded:   {}", words(&flooded));
    println!("  {FLOODS} floods:        {:.0} MB/s kept", printed as f64 / 1e6 / begun.elapsed().as_secs_f64());
    memory.print("floods");
    for nth in 0..FLOODS {
        terminal.guest().close(&flood(nth)).await.unwrap();
    }

    let memory = Memory::watch(guest);
    let begun = Instant::now();
    let spec = command("gigabyte", SessionName::new("big").unwrap(), GIGABYTE, Duration::from_secs(600));
    let report = terminal.run(spec, &mut |_| {}, &CancellationToken::new()).await.unwrap();
    let (ran, all) = (report.duration, begun.elapsed());
    println!(
        "  a gigabyte:      {:.1} s to print, {:.1} s more to be told of it",
        ran.as_secs_f64(),
        (all - ran).as_secs_f64()
    );
    memory.print("a gigabyte");
    sandbox.destroy(Duration::from_secs(10)).await;
}

/// Runs `echo` again and again; how long each took.
async fn echoes(terminal: &Terminal, name: &str, time: Duration) -> Vec<Duration> {
    let session = SessionName::new("ninth").unwrap();
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let id = format!("{name}-{}", times.len());
        let spec = command(&id, session.clone(), "echo hello", Duration::from_secs(60));
        let begin = Instant::now();
        let report = terminal.run(spec, &mut |_| {}, &CancellationToken::new()).await.unwrap();
        times.push(begin.elapsed());
        assert_eq!(report.excerpt.text, "hello\n");
        tokio::time::sleep(PACE).await;
    }
    // The first one opens the session.
    times.remove(0);
    times
}

/// The distribution in words.
fn words(times: &Times) -> String {
    let [p50, p90, p95, p99, max] = [0.5, 0.9, 0.95, 0.99, 1.0].map(|share| times.at(share));
    format!("p50 {p50:.1} · p90 {p90:.1} · p95 {p95:.1} · p99 {p99:.1} · max {max:.1} ms")
}

/// Resident memory of the guest and of this process, watched by a thread.
struct Memory {
    idle: [u64; 2],
    peak: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
    pids: [u32; 2],
}

impl Memory {
    fn watch(guest: u32) -> Self {
        let pids = [guest, std::process::id()];
        let peak: Arc<[AtomicU64; 2]> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (peaks, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (pid, peak) in pids.iter().zip(&*peaks) {
                    peak.fetch_max(rss_kib(*pid), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { idle: pids.map(rss_kib), peak, stop, pids }
    }

    fn print(&self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        for (nth, whose) in ["guest", "host's side"].into_iter().enumerate() {
            let [idle, peak, after] = [self.idle[nth], self.peak[nth].load(Ordering::Relaxed), rss_kib(self.pids[nth])]
                .map(|kib| kib as f64 / 1024.0);
            println!(
                "  RSS, {whose}: {idle:.1} MiB before {what}, {peak:.1} at its peak (+{:.1}), {after:.1} after",
                peak - idle
            );
        }
    }
}

fn container_pid(id: &str) -> u32 {
    let said = Command::new("docker").args(["inspect", "-f", "{{.State.Pid}}", id]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
}

fn flood(nth: usize) -> SessionName {
    SessionName::new(format!("flood-{nth}")).unwrap()
}

fn command(id: &str, session: SessionName, text: &str, yield_after: Duration) -> CommandSpec {
    CommandSpec { id: id.to_owned(), session, command: text.as_bytes().to_vec(), cwd: None, yield_after }
}
