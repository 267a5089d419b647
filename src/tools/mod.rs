//! What the model may do: one file per tool, one registry.

pub mod decode;
pub mod schema;

mod edit_file;
mod finish;
mod read_file;
mod registry;
mod shell;
mod write_file;

pub use registry::{Action, Registry, Tool};
