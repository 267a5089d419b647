//! Whether a workflow that is written as one makes sense: what it names is there, what it asks can be had, and nothing
//! that can't be undone happens unasked.

use std::collections::HashSet;
use std::path::{Component, Path};

use regex::Regex;

use super::definition::{Input, InputKind, OneOrMany, Scalar, Stage, Workflow};
use super::graph::{Cycle, Graph};
use super::mistake::{Mistake, MistakeKind};
use super::parts::{Axis, CheckpointWhen, Container, Effects, Metric, OnFailure, Retry, Verify, VerifyCheck};
use super::tree::{Node, Way};
use crate::domain::most_alike;

/// A matrix with more combinations is a mistake.
pub(super) const MOST_CELLS: usize = 256;
/// And a workflow with more stages.
pub(super) const MOST_STAGES: usize = 2_000;

/// What makes no sense.
pub(super) fn mistakes(workflow: &Workflow, root: &Node) -> Vec<Mistake> {
    let mut reading = Reading { workflow, graph: Graph::of(workflow), root, mistakes: Vec::new() };
    reading.whole();
    for (id, stage) in &workflow.stages {
        reading.stage(id, stage);
    }
    reading.mistakes
}

pub(super) struct Reading<'w> {
    pub(super) workflow: &'w Workflow,
    graph: Graph,
    pub(super) root: &'w Node,
    pub(super) mistakes: Vec<Mistake>,
}

/// The way to a place.
fn way(steps: &[&str]) -> Vec<Way> {
    let step = |step: &&str| match step.parse() {
        Ok(at) => Way::Item(at),
        Err(_) => Way::Member((*step).to_owned()),
    };
    steps.iter().map(step).collect()
}

impl<'w> Reading<'w> {
    fn wrong(&mut self, at: &[&str], what: impl Into<String>, hint: Option<String>) {
        let span = self.root.span_of(&way(at));
        self.mistakes.push(Mistake::new(MistakeKind::Meaning, span, what).hint_if(hint));
    }

    fn odd(&mut self, at: &[&str], what: impl Into<String>, hint: &str) {
        let span = self.root.span_of(&way(at));
        self.mistakes.push(Mistake::new(MistakeKind::Warning, span, what).hint(hint));
    }

    fn whole(&mut self) {
        let workflow = self.workflow;
        if workflow.version != 1 {
            let what = format!("version {} of the format is not known", workflow.version);
            self.wrong(&["version"], what, Some("write `version: 1`".to_owned()));
        }
        if workflow.stages.len() > MOST_STAGES {
            let what = format!("{} stages are more than the {MOST_STAGES} that a run may have", workflow.stages.len());
            self.wrong(&["stages"], what, Some("let a matrix make those that are alike".to_owned()));
        }
        for (at, name) in workflow.secrets.iter().enumerate() {
            let fits = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty();
            if !fits {
                let hint = "a secret is named like an environment variable: WAREHOUSE_URL".to_owned();
                self.wrong(
                    &["secrets", &at.to_string()],
                    format!("`{name}` can't be the name of a secret"),
                    Some(hint),
                );
            }
        }
        for (name, input) in &workflow.inputs {
            self.input(name, input);
        }
        for (at, notify) in workflow.notify.iter().enumerate() {
            let at = at.to_string();
            let target =
                ["ntfy://", "slack://", "webhook://", "exec:"].iter().find_map(|scheme| notify.to.strip_prefix(scheme));
            if target.is_none_or(|target| target.trim().is_empty()) {
                let hint = "it is ntfy://TOPIC, slack://SECRET, webhook://SECRET or exec:COMMAND".to_owned();
                self.wrong(&["notify", &at, "to"], format!("`{}` is nobody who can be told", notify.to), Some(hint));
            }
        }
        if let Err(Cycle(ids)) = self.graph.waves() {
            let round: Vec<&str> = ids.iter().chain(ids.first()).map(String::as_str).collect();
            let what = match ids.len() {
                1 => format!("stage `{}` needs itself", ids[0]),
                _ => format!("these stages wait for each other: {}", round.join(" needs ")),
            };
            self.wrong(&["stages", &ids[0], "needs"], what, Some("one of them has to begin".to_owned()));
        }
    }

    fn input(&mut self, name: &str, input: &Input) {
        let at = ["inputs", name];
        if input.kind == InputKind::Choice && input.options.is_empty() {
            self.wrong(&at, format!("the choice `{name}` has no `options`"), None);
        }
        let Some(default) = &input.default else { return };
        if input.required {
            self.odd(&at, format!("`{name}` is required and has a default"), "leave one of the two out");
        }
        let fits = match input.kind {
            InputKind::String | InputKind::Path => true,
            InputKind::Number => matches!(default, Scalar::Number(_)),
            InputKind::Boolean => matches!(default, Scalar::Bool(_)),
            InputKind::Choice => input.options.contains(default),
        };
        if !fits {
            let what = format!("the default `{}` of `{name}` is none of its values", default.text());
            self.wrong(&["inputs", name, "default"], what, None);
        }
    }

    fn stage(&mut self, id: &str, stage: &Stage) {
        if stage.run.is_none() && stage.goal.is_none() {
            let hint = "`run` is a command, `goal` is a task for the model, both is a command that the model repairs";
            self.wrong(&["stages", id], format!("stage `{id}` does nothing"), Some(hint.to_owned()));
        }
        self.needs(id, stage);
        self.effects(id, stage);
        self.strategy(id, stage);
        self.checks(id, stage);
        self.files(id, stage);
        self.limits(id, stage);
        self.secrets(id, stage);
        self.texts(id);
    }

    fn needs(&mut self, id: &str, stage: &Stage) {
        let mut seen = HashSet::new();
        let is_list = stage.needs.as_ref().is_some_and(|needs| matches!(needs, OneOrMany::Many(_)));
        for (nth, need) in stage.needs().iter().enumerate() {
            let nth = nth.to_string();
            let at: Vec<&str> = ["stages", id, "needs"].into_iter().chain(is_list.then_some(nth.as_str())).collect();
            if !self.workflow.stages.contains_key(need) {
                let what = format!("stage `{id}` needs `{need}`, and there is no such stage");
                let meant = most_alike(need, self.workflow.stages.keys().map(String::as_str));
                self.wrong(&at, what, meant.map(|meant| format!("did you mean `{meant}`?")));
            } else if !seen.insert(need) {
                self.wrong(&at, format!("stage `{id}` needs `{need}` twice"), None);
            }
        }
    }

    fn effects(&mut self, id: &str, stage: &Stage) {
        let at = ["stages", id, "effects"];
        match stage.effects {
            Effects::External if stage.probe.is_none() && stage.approve.is_none() => {
                let hint = "add `probe`, which tells whether it has happened already, or `approve`".to_owned();
                let what =
                    format!("stage `{id}` reaches beyond the box, and after a crash nobody could tell whether it did");
                self.wrong(&at, what, Some(hint));
            }
            Effects::Irreversible if stage.approve.is_none() => {
                let what = format!("stage `{id}` does what nothing takes back, and nobody is asked");
                self.wrong(&at, what, Some("add `approve: before`".to_owned()));
            }
            Effects::None | Effects::Workspace if stage.probe.is_some() => {
                let what = format!("the probe of stage `{id}` is never asked");
                self.odd(&["stages", id, "probe"], what, "it belongs to `effects: external` or `irreversible`");
            }
            _ => {}
        }
        if stage.on_failure == OnFailure::Rollback {
            let before = self.graph.before(id);
            let has_undo = |id: &str| self.workflow.stages[id].undo.is_some();
            if !has_undo(id) && !before.iter().any(|id| has_undo(id)) {
                let what = format!("stage `{id}` rolls back on failure, and nothing before it has an `undo`");
                self.odd(&["stages", id, "on-failure"], what, "add `undo` to the stages that can be taken back");
            }
        }
    }

    fn strategy(&mut self, id: &str, stage: &Stage) {
        let Some(strategy) = &stage.strategy else { return };
        if strategy.matrix.is_empty() {
            self.wrong(&["stages", id, "strategy", "matrix"], format!("the matrix of stage `{id}` is empty"), None);
        }
        for (name, axis) in &strategy.matrix {
            match axis {
                Axis::Values(values) if values.is_empty() => {
                    let what = format!("`{name}` has no values: stage `{id}` would never run");
                    self.wrong(&["stages", id, "strategy", "matrix", name], what, None);
                }
                Axis::Expression(text) if !text.contains("${{") => {
                    let what = format!("`{name}` must be a list, or an expression that gives one");
                    let hint = Some(format!("write `{name}: [{text}]`"));
                    self.wrong(&["stages", id, "strategy", "matrix", name], what, hint);
                }
                Axis::Values(_) | Axis::Expression(_) => {}
            }
        }
        let axes = strategy.matrix.values().filter_map(|axis| match axis {
            Axis::Values(values) => Some(values.len()),
            Axis::Expression(_) => None,
        });
        let cells = axes.fold(1_usize, usize::saturating_mul);
        if cells > MOST_CELLS {
            let what = format!("the matrix of stage `{id}` has {cells} combinations, and {MOST_CELLS} is the most");
            self.wrong(&["stages", id, "strategy", "matrix"], what, None);
        }
    }

    fn checks(&mut self, id: &str, stage: &Stage) {
        if stage.run.is_none() && stage.goal.is_some() && stage.checks().is_empty() {
            let what = format!("nothing proves that stage `{id}` is done but the model's word");
            self.odd(&["stages", id, "goal"], what, "add `verify`: a command, files or a metric");
        }
        let is_list = stage.verify.as_ref().is_some_and(|verify| matches!(verify, OneOrMany::Many(_)));
        if is_list && stage.checks().is_empty() {
            self.wrong(&["stages", id, "verify"], format!("`verify` of stage `{id}` is empty"), None);
        }
        for (nth, check) in stage.checks().iter().enumerate() {
            let nth = nth.to_string();
            let at: Vec<&str> = ["stages", id, "verify"].into_iter().chain(is_list.then_some(nth.as_str())).collect();
            match check {
                Verify::Command(command) if command.trim().is_empty() => {
                    self.wrong(&at, format!("a check of stage `{id}` is empty"), None);
                }
                Verify::Command(_) => {}
                Verify::Check(check) => self.check(id, check, &at),
            }
        }
    }

    fn check(&mut self, id: &str, check: &VerifyCheck, at: &[&str]) {
        let said = [check.run.is_some(), !check.files.is_empty(), check.metric.is_some()];
        if said.iter().filter(|said| **said).count() != 1 {
            let what = format!("a check of stage `{id}` must have one of `run`, `files` and `metric`");
            self.wrong(at, what, None);
        }
        if check.timeout.is_some() && check.run.is_none() {
            let what = format!("only a command of stage `{id}` can take long");
            self.odd(&[at, &["timeout"]].concat(), what, "leave `timeout` out");
        }
        for (nth, file) in check.files.iter().enumerate() {
            self.path(file, &[at, &["files", &nth.to_string()]].concat());
        }
        if let Some(metric) = &check.metric {
            self.metric(metric, &[at, &["metric"]].concat());
        }
    }

    fn metric(&mut self, metric: &Metric, at: &[&str]) {
        let name = &metric.name;
        if metric.min.is_none() && metric.max.is_none() && metric.baseline.is_none() {
            let hint = "add `min`, `max` or `baseline`".to_owned();
            self.wrong(at, format!("any value of `{name}` would be good enough"), Some(hint));
        }
        if let (Some(min), Some(max)) = (metric.min, metric.max)
            && min > max
        {
            self.wrong(at, format!("no value of `{name}` is {min} at least and {max} at most"), None);
        }
        match &metric.baseline {
            Some(Scalar::Text(text)) if text != "last-success" => {
                let hint = "it is a number, or `last-success`".to_owned();
                self.wrong(&[at, &["baseline"]].concat(), format!("`{text}` is no baseline"), Some(hint));
            }
            None if metric.max_regression.is_some() => {
                let what = format!("`{name}` has a `max-regression` and no `baseline`");
                self.wrong(&[at, &["max-regression"]].concat(), what, None);
            }
            _ => {}
        }
        let from = &[at, &["from"]].concat();
        if let Some(rest) = metric.from.strip_prefix("re:") {
            let pattern = rest.split_once(':').map(|(_, pattern)| pattern);
            match pattern.map(Regex::new) {
                None => self.wrong(
                    from,
                    format!("`{}` has no pattern", metric.from),
                    Some("write `re:PATH:REGEX`".to_owned()),
                ),
                Some(Err(error)) => {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    self.wrong(from, format!("the pattern of `{name}` is none: {why}"), None);
                }
                Some(Ok(pattern)) if pattern.captures_len() != 2 => {
                    let what = format!("the pattern of `{name}` must have one group, which is the number");
                    self.wrong(from, what, None);
                }
                Some(Ok(_)) => {}
            }
        } else {
            match metric.from.split_once('#') {
                Some((path, pointer)) if pointer.is_empty() || pointer.starts_with('/') => self.path(path, from),
                _ => {
                    let hint = "write `PATH#/JSON/POINTER` or `re:PATH:REGEX`".to_owned();
                    self.wrong(from, format!("`{}` does not say where `{name}` stands", metric.from), Some(hint));
                }
            }
        }
    }

    /// What leads out of the workspace is no path of it.
    fn path(&mut self, path: &str, at: &[&str]) {
        let leads_out =
            Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || path.contains('\0') || leads_out {
            let what = format!("`{path}` is no path in the workspace");
            self.wrong(at, what, Some("write it as it is seen from the project's directory".to_owned()));
        }
    }

    fn files(&mut self, id: &str, stage: &Stage) {
        for (nth, path) in stage.artifacts.outward.iter().enumerate() {
            self.path(path, &["stages", id, "artifacts", "out", &nth.to_string()]);
        }
        for (nth, from) in stage.artifacts.inward.iter().enumerate() {
            let nth = nth.to_string();
            let at = ["stages", id, "artifacts", "in", &nth];
            let Some((source, path)) = from.split_once(':') else {
                self.path(from, &at);
                continue;
            };
            self.path(path, &at);
            if !self.workflow.stages.contains_key(source) {
                let meant = most_alike(source, self.workflow.stages.keys().map(String::as_str));
                let what = format!("stage `{id}` takes files from `{source}`, and there is no such stage");
                self.wrong(&at, what, meant.map(|meant| format!("did you mean `{meant}`?")));
            } else if !self.graph.before(id).contains(&source) {
                let what = format!("stage `{id}` takes files from `{source}`, and does not wait for it");
                self.wrong(&at, what, Some(format!("add `{source}` to its `needs`")));
            }
        }
        for (nth, path) in stage.protect.iter().enumerate() {
            self.path(path, &["stages", id, "protect", &nth.to_string()]);
        }
        if let Some(CheckpointWhen::Spec(spec)) = &stage.common.checkpoint {
            for (nth, path) in spec.paths.iter().enumerate() {
                self.path(path, &["stages", id, "checkpoint", "paths", &nth.to_string()]);
            }
        }
        if let Some(Container::Spec(spec)) = &stage.common.container {
            for (nth, volume) in spec.volumes.iter().enumerate() {
                if volume.contains("docker.sock") || volume.contains("podman.sock") || volume.starts_with("/:") {
                    let what = format!("`{volume}` would give stage `{id}` the whole machine");
                    self.wrong(&["stages", id, "container", "volumes", &nth.to_string()], what, None);
                }
            }
        }
    }

    fn limits(&mut self, id: &str, stage: &Stage) {
        if let (Some(whole), Some(idle)) = (stage.common.timeout, stage.common.idle_timeout)
            && idle >= whole
        {
            let what = format!("the `idle-timeout` of stage `{id}` is never reached before its `timeout`");
            self.odd(&["stages", id, "idle-timeout"], what, "it has to be the shorter one");
        }
        if let Some(Retry { when, never, backoff, .. }) = &stage.common.retry {
            let both = when.iter().flatten().find(|class| never.contains(class));
            if let Some(both) = both {
                let name = serde_json::to_value(both)
                    .ok()
                    .and_then(|name| Some(name.as_str()?.to_owned()))
                    .unwrap_or_default();
                let what = format!("stage `{id}` tries `{name}` again, and never does");
                self.wrong(&["stages", id, "retry", "never"], what, None);
            }
            if let Some((initial, max)) = backoff.as_ref().and_then(|backoff| Some((backoff.initial?, backoff.max?)))
                && initial > max
            {
                let what = format!("stage `{id}` would wait longer at first than at most");
                self.wrong(&["stages", id, "retry", "backoff"], what, None);
            }
        }
        if let Some(place) = stage.common.runs_on.as_deref().filter(|place| *place != "local") {
            let hint = "stages run here: leave `runs-on` out or write `local`".to_owned();
            self.wrong(&["stages", id, "runs-on"], format!("there is no place called `{place}`"), Some(hint));
        }
    }

    fn secrets(&mut self, id: &str, stage: &Stage) {
        for (nth, secret) in stage.secrets.iter().enumerate() {
            if !self.workflow.secrets.contains(secret) {
                let hint = format!(
                    "add it to `secrets` of the workflow, or check its name{}",
                    match most_alike(secret, self.workflow.secrets.iter().map(String::as_str)) {
                        Some(meant) => format!(": did you mean `{meant}`?"),
                        None => String::new(),
                    }
                );
                let what = format!("stage `{id}` sees the secret `{secret}`, which the workflow does not have");
                self.wrong(&["stages", id, "secrets", &nth.to_string()], what, Some(hint));
            }
        }
    }
}
