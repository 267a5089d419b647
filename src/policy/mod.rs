//! What reaches how far, and what may run: decides what may be repeated when nobody knows whether it happened, what
//! deserves a checkpoint first, what is denied, and what a person is asked. Pure: judgments on calls by their words alone.

mod builtin;
mod commands;
mod effects;
mod hosts;
mod judge;
mod matching;
mod programs;
mod repeat;
mod risk;
mod shown;
mod words;

use std::collections::BTreeSet;

pub use builtin::{BUILT_IN, Entry};
pub use effects::effect_of;
pub use judge::{Ground, Judgment, MODE_ASK, judge};
pub use matching::useless;
pub use programs::programs_of;
pub use repeat::is_repeatable;
pub use risk::is_risky;
pub use shown::{TooLong, shown};

/// Where a call would run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project directory, absolute.
    pub workspace: &'a str,
    /// The hosts beside the box that belong to it.
    pub beside: &'a BTreeSet<String>,
}
