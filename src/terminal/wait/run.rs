//! A wait under way: watches until the engine says that it is over, then gathers what is new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Seen};
use super::sources::Sources;
use super::{Fired, JobNews, WaitFor, WaitReport, WaitSpec};
use crate::clock::Reading;
use crate::domain::{JobId, WaitProgress, WakeCause};
use crate::guest::{GuestError, Phase};
use crate::terminal::board::{Board, JobView, ReadyState};
use crate::terminal::matching::Matching;
use crate::terminal::output::{self, Place};
use crate::terminal::{Excerpt, ExcerptBudget, Terminal, TerminalError};

/// Most jobs whose output is shown when a wait ends.
const SHOWN: usize = 4;

impl Terminal {
    /// Waits until a condition is met, or something else ends the wait: what `spec` names, or `interrupted`.
    ///
    /// `progress` is told about once a second how it stands. What is new of the output of the jobs in question counts as
    /// shown afterwards.
    ///
    /// # Errors
    /// [`TerminalError::Guest`] when the box is gone.
    pub async fn wait_for(
        &self,
        spec: &WaitSpec,
        interrupted: impl Future<Output = (WakeCause, String)>,
        progress: &mut (dyn FnMut(WaitProgress) + Send),
    ) -> Result<WaitReport, TerminalError> {
        let clock = &self.options.clock;
        let begun = Reading::of(&**clock);
        let mut engine = Engine::new(spec, begun);
        let mut known = Known::new(self, spec);
        let mut changes = self.board.changes();
        let mut sources = Sources::start(&self.client, &self.board, clock, &spec.conditions);
        let mut interrupted = std::pin::pin!(interrupted);
        loop {
            changes.borrow_and_update();
            let now = Reading::of(&**clock);
            for seen in known.news(&self.board, spec) {
                engine.see(seen, &now);
            }
            engine.look(&now);
            if engine.fired().is_some() {
                break;
            }
            // Made before anybody is told that it waits: a clock that is moved then must not be missed.
            let look = clock.sleep(engine.next_look(&now));
            progress(self.standing(spec, &engine, &begun, &now));
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                seen = sources.next() => engine.see(seen?, &Reading::of(&**clock)),
                (cause, what) = &mut interrupted => engine.see(Seen::Woken(cause, what), &now),
                () = self.client.gone() => return Err(GuestError::Gone.into()),
                () = look => {}
            }
        }
        drop(sources);
        let fired = engine.fired().expect("the loop ended with it").clone();
        let fired = self.met_at_last(spec, fired).await?;
        self.told(spec, fired, begun).await
    }

    /// A job whose end came first may have printed what was waited for as its last words.
    async fn met_at_last(&self, spec: &WaitSpec, fired: Fired) -> Result<Fired, TerminalError> {
        let Some(job) = fired.job.filter(|_| fired.cause == WakeCause::JobEnded) else { return Ok(fired) };
        for condition in &spec.conditions {
            let WaitFor::Output { pattern, jobs } = condition else { continue };
            let Some(source) = self.board.source(job).filter(|_| jobs.contains(&job)) else { continue };
            let (client, clock, from) = (self.client.clone(), Arc::clone(&self.options.clock), source.seen);
            if let Some(line) = Matching::new(client, clock, source, from).first(pattern).await? {
                let what = format!("output of {job} matches `{pattern}`: {line}; then {}", fired.what);
                return Ok(Fired { cause: WakeCause::Condition, what, ..fired });
            }
        }
        Ok(fired)
    }

    fn standing(&self, spec: &WaitSpec, engine: &Engine<'_>, begun: &Reading, now: &Reading) -> WaitProgress {
        let named: BTreeSet<JobId> = spec.conditions.iter().flat_map(WaitFor::jobs).collect();
        let jobs = self.board.jobs();
        let mut watched = jobs.iter().filter(|view| view.end.is_none());
        let job = watched.clone().find(|view| named.contains(&view.job.id)).or_else(|| watched.next());
        let what: Vec<_> = spec.conditions.iter().map(WaitFor::words).collect();
        let waited = now.since(begun);
        WaitProgress {
            what: if what.is_empty() { "the end of a job".to_owned() } else { what.join(", or ") },
            job: job.map_or(String::new(), |view| format!("{} {}", view.job.id, view.job.session)),
            waited_ms: millis(waited),
            elapsed_ms: millis(job.map_or(waited, |view| view.elapsed)),
            lines: job.map_or(0, |view| view.lines),
            last_line: job.map_or(String::new(), |view| view.last_line.clone()),
            progress: job.and_then(|view| view.progress.clone()).unwrap_or_default(),
            wakes_in_ms: engine.deadline_left(now).map(millis),
        }
    }

    async fn told(&self, spec: &WaitSpec, fired: Fired, begun: Reading) -> Result<WaitReport, TerminalError> {
        let ended = Reading::of(&*self.options.clock);
        let mut concerned: BTreeSet<JobId> = spec.conditions.iter().flat_map(WaitFor::jobs).collect();
        concerned.extend(fired.job);
        // Whoever waited for a probe has now been told what came of it.
        for condition in &spec.conditions {
            if let WaitFor::Ready(job) = condition {
                self.board.told_not_ready(*job);
            }
        }
        let (watched, others): (Vec<_>, Vec<_>) =
            self.board.jobs().into_iter().partition(|view| concerned.contains(&view.job.id));
        let others = others.into_iter().filter(|view| view.end.is_none()).collect();
        let budget = self.options.budget;
        let shown = watched.len().clamp(1, SHOWN);
        let share = ExcerptBudget {
            head_bytes: budget.head_bytes / shown,
            tail_bytes: budget.tail_bytes / shown,
            error_bytes: budget.error_bytes / shown,
        };
        let mut news = Vec::new();
        for (nth, view) in watched.into_iter().enumerate() {
            news.push(if nth < SHOWN { self.job_news(view, share).await? } else { unread(view) });
        }
        Ok(WaitReport { fired, begun, ended, watched: news, others })
    }

    /// What is new of a job's output, which counts as shown from now on.
    async fn job_news(&self, view: JobView, budget: ExcerptBudget) -> Result<JobNews, TerminalError> {
        let Some(source) = self.board.source(view.job.id) else { return Ok(unread(view)) };
        let (begins, end) = match source.end {
            Some(end) => (source.seen, end),
            None => {
                let state = self.client.command(&source.work).await?;
                // What a shell prints before it begins is not the job's.
                let begins = if matches!(state.phase, Phase::Queued) { state.log_size } else { state.offset };
                (source.seen.max(begins), state.log_size)
            }
        };
        let log = format!("{}/{}", self.options.logs, source.log);
        let place =
            Place { log: &source.log, offset: source.seen, end, shown_log: &log, is_final: source.end.is_some() };
        let excerpt = output::excerpt(&self.client, &place, None, self.options.size, budget).await?;
        self.board.mark_seen(view.job.id, end);
        Ok(JobNews { view, new_bytes: end.saturating_sub(begins), excerpt })
    }
}

fn unread(view: JobView) -> JobNews {
    JobNews { view, new_bytes: 0, excerpt: Excerpt::default() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the engine has been told of the jobs.
struct Known {
    ended: BTreeSet<JobId>,
    ready: BTreeSet<JobId>,
}

impl Known {
    /// An end before the wait is no news, but of the jobs that it names.
    fn new(terminal: &Terminal, spec: &WaitSpec) -> Self {
        let named: BTreeSet<JobId> = spec.conditions.iter().flat_map(WaitFor::jobs).collect();
        let ended = terminal.board.jobs().into_iter().filter(|view| view.end.is_some()).map(|view| view.job.id);
        let ended = ended.filter(|job| spec.ended_before.as_ref().is_none_or(|before| before.contains(job)));
        Self { ended: ended.filter(|job| !named.contains(job)).collect(), ready: BTreeSet::new() }
    }

    fn news(&mut self, board: &Board, spec: &WaitSpec) -> Vec<Seen> {
        let mut news = Vec::new();
        if spec.problems {
            news.extend(board.take_findings().into_iter().map(|(job, finding)| Seen::Found(job, finding)));
        }
        for view in board.jobs() {
            let job = view.job.id;
            let state = match view.ready {
                Some(ReadyState::Ready { after }) => Some(Seen::Ready(job, after)),
                Some(ReadyState::NotReady { why }) => Some(Seen::NotReady(job, why)),
                Some(ReadyState::Trying) | None => None,
            };
            if let Some(state) = state
                && self.ready.insert(job)
            {
                news.push(state);
            }
            if let Some(end) = &view.end
                && self.ended.insert(job)
            {
                news.push(Seen::Ended(job, end.exit));
            }
        }
        news
    }
}
