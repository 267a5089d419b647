//! Where a run's boxes come from.

use futures_util::future::BoxFuture;

use crate::domain::Snapshot;
use crate::tools::{Workbench, WorkbenchError};

/// A box that is being made while the first request is on its way.
pub type Opening = BoxFuture<'static, Result<Workbench, WorkbenchError>>;

/// The box that a run had before its driver went.
pub enum FoundBench {
    /// It is up, and all that ran in it still runs.
    Alive(Workbench),
    /// It was started again with its files. Why it had ended, in words.
    Restarted(Workbench, String),
    /// Nothing of it is left. Why, in words.
    Gone(String),
}

/// Makes, finds and removes the boxes of one run. The work goes on whether or not the futures are polled to their end.
pub trait Boxes: Send + Sync {
    /// Makes a box: a new one, or one from a snapshot. There must be none of this run.
    fn open(&self, from: Option<Snapshot>) -> Opening;

    /// Finds the one that the run had.
    fn find(&self) -> BoxFuture<'static, Result<FoundBench, WorkbenchError>>;

    /// Boxes that are made or started again from now on have this memory limit.
    fn has_grown(&self, memory_bytes: u64);

    /// Whether the records of the run's boxes, which outlive them, say how a command ended.
    fn has_ended(&self, work: &str) -> bool;

    /// What a snapshot rests on and is not there any more, in words, as far as that is seen at once.
    fn lack_of(&self, snapshot: &Snapshot) -> Option<String>;

    /// Removes a snapshot; what could not be removed, in words.
    fn discard(&self, snapshot: Snapshot) -> BoxFuture<'static, Vec<String>>;
}
