//! Tracing set-up, and the redaction of secrets.

mod encodings;
mod patterns;
mod redact;
mod spans;
mod trace;

pub use redact::{Redactor, Secret};
pub use spans::Spans;
pub use trace::{Export, TraceError, Traced, Tracing};
