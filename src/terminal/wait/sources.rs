//! Where what is seen comes from: tasks that watch outputs and ask the guest, for as long as a wait lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::WaitFor;
use super::engine::Seen;
use crate::clock::Clock;
use crate::domain::SessionName;
use crate::guest::{Client, Condition, GuestError};
use crate::terminal::board::{Board, Source};
use crate::terminal::matching::Matching;
use crate::terminal::prompt;

/// Output is looked at this often at most while it pours.
const PACE: Duration = Duration::from_millis(20);

/// Tasks that watch; they end when it is dropped.
pub(super) struct Sources {
    seen: mpsc::Receiver<Result<Seen, GuestError>>,
    tasks: JoinSet<()>,
}

type Tell = mpsc::Sender<Result<Seen, GuestError>>;

impl Sources {
    /// Begins to watch what these conditions need.
    pub(super) fn start(client: &Client, board: &Board, clock: &Arc<dyn Clock>, conditions: &[WaitFor]) -> Self {
        let (tell, seen) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for (nth, condition) in conditions.iter().enumerate() {
            match condition {
                WaitFor::Output { pattern, jobs } => {
                    for source in jobs.iter().filter_map(|job| board.source(*job)) {
                        let watch = Watch { nth, source, client: client.clone(), clock: Arc::clone(clock) };
                        tasks.spawn(watch.for_match(pattern.clone(), tell.clone()));
                    }
                }
                WaitFor::Silence { jobs, .. } => {
                    for source in jobs.iter().filter_map(|job| board.source(*job)) {
                        let watch = Watch { nth, source, client: client.clone(), clock: Arc::clone(clock) };
                        tasks.spawn(watch.for_growth(tell.clone()));
                    }
                }
                WaitFor::Input { session, .. } => {
                    tasks.spawn(ask_for_input(nth, client.clone(), session.clone(), tell.clone()));
                }
                WaitFor::Seen(condition) => {
                    tasks.spawn(ask(nth, client.clone(), condition.clone(), tell.clone()));
                }
                WaitFor::AnyEnd(_) | WaitFor::AllEnd(_) | WaitFor::Ready(_) => {}
            }
        }
        Self { seen, tasks }
    }

    /// What is seen next; may be dropped and called again. Waits for ever when there is nothing to watch.
    pub(super) async fn next(&mut self) -> Result<Seen, GuestError> {
        // Tasks that are done have nothing more to tell, and one that panicked must not go unnoticed.
        while let Some(done) = self.tasks.try_join_next() {
            if let Err(error) = done
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        match self.seen.recv().await {
            Some(seen) => seen,
            None => std::future::pending().await,
        }
    }
}

/// Asks the guest to tell when a condition is met.
async fn ask(nth: usize, client: Client, condition: Condition, tell: Tell) {
    let seen = match client.met(condition).await {
        Ok(met) => Ok(Seen::Met(nth, met.what)),
        Err(GuestError::Refused(refusal)) => Ok(Seen::CannotWatch(nth, refusal.what)),
        Err(gone) => Err(gone),
    };
    // Nobody listens any more when the wait is over.
    let _ = tell.send(seen).await;
}

/// The same for input, and what it is for.
async fn ask_for_input(nth: usize, client: Client, session: SessionName, tell: Tell) {
    let seen = match client.met(Condition::Input { session: session.clone() }).await {
        Ok(met) => {
            // It may have been answered meanwhile.
            let asked = prompt::look(&client, &session).await.ok().and_then(|look| look.input);
            let what = asked.map(|(kind, prompt)| format!("waits for {}: {prompt}", kind.words()));
            Ok(Seen::Met(nth, what.unwrap_or_else(|| format!("waits for input ({})", met.what))))
        }
        Err(GuestError::Refused(refusal)) => Ok(Seen::CannotWatch(nth, refusal.what)),
        Err(gone) => Err(gone),
    };
    let _ = tell.send(seen).await;
}

/// The output of one job.
struct Watch {
    nth: usize,
    source: Source,
    client: Client,
    clock: Arc<dyn Clock>,
}

impl Watch {
    async fn for_growth(self, tell: Tell) {
        let mut known = self.source.end.unwrap_or(self.source.seen);
        // Not what was there when the wait began.
        if let Ok(state) = self.client.command(&self.source.work).await {
            known = known.max(state.log_size);
        }
        loop {
            let grown = self.client.growth(&self.source.log, known).await;
            let seen = grown.map(|size| {
                known = size;
                Seen::Grew(self.source.job)
            });
            let is_over = seen.is_err();
            if tell.send(seen).await.is_err() || is_over {
                return;
            }
            self.clock.sleep(PACE).await;
        }
    }

    async fn for_match(self, pattern: regex::Regex, tell: Tell) {
        let (job, from) = (self.source.job, self.source.seen);
        let mut matching = Matching::new(self.client, self.clock, self.source, from);
        let seen = matching.first(&pattern).await.map(|line| line.map(|line| Seen::Matched(self.nth, job, line)));
        if let Some(seen) = seen.transpose() {
            let _ = tell.send(seen).await;
        }
    }
}
