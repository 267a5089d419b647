//! From what a person asked for to a model that answers.

use std::sync::Arc;

use super::fallbacks::{Fallbacks, Member};
use super::openai::{OpenAi, Wire};
use super::scripted::Scripted;
use super::{Model, ModelError, ModelErrorKind, Patience, parse_price};
use crate::domain::Price;

/// OpenAI's own base URL, taken when there is a key and no other server is named.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// What begins the name of a model that is a script file.
pub const SCRIPT_PREFIX: &str = "script:";

/// Which model, where, and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The model's name as its server knows it, or `script:FILE`.
    pub name: String,
    /// The server, such as `http://127.0.0.1:11434/v1`; None means OpenAI if there is a key.
    pub base_url: Option<String>,
    /// The key; None where the server needs none.
    pub api_key: Option<String>,
    /// Which API to speak.
    pub wire: Wire,
    /// How long to wait for the server.
    pub patience: Patience,
    /// Seeds the jitter of waits.
    pub seed: u64,
}

impl ModelChoice {
    /// The server's base URL for the record, without credentials; empty for a script.
    pub fn shown_base_url(&self) -> String {
        if self.name.starts_with(SCRIPT_PREFIX) {
            return String::new();
        }
        super::openai::shown_url(self.base_url.as_deref().unwrap_or(OPENAI_BASE_URL))
    }
}

impl std::fmt::Debug for ModelChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelChoice")
            .field("name", &self.name)
            .field("base_url", &self.shown_base_url())
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("wire", &self.wire)
            .field("patience", &self.patience)
            .field("seed", &self.seed)
            .finish()
    }
}

/// A model that is asked while those before it can't answer, as a person names it: `MODEL[@URL][=PRICE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The model's name as its server knows it.
    pub name: String,
    /// Its server; None is the one of the first model.
    pub base_url: Option<String>,
    /// What its tokens cost, where that was said.
    pub price: Option<Price>,
}

impl Fallback {
    /// Reads it.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RIGHT: &str = "MODEL, MODEL@URL or MODEL@URL=PRICE, such as gpt-4.1@https://api.openai.com/v1=2,0.5,8";
        let (rest, price) = match text.rsplit_once('=').map(|(rest, price)| (rest, price, parse_price(price))) {
            Some((rest, _, Ok(price))) => (rest, Some(price)),
            // What a URL asks for is no price.
            Some((rest, _, Err(_))) if rest.contains("://") => (text, None),
            Some(_) => return Err(RIGHT),
            None => (text, None),
        };
        let at = ["@http://", "@https://"].iter().find_map(|mark| rest.find(mark));
        let (name, base_url) = match at {
            Some(at) => (&rest[..at], Some(rest[at + 1..].trim_end_matches('/').to_owned())),
            None => (rest, None),
        };
        let is_name = !name.is_empty() && !name.starts_with(SCRIPT_PREFIX) && !name.contains(char::is_whitespace);
        is_name.then(|| Self { name: name.to_owned(), base_url, price }).ok_or(RIGHT)
    }

    /// As it stands in the record: `MODEL` or `MODEL@URL`, without credentials and price.
    pub fn shown(&self) -> String {
        match &self.base_url {
            Some(url) => format!("{}@{}", self.name, super::openai::shown_url(url)),
            None => self.name.clone(),
        }
    }
}

/// The environment variable that holds the key of a server other than the first model's: `LONGHAUL_KEY_` and the server's
/// name in capitals, with `_` for whatever is no letter or digit, such as `LONGHAUL_KEY_OPENROUTER_AI`.
pub fn key_variable(base_url: &str) -> String {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("LONGHAUL_KEY_{}", host.chars().map(plain).collect::<String>())
}

/// Makes the model that was chosen. Reads the script's file; connects to nothing.
///
/// # Errors
/// [`ModelErrorKind::Setup`] where something is missing or wrong; [`ModelErrorKind::Script`] for a bad script.
pub fn open(choice: &ModelChoice) -> Result<Arc<dyn Model>, ModelError> {
    open_all(choice, &[])
}

/// Makes a model that is whichever of these can answer: `first`, or else the others in their order, each with the name
/// that it has in the record. A script is never replaced.
///
/// # Errors
/// As [`open`].
pub fn open_all(first: &ModelChoice, others: &[(String, ModelChoice)]) -> Result<Arc<dyn Model>, ModelError> {
    if let Some(file) = first.name.strip_prefix(SCRIPT_PREFIX) {
        return Ok(Arc::new(Scripted::from_file(std::path::Path::new(file))?));
    }
    let model = server(first)?;
    if others.is_empty() {
        return Ok(Arc::new(model));
    }
    let mut members = vec![Member { name: first.name.clone(), model }];
    for (name, choice) in others {
        members.push(Member { name: name.clone(), model: server(choice)? });
    }
    Ok(Arc::new(Fallbacks::new(members, first.patience, first.seed)))
}

fn server(choice: &ModelChoice) -> Result<OpenAi, ModelError> {
    let key = choice.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    let url = choice.base_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
    if url.is_none() && key.is_none() {
        return Err(nobody_named());
    }
    if choice.name.trim().is_empty() {
        return Err(no_model_named());
    }
    let url = url.unwrap_or(OPENAI_BASE_URL);
    OpenAi::new(url, key, choice.name.trim(), choice.wire, choice.patience, choice.seed)
}

fn nobody_named() -> ModelError {
    ModelError {
        because: Some("neither OPENAI_API_KEY nor OPENAI_BASE_URL says who is to answer".to_owned()),
        hint: Some(
            [
                "OpenAI: `export OPENAI_API_KEY=sk-…` and `agent do --model gpt-4.1 GOAL`",
                "Ollama on this machine: `agent do --base-url http://127.0.0.1:11434/v1 --model qwen3 GOAL`",
                "vLLM on this machine: `agent do --base-url http://127.0.0.1:8000/v1 --model NAME GOAL`",
                "without any model: `agent demo`",
            ]
            .join("\n"),
        ),
        ..ModelError::new(ModelErrorKind::Setup, "no key and no model server")
    }
}

fn no_model_named() -> ModelError {
    ModelError {
        because: Some("a server may have many, and there is no default".to_owned()),
        hint: Some("name one that the server has: `agent do --model NAME GOAL`, or LONGHAUL_MODEL".to_owned()),
        ..ModelError::new(ModelErrorKind::Setup, "no model is named")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_a_model_perhaps_a_server_and_perhaps_a_price() {
        let read = |text: &str| Fallback::parse(text).map(|read| (read.shown(), read.price.map(|price| price.output)));
        let shown = |text: &str, output: Option<u64>| Ok((text.to_owned(), output));
        assert_eq!(read("gpt-4.1"), shown("gpt-4.1", None));
        assert_eq!(read("a/b:free@https://h/v1/"), shown("a/b:free@https://h/v1", None));
        assert_eq!(read("m@http://127.0.0.1:1/v1=1,2"), shown("m@http://127.0.0.1:1/v1", Some(2_000_000)));
        assert_eq!(read("m@https://u:secret@h/v1?key=secret"), shown("m@https://h/v1", None));
        assert_eq!(read("m=2,8"), shown("m", Some(8_000_000)));
        for bad in ["", "@https://h/v1", "script:x.toml", "m=", "m=cheap", "m=-1,2", "two words"] {
            assert!(Fallback::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_server_has_a_variable_for_its_key() {
        assert_eq!(key_variable("https://openrouter.ai/api/v1"), "LONGHAUL_KEY_OPENROUTER_AI");
        assert_eq!(key_variable("http://127.0.0.1:8000/v1"), "LONGHAUL_KEY_127_0_0_1_8000");
        assert_eq!(key_variable("https://u:p@h.example/v1"), "LONGHAUL_KEY_H_EXAMPLE");
    }
}
