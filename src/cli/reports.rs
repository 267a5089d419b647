//! What is left beside a transcript when its run is over, told from the transcript alone: the report, the manifest of
//! what was brought out, a recording of each session that players can play.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use super::{Failure, project_docs};
use crate::domain::{Entry, Event, ExitReason, SandboxKind};
use crate::guest::{LogReader, TermSize};
use crate::journal::{Head, Reader, RunDir};
use crate::report::{CastHeader, Closing, Recording, account, cast, learned, manifest, markdown, news, runbook_patch};

/// The largest log of which a recording is made.
const LARGEST_LOG: u64 = 64 << 20;

/// Writes them all; tells where the run lies and what its head is.
///
/// # Errors
/// When the transcript can't be read or a file can't be written.
pub(super) fn write(run: &RunDir) -> Result<Closing, Failure> {
    let failed = |error: Box<dyn Error>| {
        Failure::new(ExitReason::Internal, "the run is over, but its report could not be written").because_of(&*error)
    };
    write_all(run).map_err(failed)
}

fn write_all(run: &RunDir) -> Result<Closing, Box<dyn Error>> {
    let entries: Vec<Entry> = Reader::open(run.path())?.collect::<Result<_, _>>()?;
    let head = Head::read(run.path()).unwrap_or_else(|_| Head::start());
    let closing = Closing {
        run_dir: run.path().to_string_lossy().into_owned(),
        head_seq: head.seq.unwrap_or(0),
        head_hash: head.hash,
        recordings: recordings(run, &entries),
        learned: Vec::new(),
        keeps_changes: entries.iter().any(keeps_changes),
    };
    let closing = Closing { learned: propose(run, &entries)?, ..closing };
    let account = serde_json::to_vec_pretty(&account(&entries, &closing))?;
    write_whole(&run.report_json(), |file| file.write_all(&account))?;
    write_whole(&run.report(), |file| file.write_all(markdown(&entries, &closing).as_bytes()))?;
    let manifest = manifest(&entries);
    if !manifest.is_empty() {
        let json = serde_json::to_vec_pretty(&manifest)?;
        write_whole(&run.artifacts().join("manifest.json"), |file| file.write_all(&json))?;
    }
    Ok(closing)
}

/// Writes what the run has learned as a patch of the project's runbook; what that would add. A runbook that can't be
/// read is left alone.
fn propose(run: &RunDir, entries: &[Entry]) -> Result<Vec<String>, Box<dyn Error>> {
    let learned = learned(entries);
    let spec = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::RunStarted { spec, .. } | Event::RunForked { spec } => Some(spec),
        _ => None,
    });
    let (Some(spec), false) = (spec, learned.is_empty()) else { return Ok(Vec::new()) };
    let Ok(runbook) = project_docs::runbook(Path::new(&spec.workspace)) else { return Ok(Vec::new()) };
    let news = news(runbook.as_deref(), &learned);
    if let Some(patch) = runbook_patch(runbook.as_deref(), &news) {
        write_whole(&run.runbook_patch(), |file| file.write_all(patch.as_bytes()))?;
    }
    Ok(news.into_iter().map(str::to_owned).collect())
}

fn keeps_changes(entry: &Entry) -> bool {
    matches!(&entry.event, Event::BoxOpened { facts } if facts.kind != SandboxKind::Host && facts.workspace_mode != "bind")
}

/// One for each session, however often it was opened.
fn recordings(run: &RunDir, entries: &[Entry]) -> Vec<Recording> {
    let mut made: Vec<Recording> = Vec::new();
    let opened = |entry: &&Entry| matches!(entry.event, Event::SessionOpened { .. });
    for entry in entries.iter().filter(opened) {
        if let Some(recording) = recording(run, entry).filter(|new| made.iter().all(|old| old.path != new.path)) {
            made.push(recording);
        }
    }
    made
}

/// Makes the recording of the session that this entry opens. A session without one is no reason to lose the report: why
/// there is none is told there.
fn recording(run: &RunDir, entry: &Entry) -> Option<Recording> {
    let Event::SessionOpened { session, log, .. } = &entry.event else { return None };
    let name = format!("{session}.cast");
    let missing = write_cast(run, entry, session.as_str(), log, &name).err().map(|error| error.to_string());
    Some(Recording { session: session.to_string(), path: format!("sessions/{name}"), missing })
}

fn write_cast(run: &RunDir, entry: &Entry, session: &str, log: &str, name: &str) -> io::Result<()> {
    // Only a file of the sessions' directory is meant, whatever the transcript says.
    let file_name = Path::new(log).file_name().ok_or_else(|| io::Error::other("its log has no name"))?;
    let log = run.sessions().join(file_name);
    let mut raw = LogReader::open(&run.sessions(), &file_name.to_string_lossy())?;
    if raw.size() > LARGEST_LOG {
        return Err(io::Error::other(format!("its log is larger than {} MiB", LARGEST_LOG >> 20)));
    }
    let timing = BufReader::new(File::open(log.with_extension("timing"))?);
    let TermSize { cols, rows } = TermSize::default();
    let title = format!("{} of {}", session, run.id());
    let header = CastHeader { width: cols, height: rows, started: entry.time, title };
    write_whole(&run.sessions().join(name), |file| cast(raw, timing, &header, file))
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(path.parent().unwrap_or(path))?);
    fill(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.persist(path)?;
    Ok(())
}
