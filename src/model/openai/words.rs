//! What a server says when it refuses, whatever shape it says it in.

use serde_json::Value;

/// Longest message that is passed on.
const MAX_CHARS: usize = 600;

/// A server's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// The message for people, in one line.
    pub(super) message: String,
    /// Type, code and parameter in lower case, set apart by blanks.
    pub(super) codes: String,
    /// An HTTP status given in the body.
    pub(super) status: Option<u16>,
    /// The size of the window in tokens, as a field of its own.
    pub(super) window: Option<u64>,
    /// Whether they came as a web page.
    pub(super) html: bool,
}

impl Words {
    /// Reads the body of a response.
    pub(super) fn of_body(body: &[u8]) -> Self {
        if let Ok(json) = serde_json::from_slice::<Value>(body)
            && let Some(words) = Self::of_json(&json)
        {
            return words;
        }
        let text = String::from_utf8_lossy(body);
        let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').as_bytes();
        let begins = |tag: &str| start.len() >= tag.len() && start[..tag.len()].eq_ignore_ascii_case(tag.as_bytes());
        if begins("<!doctype") || begins("<html") || begins("<head") || begins("<?xml") {
            return Self { message: page_title(&text), html: true, ..Self::default() };
        }
        Self { message: one_line(&text), ..Self::default() }
    }

    /// Reads an error out of JSON; None where there is none in it.
    pub(super) fn of_json(json: &Value) -> Option<Self> {
        let json = json.as_array().and_then(|list| list.first()).unwrap_or(json);
        let error = match json.get("error") {
            Some(Value::Null | Value::Bool(false)) | None => json,
            Some(error) => error,
        };
        let holds_error = !std::ptr::eq(error, json)
            || json.get("object").is_some_and(|kind| kind == "error")
            || ["detail", "message", "errors"].iter().any(|key| json.get(key).is_some());
        if !holds_error || json.get("choices").is_some_and(|choices| choices.as_array().is_some_and(|c| !c.is_empty()))
        {
            return None;
        }
        let message = match error {
            Value::String(text) => text.clone(),
            _ => ["message", "detail", "error", "msg", "errors"]
                .iter()
                .find_map(|key| error.get(key).filter(|value| !value.is_null()))
                .map_or_else(|| error.to_string(), message_of),
        };
        let code = |key: &str| error.get(key).map(plain).unwrap_or_default();
        // OpenRouter passes on what its upstream said.
        let upstream = error.pointer("/metadata/raw").map(plain).unwrap_or_default();
        let message = if upstream.is_empty() { message } else { format!("{message}: {upstream}") };
        let codes = [code("type"), code("code"), code("param"), code("status")].join(" ").to_lowercase();
        let status = ["code", "status", "status_code"].iter().find_map(|key| plain(error.get(key)?).parse().ok());
        let status = status.filter(|status| (400..600).contains(status));
        let window = error.get("n_ctx").and_then(Value::as_u64);
        Some(Self { message: one_line(&message), codes, status, window, html: false })
    }

    /// Whether message or codes contain one of these, in lower case.
    pub(super) fn mention(&self, any: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        any.iter().any(|text| message.contains(text) || self.codes.contains(text))
    }
}

fn message_of(value: &Value) -> String {
    match value {
        Value::Array(list) => list.iter().map(message_of).collect::<Vec<_>>().join("; "),
        Value::Object(map) => {
            let message = map.get("msg").or_else(|| map.get("message")).map(plain).unwrap_or_else(|| value.to_string());
            let place = map.get("loc").and_then(Value::as_array).map(|loc| loc.iter().map(plain).collect::<Vec<_>>());
            place.map_or_else(|| message.clone(), |place| format!("{}: {message}", place.join(".")))
        }
        _ => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn page_title(text: &str) -> String {
    // Lower-casing ASCII keeps every offset.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let begin = at + lower[at..].find('>')? + 1;
        let end = begin + lower[begin..].find("</title")?;
        Some(one_line(&text[begin..end]))
    });
    title.filter(|title| !title.is_empty()).map_or_else(|| "a web page".to_owned(), |title| format!("“{title}”"))
}

/// The text in one line, without control characters, cut to a readable length.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (String, String) {
        let words = Words::of_body(body.as_bytes());
        (words.message, words.codes.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_known_shape_of_an_error_is_read() {
        let cases = [
            (r#"{"error":{"message":"m","type":"T","param":null,"code":"c"}}"#, "m", "t c"),
            (r#"{"error":{"message":"m","code":400}}"#, "m", "400"),
            (r#"{"error":"m"}"#, "m", ""),
            (r#"{"object":"error","message":"m","type":"T","code":40001}"#, "m", "t 40001"),
            (r#"{"detail":"m"}"#, "m", ""),
            (r#"{"detail":[{"loc":["body","messages",0],"msg":"m"}]}"#, "body.messages.0: m", ""),
            (r#"{"message":"m"}"#, "m", ""),
            (r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#, "m", "429 resource_exhausted"),
            (r#"{"error":{"message":"m","metadata":{"raw":"upstream"}}}"#, "m: upstream", ""),
            ("plain\n\twords ", "plain words", ""),
        ];
        for (body, message, codes) in cases {
            assert_eq!(read(body), (message.to_owned(), codes.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_web_page_is_told_by_its_title() {
        let words = Words::of_body("\u{feff} <!DOCTYPE html><TITLE lang=de>Ä 502 \n Bad</title>".as_bytes());
        assert!(words.html);
        assert_eq!(words.message, "“Ä 502 Bad”");
    }

    #[test]
    fn an_answer_is_no_error() {
        let words = Words::of_json(&serde_json::json!({"choices": [{"delta": {}}], "error": null}));
        assert_eq!(words, None);
        assert_eq!(Words::of_json(&serde_json::json!({})), None);
        assert_eq!(Words::of_json(&serde_json::json!("text")), None);
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(one_line(&"é".repeat(2000)).chars().count(), MAX_CHARS + 1);
    }
}
