//! The driver's hands in the box: it comes up, calls and checks run, artefacts come out, it goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::around::{Happening, out_of_time};
use super::boxes::Opening;
use super::claim;
use super::driver::{Cut, Driver};
use super::evidence::Before;
use super::person::Word;
use super::state::Ending;
use super::trouble::Trouble;
use super::watched::{WATCH_STEP, Watched};
use crate::domain::{BoxUsage, Event, Job, NoticeKind, Outcome, Progress, Status, ToolCall, WakeCause};
use crate::journal::Mail;
use crate::tools::{Action, Attention, CallNames, Closed, Done, Left, Services, Workbench, WorkbenchError};

/// Characters of a message that the model is shown as the reason why it was woken; it is given the whole of it next.
const SHOWN_OF_MAIL: usize = 80;

/// The box, from the wish to the end.
pub(super) enum Bench {
    /// It is being made.
    Opening(Opening),
    /// It is up.
    Open(Arc<Workbench>),
    /// There is none, or none any more.
    Gone,
}

impl Bench {
    /// Resolves when the box is up or can't be had; never if it is not being made. May be dropped and called again.
    pub(super) async fn opened(&mut self) -> Result<Workbench, WorkbenchError> {
        match self {
            Self::Opening(opening) => opening.await,
            Self::Open(_) | Self::Gone => std::future::pending().await,
        }
    }

    /// Whether it is being made.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening(_))
    }
}

impl Driver {
    /// Notes that the box is up.
    pub(super) fn take_box(&mut self, opened: Result<Workbench, WorkbenchError>) -> Result<Result<(), Cut>, Trouble> {
        match opened {
            Ok(bench) => {
                let facts = bench.facts().clone();
                // What ran in a box before has ended with it; the names that its jobs had are taken.
                bench.terminal().board().take_back(self.state.jobs(), &BTreeMap::new());
                let ways_in = self.have_box(bench);
                self.note(Event::BoxOpened { facts })?;
                self.observer.progress(&Progress::LookIn(ways_in));
                Ok(Ok(()))
            }
            Err(error) => {
                self.bench = Bench::Gone;
                Ok(Err(Cut::NoBox(error)))
            }
        }
    }

    /// Works in this box from now on; the commands by which people can look in.
    pub(super) fn have_box(&mut self, bench: Workbench) -> Vec<String> {
        let ours = format!("agent attach {}", self.state.spec().run);
        let ways_in = std::iter::once(ours).chain(bench.attach_line()).collect();
        let bench = Arc::new(bench);
        self.around.hear(Arc::clone(&bench));
        self.bench = Bench::Open(bench);
        ways_in
    }

    /// Has the run end because of the box.
    pub(super) fn stop_for(&mut self, error: WorkbenchError) -> Result<(), Trouble> {
        let trouble = Trouble::from(error);
        self.note(Event::StopAsked { reason: trouble.reason, why: trouble.line() })?;
        self.trouble = Some(trouble);
        Ok(())
    }

    /// Makes sure that the box is up. False if it is not and the run has been told to stop or to wait for the person.
    pub(super) async fn with_box(&mut self) -> Result<bool, Trouble> {
        while self.bench.is_opening() {
            let cut = tokio::select! {
                opened = self.bench.opened() => self.take_box(opened)?,
                happening = self.around.next() => match happening {
                    Happening::Word(word) => Err(Cut::Word(word)),
                    Happening::TimeOver => Err(Cut::Word(out_of_time(self.state.spec()))),
                    Happening::News(event) => self.note(*event).map(|_| Ok(()))?,
                    Happening::Mail(mail) => {
                        self.mail.push_back(mail);
                        Ok(())
                    }
                    Happening::Order => Ok(()),
                },
            };
            match cut {
                Ok(()) | Err(Cut::Word(Word::Interrupt)) => {}
                Err(Cut::Word(notice @ Word::Notice { .. })) => self.take(notice)?,
                Err(Cut::Word(word)) => {
                    self.take(word)?;
                    return Ok(false);
                }
                Err(Cut::NoBox(error)) => {
                    self.stop_for(error)?;
                    return Ok(false);
                }
            }
        }
        Ok(matches!(self.bench, Bench::Open(_)))
    }

    /// Answers the first of the open calls that can be, and those that may run beside it.
    pub(super) async fn run_calls(&mut self, calls: &[ToolCall]) -> Result<(), Trouble> {
        let read = match self.registry.read(calls) {
            Ok(read) => read,
            Err(malformed) => {
                for (call, outcome) in malformed {
                    self.note(Event::ToolEnded { call_id: call.id, outcome })?;
                }
                return Ok(());
            }
        };
        let batch = first_batch(read);
        if let [(call, Action::Finish(args))] = &batch[..] {
            if self.has_mail() {
                let outcome = claim::unread_mail();
                return self.note(Event::ToolEnded { call_id: call.id.clone(), outcome }).map(drop);
            }
            self.start(call)?;
            return self.claim(args.clone().into()).await;
        }
        if let [(call, Action::Checkpoint(args))] = &batch[..] {
            return self.run_checkpoint(call, args).await;
        }
        if let [(call, Action::Recall(args))] = &batch[..] {
            return self.run_recall(call, args).await;
        }
        if let [(call, Action::AskHuman(args))] = &batch[..] {
            return self.run_ask(call, args);
        }
        if !self.with_box().await? {
            return Ok(());
        }
        self.checkpoint_before(&batch).await?;
        if !self.said.is_empty() {
            return Ok(());
        }
        let mut started = Vec::new();
        for (call, action) in batch {
            let work = self.start(&call)?;
            let left = self.left.remove(&call.id);
            started.push(Started { work, call, action, left });
        }
        self.commit()?;
        self.run_batch(&started).await
    }

    /// Announces a call, unless an earlier driver has done that. The name under which the box knows it: the place of the
    /// entry, and so unique in the run.
    pub(super) fn start(&mut self, call: &ToolCall) -> Result<String, Trouble> {
        if self.state.begun_as(&call.id).is_none() {
            self.note(Event::ToolStarted { call: call.clone() })?;
        }
        Ok(self.state.work_of(&call.id).expect("it has begun"))
    }

    /// Runs calls at the same time; notes their outcomes in the order of the calls.
    pub(super) async fn run_batch(&mut self, batch: &[Started]) -> Result<(), Trouble> {
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let bench = Arc::clone(bench);
        let (passing, progress) = mpsc::unbounded_channel();
        let attention = Attention::new();
        let before = Before::look(&bench, batch.iter().map(|started| &started.action), &self.tally).await;
        let work = join_all(batch.iter().map(|started| {
            let (bench, passing, attention) = (&bench, passing.clone(), &attention);
            async move {
                let names = CallNames { work: &started.work, call: &started.call.id };
                let mut show = |progress| drop(passing.send(progress));
                match &started.left {
                    None => bench.run(names, &started.action, &mut show, attention).await,
                    Some(left) => bench.take_up(names, &started.action, left, &mut show, attention).await,
                }
            }
        }));
        let beside = Beside {
            command: batch.iter().find_map(|started| command_of(&started.action)),
            is_wait: batch.iter().all(|started| matches!(started.action, Action::Wait(_))),
        };
        let (results, words) = self.attended(work, progress, &attention, beside).await?;
        for fact in bench.terminal().board().pending() {
            self.note(fact)?;
        }
        let meanwhile = before.meanwhile(&bench, &mut self.tally).await;
        let mut gone = None;
        for (started, result) in batch.iter().zip(results) {
            match result {
                Ok(done) => {
                    let outcome = self.take_done(done)?;
                    let outcome = self.with_failure(&started.action, outcome, &meanwhile);
                    self.settle(&started.call, &started.action, outcome)?;
                }
                Err(error) => {
                    gone.get_or_insert(error);
                    let text = "unknown: the box ended while this call was under way";
                    let outcome = Outcome::words(Status::Unknown, text);
                    self.note(Event::ToolEnded { call_id: started.call.id.clone(), outcome })?;
                }
            }
        }
        if let Some(error) = gone {
            self.stop_for(error)?;
        }
        words.into_iter().try_for_each(|word| self.take(word))
    }

    /// Waits for `work`, shows its progress and notes what happens meanwhile. A person's word cancels it, and so does the
    /// end of the run's time; a message ends waits alone. What is cancelled still has a result. Returns the words that
    /// are to be taken after it. A command that takes long is told of as it goes on. While the model only waits, it is
    /// as between calls: what people have asked for is done.
    pub(super) async fn attended<T>(
        &mut self,
        work: impl Future<Output = T>,
        mut progress: mpsc::UnboundedReceiver<Progress>,
        attention: &Attention,
        beside: Beside<'_>,
    ) -> Result<(T, Vec<Word>), Trouble> {
        let mut work = pin!(work);
        let mut words = Vec::new();
        let mut watched = Watched::new(beside.command, &*self.clock);
        let mut tick = self.clock.sleep(WATCH_STEP);
        if self.has_mail() {
            self.wake_for_mail(attention);
        }
        loop {
            if beside.is_wait && self.around.has_order() && !attention.is_cancelled() {
                Box::pin(self.obey()).await?;
                if !self.said.is_empty() {
                    attention.cancel();
                    words.extend(self.said.drain(..));
                }
            }
            tokio::select! {
                biased;
                result = &mut work => return Ok((result, words)),
                Some(passing) = progress.recv() => {
                    watched.see(&passing);
                    self.observer.progress(&passing);
                }
                happening = self.around.next(), if !attention.is_cancelled() => match happening {
                    Happening::Word(notice @ Word::Notice { .. }) => self.take(notice)?,
                    Happening::Word(word) => {
                        attention.cancel();
                        words.push(word);
                    }
                    Happening::TimeOver => {
                        attention.wake(WakeCause::Budget, "the run's time is over");
                        attention.cancel();
                        words.push(out_of_time(self.state.spec()));
                    }
                    Happening::News(event) => drop(self.note(*event)?),
                    Happening::Mail(mail) => {
                        self.mail.push_back(mail);
                        self.wake_for_mail(attention);
                    }
                    Happening::Order => {}
                },
                () = &mut tick => {
                    tick = self.clock.sleep(WATCH_STEP);
                    if let Some(standing) = watched.standing(&*self.clock) {
                        self.observer.progress(&Progress::Waiting(standing));
                    }
                }
            }
        }
    }

    fn wake_for_mail(&self, attention: &Attention) {
        let said = self.mail.front().map(Mail::words).unwrap_or_default();
        let line = said.lines().next().unwrap_or_default();
        let mut words: String = line.chars().take(SHOWN_OF_MAIL).collect();
        if line.chars().nth(SHOWN_OF_MAIL).is_some() {
            words.push('…');
        }
        attention.wake(WakeCause::Person, format!("a person says: {words}"));
    }

    fn take_done(&mut self, done: Done) -> Result<Outcome, Trouble> {
        for fact in done.facts {
            self.note(fact)?;
        }
        Ok(done.outcome)
    }

    /// Brings out what the claim names, removes the box, writes the last entry.
    pub(super) async fn end(&mut self, ending: Ending) -> Result<Ending, Trouble> {
        self.close_calls(&ending)?;
        self.judge_at_end()?;
        let ending = self.at_the_end(ending).await?;
        self.collect(&ending.artifacts).await?;
        self.checkpoint_proved(ending.verdict).await?;
        // Nobody will answer these any more, but what was said is on record.
        self.mail.extend(self.around.close_inbox());
        self.note_mail()?;
        self.around.remove_inbox();
        self.keep_for_later(&ending).await?;
        self.synced().await?;
        self.blobs.commit()?;
        self.leave_box(&ending).await?;
        let Ending { verdict, reason, why, answer, .. } = ending.clone();
        self.note(Event::RunEnded { verdict, reason, why, answer })?;
        Ok(ending)
    }

    /// Gives every call that is open an outcome; but where a run stops that can be taken up again, the call that waits for
    /// an answer goes on waiting, and those after it with it.
    fn close_calls(&mut self, ending: &Ending) -> Result<(), Trouble> {
        if self.may_go_on(ending) {
            if self.state.awaited().is_some() {
                return Ok(());
            }
        } else {
            self.withdraw_questions()?;
        }
        for call in self.state.open_calls().to_vec() {
            let not_run = || Outcome::words(Status::Cancelled, "not run: the run ended before");
            let outcome = self.state.outcome_at_end(&call.id).unwrap_or_else(not_run);
            self.note(Event::ToolEnded { call_id: call.id, outcome })?;
        }
        Ok(())
    }

    /// There is no box any more: says so of what was not brought out before.
    fn refuse_uncollected(&mut self, path: &str) -> Result<(), Trouble> {
        let whole = Path::new(&self.state.spec().workspace).join(path);
        if self.collected.keys().any(|collected| Path::new(collected).starts_with(&whole)) {
            return Ok(());
        }
        let why = "the box was gone before it was brought out".to_owned();
        self.note(Event::ArtifactRefused { path: path.to_owned(), why }).map(drop)
    }

    async fn collect(&mut self, paths: &[String]) -> Result<(), Trouble> {
        for path in paths {
            let bench = match &self.bench {
                Bench::Open(bench) => Arc::clone(bench),
                Bench::Opening(_) => return Ok(()),
                Bench::Gone => {
                    self.refuse_uncollected(path)?;
                    continue;
                }
            };
            let results = match bench.collect(path).await {
                Ok(results) => results,
                Err(error) => return self.stop_for(error),
            };
            let is_new = |path: &str| !self.collected.contains_key(path);
            let results: Vec<_> = results
                .into_iter()
                .filter(|result| is_new(result.as_ref().map_or_else(|(path, _)| path, |file| &file.path)))
                .collect();
            for result in results {
                let event = match result {
                    Ok(file) => Event::ArtifactCollected {
                        path: file.path,
                        stored: file.stored,
                        size_bytes: file.size_bytes,
                        sha256: file.sha256,
                    },
                    Err((path, why)) => Event::ArtifactRefused { path, why },
                };
                self.note(event)?;
            }
        }
        Ok(())
    }

    /// Closes the box and notes what it has used, what was ended and what was left running.
    async fn leave_box(&mut self, ending: &Ending) -> Result<(), Trouble> {
        if let Bench::Open(bench) = &self.bench {
            let usage = bench.terminal().board().usage();
            if usage != BoxUsage::default() {
                self.note(Event::BoxMeasured { usage })?;
            }
        }
        self.save_image().await?;
        let services = self.fate_of_services(ending);
        let Some(closed) = self.close_box(services).await else { return Ok(()) };
        for fact in closed.facts {
            self.note(fact)?;
        }
        self.note(Event::BoxClosed { notes: closed.notes, removed: closed.removed })?;
        if !closed.kept.is_empty() {
            let named = |job: &Job| format!("{} in session {} (`{}`)", job.id, job.session, job.command);
            let kept = closed.kept.iter().map(named).collect::<Vec<_>>().join(", ");
            let run = &self.state.spec().run;
            let text = match services {
                Services::KeepAll => format!(
                    "jobs left running: {kept}\ngo on with `agent resume {run}`, end them with `agent runs rm {run}`"
                ),
                Services::Keep | Services::End => format!(
                    "services left running: {kept}\nlook in with `agent attach {run}`, end them with `agent runs rm {run}`"
                ),
            };
            self.note(Event::Noticed { kind: NoticeKind::ServicesKept, text })?;
        }
        Ok(())
    }

    /// Keeps the box as an image, where that was asked for and the run is not to be taken up again from a checkpoint.
    async fn save_image(&mut self) -> Result<(), Trouble> {
        let name = self.state.spec().asked.as_ref().and_then(|asked| asked.save_image.clone());
        let (Some(name), Bench::Open(bench), false) = (name, &self.bench, self.sealed) else { return Ok(()) };
        let kept = Arc::clone(bench).save_image(&name).await;
        self.note(kept).map(drop)
    }

    /// Closes the box; None if there was none. One that is just being made is waited for, so that it can be removed.
    pub(super) async fn close_box(&mut self, services: Services) -> Option<Closed> {
        let bench = match std::mem::replace(&mut self.bench, Bench::Gone) {
            Bench::Open(bench) => bench,
            Bench::Opening(opening) => Arc::new(opening.await.ok()?),
            Bench::Gone => return None,
        };
        if std::mem::take(&mut self.sealed) {
            let facts = bench.terminal().board().pending();
            let left = bench.give_up().await;
            let removed = left.is_empty();
            let notes = [std::mem::take(&mut self.ended), left].concat();
            return Some(Closed { facts, removed, notes, kept: Vec::new() });
        }
        Some(bench.close(services).await)
    }
}

/// What goes on while the driver listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    /// The command that runs, where there is one.
    pub(super) command: Option<&'a str>,
    /// Whether nothing is done but waiting.
    pub(super) is_wait: bool,
}

/// A call that has been noted as started.
pub(super) struct Started {
    /// The name under which the box knows it.
    pub(super) work: String,
    /// The call.
    pub(super) call: ToolCall,
    /// What it does.
    pub(super) action: Action,
    /// What is known of it, where an earlier driver had begun it.
    pub(super) left: Option<Left>,
}

/// The command of a call that runs one; a wait tells by itself how it stands.
fn command_of(action: &Action) -> Option<&str> {
    match action {
        Action::Shell(args) => args.command.as_deref().or(args.session.as_deref()),
        Action::Tmux(_)
        | Action::Wait(_)
        | Action::ReadFile(_)
        | Action::WriteFile(_)
        | Action::EditFile(_)
        | Action::Checkpoint(_)
        | Action::Container(_)
        | Action::Recall(_)
        | Action::AskHuman(_)
        | Action::Finish(_) => None,
    }
}

/// The first call and those after it that may run at the same time.
fn first_batch(read: Vec<(ToolCall, Action)>) -> Vec<(ToolCall, Action)> {
    let mut batch: Vec<(ToolCall, Action)> = Vec::new();
    for (call, action) in read {
        if !batch.iter().all(|(_, other)| action.may_run_beside(other)) {
            break;
        }
        batch.push((call, action));
    }
    batch
}
