//! What a guest can see and be asked to watch for, as data: the foreground of a session, the box, conditions.

use serde::{Deserialize, Serialize};

use crate::domain::SessionName;

/// Who types into a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The model, through a tool.
    #[default]
    Model,
    /// A person who looks in.
    Person,
}

/// A signal for what runs in the foreground of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Whom a signal reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// The foreground process group.
    pub group: u32,
    /// The name of its leader's program.
    pub program: String,
    /// True if that was the session's shell itself.
    pub shell: bool,
}

/// What the closing of a session ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSession {
    /// Processes below its shell that have ended, such as `sleep (process 12)`.
    pub ended: Vec<String>,
    /// Those that ignored the hang-up, or left the terminal before, and run on.
    pub left: Vec<String>,
}

/// What is in the foreground of a session, and what the processes of the session's command use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreground {
    /// The foreground process group; 0 if the session has no shell now.
    pub group: u32,
    /// The program of the process that waits for input, else of the group's leader, without directories.
    pub program: String,
    /// True if that is the session's shell at its prompt.
    pub at_prompt: bool,
    /// Whether a process of the foreground waits for the terminal's input; None where the kernel does not say.
    pub waits_for_input: Option<bool>,
    /// Whether the terminal echoes what is typed.
    pub echo: bool,
    /// Whether the terminal hands over whole lines.
    pub lines: bool,
    /// Processes below the session's shell.
    pub processes: u32,
    /// Their processor time, that of their ended children included.
    pub cpu_ms: u64,
    /// Bytes that they have read and written, where the kernel tells.
    pub io_bytes: u64,
    /// Memory that they hold.
    pub memory_bytes: u64,
}

/// What the box uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoxVitals {
    /// Processor time of all processes of the box so far: of its control group where it has one of its own, else the
    /// sum over the processes that are there.
    pub cpu_ms: u64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// The limit on it, if there is one.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
    /// Processes.
    pub processes: u32,
    /// The disks that the box writes to.
    pub disks: Vec<DiskRoom>,
    /// GPUs as `nvidia-smi` tells of them; empty where there is none.
    pub gpus: Vec<Gpu>,
}

/// Room on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoom {
    /// A path on it.
    pub path: String,
    /// What is left for an ordinary user.
    pub free_bytes: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Inodes that are left for an ordinary user.
    #[serde(default)]
    pub free_inodes: u64,
    /// Inodes that it has; 0 where it does not count them.
    #[serde(default)]
    pub inodes: u64,
}

/// A GPU at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its utilisation in percent.
    pub busy_percent: f64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// Its memory.
    pub memory_size_bytes: u64,
}

/// Something that can be waited for inside the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Condition {
    /// The foreground of a session waits for input, and has for a moment.
    Input {
        /// The session.
        session: SessionName,
    },
    /// A TCP port accepts connections.
    Port {
        /// The host, as the box sees it.
        host: String,
        /// The port.
        port: u16,
    },
    /// A URL answers a GET with this status, or with any 2xx or 3xx.
    Http {
        /// `http://` or `https://`; a certificate is not checked.
        url: String,
        /// The status.
        #[serde(default)]
        status: Option<u16>,
    },
    /// A path is there, is another than when the wait began, or is gone.
    File {
        /// Absolute path inside the box.
        path: String,
        /// What must have become of it.
        change: FileChange,
    },
    /// The processes of the box have used less than this share of one processor for so long.
    CpuIdle {
        /// In percent of one processor.
        below_percent: f64,
        /// For how long.
        for_ms: u64,
    },
    /// All GPUs have been busy for less than this for so long.
    GpuIdle {
        /// In percent.
        below_percent: f64,
        /// For how long.
        for_ms: u64,
    },
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It is there.
    Exists,
    /// Its size, time or inode differ from the wait's beginning, or it has come or gone.
    Changes,
    /// It is not there.
    Gone,
}

/// What one look at a condition met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Whether it is met.
    pub met: bool,
    /// What was seen, such as `connection refused`: a fragment.
    pub what: String,
}

/// A condition is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// What was seen, such as `HTTP 200 after 3 tries`: a fragment.
    pub what: String,
}
