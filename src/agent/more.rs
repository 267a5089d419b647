//! What a person may allow where a limit was reached.

use std::time::Duration;

use jiff::Timestamp;

use super::driver::Driver;
use super::person::{Grant, Limit};
use super::state::Ending;
use super::trouble::Trouble;
use crate::domain::{AskedNew, Event, ExitReason};

impl Driver {
    /// Asks whether the run may take more than its limit, where that is what ends it. True if it goes on.
    pub(super) async fn goes_beyond(&mut self, ending: &Ending) -> Result<bool, Trouble> {
        let Some(limit) = self.state.reached().filter(|_| ending.reason == ExitReason::Budget) else {
            return Ok(false);
        };
        self.commit()?;
        let spec = self.state.spec().clone();
        match self.around.grants(limit, &ending.why, &spec).await {
            Grant::Nothing => Ok(false),
            Grant::Word(word) => self.take(word).map(|()| true),
            Grant::More(more) => {
                let spent = self.state.spent();
                let mut budget = spec.budget;
                let mut asked = AskedNew::default();
                match limit {
                    Limit::Turns => {
                        let more = u32::try_from(more).unwrap_or(u32::MAX);
                        asked.max_turns = Some(spec.max_turns.max(self.state.turn()).saturating_add(more));
                    }
                    Limit::Tokens => budget.max_tokens = Some(spent.tokens().saturating_add(more)),
                    Limit::Cost => budget.max_cost = Some(spent.cost.saturating_add(more)),
                    Limit::Time => {
                        asked.max_time_s = spec.max_time_s.map(|seconds| seconds.saturating_add(more));
                        let more = Duration::from_secs(more);
                        let later = self.clock.now().checked_add(more).unwrap_or(Timestamp::MAX);
                        budget.deadline = budget.deadline.map(|_| later);
                        self.around.allow(more, budget.deadline);
                    }
                }
                asked.budget = (budget != self.state.spec().budget).then_some(budget);
                self.note(Event::LimitsRaised { asked }).map(|_| true)
            }
        }
    }
}
