//! The loop's acting half: does what [`State::next`] says and notes what came of it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::context::{History, Prompt, Situation};
use crate::domain::{Entry, Event, FORMAT_MAJOR, FORMAT_MINOR, Job, NoticeKind, Observer, RunSpec};
use crate::journal::{Blobs, CheckpointFiles, Inbox, Lessons, Mail, Recorder, Requests};
use crate::model::{Message, Model, Purpose, Request, ToolSpec};
use crate::recovery::Classifier;
use crate::tools::{Left, Registry, Tool, WorkbenchError};

use super::around::{Around, Happening, out_of_time};
use super::boxes::Boxes;
use super::delay;
use super::evidence::Tally;
use super::person::{Person, Word};
use super::recalled::Recalled;
use super::room::Room;
use super::state::{Ending, State, Step};
use super::trouble::Trouble;
use super::work::Bench;

/// Raw requests and responses are synced at most this often: a fast model must not wait for the disk.
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What a run is driven with.
pub struct Parts {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Writes the transcript.
    pub recorder: Recorder,
    /// Keeps what is too big for it.
    pub blobs: Blobs,
    /// Answers.
    pub model: Arc<dyn Model>,
    /// What the model may do.
    pub registry: Registry,
    /// Makes the box, and others after it.
    pub boxes: Arc<dyn Boxes>,
    /// Keeps what belongs to checkpoints beside the files.
    pub checkpoint_files: CheckpointFiles,
    /// Sees everything.
    pub observer: Box<dyn Observer>,
    /// May interrupt, speak, end.
    pub person: Box<dyn Person>,
    /// Where messages come from other terminals, if they can.
    pub inbox: Option<Inbox>,
    /// What earlier runs have learned, and this one learns.
    pub lessons: Lessons,
    /// Knows failures by what they say.
    pub classifier: Arc<Classifier>,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its end.
    pub ending: Ending,
    /// What stopped it, if something did that has more to say than one line.
    pub trouble: Option<Trouble>,
}

/// One run being driven.
pub struct Driver {
    pub(super) state: State,
    pub(super) history: History,
    situation: Situation,
    /// How full the model's window is.
    pub(super) room: Room,
    pub(super) recorder: Recorder,
    pub(super) blobs: Blobs,
    pub(super) requests: Requests,
    pub(super) model: Arc<dyn Model>,
    pub(super) registry: Registry,
    pub(super) tools: Arc<[ToolSpec]>,
    pub(super) call_ids: HashSet<String>,
    syncing: Option<JoinHandle<Result<(), Trouble>>>,
    synced_at: Option<Duration>,
    /// Whether something noted waits for [`SYNC_EVERY`] to pass.
    pub(super) sync_owed: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) bench: Bench,
    pub(super) boxes: Arc<dyn Boxes>,
    pub(super) checkpoint_files: CheckpointFiles,
    /// Whether the box was kept as it went: nothing runs in it any more.
    pub(super) sealed: bool,
    /// What ended with the box that was kept as it went, in words.
    pub(super) ended: Vec<String>,
    /// What was done, for the model to ask.
    pub(super) recalled: Recalled,
    /// Services that were ended so that the box could be kept as it goes.
    pub(super) parted: Vec<Job>,
    /// What a person said while a checkpoint was taken.
    pub(super) said: VecDeque<Word>,
    /// The calls that an earlier driver had begun, by id.
    pub(super) left: BTreeMap<String, Left>,
    /// What an earlier driver had brought out, by path.
    pub(super) collected: BTreeMap<String, String>,
    pub(super) observer: Box<dyn Observer>,
    pub(super) around: Around,
    /// Messages that have come and wait for the next boundary.
    pub(super) mail: VecDeque<Mail>,
    pub(super) trouble: Option<Trouble>,
    /// A wait for the model's server that an earlier driver had begun.
    pub(super) delayed: Option<delay::Left>,
    /// What earlier runs have learned, and this one learns.
    pub(super) lessons: Lessons,
    /// Knows failures by what they say.
    pub(super) classifier: Arc<Classifier>,
    /// Whose doing what the box has counted was.
    pub(super) tally: Tally,
    /// Whether it was told that it can't be kept.
    lessons_lost: bool,
}

/// What the entries so far come to.
pub(super) struct Folds {
    pub(super) state: State,
    pub(super) history: History,
    pub(super) situation: Situation,
    pub(super) call_ids: HashSet<String>,
    /// The last request as it was stored.
    pub(super) request: Vec<u8>,
    /// For how long the run was driven.
    pub(super) driven: Duration,
}

impl Folds {
    /// Of no entries.
    fn new(spec: RunSpec) -> Self {
        Self {
            state: State::new(spec),
            history: History::default(),
            situation: Situation::default(),
            call_ids: HashSet::new(),
            request: Vec::new(),
            driven: Duration::ZERO,
        }
    }
}

/// What ended a piece of work early.
pub(super) enum Cut {
    /// The person.
    Word(Word),
    /// The box could not be made.
    NoBox(WorkbenchError),
}

impl Driver {
    /// Begins a run: its first entry is on disk when this returns.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be recorded.
    pub fn begin(spec: RunSpec, parts: Parts) -> Result<Self, Trouble> {
        let opening = parts.boxes.open(None);
        let mut driver = Self::with(Folds::new(spec.clone()), parts);
        driver.bench = Bench::Opening(opening);
        driver.note(Event::RunStarted { format_major: FORMAT_MAJOR, format_minor: FORMAT_MINOR, spec })?;
        Ok(driver)
    }

    /// A driver that has no box and has noted nothing yet.
    pub(super) fn with(folds: Folds, parts: Parts) -> Self {
        let Parts {
            clock,
            recorder,
            blobs,
            model,
            registry,
            boxes,
            checkpoint_files,
            observer,
            person,
            inbox,
            lessons,
            classifier,
        } = parts;
        let Folds { state, history, situation, call_ids, request, driven } = folds;
        let around = Around::new(person, inbox, Arc::clone(&clock), state.spec(), driven);
        let tools = tool_specs(&registry);
        let room = Room::new(state.model(), &tools);
        Self {
            state,
            history,
            situation,
            recalled: Recalled::of(recorder.steps()),
            room,
            recorder,
            requests: Requests::after(blobs.clone(), request),
            blobs,
            model,
            tools,
            registry,
            call_ids,
            syncing: None,
            synced_at: None,
            sync_owed: false,
            clock,
            bench: Bench::Gone,
            boxes,
            checkpoint_files,
            sealed: false,
            ended: Vec::new(),
            parted: Vec::new(),
            said: VecDeque::new(),
            left: BTreeMap::new(),
            collected: BTreeMap::new(),
            observer,
            around,
            mail: VecDeque::new(),
            trouble: None,
            delayed: None,
            lessons,
            classifier,
            tally: Tally::default(),
            lessons_lost: false,
        }
    }

    /// Drives the run to its end. The box is gone when this returns, unless it was to be kept.
    ///
    /// # Errors
    /// [`Trouble`] when what happens can't be recorded any more; the transcript then ends without its last entry, and
    /// the box and all that runs in it are left to whoever takes the run up again.
    pub async fn drive(mut self) -> Result<Finished, Trouble> {
        let ending = loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(ending)) => break ending,
                Err(trouble) => {
                    self.leave_to_the_next().await;
                    return Err(self.with_the_way_on(trouble));
                }
            }
        };
        Ok(Finished { ending, trouble: self.trouble })
    }

    /// Without a record nothing may be ended either. A box that is just being made is waited for, so that it is whole.
    async fn leave_to_the_next(&mut self) {
        if let Bench::Opening(opening) = std::mem::replace(&mut self.bench, Bench::Gone) {
            drop(opening.await);
        }
    }

    fn with_the_way_on(&self, mut trouble: Trouble) -> Trouble {
        let run = &self.state.spec().run;
        trouble.hints.push(format!(
            "what runs in the box runs on: `agent resume {run}` goes on with it, `agent runs rm {run}` ends and removes it"
        ));
        trouble
    }

    async fn step(&mut self) -> Result<Option<Ending>, Trouble> {
        while let Some(word) = self.said.pop_front() {
            self.take(word)?;
        }
        self.judge_due()?;
        self.obey().await?;
        self.take_answers()?;
        self.deliver_mail()?;
        match self.state.next() {
            Step::AskModel { turn } => self.ask(turn).await?,
            Step::RunCalls(calls) => self.run_calls(&calls).await?,
            Step::AnswerCall { call_id, outcome } => {
                self.note(Event::ToolEnded { call_id, outcome: *outcome })?;
            }
            Step::Decide { call_id } => self.decide(&call_id).await?,
            Step::TryAgain { call_id, not_before } => self.try_again(&call_id, not_before).await?,
            Step::Grow { call_id, memory_bytes } => self.grow(&call_id, memory_bytes).await?,
            Step::RollBack { call_id, to } => self.roll_back(&call_id, to).await?,
            Step::Ask(question) => self.put(*question)?,
            Step::AwaitAnswer(question) => self.await_answer(question).await?,
            Step::RunCheck { check, round } => self.run_check(check, round).await?,
            Step::SeeProtected => self.see_protected().await?,
            Step::AnswerClaim { call_id, accepted } => self.answer_claim(call_id, accepted).await?,
            Step::Nudge => self.nudge()?,
            Step::TellCircle { what, told } => self.tell_circle(&what, told)?,
            Step::AwaitPerson => {
                self.commit()?;
                match self.around.next_turn().await {
                    Happening::Word(word) => self.take(word)?,
                    Happening::Mail(mail) => self.mail.push_back(mail),
                    Happening::News(event) => drop(self.note(*event)?),
                    Happening::TimeOver => self.take(out_of_time(self.state.spec()))?,
                    Happening::Order => {}
                }
            }
            Step::End(ending) => {
                if !self.goes_beyond(&ending).await? {
                    return self.end(ending).await.map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Writes a fact down, takes it in, tells the observer: in this order.
    pub(super) fn note(&mut self, event: Event) -> Result<Entry, Trouble> {
        let event = self.with_evidence(event);
        let entry = self.recorder.append(event)?;
        self.state.apply(&entry);
        self.history.apply(&entry);
        self.situation.apply(&entry);
        self.observer.entry(&entry);
        self.learn(&entry)?;
        Ok(entry)
    }

    /// Learns from an entry. What can't be kept hurts no run: it is said once.
    pub(super) fn learn(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let Err(error) = self.lessons.apply(entry) else { return Ok(()) };
        if std::mem::replace(&mut self.lessons_lost, true) {
            return Ok(());
        }
        self.notice(NoticeKind::LessonsLost, error.to_string())
    }

    /// Notes something about the run before it is driven.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be recorded.
    pub fn notice(&mut self, kind: NoticeKind, text: String) -> Result<(), Trouble> {
        self.note(Event::Noticed { kind, text }).map(drop)
    }

    /// Returns when everything noted is on disk: belongs before every effect.
    pub(super) fn commit(&mut self) -> Result<(), Trouble> {
        Ok(self.recorder.commit()?)
    }

    /// Puts everything noted, and the blobs, on disk while the model is asked; not more than once in [`SYNC_EVERY`].
    pub(super) async fn commit_meanwhile(&mut self) -> Result<(), Trouble> {
        let now = self.clock.monotonic();
        let is_under_way = self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished());
        self.sync_owed = is_under_way || self.synced_at.is_some_and(|last| now.saturating_sub(last) < SYNC_EVERY);
        if self.sync_owed {
            return Ok(());
        }
        self.synced().await?;
        self.synced_at = Some(now);
        let (entries, blobs) = (self.recorder.syncer(), self.blobs.clone());
        self.syncing = Some(tokio::task::spawn_blocking(move || {
            entries.sync()?;
            Ok(blobs.commit()?)
        }));
        Ok(())
    }

    /// Waits for the last [`Driver::commit_meanwhile`].
    pub(super) async fn synced(&mut self) -> Result<(), Trouble> {
        match self.syncing.take() {
            Some(syncing) => syncing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
            None => Ok(()),
        }
    }

    fn nudge(&mut self) -> Result<(), Trouble> {
        let open = match self.state.spec().checks.len() {
            0 => "the goal is not reached by your own account".to_owned(),
            1 => "its check has not run".to_owned(),
            checks => format!("its {checks} checks have not run"),
        };
        let text = Prompt::Continue.render(&[("open", &open)]).expect("the template is fixed and tested");
        self.note(Event::HarnessSaid { text }).map(drop)
    }

    fn tell_circle(&mut self, what: &str, told: u32) -> Result<(), Trouble> {
        let more = match told {
            0 => "",
            _ => "You were told so before; if it goes on, the run ends and a person is asked.",
        };
        let text = Prompt::Stuck.render(&[("what", what), ("more", more)]).expect("the template is fixed and tested");
        self.note(Event::HarnessSaid { text }).map(drop)
    }

    /// Notes what the person did.
    pub(super) fn take(&mut self, word: Word) -> Result<(), Trouble> {
        let event = match word {
            Word::Interrupt => Event::TurnInterrupted { turn: self.state.turn() },
            Word::Say(text) => Event::UserSaid { text, mail: None },
            Word::End { reason, why } => Event::StopAsked { reason, why },
            Word::Notice { kind, text } => Event::Noticed { kind, text },
        };
        self.note(event).map(drop)
    }

    /// Whether a message has come that the model has not been given.
    pub(super) fn has_mail(&mut self) -> bool {
        while let Some(mail) = self.around.take_mail() {
            self.mail.push_back(mail);
        }
        !self.mail.is_empty()
    }

    /// Gives the model what has come, where that parts no calls from their results.
    fn deliver_mail(&mut self) -> Result<(), Trouble> {
        self.give_way()?;
        let is_boundary = self.state.open_calls().is_empty() && self.state.claim().is_none();
        match is_boundary && self.has_mail() {
            true => self.note_mail(),
            false => Ok(()),
        }
    }

    /// Records every message that has come; only then is it removed.
    pub(super) fn note_mail(&mut self) -> Result<(), Trouble> {
        while let Some(mail) = self.mail.pop_front() {
            if mail.answer.is_some() {
                self.take_answer_of(&mail)?;
                continue;
            }
            self.note(Event::UserSaid { text: mail.text.clone(), mail: Some(mail.name.clone()) })?;
            self.around.recorded(&mail);
        }
        Ok(())
    }

    /// The conversation, and last how things stand: that changes with each request, and what is before it stays.
    pub(super) fn request(&self, purpose: Purpose) -> Request {
        let mut messages = self.history.messages();
        let folds = (self.state.jobs(), self.state.checkpoints(), self.state.questions());
        let budget = self.state.spec().budget.standing(self.state.spent());
        let situation = self.situation.words(folds, self.clock.now(), self.around.left(), budget);
        messages.extend(situation.map(Message::User));
        Request { messages, tools: Arc::clone(&self.tools), purpose }
    }

    /// Something happened while the model is waited for; some of it ends the wait.
    pub(super) fn meanwhile(&mut self, happening: Happening) -> Result<Option<Cut>, Trouble> {
        match happening {
            Happening::Word(word @ Word::Notice { .. }) => self.take(word)?,
            Happening::Word(word) => return Ok(Some(Cut::Word(word))),
            Happening::Mail(mail) => self.mail.push_back(mail),
            Happening::News(event) => drop(self.note(*event)?),
            Happening::TimeOver => return Ok(Some(Cut::Word(out_of_time(self.state.spec())))),
            Happening::Order => {}
        }
        Ok(None)
    }
}

fn tool_specs(registry: &Registry) -> Arc<[ToolSpec]> {
    let spec = |tool: &Tool| ToolSpec {
        name: tool.name.to_owned(),
        description: tool.manual.to_owned(),
        parameters: tool.parameters.clone(),
        strict: tool.strict,
    };
    registry.tools().iter().map(spec).collect()
}
