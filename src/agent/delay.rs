//! A wait for the model's server that outlives its driver: a fold over the entries, so that whoever takes the run up goes
//! on waiting and does not begin anew.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::driver::{Cut, Driver};
use super::trouble::Trouble;
use crate::domain::{Entry, Event};

/// How the model's server stood when the last entry was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delay {
    /// Why it is waited for; None where it is not.
    why: Option<String>,
    /// The end of the last wait.
    until: Option<Timestamp>,
    /// When the last driver first had to wait for the answer that is still to come.
    since: Option<Timestamp>,
    /// For how long the drivers before it had waited for it.
    waited: Duration,
    /// Whether the server has ever been there.
    was_there: bool,
}

/// What is left of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// Why the server is waited for.
    pub(super) why: String,
    /// How much longer, at least.
    pub(super) wait: Duration,
    /// For how long it has been waited for.
    pub(super) waited: Duration,
}

impl Delay {
    /// Takes the next entry in.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ModelDelayed { why, wait_ms, .. } => {
                self.why = Some(why.clone());
                self.since.get_or_insert(entry.time);
                self.until = entry.time.checked_add(Duration::from_millis(*wait_ms)).ok();
                self.was_there = true;
            }
            Event::RunResumed { asked, .. } => {
                self.waited = self.waited_by(entry.time);
                self.since = None;
                if asked.model.is_some() || asked.base_url.is_some() {
                    *self = Self::default();
                }
            }
            // The wait was for another server.
            Event::ModelSwitched { .. } => {
                self.waited = self.waited_by(entry.time);
                (self.since, self.until) = (None, None);
            }
            event => {
                if is_an_end(event) {
                    *self = Self { was_there: self.was_there, ..Self::default() };
                }
                self.was_there |= matches!(event, Event::ModelAnswered { .. });
            }
        }
    }

    /// Whether the server has been there.
    pub(super) fn was_there(&self) -> bool {
        self.was_there
    }

    /// What is left of the wait; None where none was under way.
    pub(super) fn left(&self, now: Timestamp) -> Option<Left> {
        let wait = self.until.map_or(Duration::ZERO, |until| between(now, until));
        Some(Left { why: self.why.clone()?, wait, waited: self.waited_by(now) })
    }

    /// For how long it was waited, by a moment at which nobody has waited for any time.
    fn waited_by(&self, now: Timestamp) -> Duration {
        let last = self.until.map_or(now, |until| until.min(now));
        self.waited + self.since.map_or(Duration::ZERO, |since| between(since, last))
    }
}

/// Whether nothing is waited for after it.
fn is_an_end(event: &Event) -> bool {
    matches!(
        event,
        Event::ModelAnswered { .. }
            | Event::ModelFailed { .. }
            | Event::SummaryAnswered { .. }
            | Event::SummaryFailed { .. }
            | Event::TurnInterrupted { .. }
            | Event::StopAsked { .. }
            | Event::RunEnded { .. }
            | Event::RunForked { .. }
    )
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl Driver {
    /// Takes over what an earlier driver knew of the model's server.
    pub(super) fn goes_on_after(&mut self, delay: &Delay, now: Timestamp) {
        self.delayed = delay.left(now);
        if delay.was_there() {
            let waited = self.delayed.as_ref().map_or(Duration::ZERO, |left| left.waited + left.wait);
            self.model.goes_on(waited);
        }
    }

    /// Waits for what is left of a wait that an earlier driver had begun.
    pub(super) async fn wait_on(&mut self) -> Result<Option<Cut>, Trouble> {
        let Some(left) = self.delayed.take().filter(|left| !left.wait.is_zero()) else { return Ok(None) };
        let wait_ms = u64::try_from(left.wait.as_millis()).unwrap_or(u64::MAX);
        self.note(Event::ModelDelayed { turn: self.state.turn(), why: left.why, wait_ms })?;
        self.commit()?;
        let clock = Arc::clone(&self.clock);
        let mut over = std::pin::pin!(clock.sleep(left.wait));
        loop {
            let opening = self.bench.is_opening();
            tokio::select! {
                biased;
                () = &mut over => return Ok(None),
                happening = self.around.next() => if let Some(cut) = self.meanwhile(happening)? {
                    return Ok(Some(cut));
                },
                opened = self.bench.opened(), if opening => if let Err(cut) = self.take_box(opened)? {
                    return Ok(Some(cut));
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AskedNew, BoxReturn};

    const S: Duration = Duration::from_secs(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn delay(events: Vec<(i64, Event)>) -> Delay {
        let mut delay = Delay::default();
        for (seq, (second, event)) in events.into_iter().enumerate() {
            delay.apply(&Entry { seq: seq as u64, time: at(second), event });
        }
        delay
    }

    fn delayed(wait_s: u64) -> Event {
        Event::ModelDelayed { turn: 1, why: "busy".to_owned(), wait_ms: wait_s * 1_000 }
    }

    fn resumed(model: Option<&str>) -> Event {
        let asked = AskedNew { model: model.map(str::to_owned), ..AskedNew::default() };
        Event::RunResumed { epoch: 2, away_ms: 0, found: BoxReturn::None, notes: Vec::new(), asked }
    }

    #[test]
    fn a_wait_goes_on_where_it_stood_and_counts_from_the_first_failure() {
        let delay = delay(vec![(0, delayed(2)), (3, delayed(60))]);
        let left = delay.left(at(13)).unwrap();
        assert_eq!((left.wait, left.waited), (S * 50, S * 13));
        let left = delay.left(at(4_000)).unwrap();
        assert_eq!((left.wait, left.waited), (Duration::ZERO, S * 63), "time in which nobody waited does not count");
    }

    #[test]
    fn drivers_one_after_the_other_wait_for_one_time() {
        let twice = delay(vec![(0, delayed(60)), (10, resumed(None)), (10, delayed(50))]);
        let left = twice.left(at(30)).unwrap();
        assert_eq!((left.wait, left.waited), (S * 30, S * 30));
    }

    #[test]
    fn nothing_is_left_after_an_answer_an_end_or_with_another_model() {
        let failed =
            Event::ModelFailed { turn: 1, why: String::new(), reason: crate::domain::ExitReason::ProviderUnavailable };
        let ended = delay(vec![(0, delayed(60)), (1, failed)]);
        assert_eq!((ended.left(at(2)), ended.was_there()), (None, true));
        let other = delay(vec![(0, delayed(60)), (1, resumed(Some("other")))]);
        assert_eq!((other.left(at(2)), other.was_there()), (None, false));
        let switch = Event::ModelSwitched { from: "a".to_owned(), to: "b".to_owned(), why: String::new() };
        let left = delay(vec![(0, delayed(60)), (1, switch)]).left(at(2)).unwrap();
        assert_eq!(left.wait, Duration::ZERO);
    }
}
