//! Printing to standard output, whose reader may go away at any time: that ends a command, and is no failure.

use std::io;

use super::Failure;
use crate::domain::ExitReason;

/// Why a command stopped before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It can't do what was asked.
    Failure(Failure),
    /// Nobody reads any more.
    ReaderGone,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failure(Failure::new(ExitReason::Internal, "cannot write the output").because_of(&error)),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What a command that prints has come to.
pub(super) fn finished(printed: Result<ExitReason, Stop>) -> Result<ExitReason, Failure> {
    match printed {
        Ok(reason) => Ok(reason),
        Err(Stop::ReaderGone) => Ok(ExitReason::Done),
        Err(Stop::Failure(failure)) => Err(failure),
    }
}
