//! How a connection to a guest on this machine is made again.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::reach;
use crate::guest::{Connector, Ends, NoWay};
use crate::process::Identity;

/// The control socket of a box, where this machine's file system leads to it.
#[derive(Debug, Clone)]
pub(super) struct ControlSocket {
    /// The directory that holds it.
    pub(super) dir: PathBuf,
    /// The run's directory for logs.
    pub(super) sessions: PathBuf,
    /// The box's first process, where it is one that can be seen from here.
    pub(super) process: Option<Identity>,
}

#[async_trait::async_trait]
impl Connector for ControlSocket {
    async fn connect(&self) -> Result<Ends, NoWay> {
        if self.process.as_ref().is_some_and(|process| process.hold().is_none()) {
            return Err(NoWay::Dead);
        }
        match reach::connect(&self.dir) {
            Ok(stream) => Ok(Ends::Socket { stream, logs: open_dir(&self.sessions).ok() }),
            // A guest listens from its first to its last moment.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                Err(NoWay::Dead)
            }
            Err(error) => Err(NoWay::Later(error.to_string())),
        }
    }
}

/// A descriptor of a directory, to be handed over.
///
/// # Errors
/// When there is none.
pub(super) fn open_dir(dir: &Path) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
