//! What a run can learn from how it has gone so far. Pure: folds over its entries, no clock, no I/O, no model.

mod circles;
mod classify;
mod failures;
mod fingerprint;

pub use circles::{Circle, Circles};
pub use classify::{Classifier, Evidence, SignatureError};
pub use failures::Failures;
