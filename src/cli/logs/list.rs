//! Which sessions a run has: size, last written, what runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::size_of;
use crate::cli::output::Stop;
use crate::domain::{ExitReason, SessionName, duration_words, size_words};
use crate::journal::RunDir;
use crate::report::visible_line;
use crate::sandbox::reach;

/// How long the box may take to say what runs.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the guest calls the logs of checks, which are no sessions.
const CHECK: &str = "check-";

/// The log of a session.
pub(super) struct SessionLog {
    /// The session.
    pub(super) name: String,
    size: u64,
    written: Option<Timestamp>,
}

/// The sessions of which a run has logs, by name.
pub(super) fn sessions(dir: &Path) -> Vec<SessionLog> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".log")) else { continue };
        if name.starts_with(CHECK) || SessionName::new(name).is_err() {
            continue;
        }
        let log = format!("{name}.log");
        found.push(SessionLog { name: name.to_owned(), size: size_of(dir, &log), written: written(dir, &log) });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// When the last file of a log was written.
fn written(dir: &Path, log: &str) -> Option<Timestamp> {
    let files = std::iter::once(log.to_owned()).chain((1..).map(|part| format!("{log}.{part}")));
    let times = files.map_while(|file| fs::metadata(dir.join(file)).and_then(|meta| meta.modified()).ok());
    times.max().and_then(|time| Timestamp::try_from(time).ok())
}

/// One line for each session.
pub(super) async fn print(run: &RunDir, sessions: &[SessionLog], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let running = tokio::time::timeout(PATIENCE, running(run)).await.ok().flatten();
    let widest = |of: fn(&SessionLog) -> usize| sessions.iter().map(of).max().unwrap_or(0);
    let (names, sizes) = (widest(|log| log.name.len()), widest(|log| size_words(log.size).len()));
    for log in sessions {
        let written = log.written.map_or(String::new(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        let runs = match &running {
            None => "the box is gone".to_owned(),
            Some(running) => running.get(&log.name).cloned().unwrap_or_else(|| "closed".to_owned()),
        };
        let line = format!("{:names$}  {:>sizes$}  {written}  {runs}", log.name, size_words(log.size));
        writeln!(out, "{}", visible_line(line.trim_end()))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

/// What runs in each session, where the box can be asked.
async fn running(run: &RunDir) -> Option<BTreeMap<String, String>> {
    let client = reach(run.path()).await.ok()?;
    let sessions = client.sessions().await.ok()?;
    let words = |command: Option<crate::guest::CommandState>| match command {
        Some(command) => format!("`{}` for {}", command.title, duration_words(command.elapsed_ms)),
        None => "idle".to_owned(),
    };
    Some(sessions.into_iter().map(|info| (info.session.to_string(), words(info.command))).collect())
}
