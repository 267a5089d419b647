//! A run taken up again after its driver has gone: the entries are folded, the box is looked for, and what was under way
//! is handed to the loop, which finds out what became of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::boxes::FoundBench;
use super::driver::{Driver, Folds, Parts};
use super::past::Past;
use super::state::{State, Step};
use super::trouble::Trouble;
use super::work::Bench;
use crate::domain::{
    AskedNew, BoxReturn, CheckpointReason, Effect, Entry, Event, ExitReason, Fate, JobId, Outcome, Progress, RunId,
    Status, ToolCall, duration_words,
};
use crate::tools::{CallNames, Left, Said, Workbench, WorkbenchError};

/// What a run is taken up again with.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// All entries of its transcript.
    pub entries: Vec<Entry>,
    /// What is asked for otherwise from here on.
    pub asked: AskedNew,
    /// What the transcript was found to have lost, in words.
    pub notes: Vec<String>,
}

/// A call that may have reached beyond the box, and of which nobody knows whether it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The call.
    pub call: ToolCall,
    /// When it was announced.
    pub begun: Timestamp,
    /// How far it reaches.
    pub effect: Effect,
}

/// Asks a person what became of a call; None where nobody answers.
pub type Asks<'a> = &'a mut (dyn FnMut(&Doubt) -> Option<Said> + Send);

/// How the box was found.
struct Return {
    found: BoxReturn,
    /// Why it is not as it was, in words.
    why: Option<String>,
    bench: Option<Workbench>,
}

impl Driver {
    /// Takes a run up again. Nothing is recorded, and nothing of the run is changed, where this fails.
    ///
    /// # Errors
    /// [`Trouble`] when the run can't go on like this, when a person has to say first what became of a call, or when
    /// nothing can be recorded.
    pub async fn resume(resume: Resume, parts: Parts, asks: Asks<'_>) -> Result<Self, Trouble> {
        let Resume { entries, asked, notes } = resume;
        let Some(past) = Past::of(&entries, &parts.blobs) else { return Err(no_beginning()) };
        let goes_on = going_on(&past, &asked);
        let ends = match goes_on.next() {
            Step::End(ending) if past.end.is_some() => return Err(at_its_limit(&past, &goes_on, ending.reason)),
            Step::End(_) => past.sandbox.is_none(),
            _ => out_of_time(&past, &goes_on)?,
        };
        if let Some(bytes) = past.state.grown() {
            parts.boxes.has_grown(bytes);
        }
        let returned = if ends { Return::none() } else { find(&past, &parts).await? };
        let returned = match (returned.found, goes_on.next()) {
            // What it could come back to is older than what was proved: nothing of it belongs to this end.
            (BoxReturn::Restored, Step::End(_)) if past.state.checkpoints().is_behind() => {
                Return { found: BoxReturn::Lost, ..returned }
            }
            _ => returned,
        };
        let left = left_open(&past, &parts, &returned, asks).await?;
        Box::pin(Self::go_on(past, parts, Beginning { entries, asked, notes, returned, left })).await
    }

    async fn go_on(past: Past, parts: Parts, beginning: Beginning) -> Result<Self, Trouble> {
        let Beginning { entries, asked, notes, returned, left } = beginning;
        let epoch = parts.recorder.epoch();
        let away = parts.clock.now().duration_since(past.last).as_millis();
        let way_back = past.way_back().cloned();
        let Past {
            state,
            history,
            situation,
            call_ids,
            mail,
            driven,
            sandbox,
            sessions,
            shown,
            collected,
            stored,
            request,
            mut delay,
            ..
        } = past;
        let notes = [notes, told(&past.end, &state, &returned, &asked)].concat();
        let mut spec = state.spec().clone();
        asked.change(&mut spec);
        let mut driver = Self::with(Folds { state, history, situation, call_ids, request, driven }, parts);
        driver.learn_room(&entries);
        for entry in &entries {
            driver.learn(entry)?;
        }
        driver.around.limit_to(&spec, driven);
        driver.around.forget(&mail);
        driver.left = left;
        driver.collected = collected;
        let Return { found, bench, .. } = returned;
        let away_ms = u64::try_from(away).unwrap_or(0);
        let resumed = driver.note(Event::RunResumed { epoch, away_ms, found, notes, asked })?;
        delay.apply(&resumed);
        driver.goes_on_after(&delay, resumed.time);
        driver.commit()?;
        match (found, bench) {
            (BoxReturn::Adopted | BoxReturn::Restarted, Some(bench)) => {
                let is_known = found == BoxReturn::Adopted && sandbox.is_some();
                // Nothing has happened since it was kept as the run was stopped.
                let kept = way_back.filter(|kept| {
                    let is_last = !driver.state.checkpoints().is_behind();
                    found == BoxReturn::Restarted && kept.reason == CheckpointReason::End && is_last
                });
                let mut facts = bench.facts().clone();
                // Whoever finds a box does not know why it was made as it is.
                if let Some(before) = sandbox.as_ref().filter(|_| facts.why.is_empty()) {
                    facts.why = before.why.clone();
                }
                bench.drop_unrecorded(&stored);
                let board = bench.terminal().board();
                board.take_back(driver.state.jobs(), &shown);
                let taken_back = match kept {
                    None => bench.terminal().take_back(&sessions).await,
                    Some(_) => Ok(()),
                };
                let ways_in = driver.have_box(bench);
                if !is_known {
                    driver.note(Event::BoxOpened { facts })?;
                }
                driver.observer.progress(&Progress::LookIn(ways_in));
                if let Err(error) = taken_back {
                    driver.stop_for(WorkbenchError::Gone(error))?;
                }
                if let Some(kept) = kept {
                    driver.furnish_again(&kept).await?;
                }
            }
            (BoxReturn::Restored, _) => {
                let checkpoint = way_back.expect("it was found to be there");
                driver.restore_lost(&checkpoint).await?;
            }
            (BoxReturn::Lost | BoxReturn::None | BoxReturn::Adopted | BoxReturn::Restarted, _) => {
                if !matches!(driver.state.next(), Step::End(_)) {
                    driver.bench = Bench::Opening(driver.boxes.open(None));
                }
            }
        }
        driver.answer_keeping(&entries)?;
        Ok(driver)
    }

    /// Calls of `checkpoint` that have done their work and were not answered: what they did is on record.
    fn answer_keeping(&mut self, entries: &[Entry]) -> Result<(), Trouble> {
        let begun: Vec<_> = self.state.begun().iter().map(|begun| (begun.call_id.clone(), begun.seq)).collect();
        for (call_id, seq) in begun {
            let is_keeping = |call: &&ToolCall| call.id == call_id && call.name == "checkpoint";
            if self.state.open_calls().iter().find(is_keeping).is_none() {
                continue;
            }
            let since = entries.iter().filter(|entry| entry.seq > seq);
            // A box that was made anew to be kept was gone back to nowhere.
            let kept: Vec<_> = since
                .clone()
                .filter_map(|entry| match &entry.event {
                    Event::CheckpointTaken { checkpoint } if checkpoint.reason == CheckpointReason::Model => {
                        Some(checkpoint.id)
                    }
                    _ => None,
                })
                .collect();
            let begun_to_restore = since.clone().any(|entry| matches!(entry.event, Event::RestoreStarted { .. }));
            let is_back = begun_to_restore && self.state.checkpoints().restoring().is_none();
            let done = since.rev().find_map(|entry| match &entry.event {
                Event::RestoreStarted { checkpoint, .. } if is_back && !kept.contains(checkpoint) => {
                    Some(format!("Restored checkpoint {checkpoint}: the files of the box are those of that moment."))
                }
                // What is kept before a restore is not yet the restore.
                Event::CheckpointTaken { checkpoint } if checkpoint.reason == CheckpointReason::Model => {
                    Some(format!("Checkpoint {} was taken.", checkpoint.label()))
                }
                Event::CheckpointDeleted { checkpoint } => Some(format!("Checkpoint {checkpoint} was deleted.")),
                _ => None,
            });
            if let Some(text) = done {
                self.note(Event::ToolEnded { call_id, outcome: Outcome::words(Status::Ok, text) })?;
            }
        }
        Ok(())
    }
}

struct Beginning {
    entries: Vec<Entry>,
    asked: AskedNew,
    notes: Vec<String>,
    returned: Return,
    left: BTreeMap<String, Left>,
}

impl Return {
    fn none() -> Self {
        Self { found: BoxReturn::None, why: None, bench: None }
    }
}

/// The state as it will be once the run has been taken up.
fn going_on(past: &Past, asked: &AskedNew) -> State {
    let mut state = past.state.clone();
    let asked = asked.clone();
    let event = Event::RunResumed { epoch: 0, away_ms: 0, found: BoxReturn::Adopted, notes: Vec::new(), asked };
    state.apply(&Entry { seq: 0, time: past.last, event });
    state
}

/// Looks for the box; makes one from a checkpoint where it is gone and there is one.
async fn find(past: &Past, parts: &Parts) -> Result<Return, Trouble> {
    let is_restoring = past.state.checkpoints().restoring().is_some();
    let why = match parts.boxes.find().await? {
        // It may be the one that was to be left: a restore that was begun is begun once more.
        FoundBench::Alive(bench) | FoundBench::Restarted(bench, _) if is_restoring => {
            let left = bench.give_up().await;
            match left.is_empty() {
                true => "the restore of a checkpoint had begun".to_owned(),
                false => return Err(not_removed(past.state.spec().run.clone(), left)),
            }
        }
        FoundBench::Alive(bench) => {
            // One that was started again for a driver that came to no word of it.
            let is_another = past.sandbox.as_ref().is_some_and(|facts| facts.id != bench.facts().id);
            let (found, why) = match is_another {
                false => (BoxReturn::Adopted, None),
                true => (BoxReturn::Restarted, Some("it had ended, and was started again since".to_owned())),
            };
            return Ok(Return { found, why, bench: Some(bench) });
        }
        FoundBench::Restarted(bench, why) => {
            return Ok(Return { found: BoxReturn::Restarted, why: Some(why), bench: Some(bench) });
        }
        FoundBench::Gone(why) => why,
    };
    let way_back = past.way_back().filter(|checkpoint| parts.boxes.lack_of(&checkpoint.snapshot).is_none());
    let found = match (way_back, past.had_box()) {
        (Some(_), _) => BoxReturn::Restored,
        (None, true) => BoxReturn::Lost,
        (None, false) => BoxReturn::None,
    };
    Ok(Return { found, why: Some(why).filter(|_| past.had_box()), bench: None })
}

/// What is known of the calls that were begun. Asks where a call may have reached beyond the box and nobody knows.
async fn left_open(
    past: &Past,
    parts: &Parts,
    returned: &Return,
    asks: Asks<'_>,
) -> Result<BTreeMap<String, Left>, Trouble> {
    let mut left = BTreeMap::new();
    let mut unanswered = Vec::new();
    for begun in past.state.begun() {
        let open = past.state.open_calls().iter().find(|call| call.id == begun.call_id);
        let Some(call) = open else { continue };
        let effect = past.state.effect_of(call);
        let mut one = Left {
            begun: begun.time,
            found: returned.found,
            effect,
            said: None,
            ended_before: ended_before(&past.state, begun.time),
        };
        let work = past.state.work_of(&begun.call_id).unwrap_or_default();
        if effect >= Effect::External && is_doubtful(call, &work, &one, parts, returned.bench.as_ref()).await? {
            let doubt = Doubt { call: call.clone(), begun: begun.time, effect };
            match asks(&doubt) {
                Some(said) => one.said = Some(said),
                None => unanswered.push(doubt),
            }
        }
        left.insert(call.id.clone(), one);
    }
    match unanswered.is_empty() {
        true => Ok(left),
        false => Err(needs_a_person(&past.state.spec().run, &unanswered)),
    }
}

async fn is_doubtful(
    call: &ToolCall,
    work: &str,
    left: &Left,
    parts: &Parts,
    bench: Option<&Workbench>,
) -> Result<bool, Trouble> {
    let Some(bench) = bench else { return Ok(!parts.boxes.has_ended(work)) };
    let Ok(read) = parts.registry.read(std::slice::from_ref(call)) else { return Ok(false) };
    let names = CallNames { work, call: &call.id };
    Ok(bench.is_doubtful(names, &read[0].1, left).await?)
}

/// The jobs that had ended before a call began.
fn ended_before(state: &State, begun: Timestamp) -> BTreeSet<JobId> {
    let has_ended = |fate: &Fate| match fate {
        Fate::Alive => false,
        Fate::Ended { at, .. } => *at < begun,
        Fate::WithBox => true,
    };
    state.jobs().all().filter(|record| has_ended(&record.fate)).map(|record| record.job.id).collect()
}

/// What the model and people are told beside how long it was and what became of the box.
fn told(end: &Option<(ExitReason, String)>, state: &State, returned: &Return, asked: &AskedNew) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some((_, why)) = end {
        notes.push(format!("The run had ended: {why}."));
    }
    if let Some(why) = &returned.why {
        notes.push(format!("Of the box: {why}."));
    }
    let alive: Vec<String> =
        state.jobs().alive().map(|record| format!("{} (`{}`)", record.job.id, record.job.command)).collect();
    if returned.found != BoxReturn::Adopted && !alive.is_empty() {
        notes.push(format!("Jobs that ran then and do not run now: {}.", alive.join(", ")));
    }
    match state.begun().len() {
        0 => {}
        1 => notes.push("One call was under way; its result says what became of it.".to_owned()),
        many => notes.push(format!("{many} calls were under way; their results say what became of each.")),
    }
    if let Some(model) = &asked.model {
        notes.push(format!("From here on the model is {model}."));
    }
    notes
}

fn no_beginning() -> Trouble {
    Trouble {
        reason: ExitReason::Failed,
        what: "the transcript has no beginning".to_owned(),
        because: Vec::new(),
        hints: vec!["see all that is wrong with `agent verify`".to_owned()],
    }
}

/// A run that would end at once, as it did before.
fn at_its_limit(past: &Past, goes_on: &State, reason: ExitReason) -> Trouble {
    let spec = goes_on.spec();
    let why = past.end.as_ref().map(|(_, why)| why.clone());
    let more = spec.max_turns.saturating_add(spec.max_turns.max(1));
    let hint = match reason {
        ExitReason::Budget => format!("give it more: `agent resume {} --max-turns {more}`", spec.run),
        _ => format!("say what it is to do: `agent resume {} --message 'go on'`", spec.run),
    };
    Trouble {
        reason: ExitReason::Usage,
        what: "the run would end at once".to_owned(),
        because: why.into_iter().collect(),
        hints: vec![hint],
    }
}

/// Fails where nothing is left of the run's time; a run that goes on has no reason to be without a box.
fn out_of_time(past: &Past, goes_on: &State) -> Result<bool, Trouble> {
    let spec = goes_on.spec();
    match spec.max_time_s.filter(|limit| past.driven.as_secs() >= *limit) {
        Some(limit) => Err(Trouble {
            reason: ExitReason::Usage,
            what: "the run would end at once".to_owned(),
            because: vec![format!("it was driven for its limit of {}", duration_words(limit.saturating_mul(1000)))],
            hints: vec![format!("give it more: `agent resume {} --max-time {}s`", spec.run, limit.saturating_mul(2))],
        }),
        None => Ok(false),
    }
}

fn not_removed(run: RunId, left: Vec<String>) -> Trouble {
    Trouble {
        reason: ExitReason::SandboxUnavailable,
        what: "the box that a restore was to replace could not be removed".to_owned(),
        because: left,
        hints: vec![format!("look at what is there: `agent attach {run}`")],
    }
}

fn needs_a_person(run: &RunId, doubts: &[Doubt]) -> Trouble {
    let because = doubts.iter().map(|doubt| {
        let at = doubt.begun.strftime("%Y-%m-%d %H:%M:%S UTC");
        format!("call {} of {at} may have changed something outside the box: {}", doubt.call.id, doubt.words())
    });
    let settle = doubts.iter().map(|doubt| format!(" --settle {}=ran", doubt.call.id)).collect::<String>();
    Trouble {
        reason: ExitReason::NeedsHuman,
        what: "a person has to say what became of a call that was under way when the run was interrupted".to_owned(),
        because: because.collect(),
        hints: vec![
            format!("if it took effect: `agent resume {run}{settle}`"),
            "say `not-run` in the place of `ran` if it did not, and `look` to let the model find out".to_owned(),
        ],
    }
}

impl Doubt {
    /// What was to be done, in words.
    pub fn words(&self) -> String {
        let arguments: serde_json::Value = serde_json::from_str(&self.call.arguments).unwrap_or_default();
        let text = ["command", "text"].iter().find_map(|name| arguments.get(name)?.as_str().map(str::to_owned));
        text.unwrap_or_else(|| format!("{} {}", self.call.name, self.call.arguments))
    }
}
