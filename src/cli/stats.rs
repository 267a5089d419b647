//! `agent stats`: how the runs of the store went, in counts. Reads only.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::json;

use super::output::{Stop, finished};
use super::target::{of_store, store};
use super::{Failure, Place};
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::domain::{ExitReason, RunId, money_words};
use crate::journal::{Reader, RunDir};
use crate::report::{Stats, Turns, duration_words, visible_json, visible_line};

/// `agent stats`.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// Only runs that began since then: so long ago, such as 7d or 12h, or a date such as 2026-01-31
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `agent stats`.
///
/// # Errors
/// Where a time makes no sense, or the store can't be read; a run that can't be read is left out with a notice.
pub(super) fn run(args: &StatsArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    let since = args.since.as_deref().map(|text| moment(text, SystemClock::new().now())).transpose()?;
    let mut stats = Stats::default();
    let mut left_out: Vec<(RunId, String)> = Vec::new();
    for id in store.ids().map_err(|error| of_store(&error))? {
        if since.is_some_and(|since| id.time() < since) {
            // Ids come newest first and sort by time.
            break;
        }
        if let Err(why) = read(&store.run(&id), &mut stats) {
            stats.leave_out();
            // Its reader may be gone; the figures are as good.
            let _ = writeln!(io::stderr(), "notice: run {id} is left out: {}", visible_line(&why));
            left_out.push((id, why));
        }
    }
    finished(if args.json { print_json(&stats, &left_out, out) } else { print(&stats, out) })
}

/// Adds a run, entry by entry.
fn read(run: &RunDir, stats: &mut Stats) -> Result<(), String> {
    for entry in Reader::open(run.path()).map_err(|error| error.to_string())? {
        stats.add(&entry.map_err(|error| error.to_string())?);
    }
    stats.end_of_run();
    Ok(())
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Some(ago) = config::parse_duration(text) {
        let ago = jiff::SignedDuration::from_secs(i64::try_from(ago).expect("a year at most"));
        return Ok(now - ago);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date: Result<jiff::civil::DateTime, _> = text.parse();
    let zoned = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| {
        Failure::new(ExitReason::Usage, format!("`--since {text}` makes no sense"))
            .because("it must be a time such as 12h or 7d, or a date such as 2026-01-31")
    })
}

fn print_json(stats: &Stats, left_out: &[(RunId, String)], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let mut object = json!(stats);
    let left_out = left_out.iter().map(|(run, why)| json!({ "run": run, "why": why }));
    object["left_out"] = left_out.collect();
    writeln!(out, "{}", visible_json(&object))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

fn print(stats: &Stats, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if stats.runs == 0 {
        writeln!(out, "no runs")?;
        return Ok(ExitReason::Done);
    }
    writeln!(out, "runs        {}{}", stats.runs, counts(stats.verdicts.iter()))?;
    writeln!(out, "failures    {}{}", stats.failures.values().sum::<u64>(), counts(stats.failures.iter()))?;
    table("done about failures", &stats.decisions, out)?;
    table("confidence", &stats.confidence, out)?;
    let questions = &stats.questions;
    writeln!(
        out,
        "questions   {} asked, {} without an answer; of the answered {}",
        questions.asked,
        questions.asked - questions.answered,
        questions.words()
    )?;
    writeln!(out, "not asked   {} runs were ended by a failure, and nobody was asked", stats.not_asked)?;
    writeln!(out, "retries     {} by the harness; {} model requests", stats.retries, stats.turns)?;
    writeln!(
        out,
        "waited      {} for jobs, {} for models' servers, {} for answers",
        duration_words(stats.waited_ms),
        duration_words(stats.delayed_ms),
        duration_words(stats.asked_ms)
    )?;
    let unknown = match stats.without_price {
        0 => String::new(),
        runs => format!("; of {runs} runs the price is not known"),
    };
    writeln!(out, "money       {}{unknown}", money_words(stats.cost_micro_usd))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

/// `: a 7, b 2`, the most first.
fn counts<'a>(counts: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let mut all: Vec<_> = counts.collect();
    all.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let all: Vec<String> = all.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
}

fn table(title: &str, rows: &std::collections::BTreeMap<&'static str, Turns>, out: &mut dyn Write) -> Result<(), Stop> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title:<20}  MADE  WORKED  FAILED  CHANGED  UNKNOWN")?;
    for (name, turns) in rows {
        let Turns { made, worked, failed, changed, unknown } = turns;
        writeln!(
            out,
            "  {name:<18}  {made:>4}  {worked:>6}  {failed:>6}  {changed:>7}  {unknown:>7}  {}",
            turns.words()
        )?;
    }
    Ok(())
}
