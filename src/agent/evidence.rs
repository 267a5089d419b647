//! What a failed command comes from: gathered around each call, told to the model and recorded with the outcome.

use super::driver::Driver;
use crate::domain::{Outcome, Status};
use crate::recovery::{Classifier, Evidence};
use crate::tools::{Action, Workbench};

/// What the box had counted before some calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    oom_kills: Option<u64>,
}

impl Before {
    /// Looks now, if any of the calls runs a command.
    pub(super) async fn look<'a>(bench: &Workbench, mut actions: impl Iterator<Item = &'a Action>) -> Self {
        let oom_kills = match actions.any(|action| command(action).is_some()) {
            true => bench.counters().await.oom_kills,
            false => None,
        };
        Self { oom_kills }
    }

    /// Processes that were killed for want of memory since.
    pub(super) async fn oom_kills(self, bench: &Workbench) -> u64 {
        let Some(before) = self.oom_kills else { return 0 };
        bench.counters().await.oom_kills.map_or(0, |now| now.saturating_sub(before))
    }
}

impl Driver {
    /// The outcome with its failure, if it is one: after the line of facts, so that the output stays as it was.
    pub(super) fn with_failure(&self, action: &Action, outcome: Outcome, oom_kills: u64) -> Outcome {
        let (Some(command), Some(exit)) = (command(action), outcome.exit) else { return outcome };
        if outcome.status == Status::Running {
            return outcome;
        }
        let (facts, output) = outcome.text.split_once('\n').unwrap_or((&outcome.text, ""));
        let evidence = Evidence { command, exit: Some(exit), output, oom_kills, forks_denied: 0 };
        let Some(failure) = Classifier::builtin().classify(&evidence) else { return outcome };
        let text = match self.state.failures().words(&failure, output) {
            Some(words) if output.is_empty() => format!("{facts}\n{words}"),
            Some(words) => format!("{facts}\n{words}\n{output}"),
            None => outcome.text.clone(),
        };
        Outcome { failure: Some(Box::new(failure)), text, ..outcome }
    }
}

/// The command that a call runs.
fn command(action: &Action) -> Option<&str> {
    match action {
        Action::Shell(args) => args.command.as_deref(),
        _ => None,
    }
}
