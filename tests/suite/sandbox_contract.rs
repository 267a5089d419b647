//! What every kind of box promises, tried on a real one. Called by the tests of each backend.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhaul::domain::{Exit, RunId, SandboxKind};
use longhaul::guest::{CheckCommand, Client, Phase, Start};
use longhaul::sandbox::{Backend, BoxSpec, Limits, Network, Removal, Sandbox};

/// A project, a home with secrets and a state directory, on a disk that boxes show.
pub(crate) struct Bench {
    place: Place,
    run: RunId,
}

enum Place {
    Own(tempfile::TempDir),
    Lent(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Lent(path) => path,
        }
    }
}

impl Drop for Bench {
    /// An ordinary user's layers hold directories that are closed to their own owner: opened, they can be removed.
    fn drop(&mut self) {
        let Place::Own(place) = &self.place else { return };
        let mut open = vec![place.path().to_owned()];
        while let Some(dir) = open.pop() {
            // What is somebody else's is not in the way of whoever made the place.
            let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o755));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            open.extend(
                entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
    }
}

impl Bench {
    /// A fresh one below `/var/tmp`; its name and the run's are no one else's.
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/var/tmp"))
    }

    /// A fresh one below `parent`.
    pub(crate) fn below(parent: &Path) -> Self {
        let place = tempfile::Builder::new().prefix("longhaul-test-").tempdir_in(parent).expect("a place to test in");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let run = RunId::new(ulid::Ulid::generate().to_string()).expect("a ULID");
        let bench = Self { place: Place::Own(place), run };
        for dir in [bench.workspace(), bench.home().join(".ssh"), bench.run_dir(), bench.state_dir()] {
            fs::create_dir_all(dir).expect("directories");
        }
        fs::write(bench.workspace().join("input.txt"), "given\n").expect("a file");
        fs::write(bench.home().join(".ssh/id_ed25519"), "SECRET-KEY\n").expect("a file");
        fs::write(bench.home().join(".netrc"), "SECRET-PASSWORD\n").expect("a file");
        fs::write(bench.home().join("notes.txt"), "plain\n").expect("a file");
        fs::write(bench.run_dir().join("journal.jsonl"), "SECRET-JOURNAL\n").expect("a file");
        bench
    }

    /// The bench of another process with that run's directory, which is not this one's to remove.
    pub(crate) fn at(run_dir: &Path) -> Self {
        let place = run_dir.ancestors().nth(3).expect("a bench has such a run");
        let name = run_dir.file_name().and_then(|name| name.to_str()).expect("a run's name");
        Self { place: Place::Lent(place.to_owned()), run: RunId::new(name).expect("a ULID") }
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.place.path().join("project")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.place.path().join("state")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.state_dir().join("runs").join(self.run.as_str())
    }

    /// The run's id.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// The place's path, which occurs in the mounts and files of nothing else.
    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// A specification with limits that tests can reach.
    pub(crate) fn spec(&self) -> BoxSpec {
        let home = self.home().display().to_string();
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
            ("HOME", &home),
            ("OPENAI_API_KEY", "SECRET-ENV"),
        ];
        BoxSpec {
            run: self.run.clone(),
            run_dir: self.run_dir(),
            state_dir: self.state_dir(),
            workspace: self.workspace(),
            bind_workspace: false,
            image: None,
            home: Some(self.home()),
            network: Network::Open,
            limits: Limits { memory_bytes: Some(256 << 20), pids: Some(200), ..Limits::default() },
            why: "a test".to_owned(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            token: format!("token-{}", self.run.short()),
            tmux: false,
            from: None,
        }
    }

    /// The same for another run of the same project.
    pub(crate) fn another_run(&self) -> BoxSpec {
        let run = RunId::new(ulid::Ulid::generate().to_string()).expect("a ULID");
        let run_dir = self.state_dir().join("runs").join(run.as_str());
        fs::create_dir_all(run_dir.join("sessions")).expect("directories");
        BoxSpec { token: format!("token-{}", run.short()), run, run_dir, ..self.spec() }
    }

    /// Every file below the project and the home with its content, as the host has it.
    fn host_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.workspace(), self.home()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable")) {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    found.insert(entry.path(), fs::read(entry.path()).expect("readable"));
                }
            }
        }
        found
    }
}

/// Runs a command in a fresh shell of the box: how it ended and what it said. None where it was killed for its time.
pub(crate) async fn run_in(guest: &Client, command: &str) -> (Option<Exit>, String) {
    let id = format!("t{}", fastrand::u64(..));
    let check = CheckCommand { id: id.clone(), cwd: None, env: BTreeMap::new(), timeout_ms: 60_000 };
    let start = guest.check(check, command.as_bytes()).await.expect("it is taken");
    assert!(matches!(start, Start::Started(_)), "{start:?}");
    let (state, output) = guest.ended(&id).await.expect("it ends");
    let Phase::Ended(end) = state.phase else { panic!("{state:?}") };
    let output = match output {
        Some(bytes) => bytes,
        None => guest.read_log(&state.log, state.offset, 64 << 10).await.expect("its log can be read"),
    };
    (end.exit.filter(|_| !end.timed_out), String::from_utf8_lossy(&output).into_owned())
}

/// The same, for a command that must succeed.
pub(crate) async fn said(guest: &Client, command: &str) -> String {
    let (exit, output) = run_in(guest, command).await;
    assert_eq!(exit, Some(Exit::Code(0)), "`{command}` said: {output}");
    output.trim_end().to_owned()
}

/// A box for `spec`, which must come.
pub(crate) async fn open(backend: &dyn Backend, spec: &BoxSpec) -> Box<dyn Sandbox> {
    match backend.create(spec).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("{error}: {:?}; hint: {:?}", error.because, error.hint),
    }
}

/// Takes the box down, which must leave nothing.
pub(crate) async fn close(sandbox: &dyn Sandbox) {
    assert_eq!(sandbox.destroy(Duration::from_secs(5)).await, Removal::default());
}

/// Everything that a box promises, one after the other.
pub(crate) async fn holds(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    let before = bench.host_files();
    let sandbox = open(backend, spec).await;
    let guest = sandbox.guest();
    runs_commands(guest).await;
    shows_the_workspace_and_keeps_changes_inside(guest, bench).await;
    hides_secrets(guest, bench).await;
    assert_eq!(bench.host_files(), before, "the host's files are as they were");
    limits_hold(sandbox.as_ref()).await;
    let marker = format!("36{}", fastrand::u32(100_000..999_999));
    leave_running(guest, &marker).await;
    close(sandbox.as_ref()).await;
    assert_eq!(processes_with(&marker), 0, "nothing runs on");
    nothing_is_left(bench);
    assert_eq!(bench.host_files(), before, "the host's files are as they were");
    let again = sandbox.destroy(Duration::from_secs(1)).await;
    assert_eq!(again, Removal::default(), "taking a box down twice does no harm");
}

/// Starts two processes with `marker` on their command lines, one of them in a session of its own.
pub(crate) async fn leave_running(guest: &Client, marker: &str) {
    let command = format!("setsid sleep {marker} & sleep {marker}");
    let check = CheckCommand { id: marker.to_owned(), cwd: None, env: BTreeMap::new(), timeout_ms: 600_000 };
    guest.check(check, command.as_bytes()).await.expect("it is taken");
    let both = async {
        while processes_with(marker) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("the host can see what runs inside");
}

async fn runs_commands(guest: &Client) {
    assert_eq!(run_in(guest, "true").await.0, Some(Exit::Code(0)));
    assert_eq!(run_in(guest, "exit 3").await.0, Some(Exit::Code(3)));
    assert_eq!(run_in(guest, "kill -9 $$").await.0, Some(Exit::Signal(9)));
    assert_eq!(said(guest, "printf %s one; printf %s two >&2").await, "onetwo");
}

async fn shows_the_workspace_and_keeps_changes_inside(guest: &Client, bench: &Bench) {
    let workspace = bench.workspace();
    assert_eq!(said(guest, "pwd").await, workspace.display().to_string());
    assert_eq!(said(guest, "cat input.txt").await, "given");
    said(guest, "echo changed >input.txt && echo new >output.txt && mkdir -p deep/er && echo x >deep/er/file").await;
    assert_eq!(said(guest, "cat input.txt output.txt deep/er/file").await, "changed\nnew\nx");
    said(guest, "rm input.txt && mv deep moved && cat moved/er/file").await;
    assert_ne!(run_in(guest, "cat input.txt").await.0, Some(Exit::Code(0)));
    assert!(!workspace.join("output.txt").exists());
}

async fn hides_secrets(guest: &Client, bench: &Bench) {
    let place = bench.path().display();
    let seen =
        run_in(guest, &format!("cat {place}/home/.ssh/id_ed25519 {place}/home/.netrc; grep -rs SECRET {place}; env"))
            .await
            .1;
    assert!(!seen.contains("SECRET"), "{seen}");
    let state = bench.state_dir();
    let seen = run_in(guest, &format!("ls -A {}", state.display())).await.1;
    assert!(!seen.contains("runs"), "{seen}");
    let (exit, seen) = run_in(guest, "cat /proc/1/environ").await;
    assert!(exit != Some(Exit::Code(0)) || seen.is_empty(), "{seen}");
}

async fn limits_hold(sandbox: &dyn Sandbox) {
    let had =
        |name: &str| sandbox.facts().capabilities.iter().any(|had| had.name.starts_with(name) && had.missing.is_none());
    let guest = sandbox.guest();
    if sandbox.facts().kind == SandboxKind::Docker {
        // The guest is the last to go: what it starts is chosen before it.
        assert_eq!(said(guest, "cat /proc/self/oom_score_adj").await, "500");
    }
    if had("memory limit") {
        let before = sandbox.counters().await.oom_kills.expect("kills are counted where memory is limited");
        let (exit, _) = run_in(guest, "head -c 1000000000 /dev/zero | tail >/dev/null").await;
        assert_ne!(exit, Some(Exit::Code(0)), "a gigabyte does not fit");
        let after = sandbox.counters().await.oom_kills.expect("as before");
        assert!(after > before, "the kill is counted");
    }
    if had("process limit") {
        let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; exit 0";
        run_in(guest, bomb).await;
        if let Some(pids) = sandbox.counters().await.pids {
            assert!(pids <= 200, "{pids} processes");
        }
    }
    // Whatever it did inside, the box itself still answers: the guest needs no new process for this.
    guest.sessions().await.expect("the guest lives");
}

/// How many living processes of the host have `word` on their command line.
pub(crate) fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())).count()
}

/// No mount, no control group, nothing in the run's directory but the workspace's changes.
pub(crate) fn nothing_is_left(bench: &Bench) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let place = bench.path().display().to_string();
    assert!(!mounts.contains(&place), "{mounts}");
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()) {
            assert!(!path.display().to_string().contains(&bench.run().short()), "{}", path.display());
            open.push(path);
        }
    }
    let names = |dir: PathBuf| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for name in names(bench.run_dir().join("box")) {
        let notes = ["u", "layers.json", "opened.json", "base.zst", "system.json"];
        assert!(notes.contains(&name.as_str()), "{name}");
    }
    for name in names(bench.run_dir().join("box/u")) {
        assert!(name.starts_with("workspace"), "{name}");
    }
}
