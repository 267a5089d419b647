//! Which of a run's models answers: a fold over its entries.

use super::{Event, Price, RunSpec};

/// Who answers. A run that begins, or is taken up again, begins with its first model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answering {
    other: Option<String>,
}

impl Answering {
    /// Takes the next event in.
    pub fn apply(&mut self, event: &Event) {
        if let Event::ModelSwitched { to, .. } = event {
            self.other = Some(to.clone());
        } else if matches!(event, Event::RunStarted { .. } | Event::RunResumed { .. } | Event::RunForked { .. }) {
            self.other = None;
        }
    }

    /// What its tokens cost, where that is known.
    pub fn price<'a>(&self, spec: &'a RunSpec) -> Option<&'a Price> {
        match self.fallback(spec) {
            Some(name) => spec.budget.fallback_prices.get(name),
            None => spec.budget.price.as_ref(),
        }
    }

    /// Its name and its server.
    pub fn model<'a>(&'a self, spec: &'a RunSpec) -> (&'a str, &'a str) {
        let Some(name) = self.fallback(spec) else { return (&spec.model, &spec.base_url) };
        let at = ["@http://", "@https://"].iter().find_map(|mark| name.find(mark));
        at.map_or((name, &spec.base_url), |at| (&name[..at], &name[at + 1..]))
    }

    fn fallback(&self, spec: &RunSpec) -> Option<&str> {
        self.other.as_deref().filter(|name| *name != spec.model)
    }
}
