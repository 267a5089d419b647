//! Watching one job: its end, its output, what its processes do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Entry, Shared, lock};
use crate::domain::{Event, Finding, Job, JobEnd};
use crate::guest::{Client, CommandState, GuestError, Phase};
use crate::terminal::lines::{Line, LineReader};
use crate::terminal::monitor::{Monitor, Work};
use crate::terminal::prompt;
use crate::terminal::{TermSize, TerminalError, render};

/// Output is looked at this often at most.
const PACE: Duration = Duration::from_millis(300);

/// Most bytes that are looked at of what came since the last look; what came before them is skipped. A flood must not
/// take the time that whoever waits for another session needs.
const MOST: u64 = 128 << 10;

/// Most bytes that are looked at of the end of what a job has printed that failed.
const LAST: u64 = 16 << 10;

/// What is said of a job that went with its box.
const LOST: &str = "the box in which it ran has ended, and how it ended can't be found out";

/// Times between looks at the processes: a program that asks does so early, later it rarely changes.
const LOOKS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// Watches a job until it has ended or its box is gone.
pub(super) async fn watch(client: Client, shared: Arc<Shared>, job: Job) {
    let mut watch = Watch::new(client, shared, job);
    let client = watch.client.clone();
    let work = watch.job.work.clone();
    let mut ended = std::pin::pin!(client.ended(&work));
    loop {
        tokio::select! {
            biased;
            end = &mut ended => {
                match end {
                    Ok((state, _)) => watch.ends(&state).await,
                    // A box that was made since knows nothing of it.
                    Err(GuestError::Refused(_)) => watch.is_lost(),
                    Err(_) => {}
                }
                return;
            }
            // Whoever is gone tells so above.
            done = watch.step() => if done.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

struct Watch {
    client: Client,
    shared: Arc<Shared>,
    job: Job,
    log: String,
    /// Up to where the output was read.
    at: u64,
    /// Whether the session's shell has begun with it: what is printed before is the shell's.
    has_begun: bool,
    reader: LineReader,
    monitor: Monitor,
    /// When its output and its processes may be looked at again, by [`Clock::monotonic`].
    next_read: Duration,
    next_look: Duration,
    looks: usize,
}

impl Watch {
    fn new(client: Client, shared: Arc<Shared>, job: Job) -> Self {
        let now = shared.clock.monotonic();
        let log = lock(&shared.jobs).get(&job.id).map_or(String::new(), |entry| entry.log.clone());
        Self {
            client,
            log,
            at: job.offset,
            has_begun: false,
            reader: LineReader::new(),
            monitor: Monitor::new(now, job.service),
            next_read: now,
            next_look: now + LOOKS[0],
            looks: 0,
            shared,
            job,
        }
    }

    /// Waits for output or for the time of a look, and takes in what there is. May be dropped at any time.
    async fn step(&mut self) -> Result<(), GuestError> {
        let clock = Arc::clone(&self.shared.clock);
        let now = clock.monotonic();
        let growth = async {
            clock.sleep(self.next_read.saturating_sub(now)).await;
            self.client.growth(&self.log, self.at).await
        };
        tokio::select! {
            size = growth => {
                let size = size?;
                if self.begins(size).await? { self.read(size).await } else { Ok(()) }
            }
            () = clock.sleep(self.next_look.saturating_sub(now)) => self.look().await,
        }
    }

    /// Whether what the log holds up to `size` may be the job's.
    async fn begins(&mut self, size: u64) -> Result<bool, GuestError> {
        if self.has_begun {
            return Ok(true);
        }
        let state = self.client.command(&self.job.work).await?;
        self.has_begun = !matches!(state.phase, Phase::Queued);
        self.at = if self.has_begun { state.offset } else { size };
        if self.has_begun {
            self.entry(|entry, _| entry.begins = Some(state.offset));
        }
        Ok(self.has_begun && size > self.at)
    }

    async fn read(&mut self, size: u64) -> Result<(), GuestError> {
        let skipped = size.saturating_sub(self.at).saturating_sub(MOST);
        let (mut raw, mut at) = (Vec::new(), self.at + skipped);
        while at < size {
            let piece = self.client.read_log(&self.log, at, size - at).await?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            raw.extend_from_slice(&piece);
        }
        // From here on nothing waits: what was read is taken in wholly or not at all.
        let lines = self.reader.feed(&raw);
        let looked_at = raw.len().max(1);
        // What was skipped is taken to have as many lines as what was not.
        let more = skipped as f64 * lines.len() as f64 / looked_at as f64;
        self.at = at;
        let now = self.shared.clock.monotonic();
        self.next_read = now + PACE;
        // Who asks prints something and is silent then.
        self.next_look = self.next_look.min(now + LOOKS[0]).max(now + PACE);
        self.take_in(now, &lines, more);
        Ok(())
    }

    fn take_in(&mut self, now: Duration, lines: &[Line], skipped: f64) {
        let mut findings = self.monitor.printed(now, lines);
        let rest = self.reader.rest();
        if let Some(rest) = &rest {
            self.monitor.rests(now, rest);
        }
        let last = rest.as_deref().into_iter().chain(lines.iter().rev().map(|line| line.text.as_str()));
        let last = last.map(str::trim).find(|line| !line.is_empty()).map(|line| line.chars().take(300).collect());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of lines is not negative")]
        let skipped = skipped as u64;
        let count = lines.iter().filter(|line| !line.is_redrawn).count() as u64 + skipped;
        self.entry(|entry, monitor| {
            entry.goes_on();
            entry.lines += count;
            entry.last_line = last.unwrap_or_else(|| std::mem::take(&mut entry.last_line));
            entry.progress = monitor.progress_words();
        });
        findings.drain(..).for_each(|finding| self.note(finding));
    }

    async fn look(&mut self) -> Result<(), GuestError> {
        let now = self.shared.clock.monotonic();
        self.looks += 1;
        self.next_look = now + LOOKS[self.looks.min(LOOKS.len() - 1)];
        let look = match prompt::look(&self.client, &self.job.session).await {
            Ok(look) => look,
            // A guest that can't look, or a session that has just been closed: nothing is known then.
            Err(TerminalError::Guest(GuestError::Refused(_)) | TerminalError::NoCommand(_)) => return Ok(()),
            Err(TerminalError::Guest(gone)) => return Err(gone),
        };
        let now = self.shared.clock.monotonic();
        let work = Work {
            cpu: Duration::from_millis(look.foreground.cpu_ms),
            io_bytes: look.foreground.io_bytes,
            processes: look.foreground.processes,
            is_excused: look.foreground.waits_for_input == Some(true) || self.shared.gpu_works.load(Ordering::Relaxed),
        };
        let memory = look.foreground.memory_bytes;
        self.entry(|entry, _| {
            entry.cpu = entry.cpu.max(Some(work.cpu));
            entry.memory_peak = entry.memory_peak.max(Some(memory));
        });
        if let Some(finding) = self.monitor.worked(now, work) {
            self.note(finding);
        }
        if let Some((kind, prompt)) = look.input
            && let Some(finding) = self.monitor.asks(kind, prompt)
        {
            self.note(finding);
        }
        Ok(())
    }

    async fn ends(&mut self, state: &CommandState) {
        let mut end = end_of(state, self.job.offset);
        let last_lines = match end.exit {
            Some(exit) if exit.is_success() => String::new(),
            Some(_) | None => self.last_lines(state.offset, end.size_bytes).await,
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            self.at = state.offset;
        }
        self.entry(|entry, _| {
            entry.begins = Some(state.offset);
            entry.last_lines = last_lines;
            end.cpu_ms = entry.cpu.map(millis);
            end.memory_peak_bytes = entry.memory_peak;
            // Whoever sees the end finds it among the news.
            self.shared.news.push(Event::JobEnded { job: self.job.id, end: end.clone() });
            entry.end = Some(end.clone());
            entry.untold.clear();
        });
        self.shared.touch();
        // For who looks at how it went; what it tells changes nothing any more.
        let size = self.job.offset + end.size_bytes;
        if self.read(size).await.is_ok() {
            self.shared.touch();
        }
    }

    /// The end of what it has printed, as people would read it; empty where that can't be read.
    async fn last_lines(&self, begins: u64, size: u64) -> String {
        let end = self.job.offset + size;
        let from = end.saturating_sub(LAST).max(begins);
        let raw = self.client.read_log(&self.log, from, end.saturating_sub(from)).await.unwrap_or_default();
        render::lines(&raw, TermSize::default()).join("\n")
    }

    fn is_lost(&self) {
        let end = JobEnd {
            exit: None,
            duration_ms: 0,
            size_bytes: 0,
            cpu_ms: None,
            memory_peak_bytes: None,
            note: Some(LOST.to_owned()),
            failure: None,
        };
        self.entry(|entry, _| {
            self.shared.news.push(Event::JobEnded { job: self.job.id, end: end.clone() });
            entry.end = Some(end.clone());
            entry.untold.clear();
        });
        self.shared.touch();
    }

    fn entry(&self, change: impl FnOnce(&mut Entry, &Monitor)) {
        if let Some(entry) = lock(&self.shared.jobs).get_mut(&self.job.id) {
            change(entry, &self.monitor);
        }
    }

    fn note(&self, finding: Finding) {
        self.shared.note(self.job.id, finding);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `offset` is the job's own: the command's is another one if it was queued when it became a job.
fn end_of(state: &CommandState, offset: u64) -> JobEnd {
    let lasted = |exit, duration_ms, end: u64, note| JobEnd {
        exit,
        duration_ms,
        size_bytes: end.saturating_sub(offset),
        cpu_ms: None,
        memory_peak_bytes: None,
        note,
        failure: None,
    };
    match &state.phase {
        Phase::Ended(end) => {
            let lost =
                (end.lost_bytes > 0).then(|| format!("{} bytes of its output could not be kept", end.lost_bytes));
            let notes: Vec<String> = end.respawned.clone().into_iter().chain(lost).collect();
            lasted(end.exit, end.duration_ms, end.end, (!notes.is_empty()).then(|| notes.join("; ")))
        }
        Phase::Queued | Phase::Running | Phase::Deaf { .. } | Phase::Lost => {
            lasted(None, state.elapsed_ms, state.log_size, Some(LOST.to_owned()))
        }
    }
}
