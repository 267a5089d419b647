//! What host and guest say to each other.
//!
//! The host sends [`Request`]s under numbers of its own, the guest answers each once, in any order; some answers come
//! when something has happened ([`Request::AwaitEnd`], [`Request::AwaitGrowth`]). [`Event`]s are pushed. Bulk data is
//! pulled: the guest never sends output that was not asked for, so a flood costs disk and not memory.

use serde::{Deserialize, Serialize};

use super::facts::{CheckCommand, Event, OpenSession, Refusal, RunCommand, TermSize};
use super::sight::{Actor, Condition, Stop};
use crate::domain::SessionName;

/// The protocol's version; both sides must have the same.
pub(super) const VERSION: u32 = 4;

/// Output up to this size travels with the news that the command has ended.
pub(super) const INLINE_OUTPUT: u64 = 64 << 10;

/// Most bytes that one [`Request::ReadLog`] or [`Request::ReadFile`] answers with.
pub(super) const MAX_READ: u64 = 4 << 20;

/// The first thing the host says. A descriptor of the directory for logs may travel with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`VERSION`].
    pub(super) version: u32,
    /// The secret of this box.
    pub(super) token: String,
}

/// The guest's answer to a host that it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol's version.
    pub version: u32,
    /// The guest's process id inside the box.
    pub pid: u32,
    /// Tells this guest from a later one in the same place: when its process started, in clock ticks since boot.
    #[serde(default)]
    pub life: u64,
    /// The shell that sessions get, as a path inside the box; empty where the box has none.
    pub shell: String,
    /// tmux, as a path inside the box, where there is one.
    #[serde(default)]
    pub tmux: Option<String>,
    /// Whether the logs are written to the host's directory; otherwise they must be fetched.
    pub logs_on_host: bool,
    /// The guest's own directory, as a path inside the box; empty where it was not told.
    #[serde(default)]
    pub runtime_dir: String,
}

/// What the host sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Unique within the connection. Its name must be no request's field, since both are in one object.
    #[serde(rename = "ask")]
    pub(super) id: u64,
    /// What is asked for.
    #[serde(flatten)]
    pub(super) request: Request,
}

/// What the guest sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tell {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// The answer to the request of that number.
    Done(u64, serde_json::Value),
    /// The request of that number can't be met.
    Refused(u64, Refusal),
    /// Something happened.
    Event(Event),
}

/// Something the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request {
    /// Opens a session, or finds it open. Answer: [`super::SessionInfo`], at once; commands wait until the shell is ready.
    Open(OpenSession),
    /// Starts a command (the payload) in a session. Answer: [`super::Start`].
    Run(RunCommand),
    /// Starts a command (the payload) in a fresh shell without a terminal. Answer: [`super::Start`].
    Check(CheckCommand),
    /// Answers when the command has ended: [`super::CommandState`], with the output if it is at most [`INLINE_OUTPUT`].
    AwaitEnd {
        /// The command's id.
        id: String,
    },
    /// How a command stands. Answer: [`super::CommandState`].
    Command {
        /// The command's id.
        id: String,
    },
    /// Answers when a log is longer than `beyond`: [`LogSize`].
    AwaitGrowth {
        /// The log's name.
        log: String,
        /// Bytes already known.
        beyond: u64,
    },
    /// Part of a log. Answer: [`LogSize`], with at most [`MAX_READ`] bytes as payload.
    ReadLog {
        /// The log's name.
        log: String,
        /// Where to begin.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Copies part of a log to a file inside the box. Answer: [`super::facts::KeptOutput`].
    Keep {
        /// The log's name.
        log: String,
        /// Where to begin.
        offset: u64,
        /// Where to end.
        end: u64,
    },
    /// All sessions. Answer: list of [`super::SessionInfo`].
    Sessions,
    /// Types the payload into a session.
    Type {
        /// The session.
        session: SessionName,
        /// Who types.
        #[serde(default)]
        by: Actor,
    },
    /// Sends a signal to the foreground process group of a session. Answer: [`super::Signalled`].
    Signal {
        /// The session.
        session: SessionName,
        /// Which.
        stop: Stop,
    },
    /// What is in the foreground of a session. Answer: [`super::Foreground`].
    Foreground {
        /// The session.
        session: SessionName,
    },
    /// What the box uses. Answer: [`super::BoxVitals`].
    Vitals,
    /// How much room the disks of the workspace and of temporary files have. Answer: a list of [`super::DiskRoom`].
    Rooms,
    /// Answers when a condition is met: [`super::Met`].
    Await(Condition),
    /// How a condition stands, by one look. Answer: [`super::Tried`].
    Try(Condition),
    /// Changes a session's size.
    Resize {
        /// The session.
        session: SessionName,
        /// Its new size.
        size: TermSize,
    },
    /// Closes a session: what runs on its terminal is hung up on, its shell is killed. Answer: [`super::ClosedSession`],
    /// when that is done.
    Close {
        /// The session.
        session: SessionName,
    },
    /// Ends every session but these and every process that belongs to none of them. Answer: nothing, when that is done.
    EndOthers {
        /// The sessions that stay.
        keep: Vec<SessionName>,
    },
    /// Starts the tmux server that shows the sessions. Answer: [`super::TmuxInfo`].
    Tmux,
    /// Runs a program on a terminal of its own for as long as the connection lasts. Answer: [`PtyOpened`]; its output
    /// comes as [`Event::PtyOutput`].
    OpenPty {
        /// Program and arguments.
        argv: Vec<String>,
        /// The terminal's size.
        size: TermSize,
    },
    /// Types the payload into such a terminal.
    PtyInput {
        /// Its number.
        pty: u64,
    },
    /// Changes the size of such a terminal.
    PtyResize {
        /// Its number.
        pty: u64,
        /// The new size.
        size: TermSize,
    },
    /// What a path is. Answer: [`super::FileInfo`].
    Stat {
        /// Absolute path inside the box.
        path: String,
    },
    /// Part of a regular file. Answer: [`super::FileInfo`], with at most [`MAX_READ`] bytes as payload.
    ReadFile {
        /// Absolute path inside the box.
        path: String,
        /// Where to begin.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Puts the payload in the place of a file, all or nothing. Answer: [`super::FileInfo`].
    WriteFile {
        /// Absolute path inside the box.
        path: String,
        /// Permission bits; without them an old file keeps its own.
        #[serde(default)]
        mode: Option<u32>,
    },
    /// The entries of a directory. Answer: list of [`super::DirEntry`].
    ListDir {
        /// Absolute path inside the box.
        path: String,
    },
    /// What files hold that globs match. Answer: [`super::Hashed`].
    Hash {
        /// The directory from which on the globs count.
        root: String,
        /// They.
        globs: Vec<String>,
        /// Most files.
        most_files: usize,
        /// Most bytes of them.
        most_bytes: u64,
    },
    /// What programs hold. Answer: list of [`crate::domain::FileHash`], in order.
    HashPrograms {
        /// Names to look for as a shell does, or paths.
        names: Vec<String>,
        /// The directory from which on paths count.
        cwd: String,
    },
    /// What has changed, and what runs that could change it. Answer: [`super::Stirred`].
    Stirred {
        /// The directory that is looked through.
        root: String,
        /// Since when, by the clock that stamps files; without it only what runs is told.
        #[serde(default)]
        since_ns: Option<i64>,
    },
    /// The files that something in the box has mapped to write to. Answer: list of paths.
    Mapped,
    /// Stops everything in the box but the guest, at most for half a minute. Answer: [`Frozen`].
    Freeze,
    /// Ends a hold. Answer: [`Thawed`].
    Thaw {
        /// Which.
        hold: u64,
    },
    /// The answer to an earlier request is no longer wanted. Has no answer of its own.
    Forget {
        /// The earlier request's number.
        request: u64,
    },
    /// Ends everything in the box, then the guest.
    Shutdown,
}

impl Request {
    /// Whether asking twice does what asking once does. Commands are: the same id never runs twice.
    pub(super) fn may_be_repeated(&self) -> bool {
        match self {
            Self::Open(_)
            | Self::Run(_)
            | Self::Check(_)
            | Self::AwaitEnd { .. }
            | Self::Command { .. }
            | Self::AwaitGrowth { .. }
            | Self::ReadLog { .. }
            | Self::Keep { .. }
            | Self::Sessions
            | Self::Foreground { .. }
            | Self::Vitals
            | Self::Rooms
            | Self::Await(_)
            | Self::Try(_)
            | Self::Resize { .. }
            | Self::EndOthers { .. }
            | Self::Tmux
            | Self::Stat { .. }
            | Self::ReadFile { .. }
            | Self::ListDir { .. }
            | Self::Hash { .. }
            | Self::HashPrograms { .. }
            | Self::Stirred { .. }
            | Self::Mapped
            | Self::Thaw { .. } => true,
            // Typed twice, signalled twice, written over what came between; a terminal of a connection ends with it.
            Self::Type { .. }
            | Self::Signal { .. }
            | Self::Close { .. }
            | Self::OpenPty { .. }
            | Self::PtyInput { .. }
            | Self::PtyResize { .. }
            | Self::WriteFile { .. }
            | Self::Freeze
            | Self::Forget { .. }
            | Self::Shutdown => false,
        }
    }

    /// Whether it starts something or changes files: then it waits until a hold on the box is over.
    pub(super) fn stirs(&self) -> bool {
        match self {
            Self::Open(_)
            | Self::Run(_)
            | Self::Check(_)
            | Self::Keep { .. }
            | Self::Type { .. }
            | Self::Signal { .. }
            | Self::Close { .. }
            | Self::EndOthers { .. }
            | Self::Tmux
            | Self::OpenPty { .. }
            | Self::WriteFile { .. } => true,
            Self::AwaitEnd { .. }
            | Self::Command { .. }
            | Self::AwaitGrowth { .. }
            | Self::ReadLog { .. }
            | Self::Sessions
            | Self::Foreground { .. }
            | Self::Vitals
            | Self::Rooms
            | Self::Await(_)
            | Self::Try(_)
            | Self::Resize { .. }
            | Self::PtyInput { .. }
            | Self::PtyResize { .. }
            | Self::Stat { .. }
            | Self::ReadFile { .. }
            | Self::ListDir { .. }
            | Self::Hash { .. }
            | Self::HashPrograms { .. }
            | Self::Stirred { .. }
            | Self::Mapped
            | Self::Freeze
            | Self::Thaw { .. }
            | Self::Forget { .. }
            | Self::Shutdown => false,
        }
    }
}

/// The size of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogSize {
    /// In bytes.
    pub(super) size: u64,
}

/// A terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PtyOpened {
    /// Its number.
    pub(super) pty: u64,
}

/// A hold on everything that runs in the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its number.
    pub hold: u64,
    /// How many processes were stopped.
    pub held: u32,
    /// Files that some process has mapped to write to, as paths inside the box: what is written that way leaves no trace.
    pub mapped: Vec<String>,
    /// What could not be stopped, in words; None where nothing moves.
    pub moving: Option<String>,
}

/// The end of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thawed {
    /// How long it lasted.
    pub held_ms: u64,
    /// Whether it lasted until it was ended by this; else it was over before.
    pub to_the_end: bool,
}
