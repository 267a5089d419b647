//! Tracing set-up, and the redaction of secrets.

mod encodings;
mod patterns;
mod redact;
mod trace;

pub use redact::{Redactor, Secret};
pub use trace::{TraceError, init};
