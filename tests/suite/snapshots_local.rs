//! Snapshots of the box of this machine's own files, as root and as an ordinary user.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::guest::CheckCommand;
use longhaul::process::Identity;
use longhaul::sandbox::host::Host;
use longhaul::sandbox::{Backend as _, Found, Launch};

use crate::sandbox_contract::{Bench, close, nothing_is_left, open, said};
use crate::sandbox_local::{agent, as_an_ordinary_user, local};
use crate::small_disk::SmallDisk;
use crate::snapshots::{
    a_box_is_found_as_it_is, a_box_that_was_killed_is_started_again, a_ruined_box_is_had_back,
    every_kind_of_file_comes_back, from, keep, look_for, shells_do_not_notice, the_last_snapshot_is_the_box, wish,
    writers_are_kept_as_at_one_instant,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_file_comes_back_for_whoever_runs_this() {
    let bench = Bench::new();
    every_kind_of_file_comes_back(&local(&bench), &bench, &bench.spec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_are_kept_as_at_one_instant_for_whoever_runs_this() {
    let bench = Bench::new();
    writers_are_kept_as_at_one_instant(&local(&bench), &bench, &bench.spec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ruined_box_is_had_back_for_whoever_runs_this() {
    let bench = Bench::new();
    a_ruined_box_is_had_back(&local(&bench), &bench, &bench.spec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_do_not_notice_for_whoever_runs_this() {
    let bench = Bench::new();
    shells_do_not_notice(&local(&bench), &bench, &bench.spec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_found_as_it_is_for_whoever_runs_this() {
    let bench = Bench::new();
    a_box_is_found_as_it_is(&local(&bench), &bench.spec()).await;
    nothing_is_left(&bench);
    let host = Host::new(Launch { program: agent(), state_dir: bench.state_dir() }, std::env::temp_dir());
    a_box_is_found_as_it_is(&host, &bench.another_run()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_was_killed_is_started_again_for_whoever_runs_this() {
    let bench = Bench::new();
    a_box_that_was_killed_is_started_again(&local(&bench), &bench, &bench.spec(), async |sandbox| {
        let pid: i32 = sandbox.facts().id.parse().unwrap();
        let process = Identity::of(pid).unwrap();
        let held = process.hold().unwrap();
        held.kill();
        held.ended().await;
    })
    .await;
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_snapshot_is_the_box_for_whoever_runs_this() {
    let bench = Bench::new();
    the_last_snapshot_is_the_box(&local(&bench), &bench, &bench.spec()).await;
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_was_removed_comes_back_with_what_was_kept_of_it() {
    let bench = Bench::new();
    let (backend, spec) = (local(&bench), bench.spec());
    let sandbox = open(&backend, &spec).await;
    said(sandbox.guest(), "echo work >work.txt; echo home >$HOME/new.txt").await;
    close(sandbox.as_ref()).await;
    let Found::Restarted(sandbox, _) = look_for(&backend, &spec).await else { panic!("its work is there") };
    assert_eq!(said(sandbox.guest(), "cat work.txt; ls $HOME").await, "work\nnotes.txt");
    close(sandbox.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_was_removed_by_hand_is_named_and_nothing_is_made() {
    let bench = Bench::new();
    let backend = local(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    said(sandbox.guest(), "echo work >work.txt").await;
    let snapshot = keep(sandbox.as_ref(), &wish(&bench, "k1")).await;
    close(sandbox.as_ref()).await;
    fs::remove_dir_all(bench.state_dir().join("layers").join(&snapshot.layers[0])).unwrap();
    let spec = from(&bench, &snapshot);
    let error = backend.create(&spec).await.err().expect("it can't be made");
    assert!(error.because.as_ref().unwrap().contains(&snapshot.layers[0]), "{error:?}");
    assert!(!spec.run_dir.join("box").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_refers_to_is_discarded_and_swept_and_nothing_else_is() {
    let bench = Bench::new();
    let backend = local(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    said(sandbox.guest(), "echo work >work.txt").await;
    let first = keep(sandbox.as_ref(), &wish(&bench, "k1")).await;
    let second = keep(sandbox.as_ref(), &wish(&bench, "k2")).await;
    let user = open(&backend, &from(&bench, &first)).await;
    assert_eq!(backend.discard(&first).await, Vec::<String>::new());
    assert_eq!(backend.discard(&second).await, Vec::<String>::new());
    let layers = || -> Vec<String> {
        let entries = fs::read_dir(bench.state_dir().join("layers")).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(layers(), first.layers, "a box stands on it");
    close(user.as_ref()).await;
    fs::create_dir(bench.state_dir().join("layers/.tmp-gone-k7")).unwrap();
    let own = bench.run().clone();
    backend.sweep(&|run| *run == own).await;
    assert_eq!(layers(), first.layers, "the run that it was made for is driven");
    // The box that stood on it is listed with what it stood on until its run is removed.
    backend.sweep(&|_| false).await;
    assert_eq!(layers(), first.layers);
    let of_user = from(&bench, &first).run_dir;
    for run in fs::read_dir(of_user.parent().unwrap()).unwrap().flatten() {
        let _ = fs::remove_dir_all(run.path().join("box"));
    }
    backend.sweep(&|_| false).await;
    assert_eq!(layers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_snapshot_and_not_the_box() {
    let Some(disk) = SmallDisk::mount() else { return };
    let bench = Bench::below(&disk.path);
    let backend = local(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    said(sandbox.guest(), "head -c 260000 /dev/urandom >large").await;
    let error = sandbox.snapshot(&wish(&bench, "k1")).await.expect_err("there is no room");
    assert!(error.hint.is_some(), "{error:?}");
    let layers = fs::read_dir(bench.state_dir().join("layers")).unwrap().count();
    assert_eq!(layers, 0, "nothing is left of it");
    assert_eq!(said(sandbox.guest(), "rm large; echo goes on").await, "goes on");
    keep(sandbox.as_ref(), &wish(&bench, "k2")).await;
    close(sandbox.as_ref()).await;
}

/// Names the bench of a driver that is to be killed.
const VICTIM: &str = "LONGHAUL_TEST_VICTIM";

/// The driver of the next test: takes one snapshot after the other until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn keeps_one_snapshot_after_the_other_when_it_is_asked_to() {
    let Some(run_dir) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let bench = Bench::at(&run_dir);
    let Found::Alive(sandbox) = look_for(&local(&bench), &bench.spec()).await else { panic!("it is up") };
    for round in 0.. {
        keep(sandbox.as_ref(), &wish(&bench, &format!("v{round}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_killed_while_it_keeps_files_leaves_the_box_at_work() {
    let bench = Bench::new();
    let backend = local(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    // New contents all the time, so that much is copied while the box is held.
    let work = "i=0; while :; do i=$((i+1)); for n in 1 2 3 4 5 6 7 8; do head -c 3000000 /dev/zero >f$n; done; \
                echo $i >count; done";
    let check = CheckCommand { id: "work".to_owned(), cwd: None, env: BTreeMap::new(), timeout_ms: 600_000 };
    sandbox.guest().check(check, work.as_bytes()).await.unwrap();
    let layers = bench.state_dir().join("layers");
    let half_made = || {
        let names = fs::read_dir(&layers).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".tmp-")).count()
    };
    let mut killed_half_way = 0;
    for round in 0..6 {
        let mut driver = Command::new(std::env::current_exe().unwrap())
            .args(["snapshots_local::keeps_one_snapshot_after_the_other_when_it_is_asked_to", "--exact"])
            .env(VICTIM, bench.run_dir())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while half_made() == 0 && since.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round * 9));
        driver.kill().unwrap();
        driver.wait().unwrap();
        killed_half_way += half_made();
        backend.sweep(&|_| true).await;
        assert_eq!(half_made(), usize::from(half_made() > 0), "what is driven is not touched");
        for entry in fs::read_dir(&layers).unwrap().flatten() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
        let before = said(sandbox.guest(), "cat count || echo 0").await;
        let goes_on = format!("until test \"$(cat count)\" != '{before}' -a -n \"$(cat count)\"; do :; done");
        said(sandbox.guest(), &goes_on).await;
    }
    assert!(killed_half_way > 0, "none was killed in the middle");
    close(sandbox.as_ref()).await;
}

#[test]
fn the_same_holds_for_an_ordinary_user() {
    as_an_ordinary_user(
        "snapshots_local",
        &[
            "every_kind_of_file_comes_back_for_whoever_runs_this",
            "writers_are_kept_as_at_one_instant_for_whoever_runs_this",
            "a_ruined_box_is_had_back_for_whoever_runs_this",
            "shells_do_not_notice_for_whoever_runs_this",
            "a_box_is_found_as_it_is_for_whoever_runs_this",
            "a_box_that_was_killed_is_started_again_for_whoever_runs_this",
            "the_last_snapshot_is_the_box_for_whoever_runs_this",
        ],
    );
}
