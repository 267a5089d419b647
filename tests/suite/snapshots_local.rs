//! Snapshots of the box of this machine's own files, as root and as an ordinary user.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use longhaul::sandbox::Launch;
use longhaul::sandbox::local::Local;

use crate::sandbox_contract::Bench;
use crate::snapshots::{
    a_ruined_box_is_had_back, every_kind_of_file_comes_back, shells_do_not_notice, writers_are_kept_as_at_one_instant,
};

/// Where another user finds the program to test.
const AGENT: &str = "LONGHAUL_TEST_AGENT";

fn agent() -> PathBuf {
    std::env::var_os(AGENT).map_or_else(|| env!("CARGO_BIN_EXE_agent").into(), PathBuf::from)
}

fn local(bench: &Bench) -> Local {
    Local::new(Launch { program: agent(), state_dir: bench.state_dir() })
}

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

#[test]
fn the_same_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        // Then the tests above have been just that.
        return;
    }
    const USER: u32 = 12_345;
    let place = tempfile::Builder::new().prefix("longhaul-user-").tempdir_in("/var/tmp").expect("a place");
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let lend = |from: &Path, name: &str| {
        let to = place.path().join(name);
        fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).expect("a copy of the program");
        to
    };
    let suite = lend(&std::env::current_exe().expect("this program"), "suite");
    let agent = lend(&agent(), "agent");
    for test in [
        "every_kind_of_file_comes_back_for_whoever_runs_this",
        "writers_are_kept_as_at_one_instant_for_whoever_runs_this",
        "a_ruined_box_is_had_back_for_whoever_runs_this",
        "shells_do_not_notice_for_whoever_runs_this",
    ] {
        let output = Command::new(&suite)
            .args([&format!("snapshots_local::{test}"), "--exact", "--nocapture"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env(AGENT, &agent)
            .current_dir("/")
            .uid(USER)
            .gid(USER)
            .output()
            .expect("the suite starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{test}: {said}");
    }
}
