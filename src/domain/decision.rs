//! What was decided about a failure, on what grounds, and how that turned out.

use serde::{Deserialize, Serialize};

use super::{CheckpointId, DecisionId, FailureClass};

/// What may be done about a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Reaction {
    /// The harness runs the same command again after a while.
    RetryAsIs {
        /// The while.
        after_ms: u64,
    },
    /// The harness runs it again with other resources.
    RetryChanged {
        /// What is changed, in words.
        what: String,
    },
    /// The model mends what is wrong.
    FixForward {
        /// What the box can be brought back to if that makes things worse.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<CheckpointId>,
    },
    /// The box goes back, and the model takes another path.
    RollBack {
        /// Where to.
        to: CheckpointId,
    },
    /// The same again at a certain time.
    Park {
        /// Until then.
        until: jiff::Timestamp,
    },
    /// A person is asked.
    Ask,
    /// It is given up.
    Abort,
}

impl Reaction {
    /// Its name, as it stands in transcripts and in what is remembered across runs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RetryAsIs { .. } => "retry_as_is",
            Self::RetryChanged { .. } => "retry_changed",
            Self::FixForward { .. } => "fix_forward",
            Self::RollBack { .. } => "roll_back",
            Self::Park { .. } => "park",
            Self::Ask => "ask",
            Self::Abort => "abort",
        }
    }

    /// Whether the harness runs the same command again.
    pub fn is_try(&self) -> bool {
        match self {
            Self::RetryAsIs { .. } | Self::RetryChanged { .. } | Self::Park { .. } => true,
            Self::FixForward { .. } | Self::RollBack { .. } | Self::Ask | Self::Abort => false,
        }
    }
}

/// How sure it is that a reaction helps, by evidence alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A person is asked.
    Low,
    /// It goes on if the effect stays in the box.
    Medium,
    /// It goes on.
    High,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A level with what it comes from: the worst of the signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confidence {
    /// The worst level of all.
    pub level: Level,
    /// Every signal that was looked at, with its own level and the reason.
    pub signals: Vec<Signal>,
}

/// One ground of a confidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Which: `verification`, `repeats`, `novelty`, `effect`, `progress`, `budget` or `self_report`.
    pub name: String,
    /// Its level.
    pub level: Level,
    /// Why, in words.
    pub why: String,
}

/// A decision about a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its name.
    pub id: DecisionId,
    /// The call that failed; None where it was a job or a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// What it comes from.
    pub class: FailureClass,
    /// The failure's mark.
    pub fingerprint: String,
    /// What it rests on: entries, counters, lines.
    pub evidence: Vec<String>,
    /// What could have been done, the best first, each with why or why not.
    pub options: Vec<Weighed>,
    /// What is done.
    pub chosen: Reaction,
    /// How sure that is.
    pub confidence: Confidence,
    /// What is expected to be seen if it helps, in one line.
    pub expected: String,
}

/// A reaction that was weighed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// It.
    pub reaction: Reaction,
    /// What speaks for it, or why it was left out.
    pub why: String,
}

/// How a decision turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnedOut {
    /// What had failed has succeeded since.
    Worked,
    /// The same failure came again.
    Failed,
    /// Another failure came in its place: it got further, or somewhere else.
    Changed,
    /// The run ended or took another way before it could be seen.
    Unknown,
}
