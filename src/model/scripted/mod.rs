//! A model that plays a script file.

use std::path::Path;

use async_trait::async_trait;

use super::{Answer, Model, ModelError, ModelErrorKind, Request, Sink};

/// Plays a script.
#[derive(Debug)]
pub struct Scripted {}

impl Scripted {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ModelErrorKind::Script`] with file and line.
    pub fn from_file(_file: &Path) -> Result<Self, ModelError> {
        Ok(Self {})
    }
}

#[async_trait]
impl Model for Scripted {
    fn render(&self, _request: &Request) -> Vec<u8> {
        Vec::new()
    }

    async fn answer(&self, _request: &Request, _sink: Sink<'_>) -> Result<Answer, ModelError> {
        Err(ModelError { kind: ModelErrorKind::Script, what: "not built yet".to_owned(), because: None, hint: None })
    }
}
