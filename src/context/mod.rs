//! What the model sees of the past: prompts and history.

mod history;
mod prompt;

pub use history::History;
pub use prompt::{Prompt, PromptError};
