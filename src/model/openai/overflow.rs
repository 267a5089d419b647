//! How large a model's window is, out of a refusal of what does not fit it: pure, by the words of the servers.

use super::words::Words;

/// What a refusal of a conversation as too long says, in lower case.
const TELLS: [&str; 17] = [
    "context_length",
    "context length",
    "exceed_context_size",
    "exceeds the available context",
    "context window",
    "context limit",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "too many input tokens",
    "maximum model length",
    "maximum number of tokens allowed",
    "maximum prompt length",
    "maximum allowed length",
    "model token limit",
    "max_new_tokens` must be",
    "tokens in the prompt cannot exceed",
];

/// What stands right before the size of the window, in lower case.
const BEFORE: [&str; 14] = [
    "context length is",
    "context length of only",
    "context length of",
    "context length (",
    "available context size (",
    "context window of",
    "context window is",
    "maximum model length of",
    "maximum prompt length is",
    "maximum number of tokens allowed (",
    "maximum allowed length (",
    "model token limit:",
    "max_new_tokens` must be <=",
    "tokens in the prompt cannot exceed",
];

/// What stands right after it.
const AFTER: [&str; 2] = ["maximum context length", "maximum"];

/// No window is smaller, and none is larger: other numbers mean something else.
const SENSIBLE: std::ops::RangeInclusive<u64> = 256..=100_000_000;

/// Whether a conversation was refused as too long.
pub(super) fn is_overflow(words: &Words) -> bool {
    words.mention(&TELLS)
}

/// The window's size in tokens, where the refusal tells it.
pub(super) fn window(words: &Words) -> Option<u64> {
    let text = words.message.to_lowercase();
    let before = || BEFORE.iter().find_map(|lead| number_at(text.split_once(lead)?.1));
    let after = || AFTER.iter().find_map(|tail| number_before(text.split_once(tail)?.0));
    let limit = || number_at(text.split_once("context limit:")?.1.split_once('>')?.1);
    words.window.or_else(before).or_else(limit).or_else(after).filter(|size| SENSIBLE.contains(size))
}

/// The number with which a text begins; thousands may be set apart by commas.
fn number_at(text: &str) -> Option<u64> {
    let digits: String =
        text.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().ok()
}

/// The number with which a text ends.
fn number_before(text: &str) -> Option<u64> {
    let is_part = |c: char| c.is_ascii_digit() || c == ',';
    let text = text.trim_end();
    number_at(&text[text.trim_end_matches(is_part).len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_read_from_what_servers_say() {
        let cases: &[(&str, Option<u64>)] = &[
            (
                r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                Some(128_000),
            ),
            (
                r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","code":"context_length_exceeded"}}"#,
                None,
            ),
            (
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion).","type":"BadRequestError","code":400}"#,
                Some(4096),
            ),
            (
                r#"{"error":{"message":"The decoder prompt (length 5123) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller.","code":400}}"#,
                Some(4096),
            ),
            (
                r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":8192}}"#,
                Some(8192),
            ),
            (
                r#"{"error":{"code":400,"message":"request (9001 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error"}}"#,
                Some(8192),
            ),
            (
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#,
                Some(200_000),
            ),
            (
                r#"{"error":{"message":"input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000, decrease input length or `max_tokens` and try again"}}"#,
                Some(200_000),
            ),
            (
                r#"[{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).","status":"INVALID_ARGUMENT"}}]"#,
                Some(1_048_575),
            ),
            (
                r#"{"error":{"message":"This endpoint's maximum context length is 163,840 tokens. However, you requested about 170,000 tokens."}}"#,
                Some(163_840),
            ),
            (
                r#"{"message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"}"#,
                Some(32_768),
            ),
            (
                r#"{"object":"error","message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","code":400}"#,
                Some(4096),
            ),
            (
                r#"{"error":"This model's maximum prompt length is 131072 but the request contains 150000 tokens."}"#,
                Some(131_072),
            ),
            (
                r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)"}}"#,
                Some(131_072),
            ),
            (
                r#"{"error":"Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}"#,
                Some(4096),
            ),
            (r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193."}"#, Some(8193)),
            (r#"{"error":{"message":"This model's maximum context length is 3 tokens."}}"#, None),
            (r#"{"error":{"message":"maximum context length is 99999999999999999999999 tokens"}}"#, None),
        ];
        for (body, size) in cases {
            let words = Words::of_body(body.as_bytes());
            assert!(is_overflow(&words), "{body}");
            assert_eq!(window(&words), *size, "{body}");
        }
    }

    #[test]
    fn other_refusals_are_none() {
        for body in [
            r#"{"error":{"message":"max_tokens must be at most 4096"}}"#,
            r#"{"error":{"message":"Rate limit reached: 30000 tokens per min"}}"#,
            "",
        ] {
            assert!(!is_overflow(&Words::of_body(body.as_bytes())), "{body}");
        }
    }
}
