//! The box of this machine's own files, as root and as an ordinary user, and the host without a box.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use longhaul::domain::{Capability, Exit};
use longhaul::sandbox::host::Host;
use longhaul::sandbox::local::Local;
use longhaul::sandbox::{Backend, Launch, Network, Removal};

use crate::sandbox_contract::{
    Bench, close, holds, leave_running, nothing_is_left, open, processes_with, run_in, said,
};

/// Where another user finds the program to test.
const AGENT: &str = "LONGHAUL_TEST_AGENT";

pub(crate) fn agent() -> PathBuf {
    std::env::var_os(AGENT).map_or_else(|| env!("CARGO_BIN_EXE_agent").into(), PathBuf::from)
}

pub(crate) fn local(bench: &Bench) -> Local {
    Local::new(Launch { program: agent(), state_dir: bench.state_dir() })
}

fn host(bench: &Bench) -> Host {
    Host::new(Launch { program: agent(), state_dir: bench.state_dir() }, std::env::temp_dir())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_for_whoever_runs_this() {
    let bench = Bench::new();
    let backend = local(&bench);
    assert_eq!(backend.probe().await.missing, None);
    let names = fs::read_dir(bench.state_dir()).expect("it is there").flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["runs"], "a probe leaves nothing");
    nothing_is_left(&bench);
    holds(&backend, &bench, &bench.spec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_box_must_not_do_is_refused_to_whoever_runs_this() {
    let bench = Bench::new();
    let sandbox = open(&local(&bench), &bench.spec()).await;
    let guest = sandbox.guest();
    let attempts = [
        "mount -t tmpfs none /mnt",
        "umount /proc",
        "unshare -U true",
        "unshare -m true",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "echo 1 >/proc/sys/kernel/sysrq",
        "echo b >/proc/sysrq-trigger",
        "nsenter -t 1 -m true",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "readlink /proc/1/fd/0",
        "cat /proc/1/maps | grep -q .",
        "head -c 1 /proc/kcore | grep -q .",
        "echo x >/sys/power/state",
        "ls /sys/fs/cgroup/memory",
        "hostname other",
        "date -s 2001-01-01",
        "ls /run/docker.sock",
        "test -s /etc/shadow && grep -q '[$]' /etc/shadow",
        "kill -9 1; sleep 0.1; kill -STOP 1; kill -0 1 && false",
        "chroot /proc/1/root true",
        "chmod 666 /dev/full",
        "touch /dev/full",
        "echo x >/run/longhaul-bin/agent",
    ];
    for attempt in attempts {
        let (exit, output) = run_in(guest, attempt).await;
        assert!(exit.is_some_and(|exit| !exit.is_success()), "`{attempt}` worked: {output}");
    }
    assert_eq!(said(guest, "cat /proc/sys/kernel/hostname").await, "longhaul");
    assert_eq!(said(guest, "grep NoNewPrivs /proc/self/status").await, "NoNewPrivs:\t1");
    assert_eq!(said(guest, "grep ^Seccomp: /proc/self/status").await, "Seccomp:\t2");
    close(sandbox.as_ref()).await;
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_only_the_loopback_is_there() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.network = Network::None;
    let sandbox = open(&local(&bench), &spec).await;
    assert_eq!(
        said(sandbox.guest(), "sed 1,2d /proc/net/dev | cut -d: -f1 | tr -d ' '").await.lines().next(),
        Some("lo")
    );
    assert_eq!(said(sandbox.guest(), "sed 1d /proc/net/route").await, "");
    // An address of its own: the loopback is up.
    said(sandbox.guest(), "grep -q 127.0.0.1 /proc/net/fib_trie").await;
    close(sandbox.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_the_host_without_a_path_are_out_of_reach_where_the_kernel_can_keep_them_away() {
    use std::os::linux::net::SocketAddrExt as _;
    let bench = Bench::new();
    let sandbox = open(&local(&bench), &bench.spec()).await;
    let name = format!("longhaul-test-{}", bench.run().short());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a short name");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("the name is new");
    let connect = format!(
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit(connect(S, pack(\"Sa*\", AF_UNIX, \"\\0{name}\")) ? 0 : 9)'"
    );
    let outside = Command::new("sh").args(["-c", &connect]).status().expect("sh starts");
    assert!(outside.success(), "the host itself reaches it");
    let kept_away = |had: &Capability| had.name.starts_with("abstract sockets") && had.missing.is_none();
    let expected = if sandbox.facts().capabilities.iter().any(kept_away) { 9 } else { 0 };
    assert_eq!(run_in(sandbox.guest(), &connect).await.0, Some(Exit::Code(expected)));
    close(sandbox.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_under_tmp_is_shown_alone_and_a_bound_one_is_written_through() {
    let bench = Bench::below(Path::new("/tmp"));
    let mut spec = bench.spec();
    let sandbox = open(&local(&bench), &spec).await;
    assert_eq!(said(sandbox.guest(), "cat input.txt; ls /tmp | wc -l").await, "given\n1");
    close(sandbox.as_ref()).await;
    fs::remove_dir_all(bench.run_dir().join("box")).expect("the changes of the first box");
    spec.bind_workspace = true;
    let sandbox = open(&local(&bench), &spec).await;
    said(sandbox.guest(), "echo through >output.txt").await;
    assert_eq!(fs::read_to_string(bench.workspace().join("output.txt")).expect("written through"), "through\n");
    close(sandbox.as_ref()).await;
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_stays_hidden_when_the_workspace_holds_it() {
    for bind in [false, true] {
        let bench = Bench::new();
        let mut spec = bench.spec();
        spec.workspace = bench.path().to_owned();
        spec.bind_workspace = bind;
        let sandbox = open(&local(&bench), &spec).await;
        let seen = run_in(sandbox.guest(), "cat project/input.txt; grep -rs SECRET . || ls -A state").await.1;
        assert_eq!(seen.trim(), "given");
        close(sandbox.as_ref()).await;
        nothing_is_left(&bench);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_first_process_was_killed_is_taken_down_all_the_same() {
    let bench = Bench::new();
    let sandbox = open(&local(&bench), &bench.spec()).await;
    let marker = format!("37{}", fastrand::u32(100_000..999_999));
    leave_running(sandbox.guest(), &marker).await;
    let pid = sandbox.facts().id.parse().expect("a pid");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a pid"), rustix::process::Signal::KILL)
        .expect("the first process is ours to kill");
    sandbox.guest().gone().await;
    close(sandbox.as_ref()).await;
    assert_eq!(processes_with(&marker), 0);
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_driver_left_is_swept_and_what_is_driven_is_not() {
    let bench = Bench::new();
    let backend = local(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    let marker = format!("38{}", fastrand::u32(100_000..999_999));
    leave_running(sandbox.guest(), &marker).await;
    drop(sandbox);
    assert_eq!(backend.sweep(&|_| true).await, Vec::<String>::new());
    assert_eq!(processes_with(&marker), 2);
    assert_eq!(backend.sweep(&|_| false).await, [format!("the box of run {}", bench.run())]);
    assert_eq!(processes_with(&marker), 0);
    nothing_is_left(&bench);
    assert_eq!(backend.sweep(&|_| false).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_can_not_be_made_leaves_nothing_and_says_why() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.workspace = bench.path().join("missing");
    let error = local(&bench).create(&spec).await.err().expect("there is no such directory");
    assert!(error.because.as_deref().is_some_and(|because| because.contains("find the workspace")), "{error:?}");
    nothing_is_left(&bench);
    // A caller that gives up half-way leaves nothing either.
    spec = bench.spec();
    let backend = local(&bench);
    let given_up = tokio::time::timeout(Duration::from_millis(1), backend.create(&spec)).await;
    assert!(given_up.is_err());
    let gone = async {
        while bench.run_dir().join("box/init.json").exists() || !bench.run_dir().join("box/layers.json").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the box that nobody wanted is taken down");
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_without_a_box_writes_through_and_leaves_no_process() {
    let bench = Bench::new();
    let backend = host(&bench);
    let sandbox = open(&backend, &bench.spec()).await;
    assert!(sandbox.facts().capabilities.iter().any(|had| had.name == "containment" && had.missing.is_some()));
    said(sandbox.guest(), "echo through >output.txt").await;
    assert!(bench.workspace().join("output.txt").exists());
    let marker = format!("39{}", fastrand::u32(100_000..999_999));
    leave_running(sandbox.guest(), &marker).await;
    assert_eq!(sandbox.destroy(Duration::from_secs(5)).await, Removal::default());
    assert_eq!(processes_with(&marker), 0);
    nothing_is_left(&bench);
}

/// The tests above once more, as a user without rights.
#[test]
fn an_ordinary_user_has_the_same_box() {
    as_an_ordinary_user(
        "sandbox_local",
        &[
            "the_contract_holds_for_whoever_runs_this",
            "what_a_box_must_not_do_is_refused_to_whoever_runs_this",
            "without_a_network_only_the_loopback_is_there",
            "a_workspace_under_tmp_is_shown_alone_and_a_bound_one_is_written_through",
            "the_state_directory_stays_hidden_when_the_workspace_holds_it",
            "what_a_dead_driver_left_is_swept_and_what_is_driven_is_not",
        ],
    );
}

/// Runs these tests of a module of the suite as a user without rights; root lends a copy of the programs.
pub(crate) fn as_an_ordinary_user(module: &str, tests: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        // Then they have been just that.
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
    for test in tests {
        let output = Command::new(&suite)
            .args([&format!("{module}::{test}"), "--exact", "--nocapture"])
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
