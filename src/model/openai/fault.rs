//! What went wrong with one try, and whether another one may help: pure, by status and words.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::overflow::{is_overflow, window};
use super::reset::asked_wait;
use super::words::Words;
use crate::model::{ModelError, ModelErrorKind};

/// A part of our requests that some servers refuse and that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// `stream_options`, which asks for usage.
    StreamOptions,
    /// `strict` in the tools.
    Strict,
    /// Reasoning that is sent back.
    Reasoning,
}

impl Feature {
    /// Every feature.
    pub(super) const ALL: [Self; 3] = [Self::StreamOptions, Self::Strict, Self::Reasoning];

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::StreamOptions => &["stream_options", "include_usage"],
            Self::Strict => &["strict"],
            Self::Reasoning => {
                &["reasoning_content", "reasoning_details", "'reasoning'", "\"reasoning\"", ".reasoning"]
            }
        }
    }
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same again, after a while.
    Again,
    /// The same again, but only for a moment: the server was never reached.
    Reach,
    /// The same without one of these features, if the request had it.
    Without(ModelErrorKind),
    /// Nothing helps.
    Never(ModelErrorKind),
}

/// What went wrong with one try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(in crate::model) struct Fault {
    /// Whether another try may help.
    pub(super) remedy: Remedy,
    /// What could not be done: a lower-case fragment.
    pub(super) what: String,
    /// The server's or the transport's words; may be empty.
    pub(super) because: String,
    /// What a person can do.
    pub(super) hint: Option<String>,
    /// The least wait that the server asks for.
    pub(super) asked: Option<Duration>,
    /// The size of the window in tokens, where the conversation did not fit it and the server tells.
    pub(super) window: Option<NonZeroU32>,
    /// The features of the request that the server names.
    pub(super) named: Vec<Feature>,
    /// Whether the server says that the model is to be asked over the Responses API.
    pub(super) wants_responses: bool,
}

impl Fault {
    /// A fault that may pass.
    pub(super) fn passing(what: impl Into<String>, because: impl Into<String>) -> Self {
        let (what, because) = (what.into(), because.into());
        Self {
            remedy: Remedy::Again,
            what,
            because,
            hint: None,
            asked: None,
            window: None,
            named: Vec::new(),
            wants_responses: false,
        }
    }

    /// A fault that stays.
    pub(super) fn lasting(kind: ModelErrorKind, what: impl Into<String>, because: impl Into<String>) -> Self {
        Self { remedy: Remedy::Never(kind), ..Self::passing(what, because) }
    }

    /// Adds what a person can do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Reads a response that is no success.
    pub(super) fn of_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_redirection() {
            let to = headers.get("location").and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            let what = format!("the server redirects ({status}) and is not followed with a key");
            return Self::lasting(ModelErrorKind::Protocol, what, super::endpoint::shown(to))
                .hint("set OPENAI_BASE_URL to where it leads, if you trust it");
        }
        Self::of_words(status.as_u16(), headers, &Words::of_body(body))
    }

    /// Reads an error that came in place of an answer: in a body with status 200, or within a stream.
    pub(super) fn of_error_object(words: &Words) -> Self {
        let by_words = [
            (402, &["insufficient_quota", "billing"][..]),
            (429, &["rate_limit", "rate limit", "too_many_requests", "resource_exhausted"]),
            (401, &["invalid_api_key", "authentication_error", "unauthorized"]),
            (529, &["overloaded"]),
            (400, &["invalid_request", "bad_request", "badrequest", "content_filter"]),
        ];
        let overflow = is_overflow(words).then_some(400);
        let told = by_words.iter().find(|(_, texts)| words.mention(texts)).map(|(status, _)| *status);
        Self::of_words(words.status.or(overflow).or(told).unwrap_or(500), &HeaderMap::new(), words)
    }

    fn of_words(status: u16, headers: &HeaderMap, words: &Words) -> Self {
        let because = words.message.clone();
        let fault = if words.html && status < 500 {
            not_the_api(status)
        } else if matches!(status, 400 | 404 | 413 | 422 | 500) && speaks_of_the_request(words) {
            by_request(words)
        } else {
            match status {
                401 => Self::lasting(ModelErrorKind::Auth, "the model's server refuses the key", "")
                    .hint("set OPENAI_API_KEY to a key that this server knows"),
                402 => out_of_credit(),
                403 if is_quota(words) => out_of_credit(),
                403 => Self::lasting(ModelErrorKind::Auth, "the model's server forbids this (403)", "")
                    .hint("check what the key in OPENAI_API_KEY is allowed: models, project, region"),
                404 | 405 => not_the_api(status),
                429 if is_quota(words) => out_of_credit(),
                429 => Self::passing("the model's server limits the rate (429)", ""),
                503 | 529 => Self::passing(format!("the model's server is overloaded ({status})"), ""),
                408 | 409 | 425 => Self::passing(format!("the model's server gave up ({status})"), ""),
                501 | 505 => not_the_api(status),
                500..=599 => Self::passing(format!("the model's server failed ({status})"), ""),
                _ => Self {
                    remedy: Remedy::Without(ModelErrorKind::BadRequest),
                    ..Self::passing(format!("the model's server refuses the request ({status})"), "")
                },
            }
        };
        let asked = if fault.remedy == Remedy::Again { asked_wait(headers, &words.message) } else { None };
        let overflows = fault.remedy == Remedy::Never(ModelErrorKind::ContextLength);
        let window =
            window(words).filter(|_| overflows).and_then(|size| u32::try_from(size).ok()).and_then(NonZeroU32::new);
        let named = Feature::ALL.into_iter().filter(|feature| words.mention(feature.names())).collect();
        let wants_responses = words.mention(&RESPONSES_ONLY);
        Self { because, asked, window, named, wants_responses, ..fault }
    }

    /// Whether it may be that the server has no Responses API.
    pub(super) fn is_without_responses(&self) -> bool {
        self.remedy == Remedy::Never(ModelErrorKind::Protocol)
    }

    /// The feature of the request that the server names in its refusal, if the request `has` it.
    pub(super) fn refused_feature(&self, has: impl Fn(Feature) -> bool) -> Option<Feature> {
        let Remedy::Without(_) = self.remedy else { return None };
        self.named.iter().copied().find(|feature| has(*feature))
    }

    /// What went wrong, in one line.
    pub(in crate::model) fn told(&self) -> String {
        let because = if self.because.is_empty() { String::new() } else { format!(": {}", self.because) };
        format!("{}{because}", self.what)
    }

    /// Whether the same server may answer the same request later.
    pub(in crate::model) fn may_pass(&self) -> bool {
        matches!(self.remedy, Remedy::Again | Remedy::Reach)
    }

    /// The least wait that the server asks for.
    pub(in crate::model) fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// Whether it lies in what was said, so that another server is not to be asked in this one's place.
    pub(in crate::model) fn is_about_the_conversation(&self) -> bool {
        matches!(self.remedy, Remedy::Never(ModelErrorKind::ContextLength | ModelErrorKind::ContentFilter))
    }

    /// The error for those who asked, once nothing more is tried.
    pub(in crate::model) fn into_error(self) -> ModelError {
        let kind = match self.remedy {
            Remedy::Again | Remedy::Reach => ModelErrorKind::Unavailable,
            Remedy::Without(kind) | Remedy::Never(kind) => kind,
        };
        let because = Some(self.because).filter(|because| !because.is_empty());
        let usual = match kind {
            ModelErrorKind::Unavailable => Some("try again later, or name another server with OPENAI_BASE_URL"),
            ModelErrorKind::BadRequest => Some("name another model with `--model`, or see what this server supports"),
            ModelErrorKind::ContentFilter => Some("say the goal in other words, or name another model with `--model`"),
            ModelErrorKind::Auth
            | ModelErrorKind::Quota
            | ModelErrorKind::Setup
            | ModelErrorKind::UnknownModel
            | ModelErrorKind::Protocol
            | ModelErrorKind::ContextLength
            | ModelErrorKind::Script => None,
        };
        let hint = self.hint.or_else(|| usual.map(str::to_owned));
        ModelError {
            kind,
            what: self.what,
            because,
            hint,
            window: self.window.map(|size| u64::from(size.get())),
            again_after: self.asked,
        }
    }
}

fn not_the_api(status: u16) -> Fault {
    let what = format!("the model's server has no such API there ({status})");
    Fault::lasting(ModelErrorKind::Protocol, what, "").hint(super::V1_HINT)
}

fn out_of_credit() -> Fault {
    Fault::lasting(ModelErrorKind::Quota, "the account has no credit left", "")
        .hint("add credit at the provider, or name another model with `--model` and OPENAI_BASE_URL")
}

/// Gemini calls a rate limit a quota too, but then says when to come back.
fn is_quota(words: &Words) -> bool {
    let for_now = words.mention(&["retry in", "try again in", "per minute", "per day", "tokens per min"]);
    words.mention(&[
        "insufficient_quota",
        "billing_hard_limit",
        "insufficient balance",
        "insufficient_balance",
        "insufficient credit",
        "insufficient_credit",
        "out of credit",
        "credit balance",
        "spend limit",
        "exceededbudget",
        "budget has been exceeded",
    ]) || (words.mention(&["exceeded your current quota"]) && !for_now)
}

const FILTER: [&str; 4] = ["content_filter", "content_policy", "responsibleaipolicy", "content management policy"];
const RESPONSES_ONLY: [&str; 3] = ["v1/responses", "use the responses api", "only supported in responses"];

fn names_no_model(words: &Words) -> bool {
    words.mention(&["model_not_found", "invalid model name", "not a valid model", "model_not_supported"])
        || (words.mention(&["model"])
            && words.mention(&["does not exist", "not found", "is not available", "unable to access", "no endpoints"]))
}

fn speaks_of_the_request(words: &Words) -> bool {
    is_overflow(words) || words.mention(&FILTER) || words.mention(&RESPONSES_ONLY) || names_no_model(words)
}

fn by_request(words: &Words) -> Fault {
    if is_overflow(words) {
        Fault::lasting(ModelErrorKind::ContextLength, "the conversation does not fit the model's window", "")
            .hint("name a model with a larger window with `--model`, or start the server with a larger one")
    } else if words.mention(&FILTER) {
        Fault::lasting(ModelErrorKind::ContentFilter, "the provider's filter refuses the conversation", "")
    } else if words.mention(&RESPONSES_ONLY) {
        Fault::lasting(ModelErrorKind::BadRequest, "this model does not call tools over Chat Completions", "")
            .hint("leave `--wire` out or say `--wire responses`, or name another model with `--model`")
    } else {
        Fault::lasting(ModelErrorKind::UnknownModel, "the model's server does not know the model", "")
            .hint("name one that it has with `--model`; most servers list theirs under /models of the base URL")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelErrorKind as K;

    fn fault(status: u16, body: &str) -> Fault {
        Fault::of_response(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn statuses_and_words_decide_what_helps() {
        let cases: &[(u16, &str, Remedy)] = &[
            (429, "slow down", Remedy::Again),
            (429, r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, Remedy::Never(K::Quota)),
            (429, "You exceeded your current quota. Please retry in 12s.", Remedy::Again),
            (402, r#"{"error":{"message":"Insufficient Balance"}}"#, Remedy::Never(K::Quota)),
            (401, r#"{"error":"no"}"#, Remedy::Never(K::Auth)),
            (403, "", Remedy::Never(K::Auth)),
            (404, r#"{"error":{"message":"The model `x` does not exist."}}"#, Remedy::Never(K::UnknownModel)),
            (404, r#"{"error":{"message":"model 'x' not found"}}"#, Remedy::Never(K::UnknownModel)),
            (400, r#"{"error":{"message":"x is not a valid model ID"}}"#, Remedy::Never(K::UnknownModel)),
            (404, "404 page not found", Remedy::Never(K::Protocol)),
            (404, r#"{"detail":"Not Found"}"#, Remedy::Never(K::Protocol)),
            (404, "<html><title>x</title>", Remedy::Never(K::Protocol)),
            (502, "<html><title>Bad Gateway</title>", Remedy::Again),
            (400, r#"{"error":{"type":"exceed_context_size_error","message":"m"}}"#, Remedy::Never(K::ContextLength)),
            (400, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#, Remedy::Never(K::ContextLength)),
            (400, r#"{"error":{"message":"m","code":"content_filter"}}"#, Remedy::Never(K::ContentFilter)),
            (404, "This model is only supported in v1/responses", Remedy::Never(K::BadRequest)),
            (400, r#"{"detail":[{"msg":"wrong"}]}"#, Remedy::Without(K::BadRequest)),
            (500, "boom", Remedy::Again),
            (501, "", Remedy::Never(K::Protocol)),
            (529, "", Remedy::Again),
            (408, "", Remedy::Again),
            (409, "", Remedy::Again),
            (301, "", Remedy::Never(K::Protocol)),
        ];
        for (status, body, remedy) in cases {
            assert_eq!(fault(*status, body).remedy, *remedy, "{status} {body}");
        }
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_classed_by_its_words() {
        let cases: &[(&str, Remedy)] = &[
            (r#"{"error":{"message":"m","code":502}}"#, Remedy::Again),
            (r#"{"error":{"message":"m","code":"429"}}"#, Remedy::Again),
            (r#"{"error":{"message":"m","type":"rate_limit_error"}}"#, Remedy::Again),
            (r#"{"error":{"message":"Overloaded"}}"#, Remedy::Again),
            (r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, Remedy::Never(K::Quota)),
            (r#"{"error":{"message":"m","code":401}}"#, Remedy::Never(K::Auth)),
            (r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, Remedy::Without(K::BadRequest)),
            (r#"{"error":"unknown trouble"}"#, Remedy::Again),
        ];
        for (body, remedy) in cases {
            assert_eq!(Fault::of_error_object(&Words::of_body(body.as_bytes())).remedy, *remedy, "{body}");
        }
    }

    #[test]
    fn a_refused_feature_is_found_by_its_name_where_it_was_sent() {
        let fault = fault(400, r#"{"error":{"message":"Unrecognized request argument: stream_options"}}"#);
        assert_eq!(fault.refused_feature(|_| true), Some(Feature::StreamOptions));
        assert_eq!(fault.refused_feature(|feature| feature != Feature::StreamOptions), None);
    }
}
