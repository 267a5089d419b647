//! Sessions as tools and the loop use them: run a command, learn how it ended, see what matters of its output.

mod excerpt;
mod report;
mod terminal;

pub use excerpt::{Excerpt, ExcerptBudget};
pub use report::{CommandReport, CommandSpec, ReportState, TerminalError};
pub use terminal::{Terminal, TerminalOptions};
