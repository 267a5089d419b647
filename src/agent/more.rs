//! What a person may allow where a limit was reached.

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
                }
                asked.budget = (limit != Limit::Turns).then_some(budget);
                self.note(Event::LimitsRaised { asked }).map(|_| true)
            }
        }
    }
}
