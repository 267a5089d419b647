//! Going back to a checkpoint within a run, and the tool by which the model asks for that and for checkpoints.
//!
//! Nothing is lost by it: what is left behind is kept first, the transcript goes on, and what can't be restored leaves
//! the run where it was.

use std::sync::Arc;

use super::boxes::FoundBench;
use super::checkpoints::{Keep, NotKept};
use super::driver::Driver;
use super::trouble::Trouble;
use super::work::Bench;
use crate::domain::{
    Checkpoint, CheckpointReason, CheckpointRecord, Consistency, Event, Job, JobId, Outcome, Status, ToolCall,
    checkpoint_name, duration_words, size_words,
};
use crate::journal::CheckpointFile;
use crate::tools::{After, CheckpointArgs, Doing, Workbench, WorkbenchError};

impl Driver {
    /// Answers a call of the tool `checkpoint`.
    pub(super) async fn run_checkpoint(&mut self, call: &ToolCall, args: &CheckpointArgs) -> Result<(), Trouble> {
        let needs_box = matches!(args.doing, Doing::Create | Doing::Restore);
        if needs_box && !self.with_box().await? {
            return Ok(());
        }
        self.start(call)?;
        self.commit()?;
        let began = self.clock.monotonic();
        let name = args.checkpoint.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let outcome = match (args.doing, name) {
            (Doing::Create, name) => self.create(name).await?,
            (Doing::List, _) => Outcome::words(Status::Ok, self.list()),
            (Doing::Show | Doing::Restore | Doing::Delete, None) => {
                Outcome::words(Status::Malformed, "checkpoint: an id such as k1 or a name is needed")
            }
            (doing, Some(wanted)) => match self.state.checkpoints().find(wanted).cloned() {
                Err(why) => Outcome::words(Status::Failed, why),
                Ok(record) => self.act_on(doing, record).await?,
            },
        };
        let took = self.clock.monotonic().saturating_sub(began);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.note(Event::ToolEnded { call_id: call.id.clone(), outcome: Outcome { duration_ms, ..outcome } }).map(drop)
    }

    async fn create(&mut self, name: Option<&str>) -> Result<Outcome, Trouble> {
        if let Some(Err(why)) = name.map(checkpoint_name) {
            return Ok(Outcome::words(Status::Malformed, format!("checkpoint: {why}")));
        }
        let after = self.after_keeping().await;
        let keep = Keep { name: name.map(str::to_owned), reason: CheckpointReason::Model, after };
        let kept = self.checkpoint(keep).await?;
        let notes = match after {
            After::GoesOn => Vec::new(),
            After::Ends => self.make_anew(kept.as_ref().ok()).await?,
        };
        let mut outcome = match kept {
            Ok(checkpoint) => {
                let running = match checkpoint.jobs.is_empty() {
                    true => String::new(),
                    false => format!(" Jobs that ran on: {}.", ids(&checkpoint.jobs)),
                };
                let text = format!("Checkpoint {} was taken: {}.{running}", checkpoint.label(), facts_of(&checkpoint));
                Outcome::words(Status::Ok, text)
            }
            Err(not) => Outcome::words(Status::Failed, format!("no checkpoint was taken: {}", not.words())),
        };
        notes.iter().for_each(|note| outcome.text.push_str(&format!("\n{note}")));
        Ok(outcome)
    }

    /// What becomes of the box when the model has it kept. It can be told that its shells are others then; whoever gets a
    /// checkpoint unasked would not expect that.
    async fn after_keeping(&self) -> After {
        let Bench::Open(bench) = &self.bench else { return After::GoesOn };
        let is_idle = self.state.jobs().alive().next().is_none();
        match is_idle && bench.is_better_sealed().await.unwrap_or(false) {
            true => After::Ends,
            false => After::GoesOn,
        }
    }

    /// Makes the box anew that was ended to be kept; if it could not be, from what it has left. What is not as it was, in
    /// words.
    async fn make_anew(&mut self, kept: Option<&Checkpoint>) -> Result<Vec<String>, Trouble> {
        let why = match kept.map(|kept| self.checkpoint_files.read(kept)) {
            Some(Ok(file)) => match self.replace_box(&file, None).await? {
                Ok(mut notes) => {
                    let words = "There was much to keep and nothing ran, so the box was ended and made anew from it.";
                    notes.insert(0, words.to_owned());
                    return Ok(notes);
                }
                Err(why) => why,
            },
            Some(Err(error)) => error.to_string(),
            None => "it could not be kept".to_owned(),
        };
        (self.bench, self.sealed) = (Bench::Gone, false);
        match self.boxes.find().await? {
            FoundBench::Alive(bench) | FoundBench::Restarted(bench, _) => {
                drop(self.take_box(Ok(bench))?);
                Ok(vec![format!("The box was ended and started again with its files, its sessions are closed: {why}.")])
            }
            FoundBench::Gone(also) => {
                let what = format!("the box was ended to be kept, and can't be made again: {why}; {also}");
                self.stop_for(WorkbenchError::no_box(what))?;
                Ok(vec!["The box is gone and could not be made again; the run ends.".to_owned()])
            }
        }
    }

    async fn act_on(&mut self, doing: Doing, record: CheckpointRecord) -> Result<Outcome, Trouble> {
        match doing {
            Doing::Restore => self.restore(&record).await,
            Doing::Delete => {
                let left = self.delete_checkpoint(record.checkpoint.id).await?;
                let mut text = format!("Checkpoint {} was deleted.", record.checkpoint.label());
                if !left.is_empty() {
                    text.push_str(&format!(" Not removed: {}.", left.join("; ")));
                }
                Ok(Outcome::words(Status::Ok, text))
            }
            Doing::Show | Doing::Create | Doing::List => Ok(Outcome::words(Status::Ok, self.words_of(&record))),
        }
    }

    fn list(&self) -> String {
        let lines: Vec<String> =
            self.state.checkpoints().kept().rev().map(|record| format!("- {}", self.words_of(record))).collect();
        if lines.is_empty() { "There are no checkpoints yet.".to_owned() } else { lines.join("\n") }
    }

    fn words_of(&self, record: &CheckpointRecord) -> String {
        let checkpoint = &record.checkpoint;
        let sessions: Vec<&str> = checkpoint.sessions.iter().map(|session| session.as_str()).collect();
        let mut words = format!(
            "{} · taken {} ago {}, after entry {} · {} · sessions: {}",
            checkpoint.label(),
            self.age(record),
            checkpoint.reason.words(),
            checkpoint.seq,
            facts_of(checkpoint),
            if sessions.is_empty() { "none".to_owned() } else { sessions.join(", ") },
        );
        if !checkpoint.jobs.is_empty() {
            words.push_str(&format!(" · jobs that ran: {}", ids(&checkpoint.jobs)));
        }
        words
    }

    fn age(&self, record: &CheckpointRecord) -> String {
        let age = self.clock.now().duration_since(record.taken).as_millis();
        duration_words(u64::try_from(age).unwrap_or(0))
    }

    /// Goes back to a checkpoint, having kept what is there.
    pub(super) async fn restore(&mut self, record: &CheckpointRecord) -> Result<Outcome, Trouble> {
        let checkpoint = &record.checkpoint;
        let failed = |why: &str| {
            let text = format!("checkpoint {} can't be restored, and nothing was changed: {why}", checkpoint.label());
            Outcome::words(Status::Failed, text)
        };
        let file = match self.checkpoint_files.read(checkpoint) {
            Ok(file) => file,
            Err(error) => return Ok(failed(&error.to_string())),
        };
        if let Some(lack) = self.boxes.lack_of(&checkpoint.snapshot) {
            return Ok(failed(&lack));
        }
        let ended: Vec<Job> = self.state.jobs().alive().map(|record| record.job.clone()).collect();
        let keep = Keep { name: None, reason: CheckpointReason::Restore, after: After::Ends };
        let saved = match self.checkpoint(keep).await? {
            Ok(saved) => Some(saved),
            Err(NotKept::NoBox(_)) => None,
            Err(NotKept::Refused(why)) => {
                return Ok(failed(&format!("what is there now could not be kept first: {why}")));
            }
        };
        let age = self.age(record);
        match self.replace_box(&file, saved.as_ref()).await? {
            Ok(notes) => {
                let mut text = format!(
                    "Restored checkpoint {}, taken {age} ago after entry {}. The files of the box are those of that moment, \
                     as if every process had been killed then; what was done outside the box stays done.",
                    checkpoint.label(),
                    checkpoint.seq,
                );
                if let Some(saved) = &saved {
                    text.push_str(&format!(" What was there before is kept as {}.", saved.id));
                }
                let names: Vec<String> = ended.iter().map(|job| format!("{} (`{}`)", job.id, job.command)).collect();
                if !names.is_empty() {
                    text.push_str(&format!("\nEnded with the box that was left: {}.", names.join(", ")));
                }
                notes.iter().for_each(|note| text.push_str(&format!("\n{note}")));
                Ok(Outcome::words(Status::Ok, text))
            }
            Err(why) => self.go_back(checkpoint, saved, &why).await,
        }
    }

    /// The checkpoint could not be restored after all: the box becomes again what it was.
    async fn go_back(&mut self, wanted: &Checkpoint, saved: Option<Checkpoint>, why: &str) -> Result<Outcome, Trouble> {
        let again = match saved.as_ref().map(|saved| self.checkpoint_files.read(saved)) {
            Some(Ok(file)) => self.replace_box(&file, None).await?.map(|notes| (file.checkpoint.id, notes)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("nothing could be kept of it".to_owned()),
        };
        match again {
            Ok((id, notes)) => {
                let mut text = format!(
                    "checkpoint {} can't be restored: {why}\nThe files are as they were before, from {id}.",
                    wanted.label()
                );
                notes.iter().for_each(|note| text.push_str(&format!("\n{note}")));
                Ok(Outcome::words(Status::Failed, text))
            }
            Err(also) => {
                let what =
                    format!("checkpoint {} could not be restored: {why}; nor could the box before: {also}", wanted.id);
                self.stop_for(WorkbenchError::no_box(what))?;
                Ok(Outcome::words(Status::Failed, "the box is gone and could not be made again; the run ends"))
            }
        }
    }

    /// Removes the box and makes one from a checkpoint. What is not as it was, or why there is none, in words.
    async fn replace_box(
        &mut self,
        file: &CheckpointFile,
        saved: Option<&Checkpoint>,
    ) -> Result<Result<Vec<String>, String>, Trouble> {
        let started = Event::RestoreStarted { checkpoint: file.checkpoint.id, saved: saved.map(|saved| saved.id) };
        self.note(started)?;
        self.commit()?;
        if let Bench::Open(bench) = std::mem::replace(&mut self.bench, Bench::Gone) {
            let left = bench.give_up().await;
            if !left.is_empty() {
                return Ok(Err(format!("the box before could not be removed: {}", left.join("; "))));
            }
        }
        self.sealed = false;
        let opened = match self.boxes.open(Some(file.checkpoint.snapshot.clone())).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(Trouble::from(error).line())),
        };
        // It is one: nothing cuts this short.
        drop(self.take_box(Ok(opened))?);
        self.settle_in(file).await
    }

    /// When a run is taken up again and its box is gone: makes one from a checkpoint. Where that can't be, the run ends.
    pub(super) async fn restore_lost(&mut self, checkpoint: &Checkpoint) -> Result<(), Trouble> {
        let made = match self.checkpoint_files.read(checkpoint) {
            Ok(file) => self.replace_box(&file, None).await?.map(drop),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = made {
            let what = format!("the box is gone, and checkpoint {} could not be restored: {why}", checkpoint.id);
            self.stop_for(WorkbenchError::no_box(what))?;
        }
        Ok(())
    }

    /// In a box that has the files of a checkpoint: opens its sessions and starts its services. Where that can't be, the
    /// run ends.
    pub(super) async fn furnish_again(&mut self, checkpoint: &Checkpoint) -> Result<(), Trouble> {
        // What is begun twice must not run twice: a driver that comes after this one makes the box anew.
        self.note(Event::RestoreStarted { checkpoint: checkpoint.id, saved: None })?;
        self.commit()?;
        let furnished = match self.checkpoint_files.read(checkpoint) {
            Ok(file) => self.settle_in(&file).await?.map(drop),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = furnished {
            let what = format!("the sessions of checkpoint {} could not be had again: {why}", checkpoint.id);
            self.stop_for(WorkbenchError::no_box(what))?;
        }
        Ok(())
    }

    /// In a box that was made from a checkpoint: opens the sessions again, starts services again, and records that the
    /// restore has ended. What is not as it was, in words; or why the box is of no use.
    pub(super) async fn settle_in(&mut self, file: &CheckpointFile) -> Result<Result<Vec<String>, String>, Trouble> {
        let Bench::Open(bench) = &self.bench else { return Ok(Err("there is no box".to_owned())) };
        let bench = Arc::clone(bench);
        if let Some(last) = self.state.jobs().all().next_back() {
            bench.terminal().board().number_after(last.job.id);
        }
        let place = self.recorder.head().seq.unwrap_or(0);
        let notes = match furnish(&bench, file, place).await {
            Ok(notes) => notes,
            Err(error) => return Ok(Err(Trouble::from(error).line())),
        };
        for fact in bench.terminal().board().pending() {
            self.note(fact)?;
        }
        let sessions = file.checkpoint.sessions.clone();
        self.note(Event::CheckpointRestored { checkpoint: file.checkpoint.id, sessions, notes: notes.clone() })?;
        self.commit()?;
        Ok(Ok(notes))
    }
}

/// Opens the sessions of a checkpoint and starts its services. What is not as it was, in words.
async fn furnish(bench: &Workbench, file: &CheckpointFile, place: u64) -> Result<Vec<String>, WorkbenchError> {
    let mut notes = Vec::new();
    let mut open = Vec::new();
    for state in &file.sessions {
        notes.extend(bench.reopen(state).await?);
        let cwd = state.cwd.as_deref().unwrap_or_else(|| bench.terminal().workspace());
        open.push(format!("{} in {cwd}", state.session));
    }
    if !open.is_empty() {
        let words = "with their exported variables; other variables, functions and aliases are gone";
        notes.insert(0, format!("Sessions open again, {words}: {}.", open.join(", ")));
    }
    for job in &file.services {
        // Where it was started is not where the session's shell is by now.
        notes.push(match bench.start_again(job, &format!("r{place}-{}", job.id)).await? {
            Ok(now) => format!("Service {} is started again as {}: wait until it is ready.", job.id, now.id),
            Err(why) => format!("Service {} (`{}`) could not be started again: {why}", job.id, job.command),
        });
    }
    let is_service = |id: &&JobId| file.services.iter().any(|job| job.id == **id);
    let others: Vec<JobId> = file.checkpoint.jobs.iter().filter(|id| !is_service(id)).copied().collect();
    if !others.is_empty() {
        notes.push(format!("Jobs that ran then and do not run now: {}.", ids(&others)));
    }
    if !file.checkpoint.snapshot.left_out.is_empty() {
        notes.push(format!("Not in the checkpoint: {}.", file.checkpoint.snapshot.left_out.join("; ")));
    }
    Ok(notes)
}

fn facts_of(checkpoint: &Checkpoint) -> String {
    let snapshot = &checkpoint.snapshot;
    let how = match &snapshot.consistency {
        Consistency::Stopped => "nothing ran".to_owned(),
        Consistency::Frozen { held_ms, .. } => format!("processes were held for {held_ms} ms"),
        Consistency::Unfrozen { why } => {
            format!("processes ran on meanwhile, so files may be of different instants ({why})")
        }
    };
    let mut words = format!("{} files new, {}; {how}", snapshot.new_files, size_words(snapshot.new_bytes));
    if !snapshot.left_out.is_empty() {
        words.push_str(&format!("; not in it: {}", snapshot.left_out.join("; ")));
    }
    words
}

fn ids(jobs: &[JobId]) -> String {
    jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
