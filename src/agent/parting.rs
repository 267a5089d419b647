//! What a run that may be taken up again leaves behind at its end.

use std::sync::Arc;

use super::checkpoints::Keep;
use super::driver::Driver;
use super::state::Ending;
use super::trouble::Trouble;
use super::work::Bench;
use crate::domain::{CheckpointReason, ExitReason, RunMode, SandboxKind, Verdict};
use crate::tools::{After, Services};

impl Driver {
    /// Keeps the files of the box where the run was stopped by something that may be otherwise later. What keeps it from
    /// being kept is recorded, and the run ends all the same.
    pub(super) async fn keep_for_later(&mut self, ending: &Ending) -> Result<(), Trouble> {
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let bench = Arc::clone(bench);
        let has_worked = self.state.turn() > 0 && self.state.checkpoints().is_behind();
        // A host without a box can't be kept, and needs not be.
        let can_be_kept = bench.facts().kind != SandboxKind::Host;
        let goes = self.fate_of_services(ending) == Services::End;
        if !self.may_go_on(ending) || self.sealed || !has_worked || !can_be_kept || !goes {
            return Ok(());
        }
        // They end with the run; whoever takes it up again has them back.
        let services = self.state.jobs().alive().map(|record| &record.job).filter(|job| job.service);
        self.parted = services.map(|job| self.state.checkpoints().with_whole_command(job)).collect();
        self.ended = bench.end_work().await;
        let keep = Keep { name: None, reason: CheckpointReason::End, after: After::Ends };
        self.checkpoint(keep).await?.ok();
        Ok(())
    }

    /// Whether the end is one after which the run may be taken up again.
    pub(super) fn may_go_on(&self, ending: &Ending) -> bool {
        match ending.verdict {
            Verdict::Stopped | Verdict::Blocked | Verdict::Error => self.state.spec().mode == RunMode::Goal,
            Verdict::Verified | Verdict::Unverified | Verdict::Failed => false,
        }
    }

    /// What becomes of jobs at this end. Those of a run that stopped for want of a model or of an answer go on: they need
    /// neither.
    pub(super) fn fate_of_services(&self, ending: &Ending) -> Services {
        let waits = match ending.reason {
            ExitReason::Auth | ExitReason::ProviderUnavailable => true,
            ExitReason::NeedsHuman => self.state.awaited().is_some(),
            _ => false,
        };
        if waits && self.may_go_on(ending) && self.state.jobs().alive().next().is_some() {
            return Services::KeepAll;
        }
        match self.state.spec().keep_services {
            true => Services::Keep,
            false => Services::End,
        }
    }
}
