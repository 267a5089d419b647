//! Checkpoints as the driver takes them: between calls, never within one, and never so that the run would end of it.

use std::pin::pin;
use std::sync::Arc;

use super::around::{Happening, Order, out_of_time};
use super::driver::Driver;
use super::person::Word;
use super::trouble::Trouble;
use super::work::Bench;
use crate::domain::{
    Checkpoint, CheckpointId, CheckpointReason, CheckpointRules, Event, NoticeKind, SandboxKind, Status, ToolCall,
    Verdict,
};
use crate::journal::CheckpointFile;
use crate::policy::is_risky;
use crate::tools::{Action, After, Attention, Workbench, WorkbenchError};

/// A checkpoint that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keep {
    /// A name, where whoever asked gave one.
    pub(super) name: Option<String>,
    /// Why it is wanted.
    pub(super) reason: CheckpointReason,
    /// What becomes of the box then.
    pub(super) after: After,
}

/// Why there is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotKept {
    /// There is no box any more, or its guest does not answer.
    NoBox(String),
    /// The box goes on, and could not be kept.
    Refused(String),
}

impl NotKept {
    /// In words.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::NoBox(why) | Self::Refused(why) => why,
        }
    }
}

impl Driver {
    /// Keeps the box as it is: files, sessions, which jobs run. It is on disk and recorded when this returns; what kept
    /// it from being taken is recorded too.
    pub(super) async fn checkpoint(&mut self, keep: Keep) -> Result<Result<Checkpoint, NotKept>, Trouble> {
        let reason = keep.reason;
        let taken = self.take_checkpoint(keep).await?;
        match &taken {
            Ok(_) => self.prune().await?,
            Err(not) => {
                let text = format!("no checkpoint could be taken {}: {}", reason.words(), not.words());
                self.note(Event::Noticed { kind: NoticeKind::CheckpointFailed, text })?;
            }
        }
        Ok(taken)
    }

    async fn take_checkpoint(&mut self, keep: Keep) -> Result<Result<Checkpoint, NotKept>, Trouble> {
        let Bench::Open(bench) = &self.bench else { return Ok(Err(NotKept::NoBox("there is no box".to_owned()))) };
        let bench = Arc::clone(bench);
        for fact in bench.terminal().board().pending() {
            self.note(fact)?;
        }
        let id = self.state.checkpoints().next_id();
        let place = self.recorder.head().seq.unwrap_or(0);
        let nonce = format!("{id}-{place}");
        let attention = Attention::new();
        let mut left_out = match self.write_down(&bench, id, &nonce, &attention).await? {
            Ok(left_out) => left_out,
            Err(error) => return Ok(Err(gone(&error))),
        };
        if attention.is_cancelled() {
            return Ok(Err(NotKept::Refused("it was interrupted".to_owned())));
        }
        let mut sessions = match bench.sessions(&nonce).await {
            Ok(sessions) => sessions,
            Err(error) => return Ok(Err(gone(&error))),
        };
        for session in &mut sessions {
            let secret = self.checkpoint_files.without_secrets(&mut session.env);
            left_out
                .extend(secret.iter().map(|name| format!("the secret variable {name} of session {}", session.session)));
        }
        // A layer that a driver left without recording it keeps its name: this one is another.
        let layer = format!("{}-{id}-{place}", self.state.spec().run.short());
        let snapshot = bench.snapshot(layer, keep.after, &attention);
        let mut snapshot = match self.heard(snapshot, &attention).await? {
            Ok(snapshot) => snapshot,
            Err(error) => return Ok(Err(NotKept::Refused(Trouble::from(error).line()))),
        };
        self.sealed |= keep.after == After::Ends;
        snapshot.left_out.extend(left_out);
        for fact in bench.terminal().board().pending() {
            self.note(fact)?;
        }
        let alive = || self.state.jobs().alive().map(|record| &record.job);
        let mut parted = std::mem::take(&mut self.parted);
        parted.retain(|job| alive().all(|one| one.id != job.id));
        let services = alive().filter(|job| job.service).map(|job| self.state.checkpoints().with_whole_command(job));
        let services = services.chain(parted.iter().cloned()).collect();
        let checkpoint = Checkpoint {
            id,
            name: keep.name,
            reason: keep.reason,
            seq: self.recorder.head().seq.unwrap_or(0),
            snapshot,
            sessions: sessions.iter().map(|state| state.session.clone()).collect(),
            jobs: alive().map(|job| job.id).chain(parted.iter().map(|job| job.id)).collect(),
            sha256: String::new(),
        };
        let file = CheckpointFile { checkpoint, sessions, services };
        let sha256 = match self.checkpoint_files.write(&file) {
            Ok(sha256) => sha256,
            Err(error) => {
                // What was kept is of no use without it.
                drop(self.boxes.discard(file.checkpoint.snapshot).await);
                return Ok(Err(NotKept::Refused(error.to_string())));
            }
        };
        let checkpoint = Checkpoint { sha256, ..file.checkpoint };
        self.note(Event::CheckpointTaken { checkpoint: checkpoint.clone() })?;
        self.commit()?;
        Ok(Ok(checkpoint))
    }

    /// Has programs write down what they hold in memory, if the person said how. What is missing for want of it.
    async fn write_down(
        &mut self,
        bench: &Workbench,
        id: CheckpointId,
        nonce: &str,
        attention: &Attention,
    ) -> Result<Result<Vec<String>, WorkbenchError>, Trouble> {
        let Some(command) = self.rules().before else { return Ok(Ok(Vec::new())) };
        let outcome = match self.heard(bench.before_checkpoint(&command, nonce, attention), attention).await? {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        if outcome.status == Status::Ok {
            return Ok(Ok(Vec::new()));
        }
        let how = outcome.exit.map_or_else(|| "did not end in time".to_owned(), |exit| format!("failed with {exit}"));
        let text = format!("before checkpoint {id}, `{command}` {how}; the checkpoint was taken all the same");
        self.note(Event::Noticed { kind: NoticeKind::CheckpointFailed, text })?;
        Ok(Ok(vec![format!("what programs would have written down: `{command}` {how}")]))
    }

    /// Waits for what belongs to a checkpoint. A person's word and the end of the run's time cancel it; they are taken
    /// once it has ended.
    async fn heard<T>(&mut self, work: impl Future<Output = T>, attention: &Attention) -> Result<T, Trouble> {
        let mut work = pin!(work);
        loop {
            let happening = tokio::select! {
                biased;
                result = &mut work => return Ok(result),
                happening = self.around.next(), if !attention.is_cancelled() => happening,
            };
            match happening {
                Happening::Word(notice @ Word::Notice { .. }) => self.take(notice)?,
                Happening::Word(word) => {
                    attention.cancel();
                    self.said.push_back(word);
                }
                Happening::TimeOver => {
                    attention.cancel();
                    self.said.push_back(out_of_time(self.state.spec()));
                }
                Happening::News(event) => drop(self.note(*event)?),
                Happening::Mail(mail) => self.mail.push_back(mail),
                Happening::Order => {}
            }
        }
    }

    /// When checkpoints are taken unasked.
    pub(super) fn rules(&self) -> CheckpointRules {
        self.state.spec().checkpoints.clone().unwrap_or_default()
    }

    /// Takes a checkpoint before calls of which one may destroy much, where something is new since the last one.
    pub(super) async fn checkpoint_before(&mut self, batch: &[(ToolCall, Action)]) -> Result<(), Trouble> {
        let is_new = self.state.checkpoints().is_behind() || self.state.jobs().alive().next().is_some();
        // What was begun may have done its work already.
        let is_new = is_new && !batch.iter().any(|(call, _)| self.left.contains_key(&call.id));
        if !self.rules().auto || !is_new || !batch.iter().any(|(_, action)| risks_much(action)) {
            return Ok(());
        }
        let keep = Keep { name: None, reason: CheckpointReason::Risk, after: After::GoesOn };
        // A host without a box can't be kept, and nobody expects it.
        match self.kind() {
            Some(SandboxKind::Host) | None => Ok(()),
            Some(SandboxKind::Local | SandboxKind::Docker) => self.checkpoint(keep).await.map(drop),
        }
    }

    /// Keeps what the checks have proved, as the box goes: where that costs no copy.
    pub(super) async fn checkpoint_proved(&mut self, verdict: Verdict) -> Result<(), Trouble> {
        let spec = self.state.spec();
        let goes = !spec.keep_services && self.state.jobs().alive().next().is_none();
        if verdict == Verdict::Verified && goes && self.rules().auto && self.kind() == Some(SandboxKind::Local) {
            self.checkpoint(Keep { name: None, reason: CheckpointReason::Passed, after: After::Ends }).await?.ok();
        }
        Ok(())
    }

    /// The kind of the box, while it is up.
    pub(super) fn kind(&self) -> Option<SandboxKind> {
        match &self.bench {
            Bench::Open(bench) => Some(bench.facts().kind),
            Bench::Opening(_) | Bench::Gone => None,
        }
    }

    /// Does what people have asked for from other terminals.
    pub(super) async fn obey(&mut self) -> Result<(), Trouble> {
        loop {
            let is_boundary = self.state.open_calls().is_empty() && self.state.claim().is_none();
            let Some((mail, order)) = self.around.take_order(is_boundary) else { return Ok(()) };
            match order {
                Order::Checkpoint { name } => {
                    if self.with_box().await? {
                        let keep = Keep { name, reason: CheckpointReason::Person, after: After::GoesOn };
                        self.checkpoint(keep).await?.ok();
                    }
                }
                Order::Compact => Box::pin(self.compact()).await?,
            }
            self.around.recorded(&mail);
        }
    }

    /// Removes the oldest checkpoints that nobody asked for, down to what is kept of them.
    async fn prune(&mut self) -> Result<(), Trouble> {
        let rules = self.rules();
        let mut automatic: Vec<(CheckpointId, u64)> = self
            .state
            .checkpoints()
            .kept()
            .filter(|record| record.checkpoint.is_automatic())
            .map(|record| (record.checkpoint.id, record.checkpoint.snapshot.new_bytes))
            .collect();
        automatic.reverse();
        let mut bytes = 0_u64;
        // The newest stays, however large it is.
        let too_many = automatic.iter().enumerate().filter(|(nth, (_, size))| {
            bytes = bytes.saturating_add(*size);
            *nth > 0 && (*nth >= rules.most as usize || bytes > rules.most_bytes)
        });
        let too_many: Vec<CheckpointId> = too_many.map(|(_, (id, _))| *id).collect();
        for id in too_many.into_iter().rev() {
            self.delete_checkpoint(id).await?;
        }
        Ok(())
    }

    /// Deletes a checkpoint; what could not be removed, in words.
    pub(super) async fn delete_checkpoint(&mut self, id: CheckpointId) -> Result<Vec<String>, Trouble> {
        let Ok(record) = self.state.checkpoints().find(&id.to_string()).cloned() else { return Ok(Vec::new()) };
        self.note(Event::CheckpointDeleted { checkpoint: id })?;
        self.commit()?;
        let mut left = Vec::new();
        if let Err(error) = self.checkpoint_files.remove(id) {
            left.push(format!("{}: {error}", self.checkpoint_files.path(id).display()));
        }
        left.extend(self.boxes.discard(record.checkpoint.snapshot).await);
        Ok(left)
    }
}

fn gone(error: &WorkbenchError) -> NotKept {
    NotKept::NoBox(error.to_string())
}

fn risks_much(action: &Action) -> bool {
    match action {
        Action::Shell(args) => args.command.as_deref().is_some_and(is_risky),
        Action::Tmux(_)
        | Action::Wait(_)
        | Action::ReadFile(_)
        | Action::WriteFile(_)
        | Action::EditFile(_)
        | Action::Checkpoint(_)
        | Action::Container(_)
        | Action::Recall(_)
        | Action::AskHuman(_)
        | Action::Finish(_) => false,
    }
}
