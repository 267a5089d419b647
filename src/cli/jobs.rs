//! `agent jobs`: the jobs of a run, from its transcript, with how they stand now where its box is up.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::JobsArgs;
use super::output::{Stop, finished};
use super::target::{of_read, of_store, store};
use super::{Failure, Place, view};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{Exit, ExitReason, JobId, JobRecord, Jobs, Questions};
use crate::guest::{Client, Phase, TermSize};
use crate::journal::{Reader, RunDir};
use crate::report::{duration_words, fitting, visible_json, visible_line};
use crate::sandbox::reach;
use crate::terminal::rendered_lines;

/// How long the box may take to say how things stand.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a log's end is looked at for its last line.
const TAIL: u64 = 8 << 10;
/// Characters of a command and of a last line.
const WIDEST: usize = 60;

/// What the box itself says of a job that the transcript has as alive.
#[derive(Debug, Default)]
struct Now {
    elapsed_ms: u64,
    last_line: String,
    /// How it ended, where nobody was there to record it.
    ended: Option<Option<Exit>>,
}

/// Runs `agent jobs`.
pub(super) async fn run(args: JobsArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let run = store(place)?.find(&args.run).map_err(|error| of_store(&error))?;
    let (jobs, questions) = recorded(&run)?;
    let alive: Vec<&JobRecord> = jobs.alive().collect();
    let now = match alive.is_empty() {
        true => Some(BTreeMap::new()),
        false => tokio::time::timeout(PATIENCE, ask(&run, &alive)).await.ok().flatten(),
    };
    finished(match args.json {
        true => print_json(&jobs, now.as_ref(), out),
        false => print(&run, &jobs, now.as_ref(), view::width_of_stdout(place), out)
            .and_then(|reason| print_questions(&run, &questions, out).map(|()| reason)),
    })
}

fn recorded(run: &RunDir) -> Result<(Jobs, Questions), Failure> {
    let (mut jobs, mut questions) = (Jobs::default(), Questions::default());
    for entry in Reader::open(run.path()).map_err(|error| of_read(&error))? {
        let entry = entry.map_err(|error| of_read(&error))?;
        jobs.apply(&entry);
        questions.apply(&entry);
    }
    Ok((jobs, questions))
}

/// What the run waits for beside its jobs.
fn print_questions(run: &RunDir, questions: &Questions, out: &mut dyn Write) -> Result<(), Stop> {
    for record in questions.open() {
        let (id, text) = (record.question.id, visible_line(&record.question.text));
        writeln!(out, "{id} waits for an answer: {text} (agent answer {} {id} …)", run.id())?;
    }
    Ok(out.flush()?)
}

/// Asks the box; None where it can't be reached.
async fn ask(run: &RunDir, alive: &[&JobRecord]) -> Option<BTreeMap<JobId, Now>> {
    let client = reach(run.path()).await.ok()?;
    let mut now = BTreeMap::new();
    for record in alive {
        now.insert(record.job.id, ask_about(&client, record).await?);
    }
    Some(now)
}

async fn ask_about(client: &Client, record: &JobRecord) -> Option<Now> {
    let state = client.command(&record.job.work).await.ok()?;
    let (end, ended) = match &state.phase {
        Phase::Ended(end) => (end.end, Some(end.exit)),
        Phase::Lost => (state.log_size, Some(None)),
        Phase::Queued | Phase::Running | Phase::Deaf { .. } => (state.log_size, None),
    };
    let from = end.saturating_sub(TAIL).max(state.offset);
    let tail = client.read_log(&state.log, from, end.saturating_sub(from)).await.ok()?;
    Some(Now { elapsed_ms: state.elapsed_ms, last_line: last_line(&tail), ended })
}

/// The last line with anything on it, as a person would have seen it.
fn last_line(bytes: &[u8]) -> String {
    let lines = rendered_lines(bytes, TermSize::default());
    lines.into_iter().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}

fn print_json(jobs: &Jobs, now: Option<&BTreeMap<JobId, Now>>, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let object = |record: &JobRecord| -> Value {
        let live = now.and_then(|now| now.get(&record.job.id));
        let findings: Vec<Value> =
            record.findings.iter().map(|finding| json!({ "finding": finding, "words": finding.words() })).collect();
        json!({
            "job": record.job,
            "started": format!("{:.3}", record.started),
            "alive": record.is_alive(),
            "ready": record.is_ready(),
            "end": record.end(),
            "findings": findings,
            "now": live.map(|live| json!({
                "elapsed_ms": live.elapsed_ms,
                "last_line": live.last_line,
                "ended": live.ended.is_some(),
                "exit": live.ended.flatten(),
            })),
        })
    };
    let all: Vec<Value> = jobs.all().map(object).collect();
    writeln!(out, "{}", visible_json(&Value::Array(all)))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

fn print(
    run: &RunDir,
    jobs: &Jobs,
    now: Option<&BTreeMap<JobId, Now>>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> Result<ExitReason, Stop> {
    let mut rows = vec![["JOB", "SESSION", "STATE", "TIME", "EXPECTED", "COMMAND", "LAST LINE"].map(str::to_owned)];
    rows.extend(jobs.all().map(|record| row(record, now)));
    if rows.len() == 1 {
        writeln!(out, "run {} has had no jobs", run.id())?;
        return Ok(ExitReason::Done);
    }
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(widest);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", fitting(line.trim_end(), width.unwrap_or(usize::MAX)))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn row(record: &JobRecord, now: Option<&BTreeMap<JobId, Now>>) -> [String; 7] {
    let job = &record.job;
    let live = now.and_then(|now| now.get(&job.id));
    let since = SystemClock::new().now().duration_since(record.started).as_millis();
    let failure = record.end().and_then(|end| end.failure.as_deref());
    let why = failure.map(|failure| format!("{}: {}", failure.class, failure.evidence)).unwrap_or_default();
    let (state, time, last_line) = match (record.is_alive(), live) {
        (true, Some(Now { ended: Some(exit), elapsed_ms, last_line })) => {
            let exit = exit.map_or_else(|| "exit unknown".to_owned(), |exit| exit.to_string());
            (format!("{exit}, not recorded"), duration_words(*elapsed_ms), last_line.as_str())
        }
        (true, Some(live)) => (record.fate_words(), duration_words(live.elapsed_ms), live.last_line.as_str()),
        (true, None) => ("its box is not up".to_owned(), duration_words(u64::try_from(since).unwrap_or(0)), ""),
        (false, _) => match record.end() {
            Some(end) => {
                let exit = end.exit.map_or_else(|| "exit unknown".to_owned(), |exit| exit.to_string());
                (exit, duration_words(end.duration_ms), why.as_str())
            }
            None => (record.fate_words(), String::new(), ""),
        },
    };
    let service = if job.service { "service, " } else { "" };
    [
        job.id.to_string(),
        job.session.to_string(),
        format!("{service}{state}"),
        time,
        record.expected().unwrap_or_default(),
        cut(&job.command),
        cut(last_line),
    ]
}

/// One line, safe to print, and not too much of it.
fn cut(text: &str) -> String {
    let line = visible_line(text.trim().lines().next().unwrap_or_default()).into_owned();
    match line.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
