//! The loop: decide, act, note.

mod answers;
mod approvals;
mod around;
mod asking;
mod attempts;
mod boxes;
mod checkpoints;
mod claim;
mod delay;
mod driver;
mod evidence;
mod gate;
mod ladder;
mod more;
mod parting;
mod past;
mod person;
mod proving;
mod recalled;
mod restore;
mod resume;
mod room;
mod state;
mod trouble;
mod turn;
mod watched;
mod work;

pub use boxes::{Boxes, FoundBench, Opening};
pub use driver::{Driver, Finished, Parts};
pub use person::{Grant, Heard, Limit, Person, Word};
pub use resume::{Asks, Doubt, Resume};
pub use room::Reduced;
pub use state::{Ending, MAX_CHECK_ROUNDS, State, Step};
pub use trouble::Trouble;
