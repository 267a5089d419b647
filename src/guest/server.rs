//! The guest's life: from its set-up to its end.

use std::io;

use super::setup::GuestSetup;

/// Runs the supervisor in this process until it is told to shut down.
///
/// Starts its own single-threaded runtime, so it may be called right after a fork; never from within a runtime.
///
/// # Errors
/// When it can't begin: its directory, its socket or its runtime can't be had.
pub fn serve(setup: GuestSetup) -> io::Result<()> {
    let _ = setup;
    Err(io::ErrorKind::Unsupported.into())
}
