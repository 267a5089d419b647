//! From what a person asked for to a model that answers.

use std::sync::Arc;

use super::openai::{OpenAi, Wire};
use super::scripted::Scripted;
use super::{Model, ModelError, ModelErrorKind, Patience};

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

/// Makes the model that was chosen. Reads the script's file; connects to nothing.
///
/// # Errors
/// [`ModelErrorKind::Setup`] where something is missing or wrong; [`ModelErrorKind::Script`] for a bad script.
pub fn open(choice: &ModelChoice) -> Result<Arc<dyn Model>, ModelError> {
    if let Some(file) = choice.name.strip_prefix(SCRIPT_PREFIX) {
        return Ok(Arc::new(Scripted::from_file(std::path::Path::new(file))?));
    }
    let key = choice.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    let url = choice.base_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
    if url.is_none() && key.is_none() {
        return Err(nobody_named());
    }
    if choice.name.trim().is_empty() {
        return Err(no_model_named());
    }
    let url = url.unwrap_or(OPENAI_BASE_URL);
    Ok(Arc::new(OpenAi::new(url, key, choice.name.trim(), choice.wire, choice.patience, choice.seed)?))
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
