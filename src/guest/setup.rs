//! What a guest is started with.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The environment variable that carries a [`GuestSetup`] as JSON to `agent __guest`.
pub const SETUP_VAR: &str = "LONGHAUL_GUEST";

/// Everything a guest needs to know. Serialisable but for a listening socket that is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct GuestSetup {
    /// The secret that a host must know.
    pub token: String,
    /// Where hosts connect.
    pub control: Control,
    /// A directory inside the box that the guest makes for itself alone.
    pub runtime_dir: PathBuf,
    /// Words that run this very program inside the box, such as its path, or a loader with its options and the path.
    pub program: Vec<String>,
    /// Whether the guest is the box's first process and takes in every orphan.
    pub init: bool,
    /// The whole environment of what runs in the box, but for what terminals need.
    pub base_env: BTreeMap<String, String>,
    /// Where shells start.
    pub cwd: PathBuf,
    /// Most bytes that all logs together keep; 16 GiB without.
    #[serde(default)]
    pub log_cap_bytes: Option<u64>,
}

/// Where hosts connect to a guest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// A socket to be made at this path inside the box.
    Path(PathBuf),
    /// A socket that listens already.
    #[serde(skip)]
    Listener(OwnedFd),
}
