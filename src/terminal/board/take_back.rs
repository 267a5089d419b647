//! The jobs and sessions of a box as an earlier driver has recorded them, taken over by this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Board, ReadyState, lock, probe, watch};
use crate::domain::{Event, Fate, Finding, JobEnd, JobRecord, Jobs, SessionName};
use crate::guest::SessionInfo;

impl Board {
    /// Takes the jobs of the record over: those that have ended as they ended, those that live to be watched. Nothing is
    /// told of them but what becomes of them from now on, or became of them meanwhile. `shown` says up to where the
    /// outputs were shown, by log.
    pub fn take_back(&self, jobs: &Jobs, shown: &BTreeMap<String, u64>) {
        let shared = &self.inner.shared;
        for record in jobs.all() {
            let job = record.job.clone();
            {
                let mut next = lock(&shared.next);
                *next = (*next).max(job.id.0.saturating_add(1));
            }
            let seen = shown.get(&job.log).copied().unwrap_or(0).max(job.offset);
            let ran = Duration::try_from(shared.clock.now().duration_since(record.started)).unwrap_or_default();
            let mut entry = shared.entry(job.clone(), shared.clock.since_boot().saturating_sub(ran), seen);
            entry.findings.clone_from(&record.findings);
            entry.ready = ready(record).or(entry.ready);
            entry.end = end(record);
            let lives = entry.end.is_none();
            let tries = entry.ready == Some(ReadyState::Trying);
            lock(&shared.jobs).insert(job.id, entry);
            if !lives {
                continue;
            }
            let mut tasks = lock(&self.inner.tasks);
            let client = &self.inner.client;
            if let Some(readiness) = job.readiness.clone().filter(|_| tries) {
                let probing = probe::watch(client.clone(), Arc::clone(shared), job.clone(), readiness);
                tasks.push(tokio::spawn(probing).abort_handle());
            }
            tasks.push(tokio::spawn(watch::watch(client.clone(), Arc::clone(shared), job)).abort_handle());
        }
    }

    /// Holds the sessions that are open against those of the record; the difference is told as news.
    pub(in crate::terminal) fn take_back_sessions(&self, open: &[SessionInfo], known: &BTreeSet<SessionName>) {
        let shared = &self.inner.shared;
        for info in open {
            match known.contains(&info.session) {
                true => drop(lock(&shared.open).insert(info.session.clone())),
                false => self.session_opened(info),
            }
        }
        for session in known.iter().filter(|name| open.iter().all(|info| info.session != **name)) {
            let why = "it ended while the run was not driven".to_owned();
            shared.news.push(Event::SessionClosed { session: session.clone(), why });
        }
    }
}

fn ready(record: &JobRecord) -> Option<ReadyState> {
    record.findings.iter().rev().find_map(|finding| match finding {
        Finding::Ready { after_ms } => Some(ReadyState::Ready { after: Duration::from_millis(*after_ms) }),
        Finding::NotReady { why } => Some(ReadyState::NotReady { why: why.clone() }),
        Finding::Stalled { .. }
        | Finding::Diverged { .. }
        | Finding::RepeatedErrors { .. }
        | Finding::DiskFilling { .. }
        | Finding::NeedsInput { .. } => None,
    })
}

fn end(record: &JobRecord) -> Option<JobEnd> {
    match &record.fate {
        Fate::Alive => None,
        Fate::Ended { end, .. } => Some(end.clone()),
        Fate::WithBox => Some(JobEnd {
            exit: None,
            duration_ms: 0,
            size_bytes: 0,
            cpu_ms: None,
            memory_peak_bytes: None,
            note: Some("it ended with its box".to_owned()),
            failure: None,
        }),
    }
}
