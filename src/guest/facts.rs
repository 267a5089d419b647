//! What hosts ask for and are told, as data: commands, sessions, files, events, refusals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Exit, FileHash, SessionName};

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl Default for TermSize {
    fn default() -> Self {
        Self { cols: 160, rows: 48 }
    }
}

/// A session to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Its name.
    pub session: SessionName,
    /// A shell to use instead of the box's best, as a path inside the box.
    #[serde(default)]
    pub shell: Option<String>,
    /// Where it begins; the guest's default directory otherwise.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables on top of the guest's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its terminal's size.
    #[serde(default)]
    pub size: TermSize,
}

/// A command for a session. The command itself is the payload: bytes without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCommand {
    /// The caller's name for it. The same id never runs twice.
    pub id: String,
    /// The session, which must be open.
    pub session: SessionName,
    /// The directory to change to before, absolute or relative to the session's.
    #[serde(default)]
    pub cwd: Option<String>,
}

/// A command for a fresh shell. The command itself is the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckCommand {
    /// The caller's name for it. The same id never runs twice.
    pub id: String,
    /// Where it runs; the guest's default directory otherwise.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables on top of the guest's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// When its process group is killed.
    pub timeout_ms: u64,
}

/// What came of the wish to start a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It is under way.
    Started(CommandState),
    /// The id was used before: nothing new was started.
    Known(CommandState),
    /// Another command runs in that session.
    Busy(CommandState),
}

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandState {
    /// Its id.
    pub id: String,
    /// The session it runs in; `None` for a fresh shell.
    #[serde(default)]
    pub session: Option<SessionName>,
    /// The beginning of the command's text, for people.
    pub title: String,
    /// The name of the log that has its output.
    pub log: String,
    /// Where its output begins in the log; before the start is known, where it will at least begin.
    pub offset: u64,
    /// The log's size when this was said.
    pub log_size: u64,
    /// Time since it was handed to the shell.
    pub elapsed_ms: u64,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a command stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The session's shell has not said that it has begun: it is still starting up.
    Queued,
    /// Under way.
    Running,
    /// Under way by all signs, but the shell is no longer ours to hear: it was replaced by another program.
    Deaf {
        /// The program that reads the terminal now.
        program: String,
    },
    /// Over.
    Ended(CommandEnd),
    /// Was under way when an earlier guest ended; how it ended can't be found out.
    Lost,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandEnd {
    /// Its exit; `None` where the shell never said one because it was replaced.
    pub exit: Option<Exit>,
    /// Where its output ends in the log.
    pub end: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The session's working directory afterwards.
    #[serde(default)]
    pub cwd: Option<String>,
    /// True when the time given ran out and it was killed.
    #[serde(default)]
    pub timed_out: bool,
    /// What became of the session's shell, if it is another one now: why, in words.
    #[serde(default)]
    pub respawned: Option<String>,
    /// Bytes of output that could not be kept in the log.
    #[serde(default)]
    pub lost_bytes: u64,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its name.
    pub session: SessionName,
    /// Its shell, as a path inside the box.
    pub shell: String,
    /// The shell's process id inside the box; 0 when it is closed.
    pub pid: u32,
    /// The name of its log.
    pub log: String,
    /// The log's size.
    pub log_size: u64,
    /// Its terminal's size.
    #[serde(default)]
    pub size: TermSize,
    /// Its working directory as last known.
    #[serde(default)]
    pub cwd: Option<String>,
    /// The command that runs in it.
    #[serde(default)]
    pub command: Option<CommandState>,
    /// True once the shell has shown its first prompt.
    pub ready: bool,
    /// What a person should know of it, such as a start-up file that had to be left out.
    #[serde(default)]
    pub note: Option<String>,
}

/// A copy of output inside the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOutput {
    /// Its path inside the box.
    pub path: String,
    /// False if it was too large and only its beginning was copied.
    pub complete: bool,
}

/// The tmux server that shows the sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmuxInfo {
    /// tmux, as a path inside the box.
    pub program: String,
    /// Its socket, as a path inside the box.
    pub socket: String,
    /// Its session's name.
    pub session: String,
}

impl TmuxInfo {
    /// The command that attaches a terminal inside the box.
    pub fn attach_argv(&self) -> Vec<String> {
        let words = [self.program.as_str(), "-u", "-S", &self.socket, "attach-session", "-t", &self.session];
        words.map(String::from).to_vec()
    }
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// The path with every symbolic link resolved.
    pub path: String,
    /// The kind.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Time of the last change in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; only in lists of a directory.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Its name; what is not UTF-8 is replaced.
    pub name: String,
    /// Its kind, links not followed.
    pub kind: FileKind,
    /// Its size.
    pub size: u64,
}

/// What files hold that globs match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// They, by path.
    pub files: Vec<FileHash>,
    /// Which bound was reached before all were looked at, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
}

/// What has changed below a directory, and what runs that could change it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stirred {
    /// The time by the clock that stamps files, in nanoseconds since 1970.
    pub now_ns: i64,
    /// What runs in the box beside the guest, idle shells and the view for people: names.
    pub running: Vec<String>,
    /// Paths that have changed, some of them where they are many.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Whether everything was looked through.
    #[serde(default)]
    pub whole: bool,
}

/// Something that happened in the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A command has ended; its record is on disk.
    CommandEnded(CommandState),
    /// A session's shell has ended; its record is on disk.
    SessionExited {
        /// The session.
        session: SessionName,
        /// How.
        exit: Exit,
        /// Whether a new shell has taken its place.
        respawned: bool,
    },
    /// A person has typed into a session; comes once for what is typed in a stretch.
    PersonTyped {
        /// The session.
        session: SessionName,
    },
    /// Output could not be kept: a log is at its limit, or its disk is full. Comes once for each log.
    OutputLost {
        /// The log's name.
        log: String,
        /// Why, in words.
        why: String,
    },
    /// The payload was printed on a terminal of its own.
    PtyOutput {
        /// Its number.
        pty: u64,
    },
    /// The program on a terminal of its own has ended.
    PtyClosed {
        /// Its number.
        pty: u64,
        /// How.
        exit: Exit,
    },
}

/// Why the guest did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// What could not be done, and why: a lower-case fragment.
    pub what: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// There is no such session, command, log or terminal.
    Unknown,
    /// There is no such file or directory.
    NotFound,
    /// It is there and not of the kind that was asked for.
    WrongKind,
    /// The box's system forbids it.
    Denied,
    /// The request makes no sense.
    Invalid,
    /// The box lacks what it takes, such as tmux or a shell.
    Missing,
    /// No room on the disk.
    Full,
    /// Something else that the system says.
    System,
}
