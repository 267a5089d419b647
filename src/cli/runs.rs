//! `agent runs`: the runs that there are, what they take, and their removal.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::output::{Stop, finished};
use super::target::{of_store, store};
use super::{Failure, Place, tree, view};
use crate::domain::{ExitReason, Usage};
use crate::journal::{DiskUse, RunDir, RunState, RunStore, RunSummary, snapshots_of};
use crate::report::{duration_words, fitting, size_words, visible_json, visible_line};

/// List, show and remove runs.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List the runs, newest first.
    Ls {
        /// Print an array of JSON objects.
        #[arg(long)]
        json: bool,
    },
    /// Show one run and where its files are.
    Show {
        /// The beginning of its id, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show which run was forked from which.
    Tree,
    /// Show what runs take on disk.
    Du {
        /// Only these: the beginnings of ids, or `last`.
        runs: Vec<String>,
    },
    /// Remove runs with all that belongs to them.
    Rm {
        /// The beginnings of their ids, or `last`.
        #[arg(required = true)]
        runs: Vec<String>,
    },
}

impl RunsCommand {
    /// Does what was asked and prints to `out`.
    ///
    /// # Errors
    /// Where a run is not there, is driven, or the state directory says no.
    pub fn run(self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        let store = store(place)?;
        finished(match self {
            Self::Ls { json: true } => list_as_json(&store, out),
            Self::Ls { json: false } => list(&store, view::width_of_stdout(place), out),
            Self::Show { run, json } => show(&store, &run, json, out),
            Self::Tree => tree::print(&store, view::width_of_stdout(place), out),
            Self::Du { runs } => disk_use(&store, &runs, out),
            Self::Rm { runs } => remove(&store, &runs, out),
        })
    }
}

fn list_as_json(store: &RunStore, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let runs = store.list().map_err(|error| of_store(&error))?;
    writeln!(out, "{}", visible_json(&json!(runs)))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

/// Prints a line for each run; at `width` columns its title is cut.
fn list(store: &RunStore, width: Option<usize>, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let runs = store.list().map_err(|error| of_store(&error))?;
    if runs.is_empty() {
        writeln!(out, "no runs in {}", visible_line(&store.state_dir().display().to_string()))?;
        return Ok(ExitReason::Done);
    }
    let row = |cells: [&str; 7]| {
        let [run, started, state, took, turns, tokens, title] = cells;
        let line = format!("{run:<26}  {started:<20}  {state:<11}  {took:>12}  {turns:>5}  {tokens:>9}  {title}");
        fitting(&line, width.unwrap_or(usize::MAX)).to_owned() + "\n"
    };
    let mut text = row(["RUN", "STARTED", "STATE", "DURATION", "TURNS", "TOKENS", "TITLE"]);
    for run in &runs {
        let started = run.started.map(|time| format!("{time:.0}")).unwrap_or_default();
        let tokens = match run.usage.input_tokens + run.usage.output_tokens {
            0 => "-".to_owned(),
            tokens => tokens.to_string(),
        };
        text.push_str(&row([
            run.run.as_str(),
            &started,
            state_word(&run.state),
            &duration_words(run.duration_ms),
            &run.turns.to_string(),
            &tokens,
            &titled(run),
        ]));
    }
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitReason::Done)
}

/// The title, and before it what the run waits for.
fn titled(run: &RunSummary) -> String {
    let asks: Vec<String> = run.questions.iter().map(|open| open.id.to_string()).collect();
    let title = visible_line(&run.title);
    if asks.is_empty() { title.into_owned() } else { format!("[asks {}] {title}", asks.join(", ")) }
}

fn show(store: &RunStore, name: &str, json: bool, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let run = find(store, name)?;
    let summary = RunSummary::read(&run);
    let disk = DiskUse::of(run.path());
    let path = run.path().display().to_string();
    if json {
        let mut object = json!(summary);
        object["path"] = json!(path);
        object["disk"] = json!(disk);
        writeln!(out, "{}", visible_json(&object))?;
        return Ok(ExitReason::Done);
    }
    let tokens = match summary.usage {
        usage if usage == Usage::default() => "not counted by the model's server".to_owned(),
        usage => format!("{} in, {} cached, {} out", usage.input_tokens, usage.cached_tokens, usage.output_tokens),
    };
    let started = summary.started.map(|time| format!("{time:.0}")).unwrap_or_default();
    let report = run.report();
    let fields = [
        ("run", summary.run.to_string()),
        ("title", summary.title),
        ("state", state_words(&summary.state)),
        ("started", started),
        ("duration", duration_words(summary.duration_ms)),
        ("turns", summary.turns.to_string()),
        ("tokens", tokens),
        ("model", summary.model),
        ("workspace", summary.workspace),
        ("on disk", format!("{} in {} files", size_words(disk.size_bytes), disk.files)),
        ("path", path),
        ("report", if report.exists() { report.display().to_string() } else { "none".to_owned() }),
    ];
    for (name, value) in fields {
        writeln!(out, "{name:<9}  {}", visible_line(&value))?;
    }
    for open in &summary.questions {
        let answer = format!("{}: {} (agent answer {} {} …)", open.id, open.text, summary.run, open.id);
        writeln!(out, "{:<9}  {}", "asks", visible_line(&answer))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn disk_use(store: &RunStore, names: &[String], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let runs: Vec<RunDir> = if names.is_empty() {
        store.ids().map_err(|error| of_store(&error))?.iter().map(|id| store.run(id)).collect()
    } else {
        names.iter().map(|name| find(store, name)).collect::<Result<_, _>>()?
    };
    let (mut sum, mut images) = (0, BTreeSet::new());
    let mut layers = layers_of(store);
    for run in &runs {
        // A layer counts for the run that made it, whoever else stands on it.
        let own = layers.remove(&run.id().short()).unwrap_or(0);
        let size = DiskUse::of(run.path()).size_bytes + own;
        sum += size;
        images.extend(snapshots_of(run).into_iter().filter_map(|snapshot| snapshot.image));
        writeln!(out, "{:>10}  {}", size_words(size), run.id())?;
    }
    let others: u64 = layers.values().sum();
    if names.is_empty() && others > 0 {
        sum += others;
        writeln!(out, "{:>10}  layers of runs that are gone", size_words(others))?;
    }
    writeln!(out, "{:>10}  in all", size_words(sum))?;
    if !images.is_empty() {
        writeln!(out, "{:>10}  and {} images of checkpoints in the container engine", "", images.len())?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

/// What the layers in the store take, by the short id of the run that made them.
fn layers_of(store: &RunStore) -> BTreeMap<String, u64> {
    let dir = store.state_dir().join("layers");
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().trim_start_matches(".tmp-").to_owned();
        let short = name.split('-').next().unwrap_or_default().to_owned();
        *sizes.entry(short).or_default() += DiskUse::of(&entry.path()).size_bytes;
    }
    sizes
}

fn remove(store: &RunStore, names: &[String], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let runs: Vec<RunDir> = names.iter().map(|name| find(store, name)).collect::<Result<_, _>>()?;
    for run in &runs {
        match store.remove(run) {
            Err(_) if !run.path().exists() => {}
            removed => removed.map_err(|error| of_store(&error))?,
        }
        writeln!(out, "removed {}", run.id())?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn find(store: &RunStore, name: &str) -> Result<RunDir, Failure> {
    store.find(name).map_err(|error| of_store(&error))
}

pub(super) fn state_word(state: &RunState) -> &'static str {
    match state {
        RunState::Running { .. } => "running",
        RunState::Ended { verdict, .. } => verdict.word(),
        RunState::Interrupted => "interrupted",
        RunState::Broken { .. } => "broken",
    }
}

fn state_words(state: &RunState) -> String {
    match state {
        RunState::Running { pid: Some(pid) } => format!("running, driven by process {pid}"),
        RunState::Ended { verdict, reason } => format!("{}, exit code {}", verdict.word(), reason.code()),
        RunState::Broken { why } => format!("broken: {why}"),
        RunState::Running { pid: None } | RunState::Interrupted => state_word(state).to_owned(),
    }
}
