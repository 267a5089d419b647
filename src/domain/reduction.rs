//! How a conversation that outgrows the model's window is made smaller, as data: the same reduction of the same entries
//! gives the same messages.

use serde::{Deserialize, Serialize};

/// Why a conversation was made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReductionCause {
    /// It came near the window.
    Full,
    /// The server refused it as too long.
    Refused,
    /// A person asked for it.
    Asked,
}

/// Who wrote a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SummaryBy {
    /// The model.
    Model,
    /// The harness, from the entries alone.
    Harness,
}

/// What stands for the part of a conversation that is no longer shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Who wrote it.
    pub by: SummaryBy,
    /// The words.
    pub text: String,
}

/// One step by which a conversation became smaller. Nothing goes from the transcript; what is left out of the
/// conversation can be recalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduction {
    /// Why.
    pub cause: ReductionCause,
    /// Size of the window, in tokens, answer included.
    pub window_tokens: u64,
    /// Estimate of the request before, in tokens.
    pub before_tokens: u64,
    /// Estimate of the request after, in tokens.
    pub after_tokens: u64,
    /// Results of calls that are older than this entry are shown as one line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stub_before: Option<u64>,
    /// What is older than this entry is told by the summary alone; persons' words stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold_before: Option<u64>,
    /// The summary, merged with the one before; there is one where something is folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Of persons' words so many bytes stay as they are, the newest first; what is beyond that is cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words_bytes: Option<u64>,
    /// Longer texts are cut to this many bytes, the middle left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_bytes: Option<u64>,
}

impl Reduction {
    /// What was done, in one line.
    pub fn words(&self) -> String {
        let cause = match self.cause {
            ReductionCause::Full => "the window was nearly full",
            ReductionCause::Refused => "the server refused the request as too long",
            ReductionCause::Asked => "asked for",
        };
        let mut done = Vec::new();
        match self.summary.as_ref().map(|summary| summary.by) {
            Some(SummaryBy::Model) => done.push("older steps summed up by the model"),
            Some(SummaryBy::Harness) => done.push("older steps summed up by the harness"),
            None => {}
        }
        if self.stub_before.is_some() {
            done.push("older results left out");
        }
        if self.words_bytes.is_some() {
            done.push("older words of persons cut short");
        }
        if self.clip_bytes.is_some() {
            done.push("long texts cut");
        }
        let (before, after, window) = (self.before_tokens, self.after_tokens, self.window_tokens);
        format!("{before} tokens came to {after} of {window} ({cause}): {}", done.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduction_says_what_was_done_and_why() {
        let reduction = Reduction {
            cause: ReductionCause::Full,
            window_tokens: 128_000,
            before_tokens: 98_000,
            after_tokens: 21_000,
            stub_before: Some(40),
            fold_before: Some(30),
            summary: Some(Summary { by: SummaryBy::Model, text: "all well".to_owned() }),
            words_bytes: None,
            clip_bytes: None,
        };
        let words = "98000 tokens came to 21000 of 128000 (the window was nearly full): \
                     older steps summed up by the model, older results left out";
        assert_eq!(reduction.words(), words);
    }
}
