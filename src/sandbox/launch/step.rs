//! Naming what was being done when the system said no.

use std::io;

/// A step of building a box that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub(in crate::sandbox) struct StepError {
    /// What was being done: a lower-case fragment after "cannot".
    pub(in crate::sandbox) step: String,
    /// What the system said.
    #[source]
    pub(in crate::sandbox) source: io::Error,
}

/// Names the step that a result belongs to.
pub(in crate::sandbox) trait During<T> {
    /// Says what was being done, for the case that it failed.
    ///
    /// # Errors
    /// The same failure with its step.
    fn during(self, step: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|source| StepError { step: step(), source: source.into() })
    }
}
