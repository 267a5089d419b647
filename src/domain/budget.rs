//! What a run may cost, what it has cost, and what its model's tokens cost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Usage;

/// From this share of a limit on, whoever pays is warned.
const NEAR_PERCENT: u64 = 80;
/// Bytes of text that make a token where the server does not count: what English and code come to, roughly.
const BYTES_PER_TOKEN: u64 = 4;

/// What a million tokens cost, in millionths of a US dollar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of a prompt.
    pub input: u64,
    /// Of a prompt, where the server has it in its cache.
    pub cached: u64,
    /// Of an answer.
    pub output: u64,
    /// Who says so, and when.
    pub source: String,
}

impl Price {
    /// What that many tokens cost, in millionths of a dollar, rounded up.
    pub fn of(&self, usage: Usage) -> u64 {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let parts =
            [(usage.input_tokens - cached, self.input), (cached, self.cached), (usage.output_tokens, self.output)];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// The limits on what a run may cost, beside requests and time. None is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Most tokens, of prompts and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Most money, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<u64>,
    /// When the run ends, whatever it has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What the model's tokens cost, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// What the tokens of the models after it cost, by their names in the record, where that is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallback_prices: BTreeMap<String, Price>,
}

/// What a run has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens; an estimate where the server did not count.
    pub usage: Usage,
    /// Money, in millionths of a US dollar; what has no known price is not in it.
    pub cost: u64,
    /// Whether some of it was estimated.
    pub estimated: bool,
    request_bytes: u64,
}

impl Spent {
    /// A request of that size is on its way.
    pub fn request(&mut self, bytes: u64) {
        self.request_bytes = bytes;
    }

    /// It was answered in so many bytes.
    pub fn answer(&mut self, counted: Option<Usage>, answer_bytes: u64, price: Option<&Price>) {
        self.estimated |= counted.is_none();
        let usage = counted.unwrap_or(Usage {
            input_tokens: self.request_bytes / BYTES_PER_TOKEN,
            cached_tokens: 0,
            output_tokens: answer_bytes / BYTES_PER_TOKEN,
        });
        self.usage.input_tokens = self.usage.input_tokens.saturating_add(usage.input_tokens);
        self.usage.cached_tokens = self.usage.cached_tokens.saturating_add(usage.cached_tokens);
        self.usage.output_tokens = self.usage.output_tokens.saturating_add(usage.output_tokens);
        self.cost = self.cost.saturating_add(price.map_or(0, |price| price.of(usage)));
    }

    /// Tokens in all.
    pub fn tokens(&self) -> u64 {
        self.usage.input_tokens.saturating_add(self.usage.output_tokens)
    }
}

impl Budget {
    /// Whether nothing is said.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Why no further request may be made, if that is so.
    pub fn exhausted(&self, spent: &Spent) -> Option<String> {
        self.limits(spent).into_iter().find(|limit| limit.spent >= limit.most).map(|limit| {
            format!("the limit of {} was reached ({} spent)", (limit.words)(limit.most), (limit.words)(limit.spent))
        })
    }

    /// Which limit is near, if one is.
    pub fn near(&self, spent: &Spent) -> Option<String> {
        let is_near =
            |limit: &Limit| u128::from(limit.spent) * 100 >= u128::from(limit.most) * u128::from(NEAR_PERCENT);
        let near: Vec<String> = self.limits(spent).into_iter().filter(is_near).map(|limit| limit.standing()).collect();
        (!near.is_empty()).then(|| format!("{NEAR_PERCENT} % of the budget is spent: {}", near.join(", ")))
    }

    /// What is spent of what may be, in words; None where nothing is limited.
    pub fn standing(&self, spent: &Spent) -> Option<String> {
        let limits: Vec<String> = self.limits(spent).iter().map(Limit::standing).collect();
        (!limits.is_empty()).then(|| limits.join(", "))
    }

    fn limits(&self, spent: &Spent) -> Vec<Limit> {
        let tokens = self.max_tokens.map(|most| Limit { spent: spent.tokens(), most, words: tokens_words });
        let cost = self.max_cost.map(|most| Limit { spent: spent.cost, most, words: money_words });
        tokens.into_iter().chain(cost).collect()
    }
}

/// One limit, and what is spent of it.
struct Limit {
    spent: u64,
    most: u64,
    words: fn(u64) -> String,
}

impl Limit {
    fn standing(&self) -> String {
        format!("{} of {}", (self.words)(self.spent), (self.words)(self.most))
    }
}

fn tokens_words(tokens: u64) -> String {
    format!("{tokens} tokens")
}

/// An amount as people say it: `$1.25`, or `$0.0034` below a cent.
pub fn money_words(millionths: u64) -> String {
    match millionths {
        0 => "$0.00".to_owned(),
        1..10_000 => format!("$0.{:04}", millionths.div_ceil(100)),
        _ => {
            let cents = millionths.div_ceil(10_000);
            format!("${}.{:02}", cents / 100, cents % 100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> Price {
        Price { input: 1_250_000, cached: 125_000, output: 10_000_000, source: "a table".to_owned() }
    }

    fn usage(input_tokens: u64, cached_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, cached_tokens, output_tokens }
    }

    #[test]
    fn tokens_from_the_cache_cost_less_and_nonsense_costs_no_more_than_all() {
        assert_eq!(price().of(usage(1_000_000, 0, 0)), 1_250_000);
        assert_eq!(price().of(usage(1_000_000, 1_000_000, 100_000)), 125_000 + 1_000_000);
        assert_eq!(price().of(usage(10, 1_000_000, 0)), price().of(usage(10, 10, 0)));
        assert_eq!(price().of(usage(1, 0, 0)), 2, "rounded up");
        assert_eq!(price().of(usage(u64::MAX, 0, u64::MAX)), u64::MAX);
    }

    #[test]
    fn a_limit_warns_at_four_fifths_and_ends_at_the_whole() {
        let budget =
            Budget { max_tokens: Some(1_000), max_cost: Some(1_000_000), price: Some(price()), ..Budget::default() };
        let mut spent = Spent::default();
        assert_eq!((budget.near(&spent), budget.exhausted(&spent)), (None, None));
        spent.answer(Some(usage(700, 0, 100)), 0, budget.price.as_ref());
        assert_eq!(budget.near(&spent).unwrap(), "80 % of the budget is spent: 800 tokens of 1000 tokens");
        assert_eq!(budget.exhausted(&spent), None);
        spent.answer(Some(usage(300, 0, 0)), 0, budget.price.as_ref());
        assert_eq!(budget.exhausted(&spent).unwrap(), "the limit of 1000 tokens was reached (1100 tokens spent)");
        assert_eq!(budget.standing(&spent).unwrap(), "1100 tokens of 1000 tokens, $0.0023 of $1.00");
    }

    #[test]
    fn what_a_server_does_not_count_is_estimated_from_its_bytes() {
        let mut spent = Spent::default();
        spent.request(4_000);
        spent.answer(None, 400, None);
        assert!(spent.estimated);
        assert_eq!((spent.tokens(), spent.cost), (1_100, 0));
    }

    #[test]
    fn amounts_are_said_in_cents_or_finer() {
        let said = [0, 1, 3_400, 9_999, 10_000, 1_234_567, 100_000_000].map(money_words);
        assert_eq!(said, ["$0.00", "$0.0001", "$0.0034", "$0.0100", "$0.01", "$1.24", "$100.00"]);
    }
}
