//! What the model sees of the past: prompts, history, how things stand, and how a conversation is kept within a window.

mod attempts;
mod digest;
mod history;
mod prompt;
mod reduce;
mod shares;
mod situation;
mod step;
mod unit;
mod window;

pub use history::History;
pub use prompt::{Prompt, PromptError};
pub use reduce::{Begin, MOST_ASKED, NoRoom, Reducer};
pub use shares::{Part, shares};
pub use situation::Situation;
pub use step::{Step, StepEnd};
pub use unit::{Kind, Unit};
pub use window::{Meter, Window};
