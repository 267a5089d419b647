//! What a run cost, by model: a fold over its entries.

use crate::domain::{Answering, Entry, Event, Price, RunSpec, Usage, money_words};

/// What one model at one server has answered and cost.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CostLine {
    /// The model.
    pub model: String,
    /// Its server; empty for a script.
    pub base_url: String,
    /// Requests that were answered.
    pub answers: u64,
    /// Those whose tokens the server did not count.
    pub uncounted: u64,
    /// Tokens, as the server counted them.
    pub usage: Usage,
    /// Money in millionths of a US dollar, where the price is known.
    pub cost_micro_usd: Option<u64>,
    /// The price that was known.
    pub price: Option<Price>,
}

/// The fold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Costs {
    spec: Option<RunSpec>,
    answering: Answering,
    /// One line for each model, in the order in which they were asked.
    pub lines: Vec<CostLine>,
}

impl Costs {
    /// Takes the next entry in.
    pub fn add(&mut self, entry: &Entry) {
        self.answering.apply(&entry.event);
        match &entry.event {
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => self.spec = Some(spec.clone()),
            Event::RunResumed { asked, .. } | Event::LimitsRaised { asked } => {
                if let Some(spec) = &mut self.spec {
                    asked.change(spec);
                }
            }
            Event::ModelAnswered { usage, .. } | Event::SummaryAnswered { usage, .. } => self.answer(*usage),
            _ => {}
        }
    }

    fn answer(&mut self, usage: Option<Usage>) {
        let Some(spec) = &self.spec else { return };
        let (model, base_url) = self.answering.model(spec);
        let price = self.answering.price(spec);
        let is_same = |line: &CostLine| line.model == model && line.base_url == base_url;
        let at = self.lines.iter().position(is_same).unwrap_or_else(|| {
            self.lines.push(CostLine {
                model: model.to_owned(),
                base_url: base_url.to_owned(),
                answers: 0,
                uncounted: 0,
                usage: Usage::default(),
                cost_micro_usd: price.map(|_| 0),
                price: price.cloned(),
            });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        line.answers += 1;
        line.uncounted += u64::from(usage.is_none());
        let usage = usage.unwrap_or_default();
        line.usage += usage;
        if let (Some(cost), Some(price)) = (&mut line.cost_micro_usd, &line.price) {
            *cost = cost.saturating_add(price.of(usage));
        }
    }

    /// In all; None where no price was known.
    pub fn total(&self) -> Option<u64> {
        let known: Vec<u64> = self.lines.iter().filter_map(|line| line.cost_micro_usd).collect();
        (!known.is_empty()).then(|| known.iter().fold(0, |sum: u64, cost| sum.saturating_add(*cost)))
    }

    /// What may be spent, and what is, in words; None where nothing is limited.
    pub fn limits(&self) -> Option<String> {
        let budget = &self.spec.as_ref()?.budget;
        let limits = [budget.max_cost.map(money_words), budget.max_tokens.map(|tokens| format!("{tokens} tokens"))];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        (!limits.is_empty()).then(|| limits.join(", "))
    }
}
