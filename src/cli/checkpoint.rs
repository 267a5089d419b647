//! `agent checkpoint`: the checkpoints of a run, from another terminal. A run that is driven is changed by its driver
//! alone: what is asked for is left in its inbox.

use std::io::Write;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};

use super::open_box::discard;
use super::output::{Stop, finished};
use super::target::{of_read, of_store, store};
use super::{Failure, Place, secrets, view};
use crate::agent::{Boxes as _, FoundBench, Trouble};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{
    Checkpoint, CheckpointReason, CheckpointRecord, Checkpoints, Consistency, Event, ExitReason, Jobs, RunId,
    checkpoint_name,
};
use crate::journal::{
    CheckpointFile, CheckpointFiles, LockError, Order, PostError, Reader, Recorder, ReopenError, RunDir, RunStore,
    StoreError, post_order,
};
use crate::report::{duration_words, fitting, size_words, visible_json, visible_line};
use crate::sandbox::reach;
use crate::telemetry::Redactor;
use crate::tools::{After, Attention};

/// Take, list, show, restore and delete checkpoints of a run.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Take one: of a run that goes on as soon as the call that is under way has ended, else of its box if that is up.
    Create {
        /// The beginning of the run's id, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// A name for it.
        #[arg(long)]
        name: Option<String>,
    },
    /// List them, newest first.
    List {
        /// The beginning of the run's id, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// Print an array of JSON objects.
        #[arg(long)]
        json: bool,
    },
    /// Show one.
    Show {
        /// The beginning of the run's id, or `last`.
        run: String,
        /// Its id, such as k1, or its name.
        checkpoint: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Have a run that nobody drives go on from one: `agent resume` then begins there. What is in its box is kept first.
    Restore {
        /// The beginning of the run's id, or `last`.
        run: String,
        /// Its id, such as k1, or its name.
        checkpoint: String,
    },
    /// Delete one of a run that nobody drives.
    Delete {
        /// The beginning of the run's id, or `last`.
        run: String,
        /// Its id, such as k1, or its name.
        checkpoint: String,
    },
}

impl CheckpointCommand {
    /// Does what was asked and prints to `out`.
    ///
    /// # Errors
    /// Where there is no such run or checkpoint, or it is driven by another.
    pub async fn run(self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        let store = store(place)?;
        let find = |run: &str| store.find(run).map_err(|error| of_store(&error));
        finished(match self {
            Self::Create { run, name } => create(&find(&run)?, name, place, out).await,
            Self::List { run, json } => list(&find(&run)?, json, place, out),
            Self::Show { run, checkpoint, json } => show(&find(&run)?, &checkpoint, json, out),
            Self::Restore { run, checkpoint } => restore(&find(&run)?, &checkpoint, place, out).await,
            Self::Delete { run, checkpoint } => delete(&store, &find(&run)?, &checkpoint, place, out).await,
        })
    }
}

/// The checkpoints of a run, told from its transcript.
pub(super) fn recorded(run: &RunDir) -> Result<Checkpoints, Failure> {
    let mut checkpoints = Checkpoints::default();
    for entry in Reader::open(run.path()).map_err(|error| of_read(&error))? {
        checkpoints.apply(&entry.map_err(|error| of_read(&error))?);
    }
    Ok(checkpoints)
}

/// The one that is meant.
pub(super) fn find(checkpoints: &Checkpoints, run: &RunId, wanted: &str) -> Result<CheckpointRecord, Failure> {
    checkpoints.find(wanted).cloned().map_err(|why| {
        Failure::new(ExitReason::Usage, why).hint(format!("see what there is: `agent checkpoint list {run}`"))
    })
}

async fn create(run: &RunDir, name: Option<String>, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if let Some(Err(why)) = name.as_deref().map(checkpoint_name) {
        return Err(Failure::new(ExitReason::Usage, "the checkpoint can't be called that").because(why).into());
    }
    let order = Order::Checkpoint { name: name.clone() };
    match post_order(run, order, SystemClock::new().now(), fastrand::u128(..)) {
        Ok(()) => {}
        Err(PostError::NotDriven(_)) => {
            let mut held = Held::take(run, &Arc::new(Redactor::new(&secrets::of(place))))?;
            let checkpoint = held.keep(run, name, CheckpointReason::Person, place).await?;
            writeln!(out, "taken: checkpoint {} of run {}", checkpoint.label(), run.id())?;
            out.flush()?;
            return Ok(ExitReason::Done);
        }
        Err(error) => {
            return Err(Failure::new(ExitReason::Internal, error.to_string()).because_of_source(&error).into());
        }
    }
    writeln!(out, "asked for: run {} takes it as soon as the call that is under way has ended", run.id())?;
    out.flush()?;
    Ok(ExitReason::Done)
}

fn list(run: &RunDir, json: bool, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let checkpoints = recorded(run)?;
    if json {
        let all: Vec<Value> = checkpoints.all().rev().map(object).collect();
        writeln!(out, "{}", visible_json(&Value::Array(all)))?;
        out.flush()?;
        return Ok(ExitReason::Done);
    }
    let mut rows = vec![["ID", "NAME", "TAKEN", "ENTRY", "NEW", "WHY"].map(str::to_owned)];
    rows.extend(checkpoints.kept().rev().map(|record| {
        let checkpoint = &record.checkpoint;
        [
            checkpoint.id.to_string(),
            checkpoint.name.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{} ago", age(record)),
            record.entry.to_string(),
            size_words(checkpoint.snapshot.new_bytes),
            checkpoint.reason.words().to_owned(),
        ]
    }));
    if rows.len() == 1 {
        writeln!(out, "run {} has no checkpoints", run.id())?;
        return Ok(ExitReason::Done);
    }
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(widest);
    let width = view::width_of_stdout(place).unwrap_or(usize::MAX);
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", visible_line(cell))).collect();
        writeln!(out, "{}", fitting(cells.join("  ").trim_end(), width))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn show(run: &RunDir, wanted: &str, json: bool, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let record = find(&recorded(run)?, run.id(), wanted)?;
    if json {
        writeln!(out, "{}", visible_json(&object(&record)))?;
        out.flush()?;
        return Ok(ExitReason::Done);
    }
    let checkpoint = &record.checkpoint;
    let snapshot = &checkpoint.snapshot;
    let consistency = match &snapshot.consistency {
        Consistency::Stopped => "nothing ran".to_owned(),
        Consistency::Frozen { by, held_ms } => format!("all processes were held for {held_ms} ms by {by}"),
        Consistency::Unfrozen { why } => format!("processes ran on: files may be of different instants ({why})"),
    };
    let joined = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    let mut fields = vec![
        ("checkpoint", checkpoint.label()),
        ("run", run.id().to_string()),
        ("taken", format!("{:.0}, {} ago, {}", record.taken, age(&record), checkpoint.reason.words())),
        ("entry", format!("{}; the conversation belongs to it up to entry {}", record.entry, checkpoint.seq)),
        ("files", format!("{} new, {}", snapshot.new_files, size_words(snapshot.new_bytes))),
        ("took", duration_words(snapshot.took_ms)),
        ("instant", consistency),
        ("sessions", joined(checkpoint.sessions.iter().map(ToString::to_string).collect())),
        ("jobs", joined(checkpoint.jobs.iter().map(ToString::to_string).collect())),
        ("rests on", joined(snapshot.layers.iter().chain(&snapshot.image).cloned().collect())),
    ];
    if !snapshot.left_out.is_empty() {
        fields.push(("without", snapshot.left_out.join("; ")));
    }
    for (name, value) in fields {
        writeln!(out, "{name:<10}  {}", visible_line(&value))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

/// What has become of a run that nobody drives, taken up to record one thing.
struct Held {
    recorder: Recorder,
    checkpoints: Checkpoints,
    jobs: Jobs,
    ended: bool,
    files: CheckpointFiles,
}

impl Held {
    /// Takes it up; refused while somebody drives it.
    fn take(run: &RunDir, redactor: &Arc<Redactor>) -> Result<Self, Failure> {
        let (mut checkpoints, mut jobs, mut ended) = (Checkpoints::default(), Jobs::default(), false);
        let clock = Arc::new(SystemClock::new());
        let files = CheckpointFiles::of(run, Arc::clone(redactor));
        let reopened = Recorder::reopen(run, clock, Arc::clone(redactor), &mut |entry| {
            checkpoints.apply(&entry);
            jobs.apply(&entry);
            match entry.event {
                Event::RunEnded { .. } => ended = true,
                Event::RunResumed { .. } | Event::RunForked { .. } => ended = false,
                _ => {}
            }
        });
        match reopened {
            Ok(reopened) => Ok(Self { recorder: reopened.recorder, checkpoints, jobs, ended, files }),
            Err(ReopenError::Lock(LockError::Held { pid, .. })) => {
                let run = run.id().clone();
                Err(of_store(&StoreError::Driven { run: run.clone(), pid })
                    .hint(format!("have its driver take one: `agent checkpoint create {run}`"))
                    .hint(format!("go on from there beside it: `agent fork {run}`")))
            }
            Err(ReopenError::Read(error)) => Err(of_read(&error)),
            Err(error) => Err(Failure::new(ExitReason::Failed, "the run can't be taken up").because_of(&error)),
        }
    }

    /// Keeps what is in the run's box, if that is up.
    async fn keep(
        &mut self,
        run: &RunDir,
        name: Option<String>,
        reason: CheckpointReason,
        place: &Place,
    ) -> Result<Checkpoint, Failure> {
        let cannot = |why: String| {
            Failure::new(ExitReason::Usage, "no checkpoint can be taken: the run's box is not up")
                .because(why)
                .hint(format!("see how it stands with the run: `agent runs show {}`", run.id()))
                .hint(format!("see what was kept: `agent checkpoint list {}`", run.id()))
        };
        // Looked at first: finding a box that has stopped would start it again.
        reach(run.path()).await.map_err(|error| cannot(error.to_string()))?;
        let found = super::resume::boxes_of(run, place)?.find().await;
        let bench = match found.map_err(|error| Failure::from(Trouble::from(error)))? {
            FoundBench::Alive(bench) => bench,
            FoundBench::Restarted(_, why) | FoundBench::Gone(why) => return Err(cannot(why)),
        };
        let failed = |error| Failure::from(Trouble::from(error));
        let (id, seq) = (self.checkpoints.next_id(), self.recorder.head().seq.unwrap_or(0));
        let nonce = format!("{id}-{seq}");
        let mut sessions = bench.sessions(&nonce).await.map_err(failed)?;
        let mut left_out = Vec::new();
        for session in &mut sessions {
            let secret = self.files.without_secrets(&mut session.env);
            left_out
                .extend(secret.iter().map(|name| format!("the secret variable {name} of session {}", session.session)));
        }
        let layer = format!("{}-{nonce}", run.id().short());
        let mut snapshot = bench.snapshot(layer, After::GoesOn, &Attention::new()).await.map_err(failed)?;
        snapshot.left_out.extend(left_out);
        let alive = || self.jobs.alive().map(|record| &record.job);
        let services = alive().filter(|job| job.service).map(|job| self.checkpoints.with_whole_command(job)).collect();
        let names = sessions.iter().map(|state| state.session.clone()).collect();
        let jobs = alive().map(|job| job.id).collect();
        let checkpoint = Checkpoint { id, name, reason, seq, snapshot, sessions: names, jobs, sha256: String::new() };
        let file = CheckpointFile { checkpoint, sessions, services };
        let sha256 = self
            .files
            .write(&file)
            .map_err(|error| Failure::new(ExitReason::Internal, "no checkpoint was taken").because_of(&error))?;
        let checkpoint = Checkpoint { sha256, ..file.checkpoint };
        self.note(Event::CheckpointTaken { checkpoint: checkpoint.clone() })?;
        Ok(checkpoint)
    }

    fn note(&mut self, event: Event) -> Result<(), Failure> {
        let noted = self.recorder.append(event).and_then(|_| self.recorder.commit());
        noted.map_err(|error| Failure::new(ExitReason::Internal, error.to_string()).because_of_source(&error))
    }
}

async fn restore(run: &RunDir, wanted: &str, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let redactor = Arc::new(Redactor::new(&secrets::of(place)));
    let mut held = Held::take(run, &redactor)?;
    let record = find(&held.checkpoints, run.id(), wanted)?;
    let id = record.checkpoint.id;
    if held.ended {
        return Err(Failure::new(
            ExitReason::Usage,
            format!("run {} has ended: nothing goes on from {id} in it", run.id()),
        )
        .hint(format!("go on from there in a run of its own: `agent fork {}@{id}`", run.id()))
        .into());
    }
    held.files.read(&record.checkpoint).map_err(|error| {
        Failure::new(ExitReason::Failed, format!("checkpoint {id} can't be restored")).because_of(&error)
    })?;
    let saved = match reach(run.path()).await {
        Ok(_) => Some(held.keep(run, None, CheckpointReason::Restore, place).await?),
        Err(_) => None,
    };
    held.note(Event::RestoreStarted { checkpoint: id, saved: saved.as_ref().map(|saved| saved.id) })?;
    let alive = held.jobs.alive().count();
    writeln!(
        out,
        "run {} goes on from checkpoint {}: `agent resume {}`",
        run.id(),
        record.checkpoint.label(),
        run.id()
    )?;
    match &saved {
        Some(saved) => writeln!(out, "what is in its box now is kept as {}", saved.id)?,
        None => writeln!(out, "its box is not up: what it had changed since its last checkpoint is left")?,
    }
    if saved.is_some() && alive > 0 {
        writeln!(out, "what still runs in its box ends then ({alive} jobs)")?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

async fn delete(
    store: &RunStore,
    run: &RunDir,
    wanted: &str,
    place: &Place,
    out: &mut dyn Write,
) -> Result<ExitReason, Stop> {
    let redactor = Arc::new(Redactor::new(&secrets::of(place)));
    let mut held = Held::take(run, &redactor)?;
    let checkpoint = find(&held.checkpoints, run.id(), wanted)?.checkpoint;
    held.note(Event::CheckpointDeleted { checkpoint: checkpoint.id })?;
    let mut left = Vec::new();
    if let Err(error) = CheckpointFiles::of(run, redactor).remove(checkpoint.id) {
        left.push(error.to_string());
    }
    let label = checkpoint.label();
    left.extend(discard(store, place, checkpoint.snapshot).await);
    writeln!(out, "deleted checkpoint {label} of run {}", run.id())?;
    for one in left {
        writeln!(out, "not removed: {}", visible_line(&one))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn object(record: &CheckpointRecord) -> Value {
    let mut object = json!(record.checkpoint);
    object["taken"] = json!(format!("{:.3}", record.taken));
    object["entry"] = json!(record.entry);
    object["deleted"] = json!(record.deleted);
    object
}

fn age(record: &CheckpointRecord) -> String {
    let age = SystemClock::new().now().duration_since(record.taken).as_millis();
    duration_words(u64::try_from(age).unwrap_or(0))
}
