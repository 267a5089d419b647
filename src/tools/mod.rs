//! What the model may do: one file per tool, one registry.

pub mod decode;
pub mod schema;

mod artifact;
mod attention;
mod closing;
mod edit_file;
mod facts;
mod finish;
mod path;
mod read_file;
mod ready;
mod registry;
mod shell;
mod tmux;
mod wait;
mod workbench;
mod write_file;

pub use attention::Attention;
pub use closing::{Closed, Services};
pub use registry::{Action, MalformedCalls, Registry, Tool};
pub use workbench::{CallNames, Collected, Done, Workbench, WorkbenchError};
