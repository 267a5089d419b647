//! A place of its own for each test of the program: home, state, project; nothing of the machine's environment leaks in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::model_server::ModelServer;

/// Directories of one test, removed with it.
pub(crate) struct Stage {
    dir: TempDir,
}

/// How a run of the program went.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; -1 for a signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// As [`Command::output`] says it.
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the program exited with `code`.
    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Stage {
    /// An empty home, an empty state directory, a project with one file.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("longhaul-test-").tempdir_in(base()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "project"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("project/data.txt"), "one\ntwo\nthree\n").unwrap();
        Self { dir }
    }

    /// The project directory.
    pub(crate) fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// The home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The directory of the newest run.
    #[track_caller]
    pub(crate) fn run_dir(&self) -> PathBuf {
        let mut runs: Vec<_> =
            fs::read_dir(self.state().join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
        runs.sort();
        runs.pop().expect("a run")
    }

    /// The program in the project, with a clean environment.
    pub(crate) fn agent(&self, args: &[&str]) -> Command {
        self.as_it_is(Command::new(env!("CARGO_BIN_EXE_agent")), args)
    }

    /// `program` in the place of the program itself, such as one that changes the user first.
    pub(crate) fn as_it_is(&self, mut program: Command, args: &[&str]) -> Command {
        program
            .args(args)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("LONGHAUL_STATE_DIR", self.state())
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        program
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.agent(args).output().unwrap())
    }

    /// The program with `server` as its model's server.
    pub(crate) fn asking(&self, server: &ModelServer, args: &[&str]) -> Command {
        let mut program = self.agent(args);
        with_model(&mut program, server);
        program
    }

    /// The newest run's events, oldest first.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let journal = fs::read_to_string(self.run_dir().join("journal.jsonl")).unwrap();
        let entry = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
        journal.lines().map(entry).collect()
    }

    /// The newest run's events of one kind.
    #[track_caller]
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["type"] == kind).collect()
    }

    /// Fails the test unless the newest run's transcript verifies.
    #[track_caller]
    pub(crate) fn verifies(&self) {
        self.run(&["verify", "last"]).exits_with(0);
    }
}

/// How long a driver in the background may take for its report.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Drop for Stage {
    fn drop(&mut self) {
        let runs = fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        let journals = runs.filter_map(|run| {
            let journal = fs::read_to_string(run.path().join("journal.jsonl")).ok()?;
            // A driver in the background writes its report after the last entry: what it writes must not outlive this.
            let has_ended = journal.lines().last().is_some_and(|line| line.contains("\"type\":\"run_ended\""));
            let begun = Instant::now();
            while has_ended && !run.path().join("report.md").exists() && begun.elapsed() < LAST_WORDS {
                std::thread::sleep(Duration::from_millis(5));
            }
            Some(journal)
        });
        // Only what an engine may have; a run in any other box leaves nothing there.
        if journals.into_iter().any(|journal| journal.contains("\"kind\":\"docker\"")) {
            crate::engines::clear(&self.state());
        }
    }
}

/// Gives a program the variables by which it finds `server`.
pub(crate) fn with_model(program: &mut Command, server: &ModelServer) {
    program
        .env("OPENAI_BASE_URL", server.base_url())
        .env("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        .env("LONGHAUL_MODEL", "fake");
}

/// A directory for tests on a real file system: overlays can't have their upper layer on another overlay.
fn base() -> PathBuf {
    let wanted = Path::new("/var/tmp");
    if wanted.is_dir() { wanted.to_owned() } else { std::env::temp_dir() }
}

/// The content of every file below `dir`, by path: to show that nothing has changed.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
    found
}
