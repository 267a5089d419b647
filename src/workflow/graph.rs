//! The stages of a workflow as a graph: what comes before what, and how people see it.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::definition::Workflow;

/// The graph. Needs that name no stage are no edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The stages' ids, in the order of the file.
    ids: Vec<String>,
    /// What each needs, by place.
    needs: Vec<Vec<usize>>,
}

/// Stages that need each other in a circle, in order; the first follows the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub Vec<String>);

impl Graph {
    /// Of a workflow.
    pub fn of(workflow: &Workflow) -> Self {
        let ids: Vec<String> = workflow.stages.keys().cloned().collect();
        let place: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        let known = |need: &String| place.get(need.as_str()).copied();
        let needs = workflow.stages.values().map(|stage| stage.needs().iter().filter_map(known).collect()).collect();
        Self { ids, needs }
    }

    /// The ids in waves: what is in one needs only what is in waves before it. Within a wave as in the file.
    ///
    /// # Errors
    /// A [`Cycle`], where there is one.
    pub fn waves(&self) -> Result<Vec<Vec<&str>>, Cycle> {
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); self.ids.len()];
        let mut open: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        for (at, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|need| followers[*need].push(at));
        }
        let mut waves = Vec::new();
        let mut wave: Vec<usize> = (0..self.ids.len()).filter(|at| open[*at] == 0).collect();
        let mut placed = 0;
        while !wave.is_empty() {
            placed += wave.len();
            let mut next = Vec::new();
            for follower in wave.iter().flat_map(|at| &followers[*at]) {
                open[*follower] -= 1;
                if open[*follower] == 0 {
                    next.push(*follower);
                }
            }
            next.sort_unstable();
            waves.push(std::mem::replace(&mut wave, next));
        }
        if placed < self.ids.len() {
            return Err(self.cycle(&open));
        }
        Ok(waves.into_iter().map(|wave| wave.into_iter().map(|at| self.ids[at].as_str()).collect()).collect())
    }

    /// Follows needs that are never met until a stage comes again.
    fn cycle(&self, open: &[usize]) -> Cycle {
        let never_met = |at: &usize| open[*at] > 0;
        let mut at = (0..self.ids.len()).find(never_met).unwrap_or(0);
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            at = self.needs[at].iter().copied().find(never_met).unwrap_or(at);
        }
        let from = path.iter().position(|seen| *seen == at).unwrap_or(0);
        Cycle(path[from..].iter().map(|at| self.ids[*at].clone()).collect())
    }

    /// The ids of all stages that must have passed before this one, near and far.
    pub fn before(&self, id: &str) -> Vec<&str> {
        let mut found = vec![false; self.ids.len()];
        let mut open: Vec<usize> = self.ids.iter().position(|known| known == id).into_iter().collect();
        while let Some(at) = open.pop() {
            for need in &self.needs[at] {
                if !std::mem::replace(&mut found[*need], true) {
                    open.push(*need);
                }
            }
        }
        found.iter().zip(&self.ids).filter(|(found, _)| **found).map(|(_, id)| id.as_str()).collect()
    }
}

/// For a terminal: a line for each stage, in the order in which they may start.
///
/// # Errors
/// A [`Cycle`].
pub fn as_text(workflow: &Workflow) -> Result<String, Cycle> {
    let graph = Graph::of(workflow);
    let waves = graph.waves()?;
    let name = |id: &str| format!("{id}{}", cells(workflow, id));
    let width = workflow.stages.keys().map(|id| name(id).chars().count()).max().unwrap_or(0);
    let kind = |id: &str| workflow.stages[id].what();
    let kinds = workflow.stages.values().map(|stage| stage.what().len()).max().unwrap_or(0);
    let mut out = String::new();
    for (nth, wave) in waves.iter().enumerate() {
        for (at, id) in wave.iter().enumerate() {
            let step = if at == 0 { (nth + 1).to_string() } else { String::new() };
            let needs = workflow.stages[*id].needs().join(", ");
            let after = if needs.is_empty() { String::new() } else { format!("  after {needs}") };
            let marks: String = marks(workflow, id).iter().map(|mark| format!("  [{mark}]")).collect();
            let line = format!("{step:>3}  {:width$}  {:kinds$}{after}{marks}", name(id), kind(id));
            writeln!(out, "{}", line.trim_end()).expect("a string takes everything");
        }
    }
    Ok(out)
}

/// For Graphviz: `agent graph FILE --format dot | dot -Tsvg`.
pub fn as_dot(workflow: &Workflow) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n", quoted(&workflow.name));
    for (id, stage) in &workflow.stages {
        let marks: String = marks(workflow, id).iter().map(|mark| format!("\\n{mark}")).collect();
        let label = format!("{id}{}", cells(workflow, id));
        writeln!(out, "  {} [label=\"{label}\\n{}{marks}\"];", quoted(id), stage.what())
            .expect("a string takes everything");
    }
    for (id, stage) in &workflow.stages {
        for need in stage.needs() {
            writeln!(out, "  {} -> {};", quoted(need), quoted(id)).expect("a string takes everything");
        }
    }
    out.push_str("}\n");
    out
}

/// For documents that draw Mermaid's diagrams.
pub fn as_mermaid(workflow: &Workflow) -> String {
    let mut out = "flowchart LR\n".to_owned();
    for (id, stage) in &workflow.stages {
        let label = format!("{id}{}<br/>{}", cells(workflow, id), stage.what());
        writeln!(out, "  {id}[\"{label}\"]").expect("a string takes everything");
    }
    for (id, stage) in &workflow.stages {
        for need in stage.needs() {
            writeln!(out, "  {need} --> {id}").expect("a string takes everything");
        }
    }
    out
}

/// How often a stage runs, where that is more than once: ` ×4 (shard)`.
fn cells(workflow: &Workflow, id: &str) -> String {
    let Some(strategy) = &workflow.stages[id].strategy else { return String::new() };
    let names = strategy.matrix.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match strategy.cells() {
        Some(cells) => format!(" ×{cells} ({names})"),
        None => format!(" ×? ({names})"),
    }
}

/// What is to be known of a stage at a glance.
fn marks(workflow: &Workflow, id: &str) -> Vec<String> {
    let stage = &workflow.stages[id];
    let approval = stage.approve.as_ref().map(|approve| format!("asks {}", approve.at().word()));
    let effects = stage.effects.word_if_far().map(str::to_owned);
    let checks = match stage.checks().len() {
        0 => None,
        1 => Some("1 check".to_owned()),
        checks => Some(format!("{checks} checks")),
    };
    checks.into_iter().chain(effects).chain(approval).collect()
}
