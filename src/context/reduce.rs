//! How a conversation is made to fit its window: pure, by plain numbers.
//!
//! The rungs, each taken only where those before it do not do: older results as one line each; older pieces summed up;
//! all but the last answer summed up; persons' oldest words cut short; long texts cut.

use super::digest::digest;
use super::unit::{Kind, Unit};
use super::{History, Window};
use crate::domain::{Reduction, ReductionCause, Summary, SummaryBy};
use crate::model::Message;

/// How often the model is asked for one summary at most.
pub const MOST_ASKED: usize = 3;
/// Texts are cut to as many bytes as this, then half of it, and so on.
const LONGEST_CLIP: u64 = 65_536;
/// They are not cut to less.
const SHORTEST_CLIP: u64 = 128;
/// Where they are cut to this, results are shown as one line each.
const SHORT_CLIP: u64 = 1_024;
/// A mechanical summary is not held to less.
const SHORTEST_DIGEST: u64 = 400;
/// Nor does it become longer.
const LONGEST_DIGEST: u64 = 24_000;
/// Bytes that a token of a mechanical summary has at least, so that it takes no more than its share.
const BYTES_A_TOKEN: u64 = 2;

/// There is no room for work: instructions, tools and goal alone fill the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} tokens are needed at least, and the window has {window}")]
pub struct NoRoom {
    /// What the smallest request comes to, and room to work in.
    pub needed: u64,
    /// The window.
    pub window: u64,
}

/// What a reduction begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// One line for older results is enough.
    Stubs(Reduction),
    /// There is something to sum up; whether that is worth asking the model.
    SumUp {
        /// False where so little is to be summed up that the harness does it.
        worth_asking: bool,
    },
    /// Nothing can be summed up.
    Cut,
}

/// Makes one reduction.
pub struct Reducer<'a> {
    /// What is to become smaller.
    pub history: &'a History,
    /// What it has to fit.
    pub window: Window,
    /// Why.
    pub cause: ReductionCause,
    /// What every request holds beside it: tools, state block.
    pub fixed: u64,
    /// What a piece comes to.
    pub size: &'a mut (dyn FnMut(&Unit) -> u64 + Send),
}

impl Reducer<'_> {
    /// What comes first.
    pub fn begin(&mut self) -> Begin {
        let before = self.size_of(self.history);
        if self.cause != ReductionCause::Asked {
            let stubs = Reduction { stub_before: Some(self.tail()), ..self.nothing() };
            let after = self.size_after(&stubs);
            if after <= self.window.low() && after < before {
                return Begin::Stubs(Reduction { before_tokens: before, after_tokens: after, ..stubs });
            }
        }
        let Some(cut) = self.cut() else { return Begin::Cut };
        let empty = Summary { by: SummaryBy::Harness, text: String::new() };
        let folded = Reduction { fold_before: Some(cut), summary: Some(empty), ..self.nothing() };
        let gain = before.saturating_sub(self.size_after(&folded));
        Begin::SumUp { worth_asking: gain >= self.window.worth_a_summary() }
    }

    /// The conversation that the model is asked to sum up the `nth` time, from 0: whole, then without its oldest third, then
    /// without half of it. None where that does not fit the window, or is the same as was asked before.
    pub fn asked(&mut self, nth: usize, instruction: &str) -> Option<Vec<Message>> {
        let droppable = self.history.units().iter().filter(|unit| is_news(unit)).count();
        let drop = match nth {
            0 if self.cause == ReductionCause::Refused => return None,
            0 => 0,
            1 => droppable.div_ceil(3),
            _ => droppable.div_ceil(2),
        };
        if nth > 0 && (drop == 0 || drop == droppable) {
            return None;
        }
        let instruction = Unit::words(u64::MAX, Kind::Harness, instruction.to_owned());
        let mut left = drop;
        let mut is_shown = |unit: &&Unit| {
            let goes = left > 0 && is_news(unit);
            left -= usize::from(goes);
            !goes
        };
        let shown: Vec<&Unit> = self.history.units().iter().filter(&mut is_shown).chain([&instruction]).collect();
        let size = shown.iter().fold(self.fixed, |sum, unit| sum.saturating_add((self.size)(unit)));
        let fits = size <= self.window.usable();
        fits.then(|| shown.into_iter().flat_map(|unit| unit.messages.iter().cloned()).collect())
    }

    /// The most tokens that a summary may take.
    pub fn longest_summary(&self) -> u64 {
        self.window.tail()
    }

    /// The summary that needs no model.
    pub fn digest(&mut self) -> Summary {
        let cut = self.cut().unwrap_or(u64::MAX);
        let folded = self.history.units().iter().filter(|unit| unit.seq < cut);
        let bytes = (self.window.worth_a_summary() * BYTES_A_TOKEN).clamp(SHORTEST_DIGEST, LONGEST_DIGEST);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Summary { by: SummaryBy::Harness, text: digest(folded, self.history.summary(), bytes) }
    }

    /// The reduction, with `summary` where something can be summed up.
    ///
    /// # Errors
    /// [`NoRoom`] where nothing helps.
    pub fn finish(&mut self, summary: Option<&Summary>) -> Result<Reduction, NoRoom> {
        let before = self.size_of(self.history);
        let mut smallest = u64::MAX;
        for (rung, goal) in self.rungs(summary) {
            let after = self.size_after(&rung);
            smallest = smallest.min(after);
            if after <= goal && after < before {
                return Ok(Reduction { before_tokens: before, after_tokens: after, ..rung });
            }
        }
        let room = self.window.tokens.saturating_sub(self.window.most());
        Err(NoRoom { needed: smallest.saturating_add(room), window: self.window.tokens })
    }

    /// What is tried in this order, each with what it has to come down to.
    fn rungs(&mut self, summary: Option<&Summary>) -> Vec<(Reduction, u64)> {
        let (tail, last) = (self.cut(), self.last_answer());
        let base = self.nothing();
        let folded = |before: Option<u64>| match before.zip(summary) {
            Some((before, summary)) => {
                Reduction { fold_before: Some(before), summary: Some(summary.clone()), ..base.clone() }
            }
            None => base.clone(),
        };
        let gentle = folded(tail);
        let stubbed = Reduction { stub_before: Some(last), ..gentle.clone() };
        let hard = folded(tail.map(|_| last));
        let words = |share: u64| Reduction { words_bytes: Some(self.window.usable() / 4 * share), ..hard.clone() };
        let end = self.history.units().last().map_or(0, |unit| unit.seq.saturating_add(1));
        let clip = |bytes: u64| {
            // What is cut that short says less than the line that stands for it.
            let stub_before = Some(end).filter(|_| bytes <= SHORT_CLIP);
            Reduction { clip_bytes: Some(bytes), stub_before, ..words(1) }
        };
        let halves = std::iter::successors(Some(LONGEST_CLIP), |bytes| Some(bytes / 2));
        let clips: Vec<Reduction> = halves.take_while(|bytes| *bytes >= SHORTEST_CLIP).map(clip).collect();
        let soft = [gentle, stubbed, hard.clone(), words(3), words(1)];
        let (middle, high, most) = (self.window.middle(), self.window.high(), self.window.most());
        let tries = soft[..3].iter().map(|rung| (rung, middle));
        let tries = tries.chain(soft.iter().chain(&clips).map(|rung| (rung, high)));
        let tries = tries.chain(clips.iter().map(|rung| (rung, most)));
        tries.map(|(rung, goal)| (rung.clone(), goal)).collect()
    }

    fn nothing(&self) -> Reduction {
        Reduction {
            cause: self.cause,
            window_tokens: self.window.tokens,
            before_tokens: 0,
            after_tokens: 0,
            stub_before: None,
            fold_before: None,
            summary: None,
            words_bytes: None,
            clip_bytes: None,
        }
    }

    fn size_of(&mut self, history: &History) -> u64 {
        history.units().iter().fold(self.fixed, |sum, unit| sum.saturating_add((self.size)(unit)))
    }

    fn size_after(&mut self, reduction: &Reduction) -> u64 {
        let history = self.history.reduced(reduction);
        self.size_of(&history)
    }

    /// Where the last answer begins: it always stays.
    fn last_answer(&self) -> u64 {
        let units = self.history.units();
        let last = units.iter().rev().find(|unit| unit.kind == Kind::Answer).or(units.last());
        last.map_or(0, |unit| unit.seq)
    }

    /// Where the newest pieces begin that together take no more than their share; the last answer is always one of them.
    fn tail(&mut self) -> u64 {
        let mut begin = self.last_answer();
        let mut taken = 0_u64;
        for unit in self.history.units().iter().rev() {
            taken = taken.saturating_add((self.size)(unit));
            if taken > self.window.tail() {
                break;
            }
            begin = begin.min(unit.seq);
        }
        begin
    }

    /// Before what pieces are summed up; None where there is nothing to sum up.
    fn cut(&mut self) -> Option<u64> {
        let news: Vec<u64> = self.history.units().iter().filter(|unit| is_news(unit)).map(|unit| unit.seq).collect();
        let has_news = |cut: &u64| news.iter().any(|seq| seq < cut);
        [self.tail(), self.last_answer()].into_iter().find(has_news)
    }
}

/// Whether a summary may stand for it, and does not yet.
fn is_news(unit: &Unit) -> bool {
    unit.is_foldable() && unit.kind != Kind::Summary
}
