//! What reaches how far: decides what may be repeated when nobody knows whether it happened. Pure.

mod effects;
mod words;

pub use effects::effect_of;
