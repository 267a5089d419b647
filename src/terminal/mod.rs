//! Sessions as tools and the loop use them: run a command, learn how it ended, see what matters of its output.

mod errors;
mod excerpt;
mod output;
mod render;
mod report;
mod scan;
mod terminal;

pub use excerpt::{Excerpt, ExcerptBudget};
pub use report::{CommandReport, CommandSpec, ReportState, TerminalError};
pub use terminal::{Terminal, TerminalOptions};
