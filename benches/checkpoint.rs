//! What a checkpoint costs: kept, restored and forked, for few files, for many, and for much, beside `docker commit` of a
//! container with the same changes; how long the box is held; and what a step costs after a hundred of them.
//! Prints figures, judges nothing.
//!
//! `cargo bench --bench checkpoint [-- MEBIBYTES]`; the containers are made with the image that `scripts/setup.sh` makes,
//! by the plain command line.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it did not expect")]

mod ground;
#[path = "ground/times.rs"]
mod times;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::domain::{Consistency, Exit, SandboxKind, Snapshot};
use longhaul::guest::{CheckCommand, Client, Phase};
use longhaul::sandbox::{Backend, BoxSpec, Found, Limits, Sandbox, SnapshotWish};

use ground::{IMAGE, backend, directory, spec};
use times::Times;

/// Rounds of what is short.
const ROUNDS: usize = 5;
/// Checkpoints before a step is measured again.
const MANY: usize = 100;

fn main() {
    let mebibytes: u64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5 * 1024);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("p50 in ms; `+10` is a further one after ten more files");
    let loads = [
        ("10 files".to_owned(), "mkdir -p d && for i in $(seq 10); do echo $i >d/$i; done".to_owned()),
        (
            "10,000 files".to_owned(),
            "for d in $(seq 100); do mkdir -p m/$d; for i in $(seq 100); do echo $i >m/$d/$i; done; done".to_owned(),
        ),
        (
            format!("{mebibytes} MiB"),
            format!("for i in 1 2 3 4 5; do head -c $(({mebibytes} * 1048576 / 5)) /dev/zero >big$i; done; sync"),
        ),
    ];
    for (name, make) in &loads {
        runtime.block_on(local(name, make));
        containers(name, make);
    }
    runtime.block_on(steps());
}

/// Runs a command, which must succeed.
async fn run(guest: &Client, command: &str) -> Duration {
    let begun = Instant::now();
    let id = format!("b{}", fastrand::u64(..));
    let check = CheckCommand { id: id.clone(), cwd: None, env: BTreeMap::new(), timeout_ms: 1_200_000 };
    guest.check(check, command.as_bytes()).await.unwrap();
    let (state, _) = guest.ended(&id).await.unwrap();
    let Phase::Ended(end) = state.phase else { panic!("{state:?}") };
    assert_eq!(end.exit, Some(Exit::Code(0)), "{command}");
    begun.elapsed()
}

async fn open(backend: &dyn Backend, spec: &BoxSpec) -> Box<dyn Sandbox> {
    backend.create(spec).await.unwrap()
}

async fn keep(sandbox: &dyn Sandbox, spec: &BoxSpec, name: &str, last: bool) -> (Snapshot, Duration) {
    let begun = Instant::now();
    let layer = format!("{}-{name}", spec.run.short());
    let snapshot = sandbox.snapshot(&SnapshotWish { layer, last, ..SnapshotWish::default() }).await.unwrap();
    (snapshot, begun.elapsed())
}

fn held(snapshot: &Snapshot) -> String {
    match &snapshot.consistency {
        Consistency::Frozen { held_ms, .. } => held_ms.to_string(),
        Consistency::Stopped => "-".to_owned(),
        Consistency::Unfrozen { why } => why.clone(),
    }
}

async fn local(name: &str, make: &str) {
    let dir = directory();
    let backend = backend(SandboxKind::Local, dir.path());
    if backend.probe().await.missing.is_some() {
        println!("Local: no box of this kind here; not measured");
        return;
    }
    let of = spec(SandboxKind::Local, dir.path(), Limits::default());
    let sandbox = open(backend.as_ref(), &of).await;
    run(sandbox.guest(), make).await;
    let (first, took) = keep(sandbox.as_ref(), &of, "k0", false).await;
    println!(
        "Local, {name}: first {:.1} (held {}), {} files and {} MiB copied",
        ms(took),
        held(&first),
        first.new_files,
        first.new_bytes >> 20
    );
    let (mut further, mut holds) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        run(
            sandbox.guest(),
            &format!("mkdir -p n{round} && for i in 1 2 3 4 5 6 7 8 9 10; do echo x >n{round}/$i; done"),
        )
        .await;
        let (snapshot, took) = keep(sandbox.as_ref(), &of, &format!("k{round}"), false).await;
        further.push(took);
        holds.push(held(&snapshot));
    }
    let mut made = Vec::new();
    for _ in 0..ROUNDS {
        let fork = BoxSpec { from: Some(first.clone()), ..spec(SandboxKind::Local, dir.path(), Limits::default()) };
        let begun = Instant::now();
        let again = open(backend.as_ref(), &fork).await;
        made.push(begun.elapsed());
        again.destroy(Duration::from_secs(5)).await;
    }
    println!("    +10 {:.1} (held {}) · restored or forked {:.1}", at(further), holds.join(" "), at(made));
    let begun = Instant::now();
    let (last, sealed) = keep(sandbox.as_ref(), &of, "end", true).await;
    sandbox.destroy(Duration::from_secs(5)).await;
    let again = open(backend.as_ref(), &BoxSpec { from: Some(last), ..of.clone() }).await;
    println!("    sealed {:.1} · sealed, removed and made again {:.1}", ms(sealed), ms(begun.elapsed()));
    drop(again);
    let begun = Instant::now();
    let Found::Alive(again) = backend.find(&of).await.unwrap() else { panic!("it is up") };
    println!("    found alive {:.1}", ms(begun.elapsed()));
    again.destroy(Duration::from_secs(5)).await;
}

/// The same by the engine's own means.
fn containers(name: &str, make: &str) {
    let container = format!("longhaul-bench-{}", fastrand::u32(..));
    let image = |tag: usize| format!("{container}:k{tag}");
    if !docker(&["run", "-d", "--name", &container, "-w", "/root", IMAGE, "sleep", "100000"]) {
        println!("Docker: no engine or no {IMAGE}; not measured");
        return;
    }
    assert!(docker(&["exec", &container, "sh", "-c", make]));
    let first = timed(&["commit", &container, &image(0)]);
    let mut further = Vec::new();
    for round in 1..=ROUNDS.min(2) {
        let more = format!("mkdir n{round} && for i in 1 2 3 4 5 6 7 8 9 10; do echo x >n{round}/$i; done");
        assert!(docker(&["exec", &container, "sh", "-c", &more]));
        further.push(timed(&["commit", &container, &image(round)]));
    }
    let made: Vec<Duration> = (0..ROUNDS).map(|_| timed(&["run", "--rm", &image(0), "true"])).collect();
    println!(
        "docker commit, {name}: first {:.1} · +10 {:.1} · `run --rm` of it {:.1}",
        ms(first),
        at(further),
        at(made)
    );
    docker(&["rm", "-f", &container]);
    for round in 0..=ROUNDS.min(2) {
        docker(&["rmi", "-f", &image(round)]);
    }
}

fn docker(arguments: &[&str]) -> bool {
    let run = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn timed(arguments: &[&str]) -> Duration {
    let begun = Instant::now();
    assert!(docker(arguments), "docker {arguments:?}");
    begun.elapsed()
}

/// What a step costs before and after many checkpoints, and in a box that stands on a high stack.
async fn steps() {
    let dir = directory();
    let backend = backend(SandboxKind::Local, dir.path());
    if backend.probe().await.missing.is_some() {
        return;
    }
    let of = spec(SandboxKind::Local, dir.path(), Limits::default());
    let sandbox = open(backend.as_ref(), &of).await;
    let before = step(sandbox.guest()).await;
    let (mut took, mut snapshot) = (Vec::new(), None);
    for round in 0..MANY {
        run(sandbox.guest(), &format!("echo {round} >f{round}")).await;
        let (kept, time) = keep(sandbox.as_ref(), &of, &format!("m{round}"), false).await;
        took.push(time);
        snapshot = Some(kept);
    }
    let after = step(sandbox.guest()).await;
    let last = at(took.split_off(MANY - 10));
    println!(
        "a step of `true`: {before:.2} before, {after:.2} after {MANY} checkpoints, of which the last took {last:.1}"
    );
    sandbox.destroy(Duration::from_secs(5)).await;
    let mut begun = Vec::new();
    for round in 0..MANY {
        let fork = BoxSpec { from: snapshot.take(), ..spec(SandboxKind::Local, dir.path(), Limits::default()) };
        let since = Instant::now();
        let sandbox = open(backend.as_ref(), &fork).await;
        begun.push(since.elapsed());
        run(sandbox.guest(), &format!("echo {round} >g{round}")).await;
        if round + 1 == MANY {
            let high = step(sandbox.guest()).await;
            println!(
                "    a box restored {MANY} times in a row: made in {:.1}, a step {high:.2}",
                at(begun.split_off(MANY - 10))
            );
        }
        snapshot = Some(keep(sandbox.as_ref(), &fork, "s", true).await.0);
        sandbox.destroy(Duration::from_secs(5)).await;
        remove(&fork.run_dir);
    }
}

fn remove(run_dir: &Path) {
    std::fs::remove_dir_all(run_dir).unwrap();
}

async fn step(guest: &Client) -> f64 {
    let mut times = Vec::new();
    for _ in 0..100 {
        times.push(run(guest, "true").await);
    }
    at(times)
}

fn at(times: Vec<Duration>) -> f64 {
    Times::of(times).at(0.5)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
