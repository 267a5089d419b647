//! Whoever speaks OpenAI's Chat Completions over HTTP.

use async_trait::async_trait;

use super::{Answer, Model, ModelError, ModelErrorKind, Patience, Request, Sink};

/// A model behind an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAi {}

impl OpenAi {
    /// Takes the server's base URL, its key where it needs one, the model's name there, and how long to wait for it.
    ///
    /// # Errors
    /// [`ModelErrorKind::Setup`] for a URL that is none or would send the key in clear, and for a key that is no header.
    pub fn new(
        _base_url: &str,
        _key: Option<&str>,
        _name: &str,
        _patience: Patience,
        _seed: u64,
    ) -> Result<Self, ModelError> {
        Ok(Self {})
    }
}

pub(crate) fn shown_url(url: &str) -> String {
    url.to_owned()
}

#[async_trait]
impl Model for OpenAi {
    fn render(&self, _request: &Request) -> Vec<u8> {
        Vec::new()
    }

    async fn answer(&self, _request: &Request, _sink: Sink<'_>) -> Result<Answer, ModelError> {
        Err(ModelError { kind: ModelErrorKind::Protocol, what: "not built yet".to_owned(), because: None, hint: None })
    }
}
