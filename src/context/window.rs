//! How much of a model's window a conversation may take, and how much it takes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{History, Unit};
use crate::model::{Message, SCRIPT_PREFIX, ToolSpec, known_window};

/// Most tokens that are kept for an answer.
const MOST_RESERVE: u64 = 16_384;
/// Tokens that a server puts around a message or a call.
const AROUND: u64 = 8;

/// A model's window, and its marks: shares of what is left when the answer has its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its size in tokens, answer included.
    pub tokens: u64,
}

impl Window {
    /// That of a model that nobody knows anything of.
    pub const USUAL: Self = Self { tokens: 128_000 };

    /// The window of a run's model: what a person said, or what is known of the model, and no more than the server has
    /// shown. None for a script that nobody said one for.
    pub fn of(model: &str, said: Option<u64>, history: &History) -> Option<Self> {
        let usual = || (!model.starts_with(SCRIPT_PREFIX)).then(|| known_window(model).unwrap_or(Self::USUAL.tokens));
        let tokens = [said.or_else(usual), history.shown_window()].into_iter().flatten().min()?;
        Some(Self { tokens })
    }

    /// What a request may come to.
    pub fn usable(self) -> u64 {
        self.tokens - (self.tokens / 8).min(MOST_RESERVE)
    }

    fn share(self, percent: u64) -> u64 {
        u64::try_from(u128::from(self.usable()) * u128::from(percent) / 100).unwrap_or(u64::MAX)
    }

    /// Above this the conversation is made smaller.
    pub fn high(self) -> u64 {
        self.share(78)
    }

    /// A reduction that is content with less than a summary has to come down to this.
    pub fn low(self) -> u64 {
        self.share(40)
    }

    /// A reduction is done when it has come down to this.
    pub fn middle(self) -> u64 {
        self.share(60)
    }

    /// What can't come down to this leaves no room to work in.
    pub fn most(self) -> u64 {
        self.share(90)
    }

    /// What the newest pieces may take.
    pub fn tail(self) -> u64 {
        self.share(20)
    }

    /// Less than this is not worth a question to the model.
    pub fn worth_a_summary(self) -> u64 {
        self.share(10)
    }

    /// Above this the conversation is made smaller, where the last time it came to `reduced_to`: never twice for the same.
    pub fn trigger(self, reduced_to: Option<u64>) -> u64 {
        let again = reduced_to.map_or(0, |reached| reached.saturating_add(self.share(10)));
        self.high().max(again).min(self.usable())
    }
}

/// Counts what requests come to. A text is counted once.
pub struct Meter {
    count: Box<dyn Fn(&str) -> u64 + Send + Sync>,
    /// By length and hash.
    known: HashMap<(usize, u64), u64>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Meter {
    /// Counts texts with `count`, which has to be the same each time.
    pub fn new(count: impl Fn(&str) -> u64 + Send + Sync + 'static) -> Self {
        Self { count: Box::new(count), known: HashMap::new() }
    }

    /// What a text comes to.
    pub fn text(&mut self, text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        *self.known.entry((text.len(), hasher.finish())).or_insert_with(|| (self.count)(text))
    }

    /// What a message comes to.
    pub fn message(&mut self, message: &Message) -> u64 {
        match message {
            Message::System(text) | Message::User(text) => AROUND + self.text(text),
            Message::Tool { call_id, text } => AROUND + self.text(call_id) + self.text(text),
            Message::Assistant { text, calls, opaque } => {
                let calls = calls
                    .iter()
                    .map(|call| AROUND + self.text(&call.id) + self.text(&call.name) + self.text(&call.arguments));
                let calls = calls.sum::<u64>();
                let opaque = opaque.as_ref().map_or(0, |opaque| self.text(&opaque.to_string()));
                AROUND + self.text(text) + calls + opaque
            }
        }
    }

    /// What messages come to.
    pub fn messages<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) -> u64 {
        messages.into_iter().map(|message| self.message(message)).sum()
    }

    /// What a piece comes to.
    pub fn unit(&mut self, unit: &Unit) -> u64 {
        self.messages(&unit.messages)
    }

    /// What a conversation comes to, without tools and state block.
    pub fn history(&mut self, history: &History) -> u64 {
        history.units().iter().map(|unit| self.unit(unit)).sum()
    }

    /// What the tools come to.
    pub fn tools(&mut self, tools: &[ToolSpec]) -> u64 {
        let one = |tool: &ToolSpec| {
            2 * AROUND + self.text(&tool.name) + self.text(&tool.description) + self.text(&tool.parameters.to_string())
        };
        tools.iter().map(one).sum()
    }

    /// Forgets all that was counted, so that memory does not grow with the run.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_a_window_are_in_order_and_it_is_not_rearmed_below_what_was_reached() {
        for tokens in [1_000, 8_192, 128_000, 1_000_000, u64::MAX] {
            let window = Window { tokens };
            let marks = [window.tail(), window.low(), window.middle(), window.high(), window.most(), window.usable()];
            assert!(marks.is_sorted() && window.usable() < tokens, "{marks:?}");
            assert_eq!(window.trigger(None), window.high());
            assert_eq!(window.trigger(Some(window.low())), window.high());
            assert!(window.trigger(Some(window.high())) > window.high());
            assert_eq!(window.trigger(Some(window.most() + 9)), window.usable());
        }
    }

    #[test]
    fn a_text_is_counted_once() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU64, Ordering};
        let counted = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&counted);
        let mut meter = Meter::new(move |text| {
            seen.fetch_add(1, Ordering::Relaxed);
            text.len() as u64
        });
        let message = Message::User("words".to_owned());
        assert_eq!((meter.message(&message), meter.message(&message)), (13, 13));
        assert_eq!(counted.load(Ordering::Relaxed), 1);
    }
}
