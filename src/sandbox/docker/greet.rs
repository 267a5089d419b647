//! The first word of a container's guest: waited for until it comes, the container ends, or patience does.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{LogsOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::connect::words_of;
use super::engine::Engine;
use super::relay::Relayed;
use super::shape::{SOCKET, Way};
use super::watch;
use crate::guest::Client;
use crate::sandbox::lifeline::ControlSocket;

/// Longest time from the container's start to the guest's first word. Loaded machines need seconds; nothing needs this.
const GREETING: Duration = Duration::from_secs(60);

/// The way to a container's guest.
#[derive(Debug)]
pub(super) struct Door<'a> {
    /// Whose container it is.
    pub(super) engine: &'a Engine,
    /// Its name.
    pub(super) container: &'a str,
    /// How host and container get at each other's files.
    pub(super) way: Way,
    /// The control socket's directory on this machine.
    pub(super) control: &'a Path,
    /// The run's directory for logs.
    pub(super) sessions: PathBuf,
    /// Lets a client in.
    pub(super) token: &'a str,
    /// Words that run this program inside.
    pub(super) program: Vec<String>,
}

impl Door<'_> {
    /// Waits for the guest to answer.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(super) async fn greet(&self) -> Result<Client, String> {
        let greeted = async {
            match self.way {
                Way::Mounts => self.by_socket().await,
                Way::Api => self.by_relay().await,
            }
        };
        tokio::select! {
            answer = greeted => answer,
            words = death(self.engine, self.container) => Err(words),
            () = tokio::time::sleep(GREETING) => Err(format!("no word from it in {} s", GREETING.as_secs())),
        }
    }

    async fn by_socket(&self) -> Result<Client, String> {
        let words = |error: io::Error| error.to_string();
        // Through the descriptor a path of any length fits into a socket's address.
        let dir = File::open(self.control).map_err(words)?;
        let address = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let stream = watch::connect(self.control, Path::new(&address)).await.map_err(words)?;
        fs::create_dir_all(&self.sessions).map_err(words)?;
        let logs = File::open(&self.sessions).map_err(words)?;
        let sessions = self.sessions.clone();
        let lifeline = ControlSocket { dir: self.control.to_owned(), sessions, process: None };
        let client = Client::connect(stream, self.token, Some(logs.into())).await.map_err(|error| error.to_string())?;
        Ok(client.mended_by(lifeline))
    }

    async fn by_relay(&self) -> Result<Client, String> {
        let lifeline = Relayed {
            docker: self.engine.docker.clone(),
            container: self.container.to_owned(),
            program: self.program.clone(),
        };
        let (reader, writer) = lifeline.open().await.map_err(|error| words_of(&error))?;
        let client = Client::connect_over(reader, writer, self.token).await.map_err(|error| error.to_string())?;
        Ok(client.mended_by(lifeline))
    }
}

/// Returns when a container has ended; says what it said last.
pub(super) async fn death(engine: &Engine, container: &str) -> String {
    let docker = &engine.docker;
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let ended = docker.wait_container(container, Some(options)).next().await;
    let how = match ended {
        Some(Ok(ended)) => format!("it ended with code {}", ended.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => {
            format!("it ended with code {code}")
        }
        Some(Err(error)) => words_of(&error),
        None => "it ended".to_owned(),
    };
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("5").build();
    let lines: Vec<_> = docker.logs(container, Some(options)).try_collect().await.unwrap_or_default();
    let said = lines.iter().map(|line| line.to_string().trim().to_owned()).collect::<Vec<_>>().join("; ");
    if said.is_empty() { how } else { format!("{how}: {said}") }
}
