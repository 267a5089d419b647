//! What the benches stand on: a directory, boxes of both kinds in it, their terminals.

#![expect(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use longhaul::clock::{Clock as _, SystemClock};
use longhaul::domain::SandboxKind;
use longhaul::journal::new_run_id;
use longhaul::sandbox::docker::Docker;
use longhaul::sandbox::local::Local;
use longhaul::sandbox::{Backend, BoxSpec, Launch, Limits, Network};

/// The image that `scripts/setup.sh` makes.
pub(crate) const IMAGE: &str = "longhaul-test:bookworm";
/// The program.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_agent");

/// A directory with a project, on a real file system.
pub(crate) fn directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("longhaul-bench-").tempdir_in("/var/tmp").unwrap();
    fs::create_dir(dir.path().join("project")).unwrap();
    dir
}

/// Makes boxes of that kind.
pub(crate) fn backend(kind: SandboxKind, dir: &Path) -> Box<dyn Backend> {
    let launch = Launch { program: PathBuf::from(AGENT), state_dir: dir.join("state") };
    match kind {
        SandboxKind::Local => Box::new(Local::new(launch)),
        _ => Box::new(Docker::new(launch, Some(IMAGE.to_owned()), std::env::vars().collect(), None)),
    }
}

/// A box for a run of its own.
pub(crate) fn spec(kind: SandboxKind, dir: &Path, limits: Limits) -> BoxSpec {
    // At random, since containers are named after it.
    let run = new_run_id(SystemClock::new().now(), fastrand::u128(..));
    let run_dir = dir.join("state/runs").join(run.as_str());
    fs::create_dir_all(run_dir.join("sessions")).unwrap();
    BoxSpec {
        run,
        run_dir,
        state_dir: dir.join("state"),
        workspace: dir.join("project"),
        bind_workspace: false,
        image: (kind == SandboxKind::Docker).then(|| IMAGE.to_owned()),
        home: None,
        network: Network::Open,
        limits,
        why: "bench".to_owned(),
        env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())]),
        token: "0123456789abcdef0123456789abcdef".to_owned(),
        tmux: false,
        from: None,
    }
}
