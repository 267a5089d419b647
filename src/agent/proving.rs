//! The driver's part in proving a result: checks run in the box, outside what the model does there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::claim;
use super::driver::Driver;
use super::state::Ending;
use super::trouble::Trouble;
use super::work::{Bench, Beside};
use crate::domain::{Check, Event, ExitReason, FinishClaim, NoticeKind, Verdict};
use crate::policy::programs_of;
use crate::tools::{Attention, CheckRun, Stirred};

/// How long a check may take where nothing is said.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long one may take before any work: it is there to be told whether it can fail, and the work waits for it.
const BASELINE_TIMEOUT: Duration = Duration::from_secs(60);
/// Requirements whose evidence is looked at.
const MOST_SHOWN: usize = 50;

impl Driver {
    /// Runs one check.
    pub(super) async fn run_check(&mut self, check: usize, round: u32) -> Result<(), Trouble> {
        if !self.with_box().await? {
            return Ok(());
        }
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let bench = Arc::clone(bench);
        let watched_since_ns = match (check, round) {
            (_, 0) | (1.., _) => None,
            (0, _) => match bench.stirred(None).await {
                Ok(stirred) => Some(stirred.now_ns).filter(|_| !stirred.running.is_empty()),
                Err(error) => return self.stop_for(error),
            },
        };
        self.note(Event::CheckStarted { check, round, watched_since_ns })?;
        self.commit()?;
        let spec = self.state.spec();
        let limit = spec.check_timeout_s.map_or(CHECK_TIMEOUT, Duration::from_secs);
        let limit = if round == 0 { limit.min(BASELINE_TIMEOUT) } else { limit };
        let what = spec.checks[check].clone();
        let again = self.state.proof().again();
        let run = CheckRun { check, round, again, boxes_before: self.state.boxes_before(), limit };
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

    /// Looks at the files that must stay as they are, and at what the checks run, before any work.
    pub(super) async fn see_protected(&mut self) -> Result<(), Trouble> {
        if !self.with_box().await? {
            return Ok(());
        }
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let bench = Arc::clone(bench);
        let spec = self.state.spec();
        let globs = spec.protect.clone();
        let commands = spec.checks.iter().filter_map(|check| match check {
            Check::Command(command) => Some(command.as_str()),
            Check::Metric { .. } | Check::File { .. } => None,
        });
        let programs = commands.flat_map(programs_of).collect::<BTreeSet<_>>().into_iter().collect();
        let seen = match bench.look_at(globs.clone(), programs).await {
            Ok(seen) => seen,
            Err(error) => return self.stop_for(error),
        };
        if let Some(over) = seen.files.over {
            let why = format!("the files to protect can't be kept in sight: {over}; protect fewer of them");
            return self.note(Event::StopAsked { reason: ExitReason::Usage, why }).map(drop);
        }
        if seen.files.files.is_empty() && !globs.is_empty() {
            let text = format!("nothing is protected yet: no file matches {}", globs.join(", "));
            self.note(Event::Noticed { kind: NoticeKind::NothingProtected, text })?;
        }
        self.note(Event::ProtectedSeen { files: seen.files.files, programs: seen.programs }).map(drop)
    }

    /// Notes a claim, and which of the files that it shows are not there.
    pub(super) async fn claim(&mut self, mut claim: FinishClaim) -> Result<(), Trouble> {
        if let Bench::Open(bench) = &self.bench {
            let bench = Arc::clone(bench);
            for shown in claim.requirements.iter_mut().take(MOST_SHOWN) {
                shown.missing = match bench.missing(&shown.evidence).await {
                    Ok(missing) => missing,
                    Err(error) => return self.stop_for(error),
                };
            }
        }
        self.note(Event::FinishClaimed { claim }).map(drop)
    }

    /// Tells the model what became of its claim, once it was looked whether what it rests on still holds.
    pub(super) async fn answer_claim(&mut self, call_id: String, accepted: bool) -> Result<(), Trouble> {
        let gave_up = self.state.claim().is_some_and(|claim| claim.gave_up);
        if !gave_up && (self.finds_changed().await? || (accepted && self.finds_outdated().await?)) {
            return Ok(());
        }
        let outcome = match accepted && self.has_mail() {
            true => claim::unread_mail(),
            false => claim::answer(&self.state, accepted),
        };
        self.note(Event::ToolEnded { call_id, outcome }).map(drop)
    }

    /// Looks at the protected files and the checks' programs again. True if something was found and noted.
    async fn finds_changed(&mut self) -> Result<bool, Trouble> {
        let proof = self.state.proof();
        let Bench::Open(bench) = &self.bench else { return Ok(false) };
        if !proof.has_seen() && self.state.spec().protect.is_empty() || !proof.changed().is_empty() {
            return Ok(false);
        }
        let bench = Arc::clone(bench);
        let now = match bench.look_at(self.state.spec().protect.clone(), proof.programs()).await {
            Ok(now) => now,
            Err(error) => return self.stop_for(error).map(|()| true),
        };
        let proof = self.state.proof();
        let mut paths = proof.differing(&now.files.files);
        if let Some(over) = now.files.over {
            paths.push(format!("({over})"));
        }
        let programs = proof.newly_forged(&now.programs);
        if paths.is_empty() && programs.is_empty() {
            return Ok(false);
        }
        self.note(Event::ProtectedChanged { paths, programs }).map(|_| true)
    }

    /// Looks whether something beside the checks has changed the workspace since they began. True if it was noted.
    async fn finds_outdated(&mut self) -> Result<bool, Trouble> {
        let proof = self.state.proof();
        let (Some(since), Bench::Open(bench)) = (proof.watched_since_ns(), &self.bench) else { return Ok(false) };
        let bench = Arc::clone(bench);
        let mut stirred = match bench.stirred(Some(since)).await {
            Ok(stirred) => stirred,
            Err(error) => return self.stop_for(error).map(|()| true),
        };
        if stirred.whole && stirred.changed.is_empty() {
            return Ok(false);
        }
        if !stirred.whole && stirred.changed.is_empty() {
            stirred.changed.push("(too many files to look through)".to_owned());
        }
        let round = self.state.check_round();
        let Stirred { changed: paths, running, .. } = stirred;
        self.note(Event::ChecksOutdated { round, paths, running }).map(|_| true)
    }

    /// The ending, once more held against what it rests on: what was proved a moment ago need not hold any more.
    pub(super) async fn at_the_end(&mut self, ending: Ending) -> Result<Ending, Trouble> {
        let is_success = matches!(ending.verdict, Verdict::Verified | Verdict::Unverified);
        if self.finds_changed().await? && is_success {
            let changed = self.state.proof().changed();
            if !changed.is_empty() {
                let why = format!("protected files were changed at the end: {}", changed.join(", "));
                return Ok(Ending { verdict: Verdict::Blocked, reason: ExitReason::NeedsHuman, why, ..ending });
            }
        }
        if ending.verdict == Verdict::Verified && self.finds_outdated().await? {
            let why = format!("{}, but what they look at was changed before the run had ended", ending.why);
            return Ok(Ending { verdict: Verdict::Unverified, why, ..ending });
        }
        Ok(ending)
    }
}
