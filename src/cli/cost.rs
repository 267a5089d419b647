//! `agent cost`: what a run cost, by model. Reads only.

use std::io::Write;

use serde_json::json;

use super::args::CostArgs;
use super::output::{Stop, finished};
use super::target::{Target, of_read};
use super::{Failure, Place};
use crate::domain::{ExitReason, money_words};
use crate::journal::Reader;
use crate::report::{CostLine, Costs, visible_json, visible_line};

/// Runs `agent cost`.
pub(super) fn run(args: &CostArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let path = Target::find(&args.run, place)?.path().ok_or_else(|| {
        Failure::new(ExitReason::Usage, "cannot read the costs of standard input").hint("name a run or a file")
    })?;
    let mut costs = Costs::default();
    for entry in Reader::open(&path).map_err(|error| of_read(&error))? {
        costs.add(&entry.map_err(|error| of_read(&error))?);
    }
    finished(if args.json { print_json(&costs, out) } else { print(&costs, out) })
}

fn print_json(costs: &Costs, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let object = json!({ "models": costs.lines, "cost_micro_usd": costs.total() });
    writeln!(out, "{}", visible_json(&object))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

fn print(costs: &Costs, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if costs.lines.is_empty() {
        writeln!(out, "no model has answered")?;
    }
    for line in &costs.lines {
        print_line(line, out)?;
    }
    if let (Some(total), true) = (costs.total(), costs.lines.len() > 1) {
        writeln!(out, "in all    {}", money_words(total))?;
    }
    if let Some(limits) = costs.limits() {
        writeln!(out, "limit     {limits}")?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

fn print_line(line: &CostLine, out: &mut dyn Write) -> Result<(), Stop> {
    let server = if line.base_url.is_empty() { String::new() } else { format!(" at {}", line.base_url) };
    writeln!(out, "model     {}", visible_line(&format!("{}{server}", line.model)))?;
    let uncounted = match line.uncounted {
        0 => String::new(),
        uncounted => format!(", {uncounted} without a count of tokens"),
    };
    writeln!(out, "answers   {}{uncounted}", line.answers)?;
    let usage = line.usage;
    writeln!(
        out,
        "tokens    {} in, {} of them cached, {} out",
        usage.input_tokens, usage.cached_tokens, usage.output_tokens
    )?;
    match (line.cost_micro_usd, &line.price) {
        (Some(cost), Some(price)) => {
            let source = visible_line(&price.source).into_owned();
            writeln!(out, "cost      {} (price: {source})", money_words(cost))?;
        }
        _ => writeln!(out, "cost      not known: no price is known; say one with `--price` next time")?,
    }
    Ok(())
}
