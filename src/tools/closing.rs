//! How a box is left: jobs are asked to end, then everything ends with the box, unless services are to be kept.

use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::{Event, Job, SessionName};
use crate::guest::{SessionInfo, Stop};

use super::Workbench;

/// How long the box gets to end by itself before it is ended by force.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long jobs get to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long the guest may take to end all that is not kept.
const CLEARING: Duration = Duration::from_secs(30);

/// What becomes of the services that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// They end like everything else.
    End,
    /// They are left running, and their box with them.
    Keep,
    /// All jobs are left running as they are, and their box with them: the run is to go on soon.
    KeepAll,
}

/// How a box was left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Closed {
    /// What happened to jobs meanwhile: belongs into the record first.
    pub facts: Vec<Event>,
    /// What was ended and what could not be removed, in words.
    pub notes: Vec<String>,
    /// True if nothing remains of the box but the workspace's changes.
    pub removed: bool,
    /// The services that were left running.
    pub kept: Vec<Job>,
}

impl Workbench {
    /// Ends the jobs (SIGTERM, some grace, then by force) and everything else in the box, and removes it; or leaves it to
    /// the services that run, if they are to be kept and there are any.
    pub async fn close(&self, services: Services) -> Closed {
        let alive: Vec<Job> =
            self.terminal().board().jobs().into_iter().filter(|view| view.end.is_none()).map(|view| view.job).collect();
        let is_kept = |job: &Job| match services {
            Services::End => false,
            Services::Keep => job.service,
            Services::KeepAll => true,
        };
        let (kept, ending): (Vec<Job>, Vec<Job>) = alive.into_iter().partition(is_kept);
        let sessions = tokio::time::timeout(PATIENCE, self.terminal().sessions()).await;
        let sessions = sessions.ok().and_then(Result::ok).unwrap_or_default();
        let stays = |session: &SessionName| kept.iter().any(|job| job.session == *session);
        let ended = sessions.iter().filter(|info| !stays(&info.session)).filter_map(in_words);
        let mut notes: Vec<String> = ended.collect();
        self.end_jobs(&ending).await;
        let beside = if services == Services::Keep { self.sidecars().await } else { Vec::new() };
        if kept.is_empty() && beside.is_empty() {
            let facts = self.terminal().board().pending();
            let left = self.sandbox().destroy(PATIENCE).await.left;
            let removed = left.is_empty();
            notes.extend(left);
            return Closed { facts, notes, removed, kept };
        }
        if services == Services::Keep {
            notes.extend(self.end_others(&kept, &ending).await);
        }
        notes.extend(kept.iter().map(|job| format!("left running: `{}` in session {}", job.command, job.session)));
        notes.extend(beside.iter().map(|name| format!("left running: sidecar {name}")));
        Closed { facts: self.terminal().board().pending(), notes, removed: false, kept }
    }

    /// The names of the sidecars that are up.
    async fn sidecars(&self) -> Vec<String> {
        let Some(beside) = self.sandbox().sidecars() else { return Vec::new() };
        let all = tokio::time::timeout(PATIENCE, beside.list()).await.ok().and_then(Result::ok).unwrap_or_default();
        all.into_iter().filter(|one| one.is_up).map(|one| one.name.to_string()).collect()
    }

    /// Asks all jobs to end and gives them some time for it: before the box is kept as it goes. What ends with the box, in
    /// words.
    pub async fn end_work(&self) -> Vec<String> {
        let views = self.terminal().board().jobs().into_iter().filter(|view| view.end.is_none());
        let alive: Vec<Job> = views.map(|view| view.job).collect();
        let sessions = tokio::time::timeout(PATIENCE, self.terminal().sessions()).await;
        let sessions = sessions.ok().and_then(Result::ok).unwrap_or_default();
        self.end_jobs(&alive).await;
        sessions.iter().filter_map(in_words).collect()
    }

    /// Asks jobs to end and gives them some time for it.
    async fn end_jobs(&self, jobs: &[Job]) {
        let (guest, board) = (self.terminal().guest(), self.terminal().board());
        let end = async |job: &Job| {
            // What refuses or has ended meanwhile needs no signal.
            let _ = guest.signal(&job.session, Stop::Terminate).await;
            board.ended(job.id).await;
        };
        // Real time, whatever the run's clock is: processes take it.
        let _ = tokio::time::timeout(GRACE, join_all(jobs.iter().map(end))).await;
    }

    /// Ends all but the sessions of these services; what could not be ended, in words.
    async fn end_others(&self, kept: &[Job], ending: &[Job]) -> Option<String> {
        let guest = self.terminal().guest();
        let keep: Vec<SessionName> = kept.iter().map(|job| job.session.clone()).collect();
        let cleared = tokio::time::timeout(CLEARING, guest.end_others(keep)).await;
        let told = join_all(ending.iter().map(|job| self.terminal().board().ended(job.id)));
        let _ = tokio::time::timeout(GRACE, told).await;
        match cleared {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("not all that is no kept service could be ended: {error}")),
            Err(_) => Some("not all that is no kept service could be ended in time".to_owned()),
        }
    }
}

fn in_words(info: &SessionInfo) -> Option<String> {
    let command = info.command.as_ref()?;
    Some(format!("ended with the box: `{}` in session {}", command.title, info.session))
}
