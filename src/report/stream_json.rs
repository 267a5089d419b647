//! A run as JSON for programs: an object per line as it goes, or one at the end.

use std::io::Write;

use super::Closing;
use crate::domain::{Entry, ExitReason, Observer, Progress};

/// Which JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonMode {
    /// One object at the end.
    Single,
    /// An object per line as the run goes; the last is the result.
    Stream,
}

/// Prints a run as JSON. `docs/OUTPUT.md` describes the objects.
pub struct JsonOutput<W> {
    _out: W,
}

impl<W: Write + Send> JsonOutput<W> {
    /// JSON on `out`.
    pub fn new(out: W, _mode: JsonMode) -> Self {
        Self { _out: out }
    }

    /// Tells of a failure of the harness itself: what, because, hints.
    pub fn failure(&mut self, _reason: ExitReason, _what: &str, _because: &[String], _hints: &[String]) {}

    /// Writes the result, the last object; `closing` is None where there is no transcript.
    pub fn end(&mut self, _closing: Option<&Closing>) {}
}

impl<W: Write + Send> Observer for JsonOutput<W> {
    fn entry(&mut self, _entry: &Entry) {}

    fn progress(&mut self, _progress: &Progress) {}
}
