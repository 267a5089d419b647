//! How long it takes to wake: a job ends at a moment that nobody knows, while a `wait` is on; measured from its last act,
//! which is to print the time, to the return of the wait, for a `local` box and a container. Beside it, in the same run and
//! of the same jobs, a poller that looks at the job's tmux pane every 100 ms. Prints distributions, judges nothing.
//!
//! `cargo bench --bench wait [-- JOBS]`; containers are measured with the image that `scripts/setup.sh` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

mod ground;
#[path = "ground/sessions.rs"]
mod sessions;
#[path = "ground/times.rs"]
mod times;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longhaul::domain::{Exit, RunMode, SandboxKind, ToolCall};
use longhaul::guest::{CheckCommand, Client, Phase, TmuxInfo};
use longhaul::sandbox::Limits;
use longhaul::terminal::Terminal;
use longhaul::tools::{Attention, CallNames, Registry, Services, Workbench};
use serde_json::{Value, json};

use ground::{backend, directory, spec};
use sessions::options;
use times::Times;

/// How often the poller looks.
const POLL: Duration = Duration::from_millis(100);

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let jobs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{jobs} jobs each; from a job's end to who waits for it; p50, p95, max in ms");
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        let dir = directory();
        if runtime.block_on(backend(kind, dir.path()).probe()).missing.is_some() {
            println!("{kind:?}: no box of this kind here; not measured");
            continue;
        }
        let (waited, polled) = runtime.block_on(measure(kind, dir.path(), jobs));
        print(kind, "wait", &waited);
        match polled {
            Some(polled) => {
                print(kind, "tmux capture-pane every 100 ms", &polled);
                println!("{kind:?}: the poller takes {:.0} times as long (p50)", polled.at(0.5) / waited.at(0.5));
            }
            None => println!("{kind:?}: no tmux in the box; the poller is not measured"),
        }
    }
}

fn print(kind: SandboxKind, what: &str, times: &Times) {
    println!("{kind:?}: {what}: {:.2} ({:.2}, {:.2})", times.at(0.5), times.at(0.95), times.at(1.0));
}

/// A workbench whose tools are called one after the other.
struct Desk {
    bench: Workbench,
    registry: Registry,
    calls: u32,
}

impl Desk {
    async fn call(&mut self, tool: &str, arguments: Value) -> String {
        self.calls += 1;
        let id = format!("c{}", self.calls);
        let call = ToolCall { id: id.clone(), name: tool.to_owned(), arguments: arguments.to_string() };
        let action = self.registry.read(&[call]).unwrap().remove(0).1;
        let names = CallNames { work: &id, call: &id };
        let done = self.bench.run(names, &action, &mut |_| {}, &Attention::new()).await.unwrap();
        self.bench.terminal().board().pending();
        done.outcome.text
    }
}

async fn measure(kind: SandboxKind, dir: &Path, jobs: usize) -> (Times, Option<Times>) {
    let sandbox = backend(kind, dir).create(&spec(kind, dir, Limits::default())).await.unwrap();
    let guest = sandbox.guest().clone();
    let terminal = Terminal::new(guest.clone(), options(dir));
    let bench = Workbench::new(sandbox, terminal, &dir.join("artifacts"));
    let mut desk = Desk { bench, registry: Registry::for_mode(RunMode::Goal), calls: 0 };
    desk.call("shell", json!({"command": "true", "session": "job"})).await;
    let view = guest.tmux().await.ok();
    let (mut waited, mut polled) = (Vec::new(), Vec::new());
    for nth in 0..jobs {
        // Its last act is to print the time, in nanoseconds.
        let command = format!("sleep 0.{:03}; date +%s%N", fastrand::u32(300..900));
        desk.call("shell", json!({"command": command, "session": "job", "yield_s": 0})).await;
        let looks = format!("poll-{nth}");
        let seen: Vec<u64> = waited.iter().map(|(ended, _): &(u64, u64)| *ended).collect();
        let poller = view.clone().map(|view| tokio::spawn(poll(guest.clone(), view, looks, seen)));
        let text = desk.call("wait", json!({"exit": ["job"]})).await;
        let woken = now();
        assert!(text.contains("exit 0"), "{text}");
        let ended = *times_in(&text).last().expect("it printed the time");
        waited.push((ended, woken));
        if let Some(poller) = poller {
            polled.push((ended, poller.await.unwrap()));
        }
    }
    desk.bench.close(Services::End).await;
    let times = |pairs: Vec<(u64, u64)>| {
        Times::of(pairs.into_iter().map(|(ended, told)| Duration::from_nanos(told.saturating_sub(ended))).collect())
    };
    (times(waited), (!polled.is_empty()).then(|| times(polled)))
}

/// Looks at the pane every [`POLL`] until it shows a time that is none of `seen`; the moment of that.
async fn poll(guest: Client, view: TmuxInfo, id: String, seen: Vec<u64>) -> u64 {
    let capture = format!("'{}' -S '{}' capture-pane -p -t '{}:job'", view.program, view.socket, view.session);
    for nth in 0u32.. {
        tokio::time::sleep(POLL).await;
        let id = format!("{id}-{nth}");
        let check = CheckCommand { id: id.clone(), cwd: None, env: BTreeMap::new(), timeout_ms: 60_000 };
        guest.check(check, capture.as_bytes()).await.unwrap();
        let (state, shown) = guest.ended(&id).await.unwrap();
        let shown = shown.map_or(String::new(), |shown| String::from_utf8_lossy(&shown).into_owned());
        assert!(matches!(&state.phase, Phase::Ended(end) if end.exit == Some(Exit::Code(0))), "{shown}");
        if times_in(&shown).iter().any(|time| !seen.contains(time)) {
            break;
        }
    }
    now()
}

/// The lines that are times in nanoseconds.
fn times_in(text: &str) -> Vec<u64> {
    text.lines().map(str::trim).filter(|line| line.len() == 19).filter_map(|line| line.parse().ok()).collect()
}

/// The wall clock in nanoseconds, as the box's `date` shows it.
fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(time.as_nanos()).unwrap()
}
