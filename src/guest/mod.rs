//! The supervisor inside the box: owns the PTYs, writes the logs, knows the exits, and outlives `agent`.

mod client;
mod error;
mod frame;
mod protocol;
mod server;
mod setup;

pub use client::Client;
pub use error::GuestError;
pub use protocol::{
    CheckCommand, CommandEnd, CommandState, DirEntry, Event, FileInfo, FileKind, Interrupted, OpenSession, Phase,
    Refusal, RefusalKind, RunCommand, SessionInfo, Start, TermSize, TmuxInfo, Welcome,
};
pub use server::serve;
pub use setup::{Control, GuestSetup, SETUP_VAR};
