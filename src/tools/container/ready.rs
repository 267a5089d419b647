//! Waiting until a sidecar is ready, or is known not to be.

use std::time::Duration;

use regex::Regex;

use super::{Call, Stop, malformed};
use crate::domain::{Probe, Status, duration_words};
use crate::guest::Condition;
use crate::sandbox::{Sidecar, Sidecars};
use crate::terminal::TerminalError;
use crate::tools::ready::Ready;

/// Between two tries of a command: nobody tells when it would pass.
const STEP: Duration = Duration::from_millis(250);

/// Waits for what shows that it is ready: how it went, in a word and in words.
pub(super) async fn wait(
    call: &Call<'_>,
    beside: &dyn Sidecars,
    one: &Sidecar,
    ready: &Ready,
) -> Result<(Status, String), Stop> {
    // A port without a host is the sidecar's own.
    let host = ready.host.clone().or_else(|| ready.port.and(one.address.clone()));
    let readiness = Ready { host, ..ready.clone() }.read().map_err(malformed)?;
    let clock = call.terminal.clock();
    let began = clock.monotonic();
    let over = clock.sleep(Duration::from_secs_f64(readiness.within_s));
    let met = async {
        match &readiness.probe {
            Probe::Port { host, port } => seen(call, Condition::Port { host: host.clone(), port: *port }).await,
            Probe::Http { url, status } => seen(call, Condition::Http { url: url.clone(), status: *status }).await,
            Probe::Output { pattern } => {
                let pattern = Regex::new(pattern).map_err(|error| malformed(format!("ready.pattern: {error}")))?;
                Ok(format!("it printed: {}", beside.says(&one.name, &pattern).await?))
            }
            Probe::Command { command } => loop {
                if beside.run(&one.name, command).await?.code == 0 {
                    break Ok("its command passes".to_owned());
                }
                clock.sleep(STEP).await;
            },
        }
    };
    let ended = beside.ended(&one.name);
    tokio::select! {
        biased;
        what = met => {
            let after = u64::try_from(clock.monotonic().saturating_sub(began).as_millis()).unwrap_or(u64::MAX);
            Ok((Status::Ok, format!("ready after {}: {}", duration_words(after), what?)))
        }
        why = ended => Ok((Status::Failed, format!("not ready: {why}"))),
        () = over => {
            let tried = tried(call, beside, one, &readiness.probe).await;
            let within = readiness.within_s;
            Ok((Status::Failed, format!("not ready within {within} s: {tried}; it runs on")))
        }
        () = call.attention.cancelled() => {
            Ok((Status::Running, "not known to be ready: a person interrupted; it runs on".to_owned()))
        }
    }
}

async fn seen(call: &Call<'_>, condition: Condition) -> Result<String, Stop> {
    let met = call.terminal.guest().met(condition).await;
    Ok(met.map_err(TerminalError::Guest)?.what)
}

/// What the last try met.
async fn tried(call: &Call<'_>, beside: &dyn Sidecars, one: &Sidecar, probe: &Probe) -> String {
    let condition = match probe {
        Probe::Port { host, port } => Condition::Port { host: host.clone(), port: *port },
        Probe::Http { url, status } => Condition::Http { url: url.clone(), status: *status },
        Probe::Output { pattern } => return format!("no line matches `{pattern}`"),
        Probe::Command { command } => {
            return match beside.run(&one.name, command).await {
                Ok(said) => format!("`{command}` ends with code {}: {}", said.code, said.text.trim()),
                Err(error) => error.what,
            };
        }
    };
    call.terminal.guest().tried(condition).await.map(|tried| tried.what).unwrap_or_default()
}
