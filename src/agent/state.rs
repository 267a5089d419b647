//! What a run is, folded from its entries, and what comes next. Pure: no clock, no I/O, no model.

mod deciding;
mod ending;
mod escalations;
mod proof;

use jiff::Timestamp;

pub use self::ending::Ending;
use self::ending::verdict_of;
pub(super) use self::proof::{Outdated, Proof};
use super::approvals::Approvals;
use super::attempts::Attempts;
use super::person::Limit;
use crate::domain::{
    Answering, BoxReturn, CheckResult, CheckpointId, Checkpoints, Entry, Event, ExitReason, FinishClaim, Jobs,
    NoticeKind, Outcome, Question, QuestionId, Questions, RunMode, RunSpec, Spent, Status, ToolCall,
};
use crate::recovery::{Circles, Decisions, Failures};
use crate::tools::Registry;

/// How often a model may claim to be done before a person is asked about its failed checks.
pub const MAX_CHECK_ROUNDS: u32 = 3;
/// How many answers in a row may consist of malformed calls.
const MAX_MALFORMED_ANSWERS: u32 = 3;

/// What the driver has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the model.
    AskModel {
        /// The number of the request, from 1.
        turn: u32,
    },
    /// Run these calls and note an outcome for each, in this order.
    RunCalls(Vec<ToolCall>),
    /// Give a call this outcome without running it.
    AnswerCall {
        /// The call.
        call_id: String,
        /// What it is told.
        outcome: Box<Outcome>,
    },
    /// Ask a person.
    Ask(Box<Question>),
    /// Wait for the answer to this.
    AwaitAnswer(QuestionId),
    /// Decide what is done about a call whose last attempt has failed.
    Decide {
        /// The call.
        call_id: String,
    },
    /// Run a call again, at this time at the earliest.
    TryAgain {
        /// The call.
        call_id: String,
        /// The time.
        not_before: Timestamp,
    },
    /// Give the box this much memory, of which a call has run out.
    Grow {
        /// The call.
        call_id: String,
        /// Its limit from then on.
        memory_bytes: u64,
    },
    /// Bring the box back, and tell a call's outcome with that.
    RollBack {
        /// The call.
        call_id: String,
        /// Where to.
        to: CheckpointId,
    },
    /// Tell the model that it goes round in a circle.
    TellCircle {
        /// What goes round, in words.
        what: String,
        /// How often it was told so lately.
        told: u32,
    },
    /// Run a check.
    RunCheck {
        /// Index into the checks.
        check: usize,
        /// The round, from 1; 0 is before any work.
        round: u32,
    },
    /// Look at the files that must stay as they are, and at what the checks run.
    SeeProtected,
    /// Tell the model what became of its claim to be done.
    AnswerClaim {
        /// The call that claimed it.
        call_id: String,
        /// Whether it was accepted.
        accepted: bool,
    },
    /// Tell the model that it stopped while work is open.
    Nudge,
    /// Let a person speak.
    AwaitPerson,
    /// Bring out what the claim names, then end.
    End(Ending),
}

/// A call that was announced as about to take effect and has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its id.
    pub call_id: String,
    /// The entry that announced it: the box knows its work by that.
    pub seq: u64,
    /// When that was recorded.
    pub time: Timestamp,
}

/// Who has the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// The model is to be asked.
    Model,
    /// The model has spoken without a call.
    ModelRested,
    /// A person interrupted.
    Person,
}

/// The fold.
#[derive(Debug, Clone)]
pub struct State {
    spec: RunSpec,
    turn: u32,
    floor: Floor,
    open: Vec<ToolCall>,
    begun: Vec<Begun>,
    any_well_formed: bool,
    malformed_answers: u32,
    nudges: u32,
    proof: Proof,
    last_text: String,
    jobs: Jobs,
    checkpoints: Checkpoints,
    circles: Circles,
    failures: Failures,
    decisions: Decisions,
    attempts: Attempts,
    /// The memory limit that the box was given since it was asked for.
    grown: Option<u64>,
    questions: Questions,
    approvals: Approvals,
    registry: Registry,
    spent: Spent,
    answering: Answering,
    warned: bool,
    /// The question of the harness's own that was put last, until the run goes on after it.
    escalation: Option<QuestionId>,
    stop: Option<(ExitReason, String)>,
    /// Whether it is its time that is over.
    is_out_of_time: bool,
    ended: bool,
    /// When it was last taken up after an end.
    taken_up: Option<Timestamp>,
    boxes_before: u32,
}

impl State {
    /// The state of a run of which nothing but its start is known.
    pub fn new(spec: RunSpec) -> Self {
        let floor = match spec.mode {
            RunMode::Goal => Floor::Model,
            RunMode::Chat => Floor::ModelRested,
        };
        Self {
            registry: Registry::for_mode(spec.mode),
            spec,
            turn: 0,
            floor,
            open: Vec::new(),
            begun: Vec::new(),
            any_well_formed: false,
            malformed_answers: 0,
            nudges: 0,
            proof: Proof::default(),
            last_text: String::new(),
            jobs: Jobs::default(),
            checkpoints: Checkpoints::default(),
            circles: Circles::default(),
            failures: Failures::default(),
            decisions: Decisions::default(),
            attempts: Attempts::default(),
            grown: None,
            questions: Questions::default(),
            approvals: Approvals::default(),
            spent: Spent::default(),
            answering: Answering::default(),
            warned: false,
            escalation: None,
            stop: None,
            is_out_of_time: false,
            ended: false,
            taken_up: None,
            boxes_before: 0,
        }
    }

    /// What was asked.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// The number of model requests so far.
    pub fn turn(&self) -> u32 {
        self.turn
    }

    /// Calls without an outcome, in order.
    pub fn open_calls(&self) -> &[ToolCall] {
        &self.open
    }

    /// The open calls that were announced as about to take effect, in order.
    pub fn begun(&self) -> &[Begun] {
        &self.begun
    }

    /// What is known of the beginning of an open call.
    pub fn begun_as(&self, call_id: &str) -> Option<&Begun> {
        self.begun.iter().find(|begun| begun.call_id == call_id)
    }

    /// The results of the current round of checks.
    pub fn check_results(&self) -> &[CheckResult] {
        self.proof.results()
    }

    /// The round of checks that is under way or comes next.
    pub fn check_round(&self) -> u32 {
        self.proof.round()
    }

    /// What stands for the result.
    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The claim that waits for its answer.
    pub fn claim(&self) -> Option<&FinishClaim> {
        self.proof.claim.as_ref().map(|claim| &claim.claim)
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// How many boxes the run has left behind: what was found out in one says nothing about another.
    pub fn boxes_before(&self) -> u32 {
        self.boxes_before
    }

    /// The failures.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// What was decided about them.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The memory limit that the box was given since it was asked for.
    pub(super) fn grown(&self) -> Option<u64> {
        self.grown
    }

    /// The calls whose last attempt has failed.
    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// The questions.
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// When the run was last taken up after it had ended: people are given their time anew then.
    pub fn taken_up(&self) -> Option<Timestamp> {
        self.taken_up
    }

    /// What the approvals rest on beside their questions.
    pub(super) fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// The name of the model that answers now.
    pub fn model(&self) -> &str {
        self.answering.model(&self.spec).0
    }

    /// What the run has cost.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The words of warning that are due: once, when most of the budget is spent.
    pub fn warning(&self) -> Option<String> {
        self.spec.budget.near(&self.spent).filter(|_| !self.warned)
    }

    /// The limit that keeps the model from being asked again, if there is one.
    pub fn reached(&self) -> Option<Limit> {
        let budget = &self.spec.budget;
        match (budget.max_tokens, budget.max_cost) {
            _ if self.is_out_of_time => Some(Limit::Time),
            _ if self.stop.is_some() => None,
            _ if self.turn >= self.spec.max_turns => Some(Limit::Turns),
            (Some(most), _) if self.spent.tokens() >= most => Some(Limit::Tokens),
            (_, Some(most)) if self.spent.cost >= most => Some(Limit::Cost),
            _ => None,
        }
    }

    /// True after the last entry.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes in what happened.
    pub fn apply(&mut self, entry: &Entry) {
        self.jobs.apply(entry);
        self.checkpoints.apply(entry);
        self.circles.apply(entry);
        self.answering.apply(&entry.event);
        self.failures.apply(entry);
        self.decisions.apply(entry);
        self.attempts.apply(entry);
        self.approvals.apply(entry, self.questions.next_id());
        self.questions.apply(entry);
        self.proof.apply(entry, self.open.first().map(|call| call.id.as_str()));
        self.take_escalation(entry);
        match &entry.event {
            Event::UserSaid { .. } => {
                self.floor = Floor::Model;
                self.nudges = 0;
            }
            Event::QuestionAnswered { question, .. } => self.take_reply(*question),
            Event::HarnessSaid { .. } => {
                self.floor = Floor::Model;
                self.nudges += 1;
            }
            Event::ModelRequested { turn, kept_bytes, rest, .. } => {
                self.turn = *turn;
                self.spent.request(kept_bytes + rest.size_bytes);
            }
            Event::ModelAnswered { text, calls, usage, .. } => {
                let bytes = text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>();
                self.spent.answer(*usage, bytes as u64, self.answering.price(&self.spec));
                self.take_answer(text, calls);
            }
            Event::SummaryRequested { kept_bytes, rest, .. } => self.spent.request(kept_bytes + rest.size_bytes),
            Event::SummaryAnswered { usage, response, .. } => {
                self.spent.answer(*usage, response.size_bytes, self.answering.price(&self.spec));
            }
            Event::Noticed { kind: NoticeKind::BudgetNear, .. } => self.warned = true,
            Event::ModelFailed { why, reason, .. } => self.stop = Some((*reason, why.clone())),
            Event::ToolStarted { call } => {
                self.begun.push(Begun { call_id: call.id.clone(), seq: entry.seq, time: entry.time });
            }
            Event::ToolEnded { call_id, outcome } => self.take_outcome(call_id, outcome),
            Event::BoxGrown { memory_bytes: Some(bytes), .. } => self.grown = Some(*bytes),
            Event::TurnInterrupted { .. } => self.floor = Floor::Person,
            Event::StopAsked { reason, why } => {
                // Whoever else stops a run has other reasons.
                self.is_out_of_time = *reason == ExitReason::Budget;
                self.stop = Some((*reason, why.clone()));
            }
            Event::RunEnded { .. } => self.ended = true,
            Event::RunResumed { asked, found, .. } => {
                self.boxes_before += u32::from(matches!(found, BoxReturn::Restored | BoxReturn::Lost));
                asked.change(&mut self.spec);
                self.taken_up = if self.ended { Some(entry.time) } else { self.taken_up };
                self.take_up();
            }
            Event::LimitsRaised { asked } => {
                asked.change(&mut self.spec);
                self.warned = false;
                if std::mem::take(&mut self.is_out_of_time) {
                    self.stop = None;
                }
            }
            Event::RestoreStarted { .. } => self.boxes_before += 1,
            Event::RunForked { spec } => {
                self.boxes_before += 1;
                self.spec = spec.clone();
                // Whatever decided the parent's end, this is another try.
                self.ended = true;
                self.take_up();
                if self.spec.mode == RunMode::Goal {
                    self.floor = Floor::Model;
                }
            }
            _ => {}
        }
    }

    /// The run goes on: what stopped it counts no more. What decided its end does, unless the end was recorded: then
    /// whoever takes it up wants another try.
    fn take_up(&mut self) {
        self.warned = false;
        self.stop = None;
        self.is_out_of_time = false;
        if self.floor == Floor::Person && self.spec.mode == RunMode::Goal {
            self.floor = Floor::Model;
        }
        if std::mem::take(&mut self.ended) {
            self.nudges = 0;
            self.malformed_answers = 0;
            self.proof.try_again();
            self.take_up_escalation();
        }
    }

    /// An answer that no call waits for is as good as a person's words.
    fn take_reply(&mut self, question: QuestionId) {
        let record = self.questions.get(question);
        if record.is_some_and(|record| record.question.subject.call_id().is_none()) {
            self.floor = Floor::Model;
            self.nudges = 0;
        }
    }

    fn take_answer(&mut self, text: &str, calls: &[ToolCall]) {
        self.open = calls.to_vec();
        self.begun.clear();
        self.any_well_formed = false;
        if !text.trim().is_empty() {
            self.last_text = text.to_owned();
        }
        if calls.is_empty() {
            self.floor = Floor::ModelRested;
        } else {
            self.floor = Floor::Model;
            self.nudges = 0;
        }
    }

    fn take_outcome(&mut self, call_id: &str, outcome: &Outcome) {
        self.open.retain(|call| call.id != call_id);
        self.begun.retain(|begun| begun.call_id != call_id);
        self.any_well_formed |= outcome.status != Status::Malformed;
        if self.open.is_empty() {
            self.malformed_answers = if self.any_well_formed { 0 } else { self.malformed_answers + 1 };
        }
    }
}

#[cfg(test)]
mod tests;
