//! The nouns that all modules share: plain, serialisable data without I/O, clock or async.

mod answering;
mod budget;
mod call;
mod check;
mod checkpoint;
mod checkpoints;
mod claim;
mod decision;
mod event;
mod failure;
mod id;
mod job;
mod jobs;
mod lesson;
mod observer;
mod question;
mod questions;
mod reduction;
mod rules;
mod spec;
mod step;
mod verdict;
mod visible;
mod words;

pub use answering::Answering;
pub use budget::{Budget, Price, Spent, money_words};
pub use call::{Exit, Outcome, OutputFacts, Status, ToolCall, Usage};
pub use check::{Check, CheckError, Comparison};
pub use checkpoint::{
    BoxReturn, Checkpoint, CheckpointReason, CheckpointRules, Consistency, Effect, Parent, SessionState, Snapshot,
    checkpoint_name,
};
pub use checkpoints::{CheckpointRecord, Checkpoints};
pub use claim::{CheckResult, FileHash, FinishClaim, Requirement};
pub use decision::{Confidence, Decision, Level, Reaction, Signal, TurnedOut, Weighed};
pub use event::{BlobRef, BoxFacts, Capability, Entry, Event, FORMAT_MAJOR, FORMAT_MINOR, SandboxKind};
pub use failure::{Failure, FailureClass};
pub use id::{CheckpointId, DecisionId, IdError, JobId, QuestionId, RunId, SessionName};
pub use job::{
    BoxUsage, Finding, GpuUsage, InputKind, Job, JobEnd, NoticeKind, Probe, Readiness, WaitRecord, WakeCause, call_work,
};
pub use jobs::{Fate, JobRecord, Jobs};
pub use lesson::{Experience, Learning, Lesson};
pub use observer::{Observer, Progress, WaitProgress};
pub use question::{AnsweredAt, Choice, OnSilence, Question, QuestionEnd, Reply, Silence, Subject};
pub use questions::{QuestionRecord, QuestionState, Questions};
pub use reduction::{Reduction, ReductionCause, Summary, SummaryBy};
pub use rules::{ActMode, Permit, Rule, Rules, Scope};
pub use spec::{AskedNew, BoxAsked, ProjectDoc, RunMode, RunSpec};
pub use step::PastStep;
pub use verdict::{ExitReason, Verdict};
pub use visible::{must_be_shown, visible, visible_json, visible_line};
pub use words::{duration_words, most_alike, seconds_words, size_words};
