//! `agent tools`: what the model may do, as it is told.

use std::io::Write;

use serde_json::json;

use super::args::ToolsArgs;
use super::output::{Stop, finished};
use super::{Failure, Place};
use crate::domain::{ExitReason, RunMode};
use crate::tools::{Registry, Tool};

/// Runs `agent tools`.
pub(super) fn run(args: &ToolsArgs, _: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let registry = Registry::for_mode(RunMode::Goal);
    let wanted = |tool: &&Tool| args.name.as_deref().is_none_or(|name| name == tool.name);
    let tools: Vec<_> = registry.tools().iter().filter(wanted).collect();
    if tools.is_empty() {
        let names: Vec<_> = registry.tools().iter().map(|tool| tool.name).collect();
        let name = args.name.clone().unwrap_or_default();
        return Err(Failure::new(ExitReason::Usage, format!("there is no tool `{name}`"))
            .hint(format!("the tools are {}", names.join(", "))));
    }
    finished(if args.json { print_json(&tools, out) } else { print_text(&tools, args.name.is_some(), out) })
}

fn print_json(tools: &[&Tool], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let told = |tool: &&Tool| json!({ "name": tool.name, "description": tool.manual, "parameters": tool.parameters, "strict": tool.strict });
    let list: Vec<_> = tools.iter().map(told).collect();
    serde_json::to_writer_pretty(&mut *out, &list).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(ExitReason::Done)
}

fn print_text(tools: &[&Tool], whole: bool, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    for tool in tools {
        match whole {
            true => writeln!(out, "{}", tool.manual)?,
            false => {
                let first = tool.manual.lines().next().unwrap_or_default();
                let sentence = first.split_inclusive(['.', ':', ',']).next().unwrap_or(first);
                writeln!(out, "{:12} {}", tool.name, sentence.trim_end_matches(['.', ':', ',']))?;
            }
        }
    }
    if !whole {
        writeln!(out, "\n`agent tools NAME` shows a tool's manual, `agent tools --json` the schemas.")?;
    }
    Ok(ExitReason::Done)
}
