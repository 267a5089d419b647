//! A second way to a box that is up: for a person who looks in from another terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::guest::{Client, GuestError};

/// The file below the run's directory that holds what the guest wants to be shown.
const TOKEN: &str = "box.token";
/// Directories below the run's that may hold the control socket: of `local` and `host` boxes, of containers.
const PLACES: [&str; 2] = ["box", "box/control"];
const SOCKET: &str = "ctl.sock";

/// Why a box can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The run has no box, or none that this machine's file system leads to.
    #[error("no box of this run is up on this machine")]
    NoBox(#[source] io::Error),
    /// The guest does not let us in.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// Leaves what a later [`reach`] needs in the run's directory, readable by the user alone.
///
/// # Errors
/// When the disk does not take it.
pub fn leave_token(run_dir: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(run_dir.join(TOKEN))?;
    file.write_all(token.as_bytes())
}

/// What [`leave_token`] left; None where there was no box.
pub fn left_token(run_dir: &Path) -> Option<String> {
    let token = fs::read_to_string(run_dir.join(TOKEN)).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Connects to the guest of a run's box. The connection has no part in the logs: what it starts is a viewer's.
///
/// # Errors
/// [`ReachError`] when there is no box that answers.
pub async fn reach(run_dir: &Path) -> Result<Client, ReachError> {
    let token = fs::read_to_string(run_dir.join(TOKEN)).map_err(ReachError::NoBox)?;
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for place in PLACES {
        match connect(&run_dir.join(place)) {
            Ok(stream) => return Ok(Client::connect(stream, token.trim(), None).await?),
            Err(error) => refused = error,
        }
    }
    Err(ReachError::NoBox(refused))
}

/// Through a descriptor of the directory, since its path may be longer than a socket's address holds.
///
/// # Errors
/// When nobody listens there.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}
