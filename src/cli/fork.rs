//! `agent fork`: a run of its own that begins as another one stood at some entry, with the files of a checkpoint.
//!
//! The fork's directory is made here, with all that says what it is; from then on it is a run that is taken up as any
//! other (`agent resume`), whose box is made from the checkpoint.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use super::args::ForkArgs;
use super::launch::{prompt_hashes, tools_hash};
use super::target::{of_read, of_store, store};
use super::{Failure, Place, secrets};
use crate::clock::{Clock, SystemClock};
use crate::config::Key;
use crate::domain::{
    Check, CheckpointRecord, Checkpoints, Entry, Event, ExitReason, Outcome, Parent, RunId, RunSpec, Status, ToolCall,
};
use crate::journal::{CheckpointFiles, ForkError, Prefix, Recorder, ReopenError, RunDir, fork, new_run_id};
use crate::model::SCRIPT_PREFIX;
use crate::telemetry::Redactor;

/// Makes the fork; the arguments of the command that drives it.
///
/// # Errors
/// When there is no such run, entry or checkpoint, or what lies between can't be had.
pub(super) fn make(args: &ForkArgs, place: &Place) -> Result<Vec<OsString>, Failure> {
    let store = store(place)?;
    let (name, at) = match args.run.split_once('@') {
        Some((name, at)) => (name, Some(at)),
        None => (args.run.as_str(), None),
    };
    let parent = store.find(name).map_err(|error| of_store(&error))?;
    let whole = Prefix::read(&parent, None).map_err(|error| of_read(&error))?;
    let point = Point::find(&parent, &whole.entries, at)?;
    let prefix = Prefix::read(&parent, Some(point.seq)).map_err(|error| of_read(&error))?;
    let redactor = Arc::new(Redactor::new(&secrets::of(place)));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let shown = shown(&parent, &redactor, point.checkpoint.as_ref())?;
    let spec = spec(args, &parent, &prefix, &point, new_run_id(clock.now(), fastrand::u128(..)))?;
    let run = fork(&store, &parent, &prefix, &spec, &shown, &redactor).map_err(|error| failed(&error))?;
    let begun = begin(&run, spec, &prefix.entries, &point, clock, redactor);
    if begun.is_err() {
        drop(std::fs::remove_dir_all(run.path()));
    }
    begun?;
    Ok(drive(args, run.id()))
}

/// Where a fork parts from its parent.
struct Point {
    /// The last entry that both have.
    seq: u64,
    /// Whose files it begins with; the host's without.
    checkpoint: Option<CheckpointRecord>,
}

impl Point {
    fn find(parent: &RunDir, entries: &[Entry], at: Option<&str>) -> Result<Self, Failure> {
        let mut checkpoints = Checkpoints::default();
        entries.iter().for_each(|entry| checkpoints.apply(entry));
        let list = format!("see what there is: `agent checkpoint list {}`", parent.id());
        match at.map(|at| (at, at.parse::<u64>())) {
            None => match checkpoints.newest() {
                Some(record) => Ok(Self::of(record)),
                None => Err(Failure::new(ExitReason::Usage, format!("run {} has no checkpoint", parent.id()))
                    .because("a fork begins with the files of one")
                    .hint(format!("have one taken while it runs: `agent checkpoint create {}`", parent.id()))
                    .hint(format!("begin before anything was done: `agent fork {}@0`", parent.id()))),
            },
            Some((_, Ok(seq))) => Self::at_entry(parent, entries, &checkpoints, seq),
            Some((wanted, Err(_))) => match checkpoints.find(wanted) {
                Ok(record) => Ok(Self::of(record)),
                Err(why) => Err(Failure::new(ExitReason::Usage, why).hint(list)),
            },
        }
    }

    /// The entry of the checkpoint is the fork's, too, so that it can go back to it again.
    fn of(record: &CheckpointRecord) -> Self {
        Self { seq: record.entry, checkpoint: Some(record.clone()) }
    }

    fn at_entry(parent: &RunDir, entries: &[Entry], checkpoints: &Checkpoints, seq: u64) -> Result<Self, Failure> {
        let Some(last) = entries.last().map(|entry| entry.seq).filter(|last| seq <= *last) else {
            let last = entries.last().map_or(0, |entry| entry.seq);
            return Err(Failure::new(ExitReason::Usage, format!("run {} has no entry {seq}", parent.id()))
                .because(format!("its last one is {last}"))
                .hint(format!("see its entries: `agent replay {}`", parent.id())));
        };
        debug_assert!(last >= seq, "it was looked for");
        let before = files_at(entries, checkpoints, seq);
        let from = before.map_or(0, |record| record.entry);
        let is_between = |entry: &&Entry| entry.seq > from && entry.seq <= seq && changes(&entry.event);
        let Some(effect) = entries.iter().find(is_between) else {
            return Ok(Self { seq, checkpoint: before.cloned() });
        };
        let after = checkpoints.kept().find(|record| record.entry > seq);
        let near = before.into_iter().chain(after);
        let mut failure = Failure::new(ExitReason::Usage, format!("the files at entry {seq} can't be had")).because(
            format!("entry {} may have changed them, and no checkpoint was taken between it and there", effect.seq),
        );
        for record in near {
            let (id, entry) = (record.checkpoint.id, record.entry);
            failure = failure.hint(format!("fork at {id}, entry {entry}: `agent fork {}@{id}`", parent.id()));
        }
        if before.is_none() {
            failure = failure.hint(format!("begin before anything was done: `agent fork {}@0`", parent.id()));
        }
        Err(failure)
    }
}

/// The checkpoint whose files were there last at or before an entry.
fn files_at<'a>(entries: &[Entry], checkpoints: &'a Checkpoints, seq: u64) -> Option<&'a CheckpointRecord> {
    let ids = entries.iter().take_while(|entry| entry.seq <= seq).filter_map(|entry| match &entry.event {
        Event::CheckpointTaken { checkpoint } => Some(checkpoint.id),
        Event::CheckpointRestored { checkpoint, .. } => Some(*checkpoint),
        _ => None,
    });
    let last = ids.last()?;
    checkpoints.kept().find(|record| record.checkpoint.id == last)
}

/// Whether files may be others after this than before.
fn changes(event: &Event) -> bool {
    match event {
        Event::ToolStarted { call } => {
            !matches!(call.name.as_str(), "read_file" | "wait" | "finish" | "checkpoint" | "recall" | "ask_human")
        }
        Event::PersonTyped { .. } | Event::RestoreStarted { .. } => true,
        _ => false,
    }
}

/// What each session's log had shown when the checkpoint was taken: the fork's logs go on from there.
fn shown(
    parent: &RunDir,
    redactor: &Arc<Redactor>,
    record: Option<&CheckpointRecord>,
) -> Result<BTreeMap<String, u64>, Failure> {
    let Some(record) = record else { return Ok(BTreeMap::new()) };
    let file = CheckpointFiles::of(parent, Arc::clone(redactor)).read(&record.checkpoint).map_err(|error| {
        let what = format!("checkpoint {} can't be restored", record.checkpoint.label());
        Failure::new(ExitReason::Failed, what).because_of(&error)
    })?;
    Ok(file.sessions.into_iter().map(|state| (state.log, state.log_offset)).collect())
}

/// What the fork is: what its parent was when it parted, but for what was asked for otherwise.
fn spec(args: &ForkArgs, parent: &RunDir, prefix: &Prefix, point: &Point, run: RunId) -> Result<RunSpec, Failure> {
    let (mut spec, mut turns) = (None, 0);
    for entry in &prefix.entries {
        match &entry.event {
            Event::RunStarted { spec: asked, .. } | Event::RunForked { spec: asked } => spec = Some(asked.clone()),
            Event::RunResumed { asked, .. } | Event::LimitsRaised { asked } => {
                if let Some(spec) = &mut spec {
                    asked.change(spec);
                }
            }
            Event::ModelRequested { turn, .. } => turns = *turn,
            _ => {}
        }
    }
    let mut spec = spec.ok_or_else(|| Failure::new(ExitReason::Failed, "the run has not one entry"))?;
    let more = match &args.max_turns {
        None => spec.max_turns,
        Some(text) => match Key::MaxTurns.parse(text) {
            Ok(crate::config::Value::Count(turns)) => u32::try_from(turns).unwrap_or(u32::MAX),
            Ok(_) | Err(_) => {
                return Err(Failure::new(ExitReason::Usage, format!("`--max-turns {text}` makes no sense"))
                    .because("it must be a whole number above zero"));
            }
        },
    };
    spec.run = run;
    spec.max_turns = turns.saturating_add(more);
    spec.checks.extend(args.check.iter().cloned().map(Check::Command));
    spec.version = env!("CARGO_PKG_VERSION").to_owned();
    spec.prompts = prompt_hashes();
    spec.tools_sha256 = tools_hash(spec.mode);
    if let Some(model) = &args.model.model {
        spec.model.clone_from(model);
        spec.window_tokens = None;
        if model.starts_with(SCRIPT_PREFIX) {
            spec.base_url.clear();
        }
    }
    if let Some(text) = &args.model.window {
        spec.window_tokens = Some(window_tokens(text)?);
    }
    spec.parent = Some(Parent {
        run: parent.id().clone(),
        seq: point.seq,
        hash: prefix.head.hash.clone(),
        checkpoint: point.checkpoint.as_ref().map(|record| record.checkpoint.id),
    });
    Ok(spec)
}

/// The model's window as it was said.
fn window_tokens(text: &str) -> Result<u64, Failure> {
    match Key::Window.parse(text) {
        Ok(crate::config::Value::Count(tokens)) => Ok(tokens),
        Ok(_) | Err(_) => Err(Failure::new(ExitReason::Usage, format!("`--window {text}` makes no sense"))
            .because("it must be a whole number of tokens above zero")),
    }
}

/// Records that it is a fork, what became of the calls that were open, and which files it begins with.
fn begin(
    run: &RunDir,
    spec: RunSpec,
    entries: &[Entry],
    point: &Point,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
) -> Result<(), Failure> {
    let reopened = Recorder::reopen(run, clock, redactor, &mut |_| {});
    let mut recorder = reopened
        .map_err(|error: ReopenError| Failure::new(ExitReason::Failed, "the fork can't be begun").because_of(&error))?;
    let mut events = vec![Event::RunForked { spec }];
    events.extend(open_calls(entries).into_iter().map(|call| {
        let outcome = match call.name.as_str() {
            "checkpoint" => {
                Outcome::words(Status::Ok, "The checkpoint was taken; this run is a fork that begins with it.")
            }
            _ => Outcome::words(Status::Cancelled, "not run here: this run is a fork from before its end"),
        };
        Event::ToolEnded { call_id: call.id, outcome }
    }));
    if let Some(record) = &point.checkpoint {
        events.push(Event::RestoreStarted { checkpoint: record.checkpoint.id, saved: None });
    }
    for event in events {
        reopened_append(&mut recorder.recorder, event)?;
    }
    recorder.recorder.commit().map_err(|error| Failure::new(ExitReason::Internal, error.to_string()))
}

fn reopened_append(recorder: &mut Recorder, event: Event) -> Result<(), Failure> {
    let noted = recorder.append(event).map(drop);
    noted.map_err(|error| Failure::new(ExitReason::Internal, error.to_string()).because_of_source(&error))
}

/// The calls of the last answer that have no outcome.
fn open_calls(entries: &[Entry]) -> Vec<ToolCall> {
    let mut open: Vec<ToolCall> = Vec::new();
    for entry in entries {
        match &entry.event {
            Event::ModelAnswered { calls, .. } => open.clone_from(calls),
            Event::ToolEnded { call_id, .. } => open.retain(|call| call.id != *call_id),
            _ => {}
        }
    }
    open
}

/// The arguments of the command that drives the fork.
fn drive(args: &ForkArgs, run: &RunId) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["agent", "resume", run.as_str()].map(OsString::from).to_vec();
    let mut option = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            // In one word: a value may begin with a hyphen.
            words.push(format!("{name}={value}").into());
        }
    };
    option("--message", &args.message);
    option("--model", &args.model.model);
    option("--base-url", &args.model.base_url);
    option("--max-time", &args.max_time);
    option("--output-format", &args.output_format);
    option("--mode", &args.policy.mode);
    option("--policy", &args.policy.policy.as_ref().map(|file| file.to_string_lossy().into_owned()));
    option("--on-silence", &args.policy.on_silence);
    option("--answer-within", &args.policy.answer_within);
    if args.detach {
        words.push("--detach".into());
    }
    words
}

fn failed(error: &ForkError) -> Failure {
    match error {
        ForkError::Store(error) => of_store(error),
        ForkError::Read(error) => of_read(error),
        ForkError::Copy { .. } => Failure::new(ExitReason::Internal, error.to_string())
            .because_of_source(error)
            .hint("make room with `agent gc --apply`, or set LONGHAUL_STATE_DIR to another disk"),
    }
}
