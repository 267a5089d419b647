//! How many tokens a text is: the encoding of the model's own vocabulary where it is known, a careful guess otherwise.
//!
//! The tables take a fifth of a second and tens of megabytes to load: whoever only needs to know that something is *not*
//! too big asks [`Tokens::at_most`], which is free.

mod gauge;
mod windows;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

pub use gauge::{Gauge, Shortfall, Size};
pub use windows::known_window;

/// Texts are counted in slices of this many bytes: the splitter panics on a million blanks in one piece, and one long
/// piece takes longer than its parts.
const SLICE_BYTES: usize = 16 << 10;
/// How far back a line's end is looked for, where a slice is cut.
const LINE_END_WITHIN: usize = 2 << 10;
/// Tokens that a message costs beside its text: its role and the marks around it.
const PER_MESSAGE: u64 = 8;

/// Counts the tokens of texts for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Whether every digit is a token of its own, as with most vocabularies that are not OpenAI's.
    digits_apart: bool,
}

impl Tokens {
    /// Of the model with that name; a provider's prefix (`openai/…`) and a fine-tune's (`ft:…`) are looked through.
    pub fn of_model(name: &str) -> Self {
        let name = bare(name);
        let known = get_tokenizer(name).map(|tokenizer| match tokenizer {
            Tokenizer::O200kHarmony => Tokenizer::O200kBase,
            other => other,
        });
        let is_family = ["gpt-", "chatgpt-", "codex-", "o1", "o3", "o4"].iter().any(|family| name.starts_with(family));
        Self { tokenizer: known.unwrap_or(Tokenizer::O200kBase), digits_apart: known.is_none() && !is_family }
    }

    /// Whether the vocabulary is the model's own, so that counts are right but for what a server adds.
    pub fn is_own(self) -> bool {
        !self.digits_apart
    }

    /// Begins to load the tables in a thread of its own, so that the first count need not wait for all of it.
    pub fn warm(self) {
        let load = move || drop(catch_unwind(|| self.encoder()));
        // Where no thread can be had, the first count loads them.
        drop(std::thread::Builder::new().name("tokens".to_owned()).spawn(load));
    }

    /// The tokens of a text, its special marks (`<|endoftext|>`) read as ordinary text. Loads the tables where they are
    /// not yet; takes time in proportion to the text, whatever it is.
    pub fn count(self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let encoder = self.encoder();
        let ordinary: u64 = slices(text).map(|slice| count_slice(encoder, slice)).sum();
        if self.digits_apart { ordinary + digits_beyond(text) } else { ordinary }
    }

    /// What `bytes` of text in that many messages can't exceed: a token is a byte at least in every vocabulary that is
    /// made of bytes. Free.
    pub fn at_most(bytes: u64, messages: u64) -> u64 {
        bytes.saturating_add(messages.saturating_mul(PER_MESSAGE))
    }

    /// What a message of a text that has `tokens` comes to, with the marks around it.
    pub fn message(tokens: u64) -> u64 {
        tokens.saturating_add(PER_MESSAGE)
    }

    fn encoder(self) -> &'static CoreBPE {
        tiktoken_rs::bpe_for_tokenizer(self.tokenizer).expect("the tables are part of the program")
    }
}

/// A model's name without the prefix of whoever serves it.
fn bare(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.strip_prefix("ft:").map_or(name, |rest| rest.split(':').next().unwrap_or(rest))
}

fn count_slice(encoder: &CoreBPE, slice: &str) -> u64 {
    let counted = catch_unwind(AssertUnwindSafe(|| encoder.count_ordinary(slice)));
    counted.unwrap_or(slice.len() / 2) as u64
}

/// The text in slices of at most [`SLICE_BYTES`], cut after a line's end where there is one near.
fn slices(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (slice, rest) = text.split_at(slice_end(text));
        text = rest;
        Some(slice)
    })
}

fn slice_end(text: &str) -> usize {
    if text.len() <= SLICE_BYTES {
        return text.len();
    }
    let near = &text.as_bytes()[SLICE_BYTES - LINE_END_WITHIN..SLICE_BYTES];
    match memchr::memrchr(b'\n', near) {
        Some(at) => SLICE_BYTES - LINE_END_WITHIN + at + 1,
        None => text.floor_char_boundary(SLICE_BYTES),
    }
}

/// How many tokens more the text's numbers are where every digit is one, instead of three of them.
fn digits_beyond(text: &str) -> u64 {
    let beyond = |run: u64| run - run.div_ceil(3);
    let (mut run, mut sum) = (0_u64, 0);
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            run += 1;
        } else if run > 0 {
            sum += beyond(std::mem::take(&mut run));
        }
    }
    sum + beyond(run)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use base64::Engine;

    use super::*;

    #[test]
    fn a_models_own_vocabulary_is_known_by_its_name() {
        let of = |name| (Tokens::of_model(name).tokenizer, Tokens::of_model(name).is_own());
        assert_eq!(of("gpt-5-mini"), (Tokenizer::O200kBase, true));
        assert_eq!(of("openai/gpt-4o"), (Tokenizer::O200kBase, true));
        assert_eq!(of("ft:gpt-4:org:suffix"), (Tokenizer::Cl100kBase, true));
        assert_eq!(of("gpt-oss-120b"), (Tokenizer::O200kBase, true));
        assert_eq!(of("gpt-7"), (Tokenizer::O200kBase, true));
        assert_eq!(of("Qwen/Qwen3-8B"), (Tokenizer::O200kBase, false));
        assert_eq!(of(""), (Tokenizer::O200kBase, false));
    }

    #[test]
    fn texts_are_counted_as_the_vocabulary_has_it() {
        let own = Tokens::of_model("gpt-5");
        assert_eq!(own.count(""), 0);
        assert_eq!(own.count("hello world"), 2);
        assert_eq!(own.count("1234567"), 3);
        assert!(own.count("<|endoftext|>") > 1, "a mark in a tool's output is text");
        let guessed = Tokens::of_model("qwen3");
        assert_eq!(guessed.count("1234567"), 7, "every digit is a token");
        assert_eq!(guessed.count("port 8080, pid 12"), own.count("port 8080, pid 12") + 2 + 1);
    }

    #[test]
    fn what_would_break_the_splitter_is_counted_in_time_that_grows_with_it() {
        let tokens = Tokens::of_model("gpt-5");
        tokens.count("loads the tables");
        let bytes: Vec<u8> = (0..60_000_u64).map(|n| (n.wrapping_mul(6_364_136_223_846_793_005) >> 56) as u8).collect();
        let size = 1_000_000;
        for text in [
            " ".repeat(size),
            "\t".repeat(size),
            "\u{3000}".repeat(size / 3),
            "a".repeat(size / 10),
            "\r\n".repeat(size / 10),
            "<|endoftext|>".repeat(3_000),
            base64::engine::general_purpose::STANDARD.encode(&bytes),
            String::from_utf8_lossy(&bytes).into_owned(),
        ] {
            let began = Instant::now();
            let counted = tokens.count(&text);
            let shown: String = text.chars().take(9).collect();
            assert!(counted > 0 && counted <= Tokens::at_most(text.len() as u64, 0), "{shown:?}: {counted}");
            assert!(began.elapsed() < Duration::from_secs(30), "{shown:?} took {:?}", began.elapsed());
        }
    }

    #[test]
    fn slices_are_whole_and_cut_where_it_matters_least() {
        let lines = "a line of a log that says little 0123456789\n".repeat(2_000);
        for text in [lines.clone(), "ж".repeat(40_000), "\u{10FFFF}".repeat(10_000), "x".repeat(SLICE_BYTES)] {
            let parts: Vec<&str> = slices(&text).collect();
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| part.len() <= SLICE_BYTES));
        }
        assert!(slices(&lines).all(|part| part.ends_with('\n')));
        let tokens = Tokens::of_model("gpt-5");
        let whole = tokens.encoder().count_ordinary(&lines) as u64;
        assert_eq!(tokens.count(&lines), whole, "a cut at a line's end changes nothing");
    }

    #[test]
    fn no_text_has_more_tokens_than_the_bound_that_is_free() {
        let tokens = Tokens::of_model("unknown");
        for text in ["", "a", "0000000000", "\u{1F600}\u{1F600}", "\u{0}\u{1}\u{7f}", "ㄱㄴㄷ", "𓀀𓀁"] {
            assert!(tokens.count(text) <= Tokens::at_most(text.len() as u64, 0), "{text:?}");
        }
        assert_eq!(Tokens::at_most(u64::MAX, u64::MAX), u64::MAX);
    }
}
