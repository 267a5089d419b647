//! `agent verify`: proves that a transcript is as it was recorded. Reads only.

use std::io::Write;

use clap::Args;

use super::output::{Stop, finished};
use super::target::{Target, of_read};
use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::journal::{VerifyReport, verify};
use crate::report::{visible_json, visible_line};

/// Prove that nothing in a run's transcript was changed since it was recorded.
///
/// Exit code 0 if all is as recorded, 3 if not.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The beginning of a run's id, `last`, a journal.jsonl file, or a run's directory.
    #[arg(default_value = "last")]
    run: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    /// Prints to `out` what was checked and everything that is wrong.
    ///
    /// # Errors
    /// Where nothing can be read at all.
    pub fn run(self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        let path = Target::find(&self.run, place)?.path().ok_or_else(|| {
            Failure::new(ExitReason::Usage, "cannot verify standard input")
                .hint("write it to a file first: a transcript is proved together with what lies beside it")
        })?;
        let report = verify(&path).map_err(|error| of_read(&error))?;
        finished(match self.json {
            true => print_json(&report, out),
            false => print(&report, out),
        })
    }
}

fn print(report: &VerifyReport, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let file = report.file.display().to_string();
    let word = if report.is_sound() { "verified" } else { "does NOT verify" };
    writeln!(out, "{word}: {}", visible_line(&file))?;
    let sound = if report.is_sound() { "" } else { " up to the first problem" };
    writeln!(out, "  entries    {} ({} bytes), chained{sound}", report.entries, report.size_bytes)?;
    if let Some(seq) = report.last.seq {
        writeln!(out, "  last       entry {seq}, hash {}", report.last.hash)?;
    }
    let head = match &report.head {
        Some(head) if *head == report.last => "names the last entry",
        Some(_) => "names another entry",
        None => "none",
    };
    writeln!(out, "  head       {head}")?;
    writeln!(
        out,
        "  beside it  blobs {}, requests {}, collected files {}",
        report.blobs, report.requests, report.artifacts
    )?;
    for problem in &report.problems {
        let place = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        writeln!(out, "problem: {place}{}: {}", problem.name, visible_line(&problem.what))?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}", visible_line(note))?;
    }
    out.flush()?;
    Ok(reason(report))
}

fn print_json(report: &VerifyReport, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| serde_json::json!({ "line": problem.line, "name": problem.name, "what": problem.what }))
        .collect();
    let object = serde_json::json!({
        "schema_version": 1,
        "verified": report.is_sound(),
        "file": report.file.to_string_lossy(),
        "entries": report.entries,
        "size_bytes": report.size_bytes,
        "last": report.last,
        "head": report.head,
        "ended": report.ended,
        "blobs": report.blobs,
        "requests": report.requests,
        "artifacts": report.artifacts,
        "problems": problems,
        "notes": report.notes,
    });
    writeln!(out, "{}", visible_json(&object))?;
    out.flush()?;
    Ok(reason(report))
}

fn reason(report: &VerifyReport) -> ExitReason {
    if report.is_sound() { ExitReason::Done } else { ExitReason::Failed }
}
