//! What tests of containers share: the engines and images of `scripts/setup.sh`, a project, and a look at what is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use longhaul::domain::{Exit, RunId};
use longhaul::guest::{CheckCommand, Phase};
use longhaul::sandbox::Launch;
use longhaul::sandbox::docker::Docker;
use longhaul::sandbox::{BoxSpec, Limits, Network, Sandbox};

/// An engine's socket and the program that speaks to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    /// Where it listens.
    pub(crate) socket: &'static str,
    /// `docker` or `podman`.
    pub(crate) program: &'static str,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent");

/// Docker.
pub(crate) const DOCKER: Engine = Engine { socket: "/var/run/docker.sock", program: "docker" };
/// Podman's API service.
pub(crate) const PODMAN: Engine = Engine { socket: "/run/podman/podman.sock", program: "podman" };
/// Debian with tmux and bash.
pub(crate) const DEBIAN: &str = "longhaul-test:bookworm";
/// Nothing but busybox.
pub(crate) const BUSYBOX: &str = "longhaul-test:busybox";

impl Engine {
    /// Whether it answers. Where it must (`CI=true`), the test fails if it does not; elsewhere it says that it is skipped.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    pub(crate) fn is_there(self) -> bool {
        let answers = std::os::unix::net::UnixStream::connect(self.socket).is_ok();
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(answers || !must, "no engine at {}: run scripts/setup.sh", self.socket);
        if !answers {
            eprintln!("skipped: no engine at {}: run scripts/setup.sh", self.socket);
        }
        answers
    }

    /// Its backend, running this very program in boxes of runs below `state_dir`.
    pub(crate) fn backend(self, state_dir: PathBuf) -> Docker {
        backend(format!("unix://{}", self.socket), Path::new(PROGRAM), state_dir)
    }

    /// The names of all containers and volumes of a run.
    pub(crate) fn left_of(self, run: &RunId) -> Vec<String> {
        let label = format!("label=longhaul.run={run}");
        let list = |words: &[&str]| {
            let mut command = Command::new(self.program);
            let done = command.args(words).args(["--filter", &label]).output().expect("the engine's program");
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        [list(&["ps", "-aq"]), list(&["volume", "ls", "-q"])].concat()
    }
}

/// Removes from both engines whatever was made for runs below a test's state directory, which goes with the test.
pub(crate) fn clear(state: &Path) {
    let label = format!("label=longhaul.state={}", state.display());
    for engine in [DOCKER, PODMAN] {
        if std::os::unix::net::UnixStream::connect(engine.socket).is_err() {
            continue;
        }
        let said = |words: &[&str]| {
            let done = Command::new(engine.program).args(words).output();
            done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
        };
        let kinds: [(&[&str], &[&str]); 4] = [
            (&["ps", "-aq"], &["rm", "-f", "-v"]),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
            (&["images", "-q", "--no-trunc"], &["rmi", "-f"]),
        ];
        for (list, remove) in kinds {
            let found = said(&[list, &["--filter", &label]].concat());
            // The newest first: an image may stand on an older one.
            let words: Vec<&str> = found.split_whitespace().collect();
            if !words.is_empty() {
                said(&[remove, &words[..]].concat());
            }
        }
    }
}

/// A project with one file, and a state directory beside it.
pub(crate) struct Project {
    root: tempfile::TempDir,
    host: String,
}

impl Project {
    /// Makes a project whose boxes come from `engine`.
    pub(crate) fn on(engine: Engine) -> Self {
        Self::at(format!("unix://{}", engine.socket))
    }

    /// Makes a project whose boxes come from the engine at this address.
    pub(crate) fn at(host: String) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let project = Self { root, host };
        std::fs::create_dir_all(project.dir()).expect("a project");
        std::fs::write(project.dir().join("kept"), "as it was").expect("a file");
        project
    }

    /// What is above the project.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The project.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// The backend, running this very program in its boxes.
    pub(crate) fn backend(&self) -> Docker {
        self.backend_running(Path::new(PROGRAM))
    }

    /// The backend, running another program in its boxes.
    pub(crate) fn backend_running(&self, program: &Path) -> Docker {
        backend(self.host.clone(), program, self.state())
    }

    /// A box of `image` for a new run.
    pub(crate) fn spec(&self, image: &str) -> BoxSpec {
        let run = RunId::new(ulid::Ulid::generate().to_string()).expect("a run id");
        BoxSpec {
            run_dir: self.state().join("runs").join(run.as_str()),
            run,
            state_dir: self.state(),
            workspace: self.dir(),
            bind_workspace: false,
            image: Some(image.to_owned()),
            home: None,
            network: Network::None,
            limits: Limits::default(),
            why: "a test".to_owned(),
            env: BTreeMap::new(),
            token: "secret".to_owned(),
            tmux: false,
            from: None,
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        clear(&self.state());
    }
}

/// The backend of the engine at an address, for runs below `state_dir`.
fn backend(host: String, program: &Path, state_dir: PathBuf) -> Docker {
    let env = BTreeMap::from([("DOCKER_HOST".to_owned(), host)]);
    Docker::new(Launch { program: program.to_owned(), state_dir }, Some(DEBIAN.to_owned()), env, None)
}

/// Runs a command in a fresh shell of the box: its exit code and what it printed.
pub(crate) async fn run(sandbox: &dyn Sandbox, command: &str) -> (Option<i32>, String) {
    let id = ulid::Ulid::generate().to_string();
    let check = CheckCommand { id: id.clone(), cwd: None, env: BTreeMap::new(), timeout_ms: 60_000 };
    sandbox.guest().check(check, command.as_bytes()).await.expect("a command starts");
    let (state, output) = sandbox.guest().ended(&id).await.expect("a command ends");
    let Phase::Ended(end) = state.phase else { panic!("not ended: {state:?}") };
    let code = match end.exit {
        Some(Exit::Code(code)) => Some(code),
        Some(Exit::Signal(_)) | None => None,
    };
    (code, String::from_utf8_lossy(&output.unwrap_or_default()).into_owned())
}

/// The names of all things of a kind (`network`, `image`) of a run.
pub(crate) fn left_of_kind(engine: Engine, kind: &str, run: &RunId) -> Vec<String> {
    let label = format!("label=longhaul.run={run}");
    let done = Command::new(engine.program).args([kind, "ls", "-q", "--filter", &label]).output();
    let text = String::from_utf8_lossy(&done.expect("the engine's program").stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}
