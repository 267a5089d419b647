//! What is traced: lines where `--log` says, spans where the usual OpenTelemetry variables say.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Failure, Place, secrets};
use crate::domain::ExitReason;
use crate::telemetry::{Export, Redactor, Traced, Tracing};

/// Sets tracing up for a command that drives a run.
pub(super) fn begin(log: Option<PathBuf>, place: &Place) -> Result<Traced, Failure> {
    let export = export(place);
    let redactor = log.is_some().then(|| Arc::new(Redactor::new(&secrets::of(place))));
    let filter = place.var("LONGHAUL_LOG").unwrap_or("info").to_owned();
    let wanted = Tracing { log: log.map(|log| place.cwd.join(log)), filter, redactor, export };
    let traced = wanted.begin().map_err(|error| Failure::new(ExitReason::Usage, "cannot log").because_of(&error))?;
    if let Some(trouble) = &traced.trouble {
        let _ = writeln!(io::stderr(), "warning: no spans are exported: {trouble}");
    }
    Ok(traced)
}

/// Whether spans are wanted: an endpoint is named and nothing switches them off.
fn export(place: &Place) -> Option<Export> {
    let is_set = |name: &str| place.var(name).is_some();
    let off = place.var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || place.var("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    let named = is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_ENDPOINT");
    (named && !off).then(|| Export {
        protocol_is_named: is_set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") || is_set("OTEL_EXPORTER_OTLP_PROTOCOL"),
        service_is_named: is_set("OTEL_SERVICE_NAME")
            || place.var("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name=")),
    })
}
