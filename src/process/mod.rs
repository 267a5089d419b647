//! Programs on this host: run to their end within bounds, recognised again later, never left as zombies.

mod identity;
mod raw_mode;
mod run;
mod tree;

pub use identity::{Held, Identity, boot_id};
pub use raw_mode::RawMode;
pub use run::{Finished, Program, ProgramError};
pub use tree::{descendants, kill_descendants};
