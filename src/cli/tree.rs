//! `agent runs tree`: the runs and their forks.

use std::collections::BTreeMap;
use std::io::Write;

use super::output::Stop;
use super::runs::state_word;
use super::target::of_store;
use crate::domain::{ExitReason, RunId};
use crate::journal::{RunStore, RunSummary};
use crate::report::{fitting, visible_line};

/// Prints each run above its forks, the oldest first; at `width` columns a line is cut.
pub(super) fn print(store: &RunStore, width: Option<usize>, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let mut runs = store.list().map_err(|error| of_store(&error))?;
    runs.reverse();
    if runs.is_empty() {
        writeln!(out, "no runs in {}", visible_line(&store.state_dir().display().to_string()))?;
        return Ok(ExitReason::Done);
    }
    let is_here = |run: &RunId| runs.iter().any(|other| other.run == *run);
    let mut children: BTreeMap<&RunId, Vec<&RunSummary>> = BTreeMap::new();
    let mut roots = Vec::new();
    for run in &runs {
        match run.parent.as_ref().filter(|parent| is_here(&parent.run)) {
            Some(parent) => children.entry(&parent.run).or_default().push(run),
            None => roots.push(run),
        }
    }
    let mut lines = Vec::new();
    for root in roots {
        add(root, "", "", &children, &mut lines);
    }
    for line in lines {
        writeln!(out, "{}", fitting(line.trim_end(), width.unwrap_or(usize::MAX)))?;
    }
    out.flush()?;
    Ok(ExitReason::Done)
}

/// Adds the lines of a run and its forks. `first` stands before its own line, `below` before those of its forks.
fn add(
    run: &RunSummary,
    first: &str,
    below: &str,
    children: &BTreeMap<&RunId, Vec<&RunSummary>>,
    lines: &mut Vec<String>,
) {
    let from = run.parent.as_ref().map_or_else(String::new, |parent| {
        let checkpoint = parent.checkpoint.map(|id| format!(", {id}")).unwrap_or_default();
        format!("from entry {}{checkpoint}  ", parent.seq)
    });
    let state = state_word(&run.state);
    lines.push(format!("{first}{}  {state:<11}  {from}{}", run.run, visible_line(&run.title)));
    let forks = children.get(&run.run).map(Vec::as_slice).unwrap_or_default();
    for (nth, fork) in forks.iter().enumerate() {
        let (own, more) = if nth + 1 == forks.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        add(fork, &format!("{below}{own}"), &format!("{below}{more}"), children, lines);
    }
}
