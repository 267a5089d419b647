//! The channel to a guest whose socket the host can't reach: `agent __relay` runs inside by one `exec` of the engine and
//! passes bytes between the engine's connection and the socket. Without a terminal, since those are not carried intact.

use std::io;
use std::path::Path;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use super::connect::words_of;
use super::engine::status;
use super::shape::{CONTROL_DIR, SOCKET};
use super::watch;
use crate::guest::{Connector, Ends, NoWay};

/// Both directions of a relayed channel.
pub(super) type Pipes = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// The way into a container through the engine.
#[derive(Debug, Clone)]
pub(super) struct Relayed {
    /// The engine.
    pub(super) docker: Docker,
    /// The container's name.
    pub(super) container: String,
    /// Words that run this program inside.
    pub(super) program: Vec<String>,
}

impl Relayed {
    /// Starts the relay in the container, which must run.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn open(&self) -> Result<Pipes, Error> {
        let mut command = self.program.clone();
        command.extend(["__relay".to_owned(), format!("{CONTROL_DIR}/{SOCKET}")]);
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            user: Some("0:0".to_owned()),
            cmd: Some(command),
            ..ExecConfig::default()
        };
        let made = self.docker.create_exec(&self.container, config).await?;
        let started = self.docker.start_exec(&made.id, Some(StartExecOptions::default())).await?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(io::Error::other("the engine did not attach to the relay").into());
        };
        let answers = output.map_err(io::Error::other).try_filter_map(async |piece| {
            Ok(match piece {
                LogOutput::StdOut { message } => Some(message),
                LogOutput::StdErr { message } => {
                    tracing::warn!(words = %String::from_utf8_lossy(&message).trim(), "relay");
                    None
                }
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => None,
            })
        });
        Ok((Box::new(StreamReader::new(Box::pin(answers))), Box::new(input)))
    }

    /// Whether the engine says that the container runs; None where it says nothing.
    async fn runs(&self) -> Option<bool> {
        match self.docker.inspect_container(&self.container, None).await {
            Ok(found) => found.state?.running,
            Err(error) if status(&error) == Some(404) => Some(false),
            Err(_) => None,
        }
    }
}

#[async_trait::async_trait]
impl Connector for Relayed {
    async fn connect(&self) -> Result<Ends, NoWay> {
        match self.open().await {
            Ok((reader, writer)) => Ok(Ends::Pipes { reader, writer }),
            Err(error) => match self.runs().await {
                Some(false) => Err(NoWay::Dead),
                Some(true) | None => Err(NoWay::Later(words_of(&error))),
            },
        }
    }
}

/// What `agent __relay SOCKET` does: passes standard input to the socket and what comes from it to standard output, until
/// either ends. Waits for the socket to appear, without bound: whoever started it ends it by closing its input.
///
/// # Errors
/// What the socket or the pipes say.
pub async fn relay(socket: &Path) -> io::Result<()> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let stream = watch::connect(dir, socket).await?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let (mut from_guest, mut to_guest) = stream.into_split();
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let up = async {
        tokio::io::copy(&mut input, &mut to_guest).await?;
        to_guest.shutdown().await
    };
    let down = pass(&mut from_guest, &mut output);
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// Copies and flushes each piece: standard output is buffered, and the other side waits for the last byte.
async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
    }
}
