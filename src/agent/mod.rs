//! The loop: decide, act, note.

mod around;
mod claim;
mod driver;
mod person;
mod state;
mod trouble;
mod watched;
mod work;

pub use driver::{Driver, Finished, Opening, Parts};
pub use person::{Person, Word};
pub use state::{Ending, MAX_CHECK_ROUNDS, State, Step};
pub use trouble::Trouble;
