//! Arguments in, wiring, words and exit code out.

mod failure;
mod place;

pub use failure::Failure;
pub use place::Place;
