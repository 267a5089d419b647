//! Where the harness itself needs a person: checks that fail again and again, a circle, a model that gives up. Pure.

use super::proof::Claim;
use super::{Ending, MAX_CHECK_ROUNDS, State, Step, verdict_of};
use crate::domain::{
    Choice, Entry, Event, ExitReason, Question, QuestionEnd, QuestionId, QuestionRecord, QuestionState, Subject,
    Verdict,
};

/// The option that has the model go on; words for it may follow.
const GO_ON: &str = "go_on";
/// The option that takes the result as it is.
const ACCEPT: &str = "accept";
/// The option that ends the run.
const STOP: &str = "stop";
/// Lines of a failed check that a question shows.
const SHOWN_OF_CHECK: usize = 12;

impl State {
    /// Takes in what becomes of the harness's own questions.
    pub(super) fn take_escalation(&mut self, entry: &Entry) {
        match &entry.event {
            Event::QuestionAsked { question } => {
                if matches!(question.subject, Subject::FailedClaims { .. } | Subject::Stuck) {
                    self.escalation = Some(question.id);
                }
            }
            Event::QuestionAnswered { question, .. } | Event::QuestionClosed { question, .. }
                if self.escalation == Some(*question) && self.goes_on_after(*question) =>
            {
                self.escalation = None;
                self.proof.try_again();
            }
            _ => {}
        }
    }

    /// The run is taken up after its end: what was decided about that counts no more, and what is open does.
    pub(super) fn take_up_escalation(&mut self) {
        let record = self.escalation.and_then(|id| self.questions.get(id));
        self.escalation = record.filter(|record| record.state == QuestionState::Open).map(|record| record.question.id);
    }

    /// Whether a person has the run go on: by that option, by words alone, or by a message in the place of an answer.
    fn goes_on_after(&self, question: QuestionId) -> bool {
        match self.questions.get(question).map(|record| &record.state) {
            Some(QuestionState::Answered { reply, .. }) => !reply.is(STOP) && !reply.is(ACCEPT),
            Some(QuestionState::Over { end, .. }) => *end == QuestionEnd::Withdrawn,
            Some(QuestionState::Open) | None => false,
        }
    }

    /// The question without whose answer the run can't go on.
    pub fn awaited(&self) -> Option<&QuestionRecord> {
        let of_call = self.open.first().and_then(|call| self.questions.about_call(&call.id));
        let own = || self.escalation.and_then(|id| self.questions.get(id));
        of_call.or_else(own).filter(|record| record.state == QuestionState::Open)
    }

    /// The question that a model's giving up has led to.
    pub(in crate::agent) fn asked_for_help(&self) -> Option<&QuestionRecord> {
        let claim = self.proof.claim.as_ref().filter(|claim| claim.claim.gave_up)?;
        self.questions.about_call(claim.call_id())
    }

    /// What comes of a question of the harness's own; None where there is none, or the run goes on.
    pub(super) fn next_of_escalation(&self) -> Option<Step> {
        let record = self.questions.get(self.escalation?)?;
        let subject = &record.question.subject;
        match &record.state {
            QuestionState::Open => Some(Step::AwaitAnswer(record.question.id)),
            QuestionState::Answered { reply, .. } if reply.is(ACCEPT) => {
                let refused = self.proof.refused();
                Some(Step::End(Ending {
                    verdict: Verdict::Unverified,
                    reason: ExitReason::Done,
                    why: "a person takes the result as it is; a check had failed".to_owned(),
                    answer: refused.map(|claim| claim.summary.clone()).unwrap_or_default(),
                    artifacts: refused.map(|claim| claim.artifacts.clone()).unwrap_or_default(),
                }))
            }
            QuestionState::Answered { reply, .. } if reply.is(STOP) => Some(self.end_of(subject, "a person ended it")),
            QuestionState::Over { end: QuestionEnd::Timeout, .. } => {
                Some(self.end_of(subject, "nobody has said how to go on"))
            }
            QuestionState::Answered { .. } | QuestionState::Over { end: QuestionEnd::Withdrawn, .. } => None,
        }
    }

    fn end_of(&self, subject: &Subject, how: &str) -> Step {
        match subject {
            Subject::FailedClaims { rounds } => {
                let why = format!("the model claimed to be done {rounds} times and a check failed each time; {how}");
                self.end(Verdict::Failed, ExitReason::Failed, why)
            }
            _ => self.end(Verdict::Blocked, ExitReason::NeedsHuman, format!("the model is stuck; {how}")),
        }
    }

    /// What becomes of a claim that a person is needed.
    pub(super) fn next_of_giving_up(&self, claim: &Claim) -> Step {
        let call_id = claim.call_id().to_owned();
        let answered = |accepted| Step::AnswerClaim { call_id: call_id.clone(), accepted };
        let Some(record) = self.questions.about_call(claim.call_id()) else {
            return match self.stop {
                Some(_) => answered(false),
                None => Step::Ask(Box::new(self.plea(claim))),
            };
        };
        match (&record.state, &self.stop) {
            (QuestionState::Open, None) => Step::AwaitAnswer(record.question.id),
            (QuestionState::Open, Some((reason, why))) => Step::End(Ending {
                verdict: verdict_of(*reason),
                reason: *reason,
                why: why.clone(),
                answer: claim.claim.summary.clone(),
                artifacts: claim.claim.artifacts.clone(),
            }),
            (QuestionState::Answered { reply, .. }, _) => answered(reply.is(STOP)),
            (QuestionState::Over { end, .. }, _) => answered(*end == QuestionEnd::Timeout),
        }
    }

    fn plea(&self, claim: &Claim) -> Question {
        self.own(
            Subject::GaveUp { call_id: claim.call_id().to_owned() },
            "The model says that it can't go on without a person. How is it to go on?".to_owned(),
            claim.claim.summary.clone(),
            vec![
                Choice::new(GO_ON, "the model goes on; say what it needs to know"),
                Choice::new(STOP, "ends the run as blocked"),
            ],
        )
    }

    /// The question after too many claims that a check has refused.
    pub(super) fn after_failed_claims(&self) -> Question {
        let rounds = self.proof.failed_rounds();
        let failed = self.proof.failed().iter().map(|result| {
            let text: Vec<&str> = result.outcome.text.lines().collect();
            let last = text[text.len().saturating_sub(SHOWN_OF_CHECK)..].join("\n");
            let check = self.spec.checks.get(result.check).map(ToString::to_string).unwrap_or_default();
            format!("$ {check}\n{last}")
        });
        let failed: Vec<String> = failed.collect();
        self.own(
            Subject::FailedClaims { rounds },
            format!("A check failed each of the {rounds} times that the model said it was done. How is it to go on?"),
            failed.join("\n"),
            vec![
                Choice::new(GO_ON, format!("{MAX_CHECK_ROUNDS} more tries; say what the model should know")),
                Choice::new(ACCEPT, "takes the result as it is: it is not proved"),
                Choice::new(STOP, "ends the run as failed"),
            ],
        )
    }

    /// The question when a model goes round in a circle, whatever it was told.
    pub(super) fn after_circles(&self, what: &str) -> Question {
        self.own(
            Subject::Stuck,
            "The model goes round in a circle. How is it to go on?".to_owned(),
            what.to_owned(),
            vec![
                Choice::new(GO_ON, "the model goes on; say which other way it should take"),
                Choice::new(STOP, "ends the run as blocked"),
            ],
        )
    }

    fn own(&self, subject: Subject, text: String, background: String, options: Vec<Choice>) -> Question {
        Question {
            id: self.questions.next_id(),
            subject,
            text,
            background,
            evidence: Vec::new(),
            options,
            recommended: Some(GO_ON.to_owned()),
            silence: self.spec.rules.silence,
        }
    }
}
