//! Whether a service is ready: its probe, tried until it passes, its time is over, or the job has ended.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::{ReadyState, Shared, lock};
use crate::domain::{Exit, Finding, Job, JobEnd, Probe, Readiness};
use crate::guest::{CheckCommand, Client, Condition, GuestError, Phase, Start};
use crate::terminal::lines::LineReader;
use crate::terminal::matching::Matching;

/// Tries of a command in one shell of the box, a second apart: nothing tells when a command would succeed.
const TRIES: u32 = 20;

/// Such a shell is ended after this, whatever its command does.
const SHELL_TIME: Duration = Duration::from_secs(60);

/// Pause between such shells, for a command that ends them at once.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of a command's last words is told.
const LAST_WORDS: u64 = 2 << 10;

/// Tries the probe of a job; notes what came of it.
pub(super) async fn watch(client: Client, shared: Arc<Shared>, job: Job, readiness: Readiness) {
    let mut changes = shared.changed.subscribe();
    let within = Duration::try_from_secs_f64(readiness.within_s).unwrap_or(Duration::MAX);
    let mut over = shared.clock.sleep(within);
    let mut last = String::new();
    let passed = {
        let mut tries = std::pin::pin!(tried(&client, &shared, &job, &readiness.probe, &mut last));
        loop {
            let end = lock(&shared.jobs).get(&job.id).and_then(|entry| entry.end.clone());
            // A command that went well may have left a service behind.
            let may_be_behind =
                |end: &JobEnd| end.exit.is_some_and(Exit::is_success) && condition(&readiness.probe).is_some();
            if let Some(end) = end.filter(|end| !may_be_behind(end)) {
                let exit = end.exit.map_or("exit unknown".to_owned(), |exit| exit.to_string());
                break Err(format!("it ended before: {exit}"));
            }
            tokio::select! {
                biased;
                tried = &mut tries => match tried {
                    Ok(()) => break Ok(()),
                    Err(GuestError::Refused(refusal)) => break Err(format!("the probe can't be tried: {}", refusal.what)),
                    Err(_) => return,
                },
                () = &mut over => break Err(format!("its probe has not passed within {} s", readiness.within_s)),
                _ = changes.changed() => {}
            }
        }
    };
    let now = shared.clock.since_boot();
    let after = lock(&shared.jobs).get(&job.id).map_or(Duration::ZERO, |entry| now.saturating_sub(entry.began));
    let (state, finding) = match passed {
        Ok(()) => {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            (ReadyState::Ready { after }, Finding::Ready { after_ms })
        }
        Err(mut why) => {
            if last.is_empty() {
                last = last_of(&client, &readiness.probe).await;
            }
            if !last.is_empty() {
                why = format!("{why}; the last try: {last}");
            }
            (ReadyState::NotReady { why: why.clone() }, Finding::NotReady { why })
        }
    };
    shared.note_ready(job.id, state, finding);
}

/// Tries until the probe passes; leaves in `last` what the last try met, where that is known meanwhile.
async fn tried(
    client: &Client,
    shared: &Arc<Shared>,
    job: &Job,
    probe: &Probe,
    last: &mut String,
) -> Result<(), GuestError> {
    if let Some(condition) = condition(probe) {
        return client.met(condition).await.map(drop);
    }
    match probe {
        Probe::Port { .. } | Probe::Http { .. } => unreachable!("these are conditions"),
        Probe::Output { pattern } => printed(client, shared, job, pattern, last).await,
        Probe::Command { command } => succeeded(client, shared, job, command, last).await,
    }
}

/// The probe as something that the guest sees.
fn condition(probe: &Probe) -> Option<Condition> {
    match probe {
        Probe::Port { host, port } => Some(Condition::Port { host: host.clone(), port: *port }),
        Probe::Http { url, status } => Some(Condition::Http { url: url.clone(), status: *status }),
        Probe::Output { .. } | Probe::Command { .. } => None,
    }
}

/// What one more try meets.
async fn last_of(client: &Client, probe: &Probe) -> String {
    match condition(probe) {
        Some(condition) => client.tried(condition).await.map_or(String::new(), |tried| tried.what),
        None => String::new(),
    }
}

async fn printed(
    client: &Client,
    shared: &Arc<Shared>,
    job: &Job,
    pattern: &str,
    last: &mut String,
) -> Result<(), GuestError> {
    let invalid = |error: regex::Error| {
        GuestError::Refused(crate::guest::Refusal {
            kind: crate::guest::RefusalKind::Invalid,
            what: format!("pattern: {error}"),
        })
    };
    let pattern = Regex::new(pattern).map_err(invalid)?;
    let source = lock(&shared.jobs).get(&job.id).map(super::Entry::source);
    if let Some(source) = source {
        "no line of its output matches".clone_into(last);
        let mut matching = Matching::new(client.clone(), Arc::clone(&shared.clock), source, job.offset);
        if matching.first(&pattern).await?.is_some() {
            return Ok(());
        }
    }
    // The end of the job ends the wait.
    std::future::pending().await
}

async fn succeeded(
    client: &Client,
    shared: &Arc<Shared>,
    job: &Job,
    command: &str,
    last: &mut String,
) -> Result<(), GuestError> {
    // A try that ends its shell, or can't be read by it, ends only its own. Nothing but the shell itself is needed.
    let script = format!(
        "probe() (\n{command}\n)\ntry=0\nwhile [ $try -lt {TRIES} ]; do\nprobe </dev/null && exit 0\nstatus=$?\n\
         sleep 1 || exit 1\ntry=$((try+1))\ndone\nexit $status\n"
    );
    for nth in 0u64.. {
        let id = format!("ready-{}-{nth}", job.work);
        let ask = CheckCommand {
            id: id.clone(),
            cwd: job.cwd.clone().or_else(|| Some(shared.options.workspace.clone())),
            env: shared.options.env.clone(),
            timeout_ms: u64::try_from(SHELL_TIME.as_millis()).unwrap_or(u64::MAX),
        };
        let (Start::Started(_) | Start::Known(_) | Start::Busy(_)) = client.check(ask, script.as_bytes()).await?;
        let (state, _) = client.ended(&id).await?;
        let Phase::Ended(end) = &state.phase else { break };
        if end.exit.is_some_and(Exit::is_success) {
            return Ok(());
        }
        let exit = end.exit.map_or("exit unknown".to_owned(), |exit| exit.to_string());
        let from = state.offset.max(end.end.saturating_sub(LAST_WORDS));
        let words = client.read_log(&state.log, from, end.end - from).await?;
        let mut reader = LineReader::new();
        let words = reader.feed(&words).into_iter().rev().map(|line| line.text).find(|line| !line.trim().is_empty());
        *last = words.map_or(exit.clone(), |words| format!("{exit}: {words}"));
        shared.clock.sleep(PAUSE).await;
    }
    std::future::pending().await
}
