//! Boxes from Linux namespaces and overlayfs over the host's own root.

use std::path::PathBuf;

/// What the backends that run this very program need to know.
#[derive(Debug, Clone)]
pub struct Launch {
    /// This program, as a path to execute: `/proc/self/exe` but in tests.
    pub program: PathBuf,
    /// The state directory of all runs.
    pub state_dir: PathBuf,
}
