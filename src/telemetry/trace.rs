//! Sets up what the program says about itself while it works: lines in a file, spans to a collector.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::Redactor;
use super::spans::TARGET;

/// Targets that are never traced: they would print request bodies and headers.
const NEVER: &str = "async_openai=off";
/// Most time that the last spans have to reach the collector when a run is over.
const FLUSH: Duration = Duration::from_secs(2);

/// Why tracing can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The filter makes no sense.
    #[error("`{0}` is not a trace filter (such as `info` or `longhaul=debug`)")]
    Filter(String),
    /// The file can't be written.
    #[error("cannot write the log to {path}")]
    File {
        /// As given.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What is wanted.
#[derive(Default)]
pub struct Tracing {
    /// Where lines go.
    pub log: Option<PathBuf>,
    /// Which of them (`info`, `longhaul::sandbox=debug`, …).
    pub filter: String,
    /// What no line may hold.
    pub redactor: Option<Arc<Redactor>>,
    /// Where spans go.
    pub export: Option<Export>,
}

/// Spans over OTLP. Where to, with which headers and how long, the exporter reads from the `OTEL_*` variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// Whether the variables name the protocol; else it is protobuf.
    pub protocol_is_named: bool,
    /// Whether they name the service; else it is `longhaul`.
    pub service_is_named: bool,
}

/// What was set up, to be ended when the run is over.
#[derive(Debug, Default)]
pub struct Traced {
    provider: Option<SdkTracerProvider>,
    /// Why no spans are exported although that was wanted, in words.
    pub trouble: Option<String>,
}

impl Tracing {
    /// Sets it up for this process. A second time in one process changes nothing. Must not be called on a runtime's thread,
    /// for the exporter has a client that blocks.
    ///
    /// # Errors
    /// [`TraceError`] when the filter makes no sense or the file can't be written. A collector that can't be used is no
    /// error but [`Traced::trouble`].
    pub fn begin(self) -> Result<Traced, TraceError> {
        let log = match &self.log {
            None => None,
            Some(path) => {
                let filter = EnvFilter::try_new(&self.filter)
                    .map_err(|_| TraceError::Filter(self.filter.clone()))?
                    .add_directive(NEVER.parse().expect("a directive"));
                let lines = Lines { file: open(path)?, redactor: self.redactor };
                let layer = tracing_subscriber::fmt::layer()
                    .with_writer(Mutex::new(lines))
                    .with_ansi(false)
                    .with_span_events(FmtSpan::CLOSE)
                    .log_internal_errors(false);
                Some(layer.with_filter(filter))
            }
        };
        let mut traced = Traced::default();
        match self.export.map(exporting).transpose() {
            Ok(provider) => traced.provider = provider,
            Err(error) => traced.trouble = Some(error.to_string()),
        }
        let export = traced.provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("longhaul"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_target(false)
                .with_filter(FilterFn::new(|facts| facts.target() == TARGET))
        });
        drop(tracing_subscriber::registry().with(log).with(export).try_init());
        Ok(traced)
    }
}

impl Traced {
    /// Hands over what is left, in a bounded time whatever the collector does.
    pub fn end(self) {
        if let Some(provider) = self.provider {
            // What does not arrive is lost: the run's transcript has all of it.
            let _ = provider.shutdown_with_timeout(FLUSH);
        }
    }
}

fn exporting(export: Export) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut exporter = SpanExporter::builder().with_http();
    if !export.protocol_is_named {
        exporter = exporter.with_protocol(Protocol::HttpBinary);
    }
    let mut resource = Resource::builder();
    if !export.service_is_named {
        resource = resource.with_service_name("longhaul");
    }
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter.build()?).build())
}

/// A log file whose lines hold no secret.
struct Lines {
    file: File,
    redactor: Option<Arc<Redactor>>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.redactor {
            None => self.file.write_all(line)?,
            Some(redactor) => self.file.write_all(&redactor.redact_bytes(line))?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open(path: &Path) -> Result<File, TraceError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // A pipe that nobody reads would be waited for.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| TraceError::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &str, filter: &str) -> Result<Traced, TraceError> {
        Tracing { log: Some(path.into()), filter: filter.to_owned(), redactor: None, export: None }.begin()
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        assert!(matches!(log("/dev/null", "longhaul=loud"), Err(TraceError::Filter(_))));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told() {
        assert!(matches!(log("/nowhere/log", "info"), Err(TraceError::File { .. })));
    }
}
