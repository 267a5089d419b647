//! The supervisor inside the box: owns the PTYs, writes the logs, knows the exits, and outlives `agent`.
//!
//! [`serve`] is the guest, [`Client`] the host's end of the channel to it, [`view`] the program in a window of the tmux
//! view. What a box prints is never pushed: it lies in logs that the host reads by range.

mod channel;
mod check;
mod client;
mod command;
mod conditions;
mod connection;
mod error;
mod facts;
mod files;
mod frame;
mod freeze;
mod globs;
mod gpu;
mod input;
mod keep;
mod life;
mod line;
mod log;
mod marks;
mod pace;
mod past;
mod proc;
mod protocol;
mod pty;
mod segments;
mod server;
mod session;
mod setup;
mod shell;
mod sight;
mod strangers;
mod supervisor;
mod survey;
mod tmux;
mod typing;
mod view;
mod viewer;
mod vitals;

pub use client::Client;
pub use error::GuestError;
pub use facts::{
    CheckCommand, CommandEnd, CommandState, DirEntry, Event, FileInfo, FileKind, Hashed, KeptOutput, OpenSession,
    Phase, Refusal, RefusalKind, RunCommand, SessionInfo, Start, Stirred, TermSize, TmuxInfo,
};
pub use globs::glob_error;
pub use line::{Connector, Ends, Mended, NoWay};
pub use past::has_ended;
pub use protocol::{Frozen, Thawed, Welcome};
pub use segments::LogReader;
pub use server::serve;
pub use setup::{Control, GuestSetup, SETUP_VAR, TOKEN_FILE};
pub use sight::{
    Actor, BoxVitals, ClosedSession, Condition, DiskRoom, FileChange, Foreground, Gpu, Met, Signalled, Stop, Tried,
};
pub use viewer::view;
