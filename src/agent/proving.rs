//! The driver's part in proving a result: checks run in the box, outside what the model does there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::driver::Driver;
use super::trouble::Trouble;
use super::work::{Bench, Beside};
use crate::domain::{Check, Event};
use crate::tools::{Attention, CheckRun};

/// How long a check may take where nothing is said.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long one may take before any work: it is there to be told whether it can fail, and the work waits for it.
const BASELINE_TIMEOUT: Duration = Duration::from_secs(60);

impl Driver {
    /// Runs one check.
    pub(super) async fn run_check(&mut self, check: usize, round: u32) -> Result<(), Trouble> {
        if !self.with_box().await? {
            return Ok(());
        }
        self.note(Event::CheckStarted { check, round })?;
        self.commit()?;
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let bench = Arc::clone(bench);
        let spec = self.state.spec();
        let limit = spec.check_timeout_s.map_or(CHECK_TIMEOUT, Duration::from_secs);
        let limit = if round == 0 { limit.min(BASELINE_TIMEOUT) } else { limit };
        let what = spec.checks[check].clone();
        let run = CheckRun { check, round, boxes_before: self.state.boxes_before(), limit };
        let command = match &what {
            Check::Command(command) => Some(command.as_str()),
            Check::Metric { .. } | Check::File { .. } => None,
        };
        let (_, progress) = mpsc::unbounded_channel();
        let attention = Attention::new();
        let work = bench.check(run, &what, &attention);
        let (result, words) = self.attended(work, progress, &attention, Beside { command, is_wait: false }).await?;
        match result {
            Ok(result) => self.note(Event::CheckEnded { result }).map(drop)?,
            Err(error) => self.stop_for(error)?,
        }
        words.into_iter().try_for_each(|word| self.take(word))
    }
}
