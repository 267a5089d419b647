//! The nouns that all modules share: plain, serialisable data without I/O, clock or async.

mod answering;
mod budget;
mod call;
mod checkpoint;
mod checkpoints;
mod event;
mod failure;
mod id;
mod job;
mod jobs;
mod observer;
mod reduction;
mod spec;
mod step;
mod verdict;
mod words;

pub use answering::Answering;
pub use budget::{Budget, Price, Spent, money_words};
pub use call::{Exit, Outcome, OutputFacts, Status, ToolCall, Usage};
pub use checkpoint::{
    BoxReturn, Checkpoint, CheckpointId, CheckpointIdError, CheckpointReason, CheckpointRules, Consistency, Effect,
    Parent, SessionState, Snapshot, checkpoint_name,
};
pub use checkpoints::{CheckpointRecord, Checkpoints};
pub use event::{
    BlobRef, BoxFacts, Capability, CheckResult, Entry, Event, FORMAT_MAJOR, FORMAT_MINOR, FinishClaim, SandboxKind,
};
pub use failure::{Failure, FailureClass};
pub use id::{IdError, RunId, SessionName};
pub use job::{
    BoxUsage, Finding, GpuUsage, InputKind, Job, JobEnd, JobId, JobIdError, NoticeKind, Probe, Readiness, WaitRecord,
    WakeCause,
};
pub use jobs::{Fate, JobRecord, Jobs};
pub use observer::{Observer, Progress, WaitProgress};
pub use reduction::{Reduction, ReductionCause, Summary, SummaryBy};
pub use spec::{AskedNew, BoxAsked, ProjectDoc, RunMode, RunSpec};
pub use step::PastStep;
pub use verdict::{ExitReason, Verdict};
pub use words::{duration_words, seconds_words, size_words};
