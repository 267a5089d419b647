//! Why a run could not go on: what, because, hint.

use crate::domain::ExitReason;
use crate::journal::{AppendError, BlobError};
use crate::model::{ModelError, ModelErrorKind};
use crate::tools::WorkbenchError;

/// What stopped a run that neither the model nor a person stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Decides the exit code.
    pub reason: ExitReason,
    /// What could not be done: a lower-case fragment.
    pub what: String,
    /// The causes, outermost first.
    pub because: Vec<String>,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Trouble {
    /// The trouble in one line, for the record.
    pub fn line(&self) -> String {
        let mut line = self.what.clone();
        for cause in &self.because {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

/// The exit code's reason for a model that can't answer.
fn reason_of(kind: ModelErrorKind) -> ExitReason {
    match kind {
        ModelErrorKind::Auth => ExitReason::Auth,
        ModelErrorKind::Quota | ModelErrorKind::Unavailable => ExitReason::ProviderUnavailable,
        ModelErrorKind::Setup
        | ModelErrorKind::UnknownModel
        | ModelErrorKind::BadRequest
        | ModelErrorKind::Protocol => ExitReason::Usage,
        ModelErrorKind::ContextLength => ExitReason::Budget,
        ModelErrorKind::ContentFilter => ExitReason::Refused,
        ModelErrorKind::Script => ExitReason::Failed,
    }
}

impl From<ModelError> for Trouble {
    fn from(error: ModelError) -> Self {
        Self {
            reason: reason_of(error.kind),
            what: error.what,
            because: error.because.into_iter().collect(),
            hints: error
                .hint
                .into_iter()
                .flat_map(|hint| hint.lines().map(str::to_owned).collect::<Vec<_>>())
                .collect(),
        }
    }
}

impl From<WorkbenchError> for Trouble {
    fn from(error: WorkbenchError) -> Self {
        match error {
            WorkbenchError::NoBox(error) => Self {
                reason: ExitReason::SandboxUnavailable,
                what: error.what,
                because: error.because.into_iter().collect(),
                hints: error.hint.into_iter().flat_map(|hint| hint.lines().map(str::to_owned).collect::<Vec<_>>()).collect(),
            },
            WorkbenchError::Gone(_) => Self {
                reason: ExitReason::SandboxUnavailable,
                what: "the box ended under the run".to_owned(),
                because: chain(&error),
                hints: vec!["see what happened with `agent replay last`; the workspace's changes are kept in the run's directory".to_owned()],
            },
        }
    }
}

impl From<AppendError> for Trouble {
    fn from(error: AppendError) -> Self {
        of_disk(&error, matches!(error, AppendError::Full(_)))
    }
}

impl From<BlobError> for Trouble {
    fn from(error: BlobError) -> Self {
        of_disk(&error, matches!(error, BlobError::Full(_)))
    }
}

fn of_disk(error: &dyn std::error::Error, full: bool) -> Trouble {
    let hint = "make room with `agent runs du` and `agent runs rm RUN`, or set LONGHAUL_STATE_DIR to another disk";
    Trouble {
        reason: ExitReason::Internal,
        what: error.to_string(),
        because: chain(error),
        hints: if full { vec![hint.to_owned()] } else { Vec::new() },
    }
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}
