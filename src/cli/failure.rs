//! The one place where an error becomes words and an exit code.

use std::io::Write;

use crate::domain::ExitReason;

/// Why the program can't do what was asked: what, because, hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub reason: ExitReason,
    /// What could not be done: a lower-case fragment.
    pub what: String,
    /// The causes, outermost first.
    pub because: Vec<String>,
    /// What to do about it; commands stand in backquotes.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure without a known cause.
    pub fn new(reason: ExitReason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into(), because: Vec::new(), hints: Vec::new() }
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.because.push(cause.into());
        self
    }

    /// Adds the whole chain of an error as causes.
    #[must_use]
    pub fn because_of(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.because.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds the chain below an error whose own words are said already.
    #[must_use]
    pub fn because_of_source(self, error: &dyn std::error::Error) -> Self {
        match error.source() {
            Some(source) => self.because_of(source),
            None => self,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Writes the failure the way people see it.
    ///
    /// # Errors
    /// Only what `to` says.
    pub fn print(&self, to: &mut dyn Write) -> std::io::Result<()> {
        writeln!(to, "error: {}", self.what)?;
        for cause in &self.because {
            writeln!(to, "  because: {cause}")?;
        }
        for hint in &self.hints {
            writeln!(to, "hint: {hint}")?;
        }
        Ok(())
    }
}
