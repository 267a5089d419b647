//! What a run can learn from how it has gone so far: what failures come from, whether they came before, what is
//! done about them and how sure that is, whether its steps go round in a circle. Pure: no clock, no I/O, no model.

mod circles;
mod classify;
mod confidence;
mod decisions;
mod failures;
mod fingerprint;
mod ladder;
mod told_time;

pub use circles::{Circle, Circles};
pub use classify::{Classifier, Evidence, Full, SignatureError, SignatureRow, Signatures, check_pattern};
pub use confidence::{Grounds, confidence};
pub use decisions::{Decisions, Judged};
pub use failures::{Failures, NOTE};
pub use ladder::{Case, DEFAULT_MAX_RETRIES, MOST_TRIES, Memory, decide, wants_snapshot};
pub use told_time::told_time;
