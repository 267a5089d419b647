//! A step: one call of a tool and what came of it. Steps are counted from 1 in the order in which the model asked for
//! them, calls that were never run among them.

use jiff::Timestamp;

use super::{Job, JobEnd, Outcome, ToolCall};

/// A step as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct PastStep {
    /// From 1.
    pub number: u64,
    /// The call, as the model wrote it.
    pub call: ToolCall,
    /// When the model asked for it.
    pub asked: Timestamp,
    /// What came of it; None while it is under way.
    pub outcome: Option<Outcome>,
    /// The job that it became, if it did, and how that ended, if it has.
    pub job: Option<(Job, Option<JobEnd>)>,
}
