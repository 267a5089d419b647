//! The host's end of the channel to a guest.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;

use super::error::GuestError;
use super::facts::{
    CheckCommand, CommandState, DirEntry, Event, FileInfo, Hashed, KeptOutput, OpenSession, RunCommand, SessionInfo,
    Start, Stirred, TermSize, TmuxInfo,
};
use super::line::{Connector, Ends, Line, Mended};
use super::protocol::{Frozen, LogSize, PtyOpened, Request, Thawed, Welcome};
use super::sight::{Actor, BoxVitals, ClosedSession, Condition, DiskRoom, Foreground, Met, Signalled, Stop, Tried};
use crate::domain::{FileHash, SessionName};

/// A connection to a guest. Clones share it; it closes when the last one is gone. Dropping the future of any call
/// gives the answer up, never the work.
///
/// Every call may fail with [`GuestError::Gone`] or [`GuestError::Lost`]. With [`Client::mended_by`] a connection that
/// breaks is made again meanwhile: calls that can be repeated without harm are, the others fail with
/// [`GuestError::Unanswered`].
#[derive(Debug, Clone)]
pub struct Client {
    line: Arc<Line>,
}

impl Client {
    /// Greets the guest at the other end of `stream`; hands it the directory for logs if there is one.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`GuestError::NotWelcome`] when the guest hangs up, [`GuestError::Version`] when it is another program's.
    pub async fn connect(stream: UnixStream, token: &str, logs: Option<OwnedFd>) -> Result<Self, GuestError> {
        Ok(Self { line: Line::open(Ends::Socket { stream, logs }, token).await? })
    }

    /// Greets the guest behind a pair of pipes, such as a relay's. No descriptor can travel this way.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_over<R, W>(reader: R, writer: W, token: &str) -> Result<Self, GuestError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let ends = Ends::Pipes { reader: Box::new(reader), writer: Box::new(writer) };
        Ok(Self { line: Line::open(ends, token).await? })
    }

    /// Has a connection that breaks be made again by `connector`, for all clones.
    #[must_use]
    pub fn mended_by(self, connector: impl Connector + 'static) -> Self {
        self.line.mend_by(Arc::new(connector));
        self
    }

    /// Tells of each time that the connection broke and was made again, from now on.
    pub fn mended(&self) -> broadcast::Receiver<Mended> {
        self.line.mended.subscribe()
    }

    /// What the guest said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.line.welcome
    }

    /// Events from now on, each with its payload. A receiver that lags loses the oldest; what happens while the
    /// connection is broken is not told.
    pub fn events(&self) -> broadcast::Receiver<(Event, Bytes)> {
        self.line.events.subscribe()
    }

    /// Waits until the guest is gone, or can't be reached any more.
    pub async fn gone(&self) {
        self.line.gone().await;
    }

    /// Opens a session, or finds it open.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when the box has no such shell or directory.
    pub async fn open(&self, session: OpenSession) -> Result<SessionInfo, GuestError> {
        self.ask(Request::Open(session), b"").await
    }

    /// Starts `command` in a session.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for a session that is not open, a directory that is not there, a command with NUL.
    pub async fn run(&self, run: RunCommand, command: &[u8]) -> Result<Start, GuestError> {
        self.ask(Request::Run(run), command).await
    }

    /// Starts `command` in a fresh shell without a terminal.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for a directory that is not there, a command with NUL.
    pub async fn check(&self, check: CheckCommand, command: &[u8]) -> Result<Start, GuestError> {
        self.ask(Request::Check(check), command).await
    }

    /// Waits until a command has ended; brings its output along where it is small and wholly known.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown id.
    pub async fn ended(&self, id: &str) -> Result<(CommandState, Option<Bytes>), GuestError> {
        let (state, payload): (CommandState, Bytes) =
            self.ask_bytes(Request::AwaitEnd { id: id.to_owned() }, b"").await?;
        let inline = match &state.phase {
            super::facts::Phase::Ended(end) => end.end - state.offset == payload.len() as u64,
            _ => false,
        };
        Ok((state, inline.then_some(payload)))
    }

    /// How a command stands.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown id.
    pub async fn command(&self, id: &str) -> Result<CommandState, GuestError> {
        self.ask(Request::Command { id: id.to_owned() }, b"").await
    }

    /// Waits until a log is longer than `beyond`; its size then.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown log.
    pub async fn growth(&self, log: &str, beyond: u64) -> Result<u64, GuestError> {
        let size: LogSize = self.ask(Request::AwaitGrowth { log: log.to_owned(), beyond }, b"").await?;
        Ok(size.size)
    }

    /// Part of a log: at most `len` bytes, fewer at its end or when `len` is more than one answer holds.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown log.
    pub async fn read_log(&self, log: &str, offset: u64, len: u64) -> Result<Bytes, GuestError> {
        let request = Request::ReadLog { log: log.to_owned(), offset, len };
        let (_, bytes): (LogSize, Bytes) = self.ask_bytes(request, b"").await?;
        Ok(bytes)
    }

    /// Copies part of a log to a text file inside the box, for whoever works there to search.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown log, or when the box has no room.
    pub async fn keep_output(&self, log: &str, offset: u64, end: u64) -> Result<KeptOutput, GuestError> {
        self.ask(Request::Keep { log: log.to_owned(), offset, end }, b"").await
    }

    /// All sessions, by name.
    ///
    /// # Errors
    /// Only those of the channel.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, GuestError> {
        self.ask(Request::Sessions, b"").await
    }

    /// Types into a session.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown session.
    pub async fn type_keys(&self, session: &SessionName, keys: &[u8], by: Actor) -> Result<(), GuestError> {
        self.ask(Request::Type { session: session.clone(), by }, keys).await
    }

    /// Sends a signal to what runs in the foreground of a session.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown session.
    pub async fn signal(&self, session: &SessionName, stop: Stop) -> Result<Signalled, GuestError> {
        self.ask(Request::Signal { session: session.clone(), stop }, b"").await
    }

    /// What is in the foreground of a session, and what its processes use.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown session.
    pub async fn foreground(&self, session: &SessionName) -> Result<Foreground, GuestError> {
        self.ask(Request::Foreground { session: session.clone() }, b"").await
    }

    /// What the box uses.
    ///
    /// # Errors
    /// Only those of the channel.
    pub async fn vitals(&self) -> Result<BoxVitals, GuestError> {
        self.ask(Request::Vitals, b"").await
    }

    /// How much room the disks of the workspace and of temporary files have.
    ///
    /// # Errors
    /// [`GuestError::Refused`] by a guest of an earlier version.
    pub async fn rooms(&self) -> Result<Vec<DiskRoom>, GuestError> {
        self.ask(Request::Rooms, b"").await
    }

    /// Waits until a condition is met; for ever if it never is.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for a condition that makes no sense, an unknown session, a session that closes meanwhile.
    pub async fn met(&self, condition: Condition) -> Result<Met, GuestError> {
        self.ask(Request::Await(condition), b"").await
    }

    /// Looks once how a condition stands: after a wait was given up, what its last try met.
    ///
    /// # Errors
    /// As [`Client::met`], and for conditions that one look can't tell (idle processors).
    pub async fn tried(&self, condition: Condition) -> Result<Tried, GuestError> {
        self.ask(Request::Try(condition), b"").await
    }

    /// Changes a session's size.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown session.
    pub async fn resize(&self, session: &SessionName, size: TermSize) -> Result<(), GuestError> {
        self.ask(Request::Resize { session: session.clone(), size }, b"").await
    }

    /// Closes a session; what that ended.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for an unknown session.
    pub async fn close(&self, session: &SessionName) -> Result<ClosedSession, GuestError> {
        self.ask(Request::Close { session: session.clone() }, b"").await
    }

    /// Ends every session but these, and every process of the box that belongs to none of them.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when something does not end.
    pub async fn end_others(&self, keep: Vec<SessionName>) -> Result<(), GuestError> {
        self.ask(Request::EndOthers { keep }, b"").await
    }

    /// Starts the tmux server that shows the sessions, or finds it running.
    ///
    /// # Errors
    /// [`GuestError::Refused`] with `Missing` when the box has no tmux.
    pub async fn tmux(&self) -> Result<TmuxInfo, GuestError> {
        self.ask(Request::Tmux, b"").await
    }

    /// Runs a program on a terminal of its own; subscribe to [`Client::events`] before.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when there is no such program.
    pub async fn open_pty(&self, argv: Vec<String>, size: TermSize) -> Result<u64, GuestError> {
        let opened: PtyOpened = self.ask(Request::OpenPty { argv, size }, b"").await?;
        Ok(opened.pty)
    }

    /// Types into a terminal of its own.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it is closed.
    pub async fn pty_input(&self, pty: u64, keys: &[u8]) -> Result<(), GuestError> {
        self.ask(Request::PtyInput { pty }, keys).await
    }

    /// Changes the size of a terminal of its own.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it is closed.
    pub async fn pty_resize(&self, pty: u64, size: TermSize) -> Result<(), GuestError> {
        self.ask(Request::PtyResize { pty, size }, b"").await
    }

    /// What a path inside the box is; links are followed.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it is not there or may not be seen.
    pub async fn stat(&self, path: &str) -> Result<FileInfo, GuestError> {
        self.ask(Request::Stat { path: path.to_owned() }, b"").await
    }

    /// Part of a regular file inside the box: at most `len` bytes, fewer at its end or when `len` is more than one
    /// answer holds.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it is not there, may not be read, or is not a regular file.
    pub async fn read_file(&self, path: &str, offset: u64, len: u64) -> Result<(FileInfo, Bytes), GuestError> {
        self.ask_bytes(Request::ReadFile { path: path.to_owned(), offset, len }, b"").await
    }

    /// Puts `content` in the place of a file inside the box, all or nothing; directories above it are made. An old
    /// file keeps its owner; the mode is `mode`, else the old one's, else what the umask leaves.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it may not be written, is no regular file, or the disk is full.
    pub async fn write_file(&self, path: &str, content: &[u8], mode: Option<u32>) -> Result<FileInfo, GuestError> {
        self.ask(Request::WriteFile { path: path.to_owned(), mode }, content).await
    }

    /// The entries of a directory inside the box, by name.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when it is not there or no directory.
    pub async fn list_dir(&self, path: &str) -> Result<Vec<DirEntry>, GuestError> {
        self.ask(Request::ListDir { path: path.to_owned() }, b"").await
    }

    /// What the files below `root` hold that any of the globs matches, `most` files and bytes of them.
    ///
    /// # Errors
    /// [`GuestError::Refused`] for a glob that is none.
    pub async fn hash(&self, root: &str, globs: Vec<String>, most: (usize, u64)) -> Result<Hashed, GuestError> {
        let (most_files, most_bytes) = most;
        self.ask(Request::Hash { root: root.to_owned(), globs, most_files, most_bytes }, b"").await
    }

    /// What programs hold, in the order of their names: looked for as a shell in `cwd` does.
    ///
    /// # Errors
    /// Only those of the channel.
    pub async fn hash_programs(&self, names: Vec<String>, cwd: &str) -> Result<Vec<FileHash>, GuestError> {
        self.ask(Request::HashPrograms { names, cwd: cwd.to_owned() }, b"").await
    }

    /// What has changed below `root` since then, and what runs in the box that could change it.
    ///
    /// # Errors
    /// Only those of the channel.
    pub async fn stirred(&self, root: &str, since_ns: Option<i64>) -> Result<Stirred, GuestError> {
        self.ask(Request::Stirred { root: root.to_owned(), since_ns }, b"").await
    }

    /// The files that something in the box has mapped to write to, as paths inside the box.
    ///
    /// # Errors
    /// Only those of the channel.
    pub async fn mapped(&self) -> Result<Vec<String>, GuestError> {
        self.ask(Request::Mapped, b"").await
    }

    /// Stops everything in the box but the guest: until [`Client::thaw`], until this connection breaks, at most for half
    /// a minute. Requests that start something or change files wait meanwhile.
    ///
    /// # Errors
    /// [`GuestError::Refused`] when the box is held already.
    pub async fn freeze(&self) -> Result<Frozen, GuestError> {
        self.ask(Request::Freeze, b"").await
    }

    /// Lets everything go on that was stopped by that hold.
    ///
    /// # Errors
    /// Only those of the channel; the guest ends the hold by itself then.
    pub async fn thaw(&self, hold: u64) -> Result<Thawed, GuestError> {
        self.ask(Request::Thaw { hold }, b"").await
    }

    /// Ends everything in the box and the guest itself; returns when it is gone.
    pub async fn shutdown(&self) {
        self.line.close();
        let _: Result<(), _> = self.ask(Request::Shutdown, b"").await;
        self.gone().await;
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request, payload: &[u8]) -> Result<T, GuestError> {
        Ok(self.ask_bytes(request, payload).await?.0)
    }

    async fn ask_bytes<T: DeserializeOwned>(&self, request: Request, payload: &[u8]) -> Result<(T, Bytes), GuestError> {
        let (value, payload) = self.line.ask(&request, payload).await?;
        let value = serde_json::from_value(value).map_err(|error| GuestError::Protocol(error.into()))?;
        Ok((value, payload))
    }
}
