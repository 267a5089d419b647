//! Sets up what the program says about itself while it works.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// Targets that are never traced: they would print request bodies and headers.
const NEVER: &str = "async_openai=off";

/// Why tracing can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The filter makes no sense.
    #[error("`{0}` is not a trace filter (such as `info` or `longhaul=debug`)")]
    Filter(String),
    /// The file can't be written.
    #[error("cannot write the trace to {path}")]
    File {
        /// As given.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Traces what `filter` lets through (`info`, `longhaul::sandbox=debug`, …) to `file`, or to standard error.
///
/// A second call in one process changes nothing.
///
/// # Errors
/// [`TraceError`] when the filter makes no sense or the file can't be written.
pub fn init(filter: &str, file: Option<&Path>) -> Result<(), TraceError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| TraceError::Filter(filter.to_owned()))?
        .add_directive(NEVER.parse().expect("a directive"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match file {
        Some(path) => drop(builder.with_writer(Mutex::new(open(path)?)).try_init()),
        None => drop(builder.with_writer(io::stderr).try_init()),
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, TraceError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| TraceError::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        assert!(matches!(init("longhaul=loud", None), Err(TraceError::Filter(_))));
    }

    #[test]
    fn a_trace_file_that_cannot_be_written_is_told() {
        assert!(matches!(init("info", Some(Path::new("/nowhere/trace"))), Err(TraceError::File { .. })));
    }
}
