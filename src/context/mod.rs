//! What the model sees of the past: prompts, history, how things stand.

mod history;
mod prompt;
mod situation;

pub use history::History;
pub use prompt::{Prompt, PromptError};
pub use situation::Situation;
