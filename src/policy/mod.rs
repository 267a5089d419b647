//! What reaches how far: decides what may be repeated when nobody knows whether it happened, and what deserves a checkpoint
//! first. Pure: judgments on calls by their words alone.

mod effects;
mod judge;
mod programs;
mod repeat;
mod risk;
mod words;

pub use effects::effect_of;
pub use judge::{Judgment, judge};
pub use programs::programs_of;
pub use repeat::is_repeatable;
pub use risk::is_risky;
