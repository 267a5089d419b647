//! What is on disk of a container, for whoever looks for it later: in the file where the other kinds of box have theirs,
//! with members that those don't know.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::engine::Make;
use super::shape::{Keep, Way};
use crate::domain::BoxFacts;

/// The file below the box's directory.
pub(super) const FILE: &str = "init.json";

/// Everything that a later driver has to know to go on with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    /// The container's name.
    pub(super) container: String,
    /// Lets a client in.
    pub(super) token: String,
    /// How host and container get at each other's files.
    pub(super) way: Way,
    /// How the workspace is kept from the host.
    pub(super) keep: Keep,
    /// The layers of the store that the workspace stands on, from the top down.
    #[serde(default)]
    pub(super) from: Vec<String>,
    /// Which boot of this machine it was made in.
    pub(super) boot: String,
    /// What it is; None until its guest has answered.
    #[serde(default)]
    pub(super) facts: Option<BoxFacts>,
}

impl ContainerRecord {
    /// The volume to remove after the container.
    pub(super) fn volume(&self, make: Make) -> Option<String> {
        (self.keep == Keep::Overlay && make == Make::Docker).then(|| self.container.clone())
    }

    /// Writes it to the box's directory, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(format!("{FILE}.new"));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&new, dir.join(FILE))
    }

    /// Removes it: there is no container any more.
    pub(super) fn remove(dir: &Path) {
        // What can't be removed is found to be about nothing.
        let _ = fs::remove_file(dir.join(FILE));
    }

    /// Reads it back; None where no container was made here.
    pub(super) fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }
}

/// Which boot of this machine this is; empty where the kernel does not say.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
