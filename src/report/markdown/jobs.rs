//! Jobs, waits and what the harness noticed, in the report.

use super::super::style::{duration, size};
use super::super::totals::Totals;
use super::text::{add, code, list, plain, table};
use crate::domain::{BoxUsage, Exit, Finding, JobRecord, Jobs, WaitRecord, seconds_words};

/// The jobs, and below them what was noticed about each.
pub(super) fn job_list(out: &mut String, jobs: &Jobs) {
    if jobs.all().next().is_none() {
        return;
    }
    let row = |record: &JobRecord| {
        let end = record.end();
        let exit = match end {
            Some(end) => end.exit.map_or_else(|| "ended, exit unknown".to_owned(), |exit| exit.to_string()),
            None => record.fate_words(),
        };
        let service = if record.job.service { ", service" } else { "" };
        [
            record.job.id.to_string(),
            format!("{exit}{service}"),
            end.map(|end| duration(end.duration_ms)).unwrap_or_default(),
            record.expected().unwrap_or_default(),
            end.and_then(|end| end.cpu_ms).map(duration).unwrap_or_default(),
            end.and_then(|end| end.memory_peak_bytes).map(size).unwrap_or_default(),
            code(record.job.session.as_str()),
            code(&record.job.command),
        ]
    };
    let rows: Vec<[String; 8]> = jobs.all().map(row).collect();
    add(out, "## Jobs");
    add(out, &table(&["job", "exit", "took", "expected", "cpu", "memory", "session", "command"], &rows));
    let notes: Vec<String> = jobs.all().flat_map(notes).collect();
    if !notes.is_empty() {
        add(out, &list(&notes));
    }
}

fn notes(record: &JobRecord) -> Vec<String> {
    let id = record.job.id;
    let findings = record.findings.iter().map(|finding| format!("{id}: {}", plain(&finding.words())));
    let note = record.end().and_then(|end| end.note.as_deref()).map(|note| format!("{id}: {}", plain(note)));
    findings.chain(note).collect()
}

/// Services that were not ready in time, and what else of the jobs counts as a failure.
pub(super) fn failures(jobs: &Jobs) -> Vec<String> {
    let told = |record: &JobRecord| {
        let (id, command) = (record.job.id, code(&record.job.command));
        let failed = record.end().and_then(|end| end.exit).filter(|exit: &Exit| !exit.is_success());
        let failed = failed.map(|exit| format!("{id} failed, {exit}: {command}"));
        let why = record.findings.iter().rev().find_map(|finding| match finding {
            Finding::NotReady { why } => Some(why),
            Finding::Ready { .. }
            | Finding::Stalled { .. }
            | Finding::Diverged { .. }
            | Finding::RepeatedErrors { .. }
            | Finding::DiskFilling { .. }
            | Finding::NeedsInput { .. } => None,
        });
        let unready = why.filter(|_| record.is_ready() == Some(false));
        let unready = unready.map(|why| format!("{id} was not ready in time, {}: {command}", plain(why)));
        failed.into_iter().chain(unready)
    };
    jobs.all().flat_map(told).collect()
}

/// The waits: what woke the model, and how many requests were made meanwhile, where the wait's call is known.
pub(super) fn wait_list(out: &mut String, waits: &[(&WaitRecord, Option<u64>)]) {
    if waits.is_empty() {
        return;
    }
    let row = |(wait, requests): &(&WaitRecord, Option<u64>)| {
        let suspended = if wait.suspended_ms > 0 { duration(wait.suspended_ms) } else { String::new() };
        [
            duration(wait.waited_ms),
            suspended,
            wait.expected_s.and_then(seconds_words).unwrap_or_default(),
            requests.map(|requests| requests.to_string()).unwrap_or_default(),
            wait.cause.words().to_owned(),
            plain(&wait.what),
        ]
    };
    let rows: Vec<[String; 6]> = waits.iter().map(row).collect();
    add(out, "## Waits");
    add(out, &table(&["waited", "suspended", "expected", "requests", "woken by", "what happened"], &rows));
}

/// The services that were left running, how to reach them and how to end them.
pub(super) fn services_left(out: &mut String, totals: &Totals) {
    let kept: Vec<String> = totals
        .jobs
        .alive()
        .map(|record| {
            let job = &record.job;
            format!("{}: {} in session {}", job.id, code(&job.command), code(job.session.as_str()))
        })
        .collect();
    let run = totals.spec.as_ref().map_or("RUN", |spec| spec.run.as_str());
    add(out, "## Services left running");
    add(out, &list(&kept));
    let (reach, end) = (code(&format!("agent attach {run}")), code(&format!("agent runs rm {run}")));
    add(out, &format!("Their box is kept: {reach} looks in, {end} ends them and removes the run."));
}

/// What the box has used, as rows of the table of numbers.
pub(super) fn usage_rows(usage: &BoxUsage) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<String>| rows.extend(value.map(|value| (name.to_owned(), value)));
    row("box: processor time", usage.cpu_ms.map(duration));
    row("box: most memory", usage.memory_peak_bytes.map(size));
    row("box: least room on disk", usage.disk_free_bytes.map(size));
    for gpu in &usage.gpus {
        let value = format!(
            "{}, {:.0} % busy, most memory {}",
            plain(&gpu.name),
            gpu.busy_percent,
            size(gpu.memory_peak_bytes)
        );
        row("box: GPU", Some(value));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Entry, Event, Job, JobId, Probe, Readiness, SessionName};

    #[test]
    fn a_service_that_was_not_ready_in_time_is_a_failure_until_it_is_ready() {
        let probe = Probe::Port { host: "127.0.0.1".to_owned(), port: 8000 };
        let job = Job {
            id: JobId(1),
            work: "c1".to_owned(),
            session: SessionName::new("web").expect("a name"),
            command: "npm start".to_owned(),
            cwd: None,
            expected_s: None,
            service: true,
            readiness: Some(Readiness { probe, within_s: 5.0 }),
            log: "sessions/web.log".to_owned(),
            offset: 0,
        };
        let noted = |finding| Event::JobNoted { job: JobId(1), finding };
        let late = noted(Finding::NotReady { why: "connection refused".to_owned() });
        let mut jobs = Jobs::default();
        let mut see = |seq, event| {
            jobs.apply(&Entry { seq, time: jiff::Timestamp::UNIX_EPOCH, event });
            failures(&jobs)
        };
        assert!(see(0, Event::JobStarted { job }).is_empty());
        assert_eq!(see(1, late), ["j1 was not ready in time, connection refused: `npm start`"]);
        assert!(see(2, noted(Finding::Ready { after_ms: 9_000 })).is_empty());
    }
}
