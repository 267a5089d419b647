//! What becomes of a run in a container when the way to it breaks, when the container is stopped, and when the engine
//! itself is started anew.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longhaul::domain::{Exit, RunId};
use longhaul::guest::{OpenSession, Phase, RunCommand, TermSize};
use longhaul::sandbox::{Backend as _, Sandbox};
use rustix::process::{Pid, Signal, kill_process};

use crate::boxless::session;
use crate::engines::{BUSYBOX, DOCKER, Project, run};
use crate::goal::{finish, server_of, shell};
use crate::stage::{Ran, Stage};

const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn soon(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes an engine look as if it were on another machine, and cuts the lines to it.
struct Forwarder {
    port: u16,
    lines: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forwarder {
    /// To the engine's socket; ends with the test's process.
    fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (open, socket) = (Arc::clone(&lines), socket.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Refused while the engine is away.
                let Ok(far) = UnixStream::connect(&socket) else { continue };
                open.lock().unwrap().push(near.try_clone().unwrap());
                let (mut up, mut down) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (mut near, mut far) = (near, far);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up, &mut far);
                    let _ = far.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut down, &mut near);
                    let _ = near.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, lines }
    }

    fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    fn cut(&self) {
        for line in self.lines.lock().unwrap().drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

/// The newest run's transcript so far.
fn noted(stage: &Stage) -> String {
    let dir = stage.state().join("runs");
    let run = std::fs::read_dir(dir).ok().and_then(|mut runs| runs.next()).and_then(Result::ok);
    run.and_then(|run| std::fs::read_to_string(run.path().join("journal.jsonl")).ok()).unwrap_or_default()
}

fn newest(stage: &Stage) -> RunId {
    RunId::new(stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned()).unwrap()
}

#[test]
fn a_run_whose_line_to_the_engine_is_cut_goes_on_and_says_so() {
    if !DOCKER.is_there() {
        return;
    }
    let (stage, forwarder) = (Stage::new(), Forwarder::to(Path::new(DOCKER.socket)));
    let server =
        server_of(vec![shell("for i in 1 2 3 4 5 6; do sleep 1; echo tick $i; done; exit 3"), finish("went on")]);
    let mut program = stage.asking(&server, &["do", "wait", "--image", BUSYBOX]);
    program.env("DOCKER_HOST", forwarder.address()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = program.spawn().unwrap();
    soon("the command", || noted(&stage).contains("tool_started"));
    for _ in 0..2 {
        // In the midst of it.
        std::thread::sleep(Duration::from_secs(1));
        forwarder.cut();
    }
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    let outcome = &stage.events_of("tool_ended")[0]["outcome"];
    assert!(outcome["text"].as_str().unwrap().contains("tick 6"), "{outcome} {ran:?}");
    let noticed = stage.events_of("noticed");
    assert!(noticed.iter().any(|event| event["kind"] == "reconnected"), "{noticed:?}");
    assert_eq!(DOCKER.left_of(&newest(&stage)), [""; 0]);
    stage.verifies();
}

#[test]
fn a_container_that_is_stopped_ends_the_run_and_what_ran_has_an_unknown_end() {
    if !DOCKER.is_there() {
        return;
    }
    let forwarder = Forwarder::to(Path::new(DOCKER.socket));
    for host in [format!("unix://{}", DOCKER.socket), forwarder.address()] {
        let stage = Stage::new();
        let server = server_of(vec![shell("sleep 600"), finish("never")]);
        let mut program = stage.asking(&server, &["do", "sleep", "--image", BUSYBOX]);
        program.env("DOCKER_HOST", &host).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = program.spawn().unwrap();
        soon("the command", || noted(&stage).contains("tool_started"));
        let name = stage.events_of("box_opened")[0]["facts"]["id"].as_str().unwrap().to_owned();
        let began = Instant::now();
        assert!(Command::new("docker").args(["kill", &name]).output().unwrap().status.success());
        let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(7);
        assert!(began.elapsed() < Duration::from_secs(25), "{host}: {:?}", began.elapsed());
        assert!(ran.stderr.contains("the box ended under the run"), "{}", ran.stderr);
        let outcome = &stage.events_of("tool_ended")[0]["outcome"];
        assert_eq!(outcome["status"], "unknown", "{outcome}");
        assert_eq!(DOCKER.left_of(&newest(&stage)), [""; 0]);
        stage.verifies();
    }
}

/// An engine of the test's own, in a network namespace of its own: without a bridge, an engine removes the one that is
/// there.
struct OwnEngine {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl OwnEngine {
    /// Starts it, with the image of busybox; `None` where this machine can't.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    fn start() -> Option<Self> {
        let on_path = |name: &str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(name).is_file());
        if !rustix::process::geteuid().is_root() || !on_path("dockerd") || !on_path("unshare") || !DOCKER.is_there() {
            eprintln!("skipped: a second engine needs root, dockerd and unshare");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("lh-engine-").tempdir_in("/var/tmp").unwrap();
        let mut engine = Self { dir, daemon: None };
        engine.up();
        let image = Command::new("docker").args(["save", BUSYBOX]).output().unwrap();
        assert!(image.status.success());
        let mut load = engine.docker(&["load"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        load.stdin.take().unwrap().write_all(&image.stdout).unwrap();
        assert!(load.wait().unwrap().success());
        Some(engine)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("d.sock")
    }

    fn docker(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(words);
        command
    }

    fn up(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(at("log")).unwrap();
        let daemon = Command::new("unshare")
            .args(["--net", "dockerd", "--bridge", "none", "--iptables=false", "--live-restore"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.daemon = Some(daemon.unwrap());
        soon("the engine", || {
            let asked = self.docker(&["info"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        });
    }

    fn down(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
            let _ = daemon.wait();
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if let Ok(left) = self.docker(&["ps", "-aq"]).output() {
            for id in String::from_utf8_lossy(&left.stdout).lines() {
                let _ = self.docker(&["rm", "-f", "-v", id]).output();
            }
        }
        self.down();
        // An engine with live-restore leaves its mounts to the next one.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.dir.path().to_string_lossy().into_owned();
        let own = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|path| path.starts_with(&below));
        for path in own.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").arg(path).output();
        }
    }
}

async fn begin(sandbox: &dyn Sandbox) {
    let guest = sandbox.guest();
    let (session, env) = (session("main"), std::collections::BTreeMap::new());
    let open = OpenSession { session: session.clone(), shell: None, cwd: None, env, size: TermSize::default() };
    guest.open(open).await.expect("a session");
    let wait = b"while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 5";
    guest.run(RunCommand { id: "a".to_owned(), session, cwd: None }, wait).await.expect("started");
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_outlive_an_engine_that_is_started_anew_with_live_restore() {
    let Some(mut engine) = tokio::task::spawn_blocking(OwnEngine::start).await.unwrap() else { return };
    let forwarder = Forwarder::to(&engine.socket());
    let near = Project::at(format!("unix://{}", engine.socket().display()));
    let far = Project::at(forwarder.address());
    let mut boxes = Vec::new();
    for (project, is_far) in [(&near, false), (&far, true)] {
        let sandbox = project.backend().create(&project.spec(BUSYBOX)).await.expect("a box");
        begin(&*sandbox).await;
        let mended = sandbox.guest().mended();
        boxes.push((sandbox, mended, is_far));
    }
    let engine = tokio::task::spawn_blocking(move || {
        engine.down();
        engine.up();
        engine
    });
    let engine = engine.await.unwrap();
    for (sandbox, mut mended, is_far) in boxes {
        if is_far {
            let again = tokio::time::timeout(Duration::from_secs(30), mended.recv()).await;
            again.expect("in time").expect("news of a new connection");
        }
        assert_eq!(run(&*sandbox, "touch /tmp/go").await.0, Some(0));
        let (state, _) = sandbox.guest().ended("a").await.expect("an end");
        assert!(matches!(&state.phase, Phase::Ended(end) if end.exit == Some(Exit::Code(5))), "{state:?}");
        assert!(is_far || mended.try_recv().is_err(), "the near one's connection never broke");
        // Docker 20.10 forgets on the way that nobody uses the volume any more; what can't be removed is said.
        let left = sandbox.destroy(PATIENCE).await.left;
        assert!(left.iter().all(|line| line.ends_with("volume has active mounts")), "{left:?}");
    }
    tokio::task::spawn_blocking(move || drop(engine)).await.unwrap();
}
