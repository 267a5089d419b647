//! How runs went: a fold over the entries of many, one after the other. Holds counts only, however many there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::Costs;
use crate::domain::{
    DecisionId, Entry, Event, Failure, Level, QuestionId, Reaction, Reply, Subject, TurnedOut, Verdict,
};

/// A share is told from so many on: of fewer it would say nothing.
pub const LEAST_FOR_A_SHARE: u64 = 5;

/// The fold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Runs.
    pub runs: u64,
    /// Those that have ended, by verdict; the others as `unfinished`.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Failed commands and attempts, by what they come from.
    pub failures: BTreeMap<&'static str, u64>,
    /// Decisions about failures, by what was done.
    pub decisions: BTreeMap<&'static str, Turns>,
    /// The same, by how sure they were.
    pub confidence: BTreeMap<&'static str, Turns>,
    /// Questions to persons.
    pub questions: Asked,
    /// Runs that a failure has ended without that a person was asked.
    pub not_asked: u64,
    /// Attempts of calls that the harness has made again.
    pub retries: u64,
    /// Requests to models.
    pub turns: u64,
    /// Time waited for jobs and conditions, in milliseconds.
    pub waited_ms: u64,
    /// Time waited for models' servers, in milliseconds.
    pub delayed_ms: u64,
    /// Time that questions were open before they were answered, in milliseconds.
    pub asked_ms: u64,
    /// Money in millionths of a US dollar, of the runs whose price is known.
    pub cost_micro_usd: u64,
    /// Runs whose price is not known.
    pub without_price: u64,
    #[serde(skip)]
    run: Run,
}

/// How decisions turned out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Turns {
    /// All of them.
    pub made: u64,
    /// What had failed has succeeded since.
    pub worked: u64,
    /// The same failure came again.
    pub failed: u64,
    /// Another one came in its place.
    pub changed: u64,
    /// Nobody knows.
    pub unknown: u64,
}

/// Questions, and whether they were needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// All of them.
    pub asked: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Of the answered: otherwise than was recommended, or what had failed has worked after it.
    pub needed: u64,
    /// Of all, those that were over without an answer.
    pub over: u64,
}

/// What is known of the run that is being read.
#[derive(Debug, Clone, Default, PartialEq)]
struct Run {
    has_begun: bool,
    sum: Sum,
    open: BTreeMap<DecisionId, (&'static str, Level)>,
    asked: BTreeMap<QuestionId, Open>,
    /// The mark of the last attempt of a call, where that was counted and nothing has followed from it.
    attempted: HashMap<String, String>,
    /// Questions that were answered as was recommended, by the decision that had asked.
    obeyed: HashSet<DecisionId>,
    costs: Costs,
    verdict: Option<Verdict>,
}

impl Eq for Run {}

#[derive(Debug, Clone, PartialEq)]
struct Open {
    recommended: Option<String>,
    decision: Option<DecisionId>,
    since: jiff::Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sum {
    failures: BTreeMap<&'static str, u64>,
    decisions: BTreeMap<&'static str, Turns>,
    confidence: BTreeMap<&'static str, Turns>,
    questions: Asked,
    retries: u64,
    turns: u64,
    waited_ms: u64,
    delayed_ms: u64,
    asked_ms: u64,
}

impl Turns {
    fn count(&mut self, turned_out: Option<TurnedOut>) {
        match turned_out {
            None => self.made += 1,
            Some(TurnedOut::Worked) => self.worked += 1,
            Some(TurnedOut::Failed) => self.failed += 1,
            Some(TurnedOut::Changed) => self.changed += 1,
            Some(TurnedOut::Unknown) => self.unknown += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.made += other.made;
        self.worked += other.worked;
        self.failed += other.failed;
        self.changed += other.changed;
        self.unknown += other.unknown;
    }

    /// How many of those of which it is known have worked, in words; a share only where there are enough.
    pub fn words(&self) -> String {
        share(self.worked, self.worked + self.failed + self.changed, "worked")
    }
}

impl Asked {
    /// How many of the answered were needed, in words; a share only where there are enough.
    pub fn words(&self) -> String {
        share(self.needed, self.answered, "needed")
    }
}

/// `7 of 9 worked (78 %)`, and of few `2 of 3 worked`.
fn share(some: u64, all: u64, what: &str) -> String {
    match all {
        0 => format!("none {what} or not so far"),
        all if all < LEAST_FOR_A_SHARE => format!("{some} of {all} {what}"),
        all => format!("{some} of {all} {what} ({} %)", (some * 100 + all / 2) / all),
    }
}

impl Stats {
    /// Takes the next entry of a run in.
    pub fn add(&mut self, entry: &Entry) {
        self.run.apply(entry);
    }

    /// The run that was read is over, or its entries are: the next entry belongs to another.
    pub fn end_of_run(&mut self) {
        let Run { has_begun, sum, costs, verdict, .. } = std::mem::take(&mut self.run);
        if !has_begun {
            return;
        }
        self.runs += 1;
        *self.verdicts.entry(verdict.map_or("unfinished", Verdict::word)).or_default() += 1;
        let has_failed = !sum.failures.is_empty() && matches!(verdict, Some(Verdict::Failed | Verdict::Stopped));
        self.not_asked += u64::from(has_failed && sum.questions.asked == 0);
        sum.failures.iter().for_each(|(class, count)| *self.failures.entry(class).or_default() += count);
        sum.decisions.iter().for_each(|(action, turns)| self.decisions.entry(action).or_default().add(*turns));
        sum.confidence.iter().for_each(|(level, turns)| self.confidence.entry(level).or_default().add(*turns));
        self.questions.asked += sum.questions.asked;
        self.questions.answered += sum.questions.answered;
        self.questions.needed += sum.questions.needed;
        self.questions.over += sum.questions.over;
        self.retries += sum.retries;
        self.turns += sum.turns;
        self.waited_ms += sum.waited_ms;
        self.delayed_ms += sum.delayed_ms;
        self.asked_ms += sum.asked_ms;
        self.cost_micro_usd = self.cost_micro_usd.saturating_add(costs.total().unwrap_or(0));
        self.without_price += u64::from(costs.total().is_none() && !costs.lines.is_empty());
    }

    /// The run that was read can't be read to its end: it does not count.
    pub fn leave_out(&mut self) {
        self.run = Run::default();
    }
}

impl Run {
    fn apply(&mut self, entry: &Entry) {
        // What came before a fork was the parent's.
        if let Event::RunForked { .. } = &entry.event {
            *self = Self::default();
        }
        self.has_begun = true;
        self.costs.add(entry);
        match &entry.event {
            Event::ToolEnded { call_id, outcome } => {
                let failure = outcome.failure.as_deref();
                let counted = self.attempted.remove(call_id);
                self.failed(failure.filter(|failure| counted.as_ref() != Some(&failure.fingerprint)));
            }
            Event::AttemptFailed { call_id, outcome, .. } => {
                self.failed(outcome.failure.as_deref());
                let mark = outcome.failure.as_ref().map(|failure| failure.fingerprint.clone());
                self.attempted.extend(mark.map(|mark| (call_id.clone(), mark)));
            }
            Event::DecisionMade { decision } => {
                self.open.insert(decision.id, (decision.chosen.name(), decision.confidence.level));
                self.count(decision.chosen.name(), decision.confidence.level, None);
                self.sum.retries += match decision.chosen {
                    Reaction::RetryAsIs { .. } | Reaction::RetryChanged { .. } | Reaction::Park { .. } => {
                        // What comes of it is another failure, if it is one.
                        decision.call_id.as_ref().and_then(|call| self.attempted.remove(call));
                        1
                    }
                    Reaction::FixForward { .. } | Reaction::RollBack { .. } | Reaction::Ask | Reaction::Abort => 0,
                };
            }
            Event::DecisionJudged { decision, turned_out, .. } => {
                if let Some((action, level)) = self.open.remove(decision) {
                    self.count(action, level, Some(*turned_out));
                }
                let is_obeyed = self.obeyed.remove(decision);
                self.sum.questions.needed += u64::from(is_obeyed && *turned_out == TurnedOut::Worked);
            }
            Event::QuestionAsked { question } => {
                let decision = match &question.subject {
                    Subject::Failure { decision, .. } => Some(*decision),
                    Subject::Approval { .. }
                    | Subject::Model { .. }
                    | Subject::FailedClaims { .. }
                    | Subject::GaveUp { .. }
                    | Subject::Stuck => None,
                };
                let open = Open { recommended: question.recommended.clone(), decision, since: entry.time };
                self.sum.questions.asked += u64::from(self.asked.insert(question.id, open).is_none());
            }
            Event::QuestionAnswered { question, reply, .. } => {
                if let Some(open) = self.asked.remove(question) {
                    self.answered(open, reply, entry.time);
                }
            }
            Event::QuestionClosed { question, .. } => {
                self.sum.questions.over += u64::from(self.asked.remove(question).is_some());
            }
            Event::ModelAnswered { .. } => self.sum.turns += 1,
            Event::ModelDelayed { wait_ms, .. } => self.sum.delayed_ms += wait_ms,
            Event::Waited { wait } => self.sum.waited_ms += wait.waited_ms + wait.suspended_ms,
            Event::RunEnded { verdict, .. } => self.verdict = Some(*verdict),
            Event::RunResumed { .. } => self.verdict = None,
            _ => {}
        }
    }

    fn failed(&mut self, failure: Option<&Failure>) {
        if let Some(failure) = failure {
            *self.sum.failures.entry(failure.class.name()).or_default() += 1;
        }
    }

    fn count(&mut self, action: &'static str, level: Level, turned_out: Option<TurnedOut>) {
        self.sum.decisions.entry(action).or_default().count(turned_out);
        // How sure one is that asking helps is no forecast.
        if action != Reaction::Ask.name() {
            self.sum.confidence.entry(level.name()).or_default().count(turned_out);
        }
    }

    fn answered(&mut self, open: Open, reply: &Reply, time: jiff::Timestamp) {
        self.sum.questions.answered += 1;
        let open_for = time.duration_since(open.since).as_millis();
        self.sum.asked_ms += u64::try_from(open_for).unwrap_or(0);
        let is_as_recommended = reply.text.is_empty() && reply.choice.is_some() && reply.choice == open.recommended;
        match open.decision.filter(|_| is_as_recommended) {
            Some(decision) => drop(self.obeyed.insert(decision)),
            None => self.sum.questions.needed += u64::from(!is_as_recommended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AnsweredAt, Choice, Confidence, Decision, ExitReason, FailureClass, Outcome, Question, RunId, RunMode, RunSpec,
        Silence, Status,
    };

    fn run(stats: &mut Stats, events: Vec<Event>) {
        let spec = RunSpec::new(RunId::new("01K00000000000000000000001").unwrap(), RunMode::Goal, "x");
        let started = Event::RunStarted { format_major: 1, format_minor: 4, spec };
        for (event, seq) in [vec![started], events].concat().into_iter().zip(0_u64..) {
            let time = jiff::Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
            stats.add(&Entry { seq, time, event });
        }
        stats.end_of_run();
    }

    fn failed() -> Event {
        let failure =
            Failure { class: FailureClass::Network, evidence: "x".to_owned(), fingerprint: "network/x/1".to_owned() };
        let outcome = Outcome { failure: Some(Box::new(failure)), ..Outcome::words(Status::Failed, "x") };
        Event::ToolEnded { call_id: "c".to_owned(), outcome }
    }

    fn decided(id: u32, chosen: Reaction, level: Level) -> Event {
        let decision = Decision {
            id: DecisionId(id),
            call_id: None,
            class: FailureClass::Network,
            fingerprint: "network/x/1".to_owned(),
            evidence: Vec::new(),
            options: Vec::new(),
            chosen,
            confidence: Confidence { level, signals: Vec::new() },
            expected: String::new(),
        };
        Event::DecisionMade { decision }
    }

    fn judged(id: u32, turned_out: TurnedOut) -> Event {
        Event::DecisionJudged { decision: DecisionId(id), turned_out, why: String::new() }
    }

    fn asked(id: u32, subject: Subject) -> Event {
        let question = Question {
            id: QuestionId(id),
            subject,
            text: "?".to_owned(),
            background: String::new(),
            evidence: Vec::new(),
            options: vec![Choice::new("yes", "y"), Choice::new("no", "n")],
            recommended: Some("no".to_owned()),
            silence: Silence::default(),
        };
        Event::QuestionAsked { question }
    }

    fn answered(id: u32, choice: &str) -> Event {
        let reply = Reply { choice: Some(choice.to_owned()), text: String::new() };
        Event::QuestionAnswered { question: QuestionId(id), reply, at: AnsweredAt::Inbox, mail: None }
    }

    fn ended(verdict: Verdict) -> Event {
        Event::RunEnded { verdict, reason: ExitReason::Done, why: String::new(), answer: String::new() }
    }

    #[test]
    fn decisions_are_counted_by_what_was_done_and_how_sure_it_was() {
        let mut stats = Stats::default();
        for (id, turned_out) in (1..).zip([TurnedOut::Worked, TurnedOut::Worked, TurnedOut::Failed, TurnedOut::Unknown])
        {
            let decided = decided(id, Reaction::RetryAsIs { after_ms: 5 }, Level::High);
            run(&mut stats, vec![failed(), decided, judged(id, turned_out), ended(Verdict::Verified)]);
        }
        let turns = Turns { made: 4, worked: 2, failed: 1, changed: 0, unknown: 1 };
        assert_eq!((stats.decisions["retry_as_is"], stats.confidence["high"]), (turns, turns));
        assert_eq!(turns.words(), "2 of 3 worked", "no share of so few");
        assert_eq!(Turns { worked: 7, failed: 1, changed: 1, ..turns }.words(), "7 of 9 worked (78 %)");
        assert_eq!((stats.runs, stats.verdicts["verified"], stats.failures["network"]), (4, 4, 4));
    }

    #[test]
    fn a_question_was_needed_where_its_answer_changed_something() {
        let about = |id| Subject::Failure { decision: DecisionId(id), call_id: None };
        let ask = |id| decided(id, Reaction::Ask, Level::Low);
        let mut stats = Stats::default();
        // Answered otherwise than recommended.
        run(&mut stats, vec![asked(1, Subject::Stuck), answered(1, "yes"), ended(Verdict::Verified)]);
        // As recommended, and it helped nothing.
        run(&mut stats, vec![asked(1, Subject::Stuck), answered(1, "no"), ended(Verdict::Failed)]);
        // As recommended, and then it worked: the person has changed something.
        let helped = vec![ask(1), asked(1, about(1)), answered(1, "no"), judged(1, TurnedOut::Worked)];
        run(&mut stats, helped);
        run(&mut stats, vec![ask(1), asked(1, about(1)), answered(1, "no"), judged(1, TurnedOut::Failed)]);
        assert_eq!(stats.questions, Asked { asked: 4, answered: 4, needed: 2, over: 0 });
        assert_eq!(stats.questions.words(), "2 of 4 needed");
        assert_eq!(stats.asked_ms, 4_000);
        assert!(stats.confidence.is_empty(), "asking is no forecast");
        assert_eq!(stats.verdicts["unfinished"], 2);
    }

    #[test]
    fn a_failure_that_ended_a_run_and_was_asked_nobody_is_counted_and_a_parents_share_is_not() {
        let mut stats = Stats::default();
        run(&mut stats, vec![failed(), ended(Verdict::Failed)]);
        run(&mut stats, vec![failed(), asked(1, Subject::Stuck), ended(Verdict::Failed)]);
        run(&mut stats, vec![ended(Verdict::Failed)]);
        assert_eq!(stats.not_asked, 1);
        let spec = RunSpec::new(RunId::new("01K00000000000000000000002").unwrap(), RunMode::Goal, "x");
        let mut forked = Stats::default();
        run(&mut forked, vec![failed(), Event::RunForked { spec }, ended(Verdict::Verified)]);
        assert!(forked.failures.is_empty() && forked.runs == 1, "{forked:?}");
    }
}
