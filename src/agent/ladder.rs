//! What is done about failed calls: decided by evidence, noted, and acted on without a turn of the model where that does no
//! harm.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::around::{Happening, out_of_time};
use super::attempts::{command_of, try_words, way_back, with_lines};
use super::checkpoints::Keep;
use super::driver::Driver;
use super::person::Word;
use super::trouble::Trouble;
use super::watched::WATCH_STEP;
use super::work::{Bench, Started};
use crate::domain::{
    CheckpointId, CheckpointReason, Decision, DecisionId, Event, Failure, Lesson, Outcome, Progress, Reaction,
    SandboxKind, Status, ToolCall, TurnedOut, WaitProgress,
};
use crate::recovery::{Case, DEFAULT_MAX_RETRIES, Memory, NOTE, decide, told_time, wants_snapshot};
use crate::tools::{Action, After};

/// How the evidence begins where the kernel has counted its victims.
const KERNEL: &str = "the kernel ended";

impl Driver {
    /// Notes what came of a call: its outcome, or that it was tried and is to be tried again or asked about first.
    pub(super) fn settle(&mut self, call: &ToolCall, action: &Action, outcome: Outcome) -> Result<(), Trouble> {
        let outcome = match self.state.attempts().of(&call.id) {
            Some(before) => with_lines(outcome, &[before.line()]),
            None => outcome,
        };
        let decided = self.decided(call, action, &outcome);
        let Some((decision, is_plain)) = decided else {
            return self.note(Event::ToolEnded { call_id: call.id.clone(), outcome }).map(drop);
        };
        if is_plain {
            let outcome = match decision.chosen {
                Reaction::FixForward { from: Some(from) } => with_lines(outcome, &[way_back(from)]),
                _ => outcome,
            };
            self.note(Event::DecisionMade { decision })?;
            return self.note(Event::ToolEnded { call_id: call.id.clone(), outcome }).map(drop);
        }
        let attempt = self.state.attempts().of(&call.id).map_or(1, |before| before.number + 1);
        self.note(Event::AttemptFailed { call_id: call.id.clone(), attempt, outcome }).map(drop)
    }

    /// What is decided about an outcome that is not noted yet, and whether that needs nothing but to be noted.
    fn decided(&self, call: &ToolCall, action: &Action, outcome: &Outcome) -> Option<(Decision, bool)> {
        let failure = outcome.failure.as_deref()?;
        let is_over = matches!(outcome.status, Status::Ok | Status::Failed);
        let (true, Action::Shell(_)) = (is_over, action) else { return None };
        let moved = self.state.decisions().has_moved(failure, &outcome.text);
        let lessons = self.lessons_about(failure);
        let case = self.case(call, failure, &outcome.text, moved, &lessons)?;
        let decision = decide(&case)?;
        let is_plain = match decision.chosen {
            Reaction::FixForward { .. } => !wants_snapshot(&case),
            Reaction::Abort => true,
            Reaction::RetryAsIs { .. }
            | Reaction::RetryChanged { .. }
            | Reaction::RollBack { .. }
            | Reaction::Park { .. }
            | Reaction::Ask => false,
        };
        Some((decision, is_plain))
    }

    /// Decides about an attempt that was noted.
    pub(super) async fn decide(&mut self, call_id: &str) -> Result<(), Trouble> {
        let Some(call) = self.open_call(call_id) else { return Ok(()) };
        let Some(outcome) = self.state.attempts().of(call_id).map(|attempt| attempt.outcome.clone()) else {
            return Ok(());
        };
        let Some(failure) = outcome.failure.as_deref() else {
            return self.note(Event::ToolEnded { call_id: call.id, outcome }).map(drop);
        };
        let moved = self.state.decisions().had_moved(failure);
        let lessons = self.lessons_about(failure);
        let wants = self.case(&call, failure, &outcome.text, moved, &lessons).is_some_and(|case| wants_snapshot(&case));
        let snapshot = if wants { self.snapshot_for_mending().await? } else { None };
        let case = self.case(&call, failure, &outcome.text, moved, &lessons);
        let decision = case.and_then(|case| decide(&Case { snapshot: snapshot.or(case.snapshot), ..case }));
        match decision {
            Some(decision) => {
                self.note(Event::DecisionMade { decision })?;
                self.commit()
            }
            None => self.note(Event::ToolEnded { call_id: call.id, outcome }).map(drop),
        }
    }

    /// All that is known about a failure.
    fn case<'a>(
        &'a self,
        call: &'a ToolCall,
        failure: &'a Failure,
        text: &str,
        moved: bool,
        lessons: &'a [Lesson],
    ) -> Option<Case<'a>> {
        let spec = self.state.spec();
        let effect = self.state.effect_of(call);
        let begun = self.state.begun_as(&call.id)?;
        let now = self.clock.now();
        Some(Case {
            call_id: &call.id,
            failure,
            effect,
            is_repeatable: self.state.may_be_run_again(call),
            past: self.state.decisions(),
            lessons,
            repeats: self.state.failures().before(failure),
            moved,
            told: told_time(text, now),
            now,
            max_retries: spec.max_retries.unwrap_or(DEFAULT_MAX_RETRIES),
            time_left: self.around.left(),
            budget_left: self.budget_left(),
            has_checks: !spec.checks.is_empty(),
            memory: self.memory_for(failure),
            snapshot: None,
            has_network: spec.asked.as_ref().is_none_or(|asked| asked.network),
            is_own: command_of(call)
                .is_some_and(|command| ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| command.contains(host))),
            workspace: &spec.workspace,
            evidence: vec![format!("entry {}", begun.seq)],
        })
    }

    /// Whether more memory can be had, where the box's own limit is what was run into.
    fn memory_for(&self, failure: &Failure) -> Memory {
        match failure.evidence.starts_with(KERNEL) {
            true => self.state.memory(),
            false => Memory::Full("it was no limit of the box that it ran into".to_owned()),
        }
    }

    fn lessons_about(&self, failure: &Failure) -> Vec<Lesson> {
        self.lessons.known(&failure.fingerprint).into_iter().cloned().collect()
    }

    /// What is left of the limit that is nearest, from 0 to 1.
    fn budget_left(&self) -> f64 {
        let (spec, spent) = (self.state.spec(), self.state.spent());
        let share = |spent: u64, most: u64| 1.0 - spent as f64 / most.max(1) as f64;
        let turns = share(u64::from(self.state.turn()), u64::from(spec.max_turns));
        let tokens = spec.budget.max_tokens.map(|most| share(spent.tokens(), most));
        let cost = spec.budget.max_cost.map(|most| share(spent.cost, most));
        let time = spec.max_time_s.zip(self.around.left());
        let time = time.map(|(most, left)| left.as_secs_f64() / Duration::from_secs(most.max(1)).as_secs_f64());
        [Some(turns), tokens, cost, time].into_iter().flatten().fold(1.0, f64::min).max(0.0)
    }

    /// What the box can be brought back to if mending makes it worse: the last checkpoint, or one that is taken now.
    async fn snapshot_for_mending(&mut self) -> Result<Option<CheckpointId>, Trouble> {
        let is_box = matches!(self.kind(), Some(SandboxKind::Local | SandboxKind::Docker));
        if !self.rules().auto || !is_box {
            return Ok(None);
        }
        let newest = self.state.checkpoints().newest().map(|record| record.checkpoint.id);
        if let Some(newest) = newest.filter(|_| !self.state.checkpoints().is_behind()) {
            return Ok(Some(newest));
        }
        let keep = Keep { name: None, reason: CheckpointReason::Risk, after: After::GoesOn };
        Ok(self.checkpoint(keep).await?.ok().map(|taken| taken.id))
    }

    /// Waits until a call may be tried again, and tries it. Whatever else comes first ends that: the call has its outcome
    /// then.
    pub(super) async fn try_again(&mut self, call_id: &str, not_before: Timestamp) -> Result<(), Trouble> {
        let Some(call) = self.open_call(call_id) else { return Ok(()) };
        let attempt = self.state.attempts().of(call_id).map_or(1, |before| before.number + 1);
        self.commit()?;
        let what = try_words(attempt, &command_of(&call).unwrap_or_default());
        if let Some(cut) = self.wait_until(not_before, what).await? {
            return self.give_up_trying(&call, cut);
        }
        if !self.with_box().await? {
            return Ok(());
        }
        let read = self.registry.read(std::slice::from_ref(&call)).ok().and_then(|mut read| read.pop());
        let (Some((call, action)), Some(work)) = (read, self.state.work_of(call_id)) else { return Ok(()) };
        // In another box it was never begun, and it does no harm to run it there.
        let left = self.left.remove(call_id).filter(|left| left.found == crate::domain::BoxReturn::Adopted);
        self.run_batch(&[Started { work, call, action, left }]).await
    }

    /// Waits; what has come instead, if something has.
    async fn wait_until(&mut self, until: Timestamp, what: String) -> Result<Option<Cut>, Trouble> {
        let clock = Arc::clone(&self.clock);
        let left = Duration::try_from(until.duration_since(clock.now())).unwrap_or_default();
        let began = clock.since_boot();
        loop {
            if self.has_mail() {
                return Ok(Some(Cut::Mail));
            }
            let waited = clock.since_boot().saturating_sub(began);
            let Some(rest) = left.checked_sub(waited).filter(|rest| !rest.is_zero()) else { return Ok(None) };
            if !waited.is_zero() {
                self.observer.progress(&Progress::Waiting(standing(&what, waited, rest)));
            }
            tokio::select! {
                biased;
                happening = self.around.next() => match happening {
                    Happening::Word(notice @ Word::Notice { .. }) => self.take(notice)?,
                    Happening::Word(word) => return Ok(Some(Cut::Word(word))),
                    Happening::TimeOver => return Ok(Some(Cut::Word(out_of_time(self.state.spec())))),
                    Happening::News(event) => drop(self.note(*event)?),
                    Happening::Mail(mail) => self.mail.push_back(mail),
                    Happening::Order => {}
                },
                () = clock.sleep(rest.min(WATCH_STEP)) => {}
            }
        }
    }

    /// The call has its outcome, the last one that it came to.
    fn give_up_trying(&mut self, call: &ToolCall, cut: Cut) -> Result<(), Trouble> {
        let Some(attempt) = self.state.attempts().of(&call.id).cloned() else { return Ok(()) };
        let (why, word) = match cut {
            Cut::Mail => ("a person has said something".to_owned(), None),
            Cut::Word(word) => ("a person or a limit has come in between".to_owned(), Some(word)),
        };
        if let Some(decision) = self.state.decided_about(&call.id) {
            self.judge(decision, TurnedOut::Unknown, format!("it was not tried again: {why}"))?;
        }
        let mut lines = vec![format!("{NOTE}not tried again: {why}]")];
        if attempt.number > 1 {
            lines.insert(0, attempt.line());
        }
        let outcome = with_lines(attempt.outcome, &lines);
        self.note(Event::ToolEnded { call_id: call.id.clone(), outcome })?;
        word.map_or(Ok(()), |word| self.take(word))
    }

    /// Gives the box more memory; where that can't be, the call has its outcome with the reason.
    pub(super) async fn grow(&mut self, call_id: &str, memory_bytes: u64) -> Result<(), Trouble> {
        if !self.with_box().await? {
            return Ok(());
        }
        let Bench::Open(bench) = &self.bench else { return Ok(()) };
        let grown = Arc::clone(bench).grow_memory(memory_bytes).await;
        let why = match grown {
            Ok(()) => {
                self.boxes.has_grown(memory_bytes);
                let why = "a command has run out of it".to_owned();
                return self.note(Event::BoxGrown { memory_bytes: Some(memory_bytes), why }).map(drop);
            }
            Err(why) => why,
        };
        let Some(attempt) = self.state.attempts().of(call_id).cloned() else { return Ok(()) };
        if let Some(decision) = self.state.decided_about(call_id) {
            self.judge(decision, TurnedOut::Unknown, why.clone())?;
        }
        let outcome = with_lines(attempt.outcome, &[format!("{NOTE}{why}: cut what it needs]")]);
        self.note(Event::ToolEnded { call_id: call_id.to_owned(), outcome }).map(drop)
    }

    /// Brings the box back to where the mending began, unless a job runs there: then the model is told of the way back.
    pub(super) async fn roll_back(&mut self, call_id: &str, to: CheckpointId) -> Result<(), Trouble> {
        let Some(attempt) = self.state.attempts().of(call_id).cloned() else { return Ok(()) };
        if !self.with_box().await? {
            return Ok(());
        }
        let record = self.state.checkpoints().find(&to.to_string()).cloned();
        let is_busy = self.state.jobs().alive().next().is_some();
        let words = match record {
            Err(why) => format!("{NOTE}the box can't go back: {why}; take another path than those that failed]"),
            Ok(_) if is_busy => format!(
                "{NOTE}what was tried has not helped, and a job still runs: end it or let it end, go back with \
                 checkpoint restore {to}, then take another path]"
            ),
            Ok(record) => {
                let restored = self.restore(&record).await?.text.replace('\n', " ");
                format!("{NOTE}what was tried has not helped, so the box goes back: take another path. {restored}]")
            }
        };
        let mut lines = vec![words];
        if attempt.number > 1 {
            lines.insert(0, attempt.line());
        }
        let outcome = with_lines(attempt.outcome, &lines);
        self.note(Event::ToolEnded { call_id: call_id.to_owned(), outcome }).map(drop)
    }

    /// Notes what has shown itself about decisions.
    pub(super) fn judge_due(&mut self) -> Result<(), Trouble> {
        while let Some(due) = self.state.decisions().due().first().cloned() {
            self.judge(due.decision, due.turned_out, due.why)?;
        }
        Ok(())
    }

    /// Notes of all that nothing has shown itself about that it is not known.
    pub(super) fn judge_at_end(&mut self) -> Result<(), Trouble> {
        self.judge_due()?;
        let open: Vec<DecisionId> = self.state.decisions().open().collect();
        open.into_iter().try_for_each(|id| self.judge(id, TurnedOut::Unknown, "the run ended before".to_owned()))
    }

    fn judge(&mut self, decision: DecisionId, turned_out: TurnedOut, why: String) -> Result<(), Trouble> {
        self.note(Event::DecisionJudged { decision, turned_out, why }).map(drop)
    }

    fn open_call(&self, call_id: &str) -> Option<ToolCall> {
        self.state.open_calls().iter().find(|call| call.id == call_id).cloned()
    }
}

/// What ends a wait before its time.
enum Cut {
    /// A message.
    Mail,
    /// A person's word, or the end of the run's time.
    Word(Word),
}

fn standing(what: &str, waited: Duration, rest: Duration) -> WaitProgress {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    WaitProgress {
        what: what.to_owned(),
        waited_ms: millis(waited),
        elapsed_ms: millis(waited),
        wakes_in_ms: Some(millis(rest)),
        ..WaitProgress::default()
    }
}
