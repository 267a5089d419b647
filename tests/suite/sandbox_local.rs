//! The box of this machine's own files, as root and as an ordinary user, and the host without a box.

use std::path::PathBuf;

use longhaul::sandbox::local::Local;
use longhaul::sandbox::{Backend, Launch};

use crate::sandbox_contract::{Bench, holds};

fn agent() -> PathBuf {
    std::env::var_os("LONGHAUL_TEST_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_agent").into(), PathBuf::from)
}

fn local(bench: &Bench) -> Local {
    Local::new(Launch { program: agent(), state_dir: bench.state_dir() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_for_whoever_runs_this() {
    let bench = Bench::new();
    let backend = local(&bench);
    let probe = backend.probe().await;
    assert_eq!(probe.missing, None);
    holds(&backend, &bench, &bench.spec()).await;
}
