//! The jobs of a box: which there are, how they stand, and what happened that belongs into the record.

mod entry;
mod news;
mod probe;
mod take_back;
mod usage;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

use super::monitor::DiskWatch;
use super::{CommandReport, TerminalOptions};
use crate::clock::Clock;
use crate::domain::{BoxUsage, Event, Finding, Job, JobId, Readiness, SessionName};
use crate::guest::{Client, SessionInfo};
use entry::Entry;
use news::News;
use usage::Samples;

pub(super) use entry::Source;
pub use entry::{JobView, ReadyState};

/// The jobs of one box. Clones share it; what watches the jobs ends with the last one.
#[derive(Debug, Clone)]
pub struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

/// What the board and those who watch for it share.
#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    options: Arc<TerminalOptions>,
    jobs: Mutex<BTreeMap<JobId, Entry>>,
    next: Mutex<u32>,
    news: News,
    /// Counts changes of any job: ends, findings, readiness.
    changed: channel::Sender<u64>,
    samples: Mutex<Samples>,
    disks: Mutex<DiskWatch>,
    gpu_works: AtomicBool,
    /// The sessions that are open, as far as this board opened them.
    open: Mutex<BTreeSet<SessionName>>,
    /// When the box began to be watched, by [`Clock::since_boot`].
    since: Duration,
}

/// What is known of a command beyond its report when it becomes a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobWish {
    /// How long it is thought to take, in seconds.
    pub expected_s: Option<f64>,
    /// Whether it is a service.
    pub service: bool,
    /// How to learn that it is ready.
    pub readiness: Option<Readiness>,
}

impl Board {
    /// A board without jobs. Must be called within a tokio runtime.
    pub(super) fn new(client: Client, options: Arc<TerminalOptions>) -> Self {
        let shared = Arc::new(Shared {
            clock: Arc::clone(&options.clock),
            since: options.clock.since_boot(),
            options,
            jobs: Mutex::default(),
            next: Mutex::new(1),
            news: News::default(),
            changed: channel::Sender::new(0),
            samples: Mutex::default(),
            disks: Mutex::default(),
            gpu_works: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let listening = tokio::spawn(news::listen(client.events(), client.mended(), Arc::clone(&shared)));
        let sampling = tokio::spawn(usage::watch(client.clone(), Arc::clone(&shared)));
        let tasks = Mutex::new(vec![listening.abort_handle(), sampling.abort_handle()]);
        Self { inner: Arc::new(Inner { client, shared, tasks }) }
    }

    /// A name that no job has or had.
    pub fn next_id(&self) -> JobId {
        let mut next = lock(&self.inner.shared.next);
        let id = JobId(*next);
        *next += 1;
        id
    }

    /// Names no job as one that the run has had already, in another box.
    pub fn number_after(&self, last: JobId) {
        let mut next = lock(&self.inner.shared.next);
        *next = (*next).max(last.0.saturating_add(1));
    }

    /// Takes a job over: [`Event::JobStarted`] is the next thing that [`Board::news`] tells of it, its end the last.
    pub fn adopt(&self, job: Job) {
        let shared = &self.inner.shared;
        {
            let mut next = lock(&shared.next);
            *next = (*next).max(job.id.0.saturating_add(1));
        }
        let (began, seen) = (shared.clock.since_boot(), job.offset);
        self.take_in(shared.entry(job, began, seen));
    }

    /// Makes a job of a command that is still running; returns the one that it is already, if it is. None for a
    /// command that does not run.
    pub fn keep(&self, report: &CommandReport, session: &SessionName, wish: JobWish) -> Option<Job> {
        if !report.state.is_running() {
            return None;
        }
        if let Some(known) = self.of_work(&report.id) {
            self.mark_seen(known.id, report.offset + report.size_bytes);
            return Some(known);
        }
        let job = Job {
            id: self.next_id(),
            work: report.id.clone(),
            session: session.clone(),
            command: report.title.clone(),
            cwd: report.cwd.clone(),
            expected_s: wish.expected_s,
            service: wish.service,
            readiness: wish.readiness,
            log: report.log.clone(),
            offset: report.offset,
        };
        let shared = &self.inner.shared;
        let began = shared.clock.since_boot().saturating_sub(report.duration);
        self.take_in(shared.entry(job.clone(), began, report.offset + report.size_bytes));
        Some(job)
    }

    /// The job that a command is, by the name under which the box knows the command.
    pub fn of_work(&self, work: &str) -> Option<Job> {
        lock(&self.inner.shared.jobs).values().find(|entry| entry.job.work == work).map(|entry| entry.job.clone())
    }

    /// All jobs, the ended ones included, by id.
    pub fn jobs(&self) -> Vec<JobView> {
        let now = self.inner.shared.clock.since_boot();
        lock(&self.inner.shared.jobs).values().map(|entry| entry.view(now)).collect()
    }

    /// The next fact to be recorded, in order. May be dropped and called again; waits for ever when the box is gone.
    pub async fn news(&self) -> Event {
        self.inner.shared.news.next().await
    }

    /// The facts that are there now: call it before an outcome is recorded that may tell of them.
    pub fn pending(&self) -> Vec<Event> {
        self.inner.shared.news.drain()
    }

    /// The last lines that a job which has failed printed; empty for any other.
    pub fn last_lines(&self, job: JobId) -> String {
        lock(&self.inner.shared.jobs).get(&job).map(|entry| entry.last_lines.clone()).unwrap_or_default()
    }

    /// Waits until the end of a job is among the [news](Board::news); at once for one that is not known.
    pub async fn ended(&self, job: JobId) {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if lock(&self.inner.shared.jobs).get(&job).is_none_or(|entry| entry.end.is_some()) {
                return;
            }
            changes.changed().await.expect("the sender is `self`'s");
        }
    }

    /// What the box has used so far, from samples.
    pub fn usage(&self) -> BoxUsage {
        let shared = &self.inner.shared;
        let over = shared.clock.since_boot().saturating_sub(shared.since);
        lock(&shared.samples).usage(over)
    }

    /// The same after one more sample, where the box can give one.
    pub async fn measure(&self) -> BoxUsage {
        // Without it the earlier ones must do.
        let _ = usage::sample(&self.inner.client, &self.inner.shared).await;
        self.usage()
    }

    /// Notes that a session is open; the first time it is told.
    pub(super) fn session_opened(&self, info: &SessionInfo) {
        let shared = &self.inner.shared;
        if lock(&shared.open).insert(info.session.clone()) {
            let log = format!("{}/{}", shared.options.logs, info.log);
            let (session, shell) = (info.session.clone(), info.shell.clone());
            shared.news.push(Event::SessionOpened { session, shell, log });
        }
    }

    /// Tells of changes of any job.
    pub(super) fn changes(&self) -> channel::Receiver<u64> {
        self.inner.shared.changed.subscribe()
    }

    /// Where the output of a job is.
    pub(super) fn source(&self, job: JobId) -> Option<Source> {
        let jobs = lock(&self.inner.shared.jobs);
        jobs.get(&job).map(Entry::source)
    }

    /// What was noticed about jobs, stands, and was not taken before.
    pub(super) fn take_findings(&self) -> Vec<(JobId, Finding)> {
        let mut jobs = lock(&self.inner.shared.jobs);
        jobs.values_mut().flat_map(|entry| entry.untold.drain(..).map(|finding| (entry.job.id, finding))).collect()
    }

    /// Notes that the output of a job was shown up to that place of its log.
    pub(super) fn mark_seen(&self, job: JobId, end: u64) {
        if let Some(entry) = lock(&self.inner.shared.jobs).get_mut(&job) {
            entry.seen = entry.seen.max(end);
        }
    }

    /// Up to where the output of the jobs that run in a session was shown.
    pub(super) fn seen_in(&self, session: &SessionName) -> u64 {
        let jobs = lock(&self.inner.shared.jobs);
        jobs.values().filter(|entry| entry.job.session == *session).map(|entry| entry.seen).max().unwrap_or(0)
    }

    /// Notes that the output of a session was shown up to that place of its log.
    pub(super) fn mark_session_seen(&self, session: &SessionName, end: u64) {
        let mut jobs = lock(&self.inner.shared.jobs);
        for entry in jobs.values_mut().filter(|entry| entry.job.session == *session && entry.end.is_none()) {
            entry.seen = entry.seen.max(end);
        }
    }

    /// Notes that it was told that a job is not ready: nobody has to be woken for it any more.
    pub(super) fn told_not_ready(&self, job: JobId) {
        if let Some(entry) = lock(&self.inner.shared.jobs).get_mut(&job) {
            entry.untold.retain(|finding| !matches!(finding, Finding::NotReady { .. }));
        }
    }

    fn take_in(&self, entry: Entry) {
        let shared = &self.inner.shared;
        let job = entry.job.clone();
        lock(&shared.jobs).insert(job.id, entry);
        shared.news.push(Event::JobStarted { job: job.clone() });
        let mut tasks = lock(&self.inner.tasks);
        tasks.retain(|task| !task.is_finished());
        let client = &self.inner.client;
        if let Some(readiness) = job.readiness.clone() {
            let probing = probe::watch(client.clone(), Arc::clone(shared), job.clone(), readiness);
            tasks.push(tokio::spawn(probing).abort_handle());
        }
        tasks.push(tokio::spawn(watch::watch(client.clone(), Arc::clone(shared), job)).abort_handle());
    }
}

impl Shared {
    fn entry(&self, job: Job, began: Duration, seen: u64) -> Entry {
        let log = job.log.strip_prefix(&format!("{}/", self.options.logs)).unwrap_or(&job.log).to_owned();
        Entry::new(job, began, log, seen)
    }

    /// Notes what came of a job's probe: at once for who waits for that and for who waits for problems.
    fn note_ready(&self, job: JobId, state: ReadyState, finding: Finding) {
        self.note_with(job, finding, |entry| entry.ready = Some(state));
    }

    /// Notes something about a job.
    fn note(&self, job: JobId, finding: Finding) {
        self.note_with(job, finding, |_| {});
    }

    fn note_with(&self, job: JobId, finding: Finding, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = lock(&self.jobs).get_mut(&job) {
            change(entry);
            entry.findings.push(finding.clone());
            if finding.is_problem() && entry.end.is_none() {
                entry.untold.push(finding.clone());
            }
        }
        self.news.push(Event::JobNoted { job, finding });
        self.touch();
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
