//! The tool by which the model asks for what was done, answered from the transcript, without the box; and a person's wish
//! that the conversation show less of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::Driver;
use super::room::Reduced;
use super::trouble::Trouble;
use crate::domain::{Event, NoticeKind, Outcome, PastStep, ReductionCause, Status, ToolCall};
use crate::journal::Steps;
use crate::tools::{Memory, RecallArgs, recall};

/// The steps of the run that is driven.
#[derive(Debug, Clone)]
pub(super) struct Recalled(Arc<Mutex<Steps>>);

impl Recalled {
    /// Of these.
    pub(super) fn of(steps: Steps) -> Self {
        Self(Arc::new(Mutex::new(steps)))
    }
}

impl Memory for Steps {
    fn count(&mut self) -> Result<u64, String> {
        Self::count(self).map_err(|error| error.to_string())
    }

    fn step(&mut self, number: u64) -> Result<PastStep, String> {
        Self::step(self, number).map_err(|error| error.to_string())
    }

    fn number_of(&mut self, call_id: &str) -> Result<Option<u64>, String> {
        Self::number_of(self, call_id).map_err(|error| error.to_string())
    }

    fn dir(&self) -> &Path {
        Self::dir(self)
    }
}

impl Driver {
    /// Makes the conversation smaller because a person asked for it; says so where that can't be.
    pub(super) async fn compact(&mut self) -> Result<(), Trouble> {
        match self.reduce(ReductionCause::Asked).await? {
            Reduced::Done(_) | Reduced::Interrupted => Ok(()),
            Reduced::Nothing | Reduced::NoRoom(_) => {
                let text = "there is nothing in the conversation that could be left out".to_owned();
                self.note(Event::Noticed { kind: NoticeKind::NothingToReduce, text }).map(drop)
            }
        }
    }

    /// Answers a call of the tool `recall`.
    pub(super) async fn run_recall(&mut self, call: &ToolCall, args: &RecallArgs) -> Result<(), Trouble> {
        self.start(call)?;
        let began = self.clock.monotonic();
        let (steps, args) = (Arc::clone(&self.recalled.0), args.clone());
        let told = tokio::task::spawn_blocking(move || {
            recall(&args, &mut *steps.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let outcome = told.await.unwrap_or_else(|error| Outcome::words(Status::Unknown, error.to_string()));
        let took = self.clock.monotonic().saturating_sub(began);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.note(Event::ToolEnded { call_id: call.id.clone(), outcome: Outcome { duration_ms, ..outcome } }).map(drop)
    }
}
