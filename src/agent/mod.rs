//! The loop: decide, act, note.

mod state;

pub use state::{Ending, MAX_CHECK_ROUNDS, State, Step};
