//! Workflows: what a file says, whether it makes sense, and the graph of its stages.

mod definition;
mod expression;
mod expression_reading;
mod graph;
mod load;
mod meaning;
mod mistake;
mod parts;
mod shape;
mod texts;
mod tree;
mod units;

pub use definition::{Stage, Workflow, schema};
pub use expression::{Expression, ExpressionError, Function, Operator, Scope, Template};
pub use graph::{Cycle, Graph, as_dot, as_mermaid, as_text};
pub use load::{Read, read, text_of};
pub use mistake::{Mistake, MistakeKind};
