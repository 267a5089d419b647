//! `recall`: what was done in this run, from its record. Reads; takes little memory, however long the run is.

mod output;
mod search;

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::output::Wanted;
use super::facts::{in_words, size};
use crate::domain::{Outcome, PastStep, Status, duration_words};

/// Arguments of `recall`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// A step's number such as `12`, from the end such as `-1`, or the id of a call; null for all.
    #[serde(default)]
    pub step: Option<String>,
    /// Lists the steps from `step` to this number; null for one step, or for all of them.
    #[serde(default)]
    pub until: Option<u64>,
    /// A regular expression to look for in calls and results; null to look for nothing.
    #[serde(default)]
    pub search: Option<String>,
    /// Shows the whole output of the step's command from this line, from 1 or negative from the end; null for what was
    /// shown of it.
    #[serde(default)]
    pub from_line: Option<i64>,
    /// How many lines of the output; null for 200.
    #[serde(default)]
    pub lines: Option<u32>,
}

/// Where steps are remembered.
pub trait Memory {
    /// How many there are, the one that asks among them.
    ///
    /// # Errors
    /// In words, why it can't be known.
    fn count(&mut self) -> Result<u64, String>;

    /// The step with that number, from 1.
    ///
    /// # Errors
    /// In words, why it can't be had.
    fn step(&mut self, number: u64) -> Result<PastStep, String>;

    /// The number of the step with that call.
    ///
    /// # Errors
    /// In words, why it can't be known.
    fn number_of(&mut self, call_id: &str) -> Result<Option<u64>, String>;

    /// The directory to which the names of logs are relative.
    fn dir(&self) -> &Path;
}

/// Steps in one listing.
const LISTED: u64 = 200;
/// Text of a listing.
const LISTED_BYTES: usize = 12 << 10;
/// How much of a step's call and of its result is shown, each.
const SHOWN: usize = 8 << 10;
/// Most bytes of the line that a step has in a listing.
const LINE_BYTES: usize = 160;

/// Answers from memory. May read much from the disk.
pub fn recall(args: &Args, memory: &mut dyn Memory) -> Outcome {
    match answer(args, memory) {
        Ok(text) => Outcome::words(Status::Ok, text),
        Err(Refused::Wrong(text)) => Outcome::words(Status::Malformed, text),
        Err(Refused::Failed(text)) => Outcome::words(Status::Failed, text),
    }
}

/// Why nothing can be told.
enum Refused {
    /// The arguments do not go together.
    Wrong(String),
    /// There is no such thing, or it can't be had.
    Failed(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

fn answer(args: &Args, memory: &mut dyn Memory) -> Result<String, Refused> {
    let count = memory.count()?;
    let step = args.step.as_deref().map(str::trim).filter(|step| !step.is_empty());
    let first = step.map(|step| numbered(step, count, memory)).transpose()?;
    if let Some((first, until)) = first.zip(args.until)
        && until < first
    {
        return Err(Refused::Wrong(format!("until: {until} is before step {first}")));
    }
    if args.from_line.is_some() || args.lines.is_some() {
        let (Some(number), None, None) = (first, args.until, &args.search) else {
            return Err(Refused::Wrong("from_line and lines go with one step, without until and search".to_owned()));
        };
        let wanted = Wanted::read(args.from_line, args.lines).map_err(Refused::Wrong)?;
        let step = memory.step(number)?;
        return output::page(&step, wanted, memory.dir()).map_err(Refused::Failed);
    }
    let last = args.until.map_or(count, |until| until.min(count));
    match (&args.search, first, args.until) {
        (Some(pattern), first, until) => {
            let until = if first.is_some() && until.is_none() { first.unwrap_or(last) } else { last };
            let pattern = search::pattern(pattern).map_err(Refused::Wrong)?;
            Ok(search::search(&pattern, first.unwrap_or(1)..=until, memory)?)
        }
        (None, Some(number), None) => Ok(whole(&memory.step(number)?)),
        (None, first, _) => Ok(listing(first, last, count, memory)?),
    }
}

/// The number that is meant by a number, one from the end, or a call's id.
fn numbered(text: &str, count: u64, memory: &mut dyn Memory) -> Result<u64, Refused> {
    let none = |what: &str| Refused::Failed(format!("there is no step {what}: the run has {count} so far"));
    let by_number = text.strip_prefix("step ").unwrap_or(text).parse::<i64>().ok();
    match by_number {
        Some(0) => Err(Refused::Wrong("step: counts from 1, or from -1 for the last".to_owned())),
        Some(number @ 1..) => {
            let number = number.unsigned_abs();
            if number <= count { Ok(number) } else { Err(none(text)) }
        }
        Some(back) => count.checked_sub(back.unsigned_abs() - 1).filter(|number| *number > 0).ok_or_else(|| none(text)),
        None => match memory.number_of(text)? {
            Some(number) => Ok(number),
            None => Err(Refused::Failed(format!("no call has the id `{}`", clipped(text, LINE_BYTES)))),
        },
    }
}

/// All that is known of a step.
fn whole(step: &PastStep) -> String {
    let mut text = head(step);
    let arguments = &step.call.arguments;
    text.push_str(&format!("\narguments: {}", middle_out(arguments)));
    if let Some(command) = command(step).filter(|command| arguments.len() <= SHOWN || command.len() <= SHOWN) {
        let between = if command.contains('\n') { '\n' } else { ' ' };
        text.push_str(&format!("\ncommand:{between}{command}"));
    }
    let Some(outcome) = &step.outcome else { return text };
    if let Some(output) = &outcome.output {
        let hidden = match output.omitted_bytes {
            0 => String::new(),
            omitted => format!(", {} of it not shown; from_line shows it", size(omitted)),
        };
        let place = format!("in {} from byte {}", output.log, output.offset);
        text.push_str(&format!("\noutput: {} {place}{hidden}", size(output.size_bytes)));
    }
    text.push_str(&format!("\nresult, as it was told:\n{}", middle_out(&outcome.text)));
    text
}

/// `[step 12 · shell · exit 1 · 2.3 s · /work · 2026-11-22 17:59:01 UTC · call c1]`, and what became of its job.
fn head(step: &PastStep) -> String {
    let mut facts = vec![format!("step {}", step.number), step.call.name.clone(), ended_words(step)];
    if let Some(outcome) = &step.outcome {
        facts.push(duration_words(outcome.duration_ms));
        facts.extend(outcome.cwd.clone());
    }
    facts.push(step.asked.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    facts.push(format!("call {}", step.call.id));
    let mut text = format!("[{}]", facts.join(" · "));
    if let Some((job, end)) = &step.job {
        text.push_str(&match end {
            None => format!("\n[job {}, session {}: runs, or was never seen to end]", job.id, job.session),
            Some(end) => {
                let how = end.exit.map_or_else(|| "ended, its exit is unknown".to_owned(), in_words);
                let after = duration_words(end.duration_ms);
                format!("\n[job {}, session {}: {how} after {after}, {}]", job.id, job.session, size(end.size_bytes))
            }
        });
    }
    text
}

/// How a step ended, in a word or two.
fn ended_words(step: &PastStep) -> String {
    let Some(outcome) = &step.outcome else { return "under way".to_owned() };
    if let Some(exit) = outcome.exit {
        return in_words(exit);
    }
    outcome.status.word().to_owned()
}

/// A step in one line.
fn line_of(step: &PastStep) -> String {
    let mut line = format!("{} · {} · {}", step.number, step.call.name, ended_words(step));
    if let Some((job, end)) = &step.job {
        let end = end.as_ref().map_or_else(String::new, |end| {
            format!(" {}", end.exit.map_or_else(|| "ended, exit unknown".to_owned(), in_words))
        });
        line.push_str(&format!(", job {}{end}", job.id));
    }
    if let Some(outcome) = &step.outcome {
        line.push_str(&format!(" · {}", duration_words(outcome.duration_ms)));
    }
    format!("{line} · {}", clipped(&what(step), LINE_BYTES))
}

/// What a call is about: its command, its path, or its arguments.
fn what(step: &PastStep) -> String {
    let arguments: Option<Value> = serde_json::from_str(&step.call.arguments).ok();
    let text = |name: &str| arguments.as_ref()?.get(name)?.as_str().map(str::to_owned);
    text("command").or_else(|| text("path")).unwrap_or_else(|| step.call.arguments.clone())
}

fn command(step: &PastStep) -> Option<String> {
    let arguments: Value = serde_json::from_str(&step.call.arguments).ok()?;
    arguments.get("command")?.as_str().map(str::to_owned)
}

/// The steps from one to another, a line each; without a first one those before the last.
fn listing(first: Option<u64>, last: u64, count: u64, memory: &mut dyn Memory) -> Result<String, String> {
    let begin = first.unwrap_or_else(|| last.saturating_sub(LISTED - 1).max(1));
    let mut lines = Vec::new();
    let mut bytes = 0;
    let mut next = begin;
    while next <= last && (next - begin) < LISTED && bytes < LISTED_BYTES {
        let line = line_of(&memory.step(next)?);
        bytes += line.len();
        lines.push(line);
        next += 1;
    }
    let mut text = match next.checked_sub(1).filter(|shown| *shown >= begin) {
        Some(shown) => format!("[steps {begin} to {shown} of {count}]"),
        None => format!("[no steps; the run has {count}]"),
    };
    for line in lines {
        text.push('\n');
        text.push_str(&line);
    }
    if next <= last {
        text.push_str(&format!("\n[on with {{\"step\": \"{next}\", \"until\": {last}}}]"));
    }
    if first.is_none() && begin > 1 {
        text.push_str(&format!("\n[those before: {{\"step\": \"1\", \"until\": {}}}]", begin - 1));
    }
    Ok(text)
}

/// The first line of a text, cut to a length.
fn clipped(text: &str, bytes: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let cut = &line[..line.floor_char_boundary(bytes)];
    let goes_on = cut.len() < text.trim().len();
    format!("{cut}{}", if goes_on { " …" } else { "" })
}

/// A text whole, or its beginning and its end.
fn middle_out(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(SHOWN / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - SHOWN / 2)..];
    let left_out = size((text.len() - head.len() - tail.len()) as u64);
    format!("{head}\n[… {left_out} left out …]\n{tail}")
}

#[cfg(test)]
mod tests;
