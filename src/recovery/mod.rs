//! What a run can learn from how it has gone so far: what failures come from, whether they came before, whether its steps
//! go round in a circle. Pure: no clock, no I/O, no model.

mod circles;
mod classify;
mod failures;
mod fingerprint;

pub use circles::{Circle, Circles};
pub use classify::{Classifier, Evidence, SignatureError};
pub use failures::Failures;
