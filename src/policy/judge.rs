//! What the rules of a run say of a call.

use crate::domain::{Permit, Rules, ToolCall};

/// What is said of a call, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgment {
    /// What is said.
    pub permit: Permit,
    /// By which rule and why, in words; empty where it is allowed.
    pub why: String,
}

/// Judges a call by the mode, the rules and what is built in.
pub fn judge(_rules: &Rules, _call: &ToolCall) -> Judgment {
    Judgment { permit: Permit::Allow, why: String::new() }
}
