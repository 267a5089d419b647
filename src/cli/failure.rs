//! The one place where an error becomes words and an exit code.

use std::io::Write;

use crate::domain::ExitReason;
use crate::report::visible;

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
        print_indented(to, "error: ", &self.what)?;
        for cause in &self.because {
            print_indented(to, "  because: ", cause)?;
        }
        for hint in &self.hints {
            print_indented(to, "hint: ", hint)?;
        }
        Ok(())
    }
}

/// Prints words that may come from anywhere, their further lines below the first.
fn print_indented(to: &mut dyn Write, lead: &str, words: &str) -> std::io::Result<()> {
    let words = visible(words.trim_end()).replace('\n', &format!("\n{:width$}", "", width = lead.len()));
    writeln!(to, "{lead}{words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_stand_below_the_first_and_can_do_no_harm() {
        let failure = Failure::new(ExitReason::Internal, "cannot x").because("one\ntwo\u{1b}[2J\n").hint("a\nb");
        let mut printed = Vec::new();
        failure.print(&mut printed).unwrap();
        let expected = "error: cannot x\n  because: one\n           two\\e[2J\nhint: a\n      b\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
    }
}
