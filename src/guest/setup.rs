//! What a guest is started with.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The environment variable that carries a [`GuestSetup`] as JSON to `agent __guest`.
pub const SETUP_VAR: &str = "LONGHAUL_GUEST";

/// Where the secret lies beside the guest's socket until the guest has read it: what an environment holds, an engine
/// writes into every image that is made of the container.
pub const TOKEN_FILE: &str = "token";

/// Everything a guest needs to know. Serialisable but for a listening socket that is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct GuestSetup {
    /// The secret that a host must know. Empty where it lies in a file of the name [`TOKEN_FILE`] beside the socket.
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

impl GuestSetup {
    /// Reads what the environment says, and the secret where that lies beside the socket; nobody reads it there again.
    ///
    /// # Errors
    /// When it can't be read, or there is no secret.
    pub fn read(json: &str) -> io::Result<Self> {
        let mut setup: Self = serde_json::from_str(json)?;
        if let (true, Control::Path(socket)) = (setup.token.is_empty(), &setup.control) {
            let file = socket.with_file_name(TOKEN_FILE);
            setup.token = fs::read_to_string(&file)?;
            fs::remove_file(&file)?;
        }
        if setup.token.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no secret"));
        }
        Ok(setup)
    }
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
