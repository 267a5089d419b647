//! Tracing set-up, and the redaction of secrets.

mod redact;

pub use redact::{Redactor, Secret};
