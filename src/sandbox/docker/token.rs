//! The secret that lets a client in, brought to a container's guest in a file that the guest removes as it reads it: what
//! stands in a container's configuration, an engine writes into every image that is made of the container.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bollard::query_parameters::UploadToContainerOptionsBuilder;

use super::engine::{Engine, refusal};
use super::shape::{CONTROL_DIR, Way};
use crate::guest::TOKEN_FILE;
use crate::sandbox::SandboxError;

const WHAT: &str = "cannot bring the container's guest its secret";

/// A container that is about to be started.
#[derive(Debug)]
pub(super) struct Starting<'a> {
    /// Whose it is.
    pub(super) engine: &'a Engine,
    /// Its name.
    pub(super) container: &'a str,
    /// How host and container get at each other's files.
    pub(super) way: Way,
    /// The control socket's directory on this machine.
    pub(super) control: &'a Path,
}

impl Starting<'_> {
    /// Lays the secret where the guest looks for it.
    ///
    /// # Errors
    /// What this machine or the engine says.
    pub(super) async fn bring(&self, token: &str) -> Result<(), SandboxError> {
        let failed =
            |error: io::Error| SandboxError { what: WHAT.to_owned(), because: Some(error.to_string()), hint: None };
        match self.way {
            Way::Mounts => write(self.control, token).map_err(failed),
            Way::Api => {
                let tar = packed(token).map_err(failed)?;
                let options = UploadToContainerOptionsBuilder::new().path("/").build();
                let body = bollard::body_full(tar.into());
                let sent = self.engine.docker.upload_to_container(self.container, Some(options), body).await;
                sent.map_err(|error| refusal(WHAT, &error))
            }
        }
    }
}

fn write(control: &Path, token: &str) -> io::Result<()> {
    let path = control.join(TOKEN_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(token.as_bytes())
}

fn packed(token: &str) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(token.len() as u64);
    let path = Path::new(CONTROL_DIR.trim_start_matches('/')).join(TOKEN_FILE);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, path, token.as_bytes())?;
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_laid_anew_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "first").unwrap();
        write(dir.path(), "later").unwrap();
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "later");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
