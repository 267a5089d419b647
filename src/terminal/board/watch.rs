//! Watching one job: its end.

use std::sync::Arc;

use super::{Shared, lock};
use crate::domain::{Event, Job, JobEnd};
use crate::guest::{Client, CommandState, Phase};

/// Watches a job until it has ended or its box is gone.
pub(super) async fn watch(client: Client, shared: Arc<Shared>, job: Job) {
    let Ok((state, _)) = client.ended(&job.work).await else { return };
    let end = end_of(&state, job.offset);
    if let Some(entry) = lock(&shared.jobs).get_mut(&job.id) {
        entry.end = Some(end.clone());
    }
    shared.news.push(Event::JobEnded { job: job.id, end });
    shared.touch();
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
    };
    match &state.phase {
        Phase::Ended(end) => {
            let lost =
                (end.lost_bytes > 0).then(|| format!("{} bytes of its output could not be kept", end.lost_bytes));
            let notes: Vec<String> = end.respawned.clone().into_iter().chain(lost).collect();
            lasted(end.exit, end.duration_ms, end.end, (!notes.is_empty()).then(|| notes.join("; ")))
        }
        Phase::Queued | Phase::Running | Phase::Deaf { .. } | Phase::Lost => {
            let why = "the box in which it ran has ended, and how it ended can't be found out";
            lasted(None, state.elapsed_ms, state.log_size, Some(why.to_owned()))
        }
    }
}
