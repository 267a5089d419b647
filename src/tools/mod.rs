//! What the model may do: one file per tool, one registry.

pub mod decode;
pub mod schema;

mod artifact;
mod ask_human;
mod attention;
mod check;
mod checkpoint;
mod closing;
mod container;
mod counted;
mod edit_file;
mod facts;
mod finish;
mod keeping;
mod path;
mod read_file;
mod ready;
mod recall;
mod registry;
mod shell;
mod take_up;
mod tmux;
mod wait;
mod workbench;
mod write_file;

pub use crate::guest::Stirred;
pub use ask_human::Args as AskArgs;
pub use attention::Attention;
pub use check::{CheckRun, Looked};
pub use checkpoint::{Args as CheckpointArgs, Doing};
pub use closing::{Closed, Services};
pub use counted::{Counted, FullDisk};
pub use keeping::After;
pub use recall::{Args as RecallArgs, Memory, recall};
pub use registry::{Action, MalformedCalls, Registry, Tool};
pub use take_up::{Left, Said};
pub use workbench::{CallNames, Collected, Done, Workbench, WorkbenchError};
