//! What stands between a call and its effect: rules that deny it, and a person who is asked first. Pure.

use sha2::{Digest as _, Sha256};

use super::answers;
use super::state::{State, Step};
use crate::domain::{
    Choice, Outcome, Permit, Question, QuestionEnd, QuestionRecord, QuestionState, Reply, Status, Subject, ToolCall,
};
use crate::policy;

/// The option that lets a call run, once.
pub(super) const YES: &str = "yes";
/// The option that does not.
pub(super) const NO: &str = "no";

impl State {
    /// What has to happen before an open call may run; None where nothing has to.
    pub(super) fn gate(&self, call: &ToolCall) -> Option<Step> {
        if self.begun_as(&call.id).is_some() {
            return None;
        }
        if let Some(record) = self.questions().about_call(&call.id) {
            return self.gate_after(call, record);
        }
        let judgment = policy::judge(&self.spec().rules, call);
        match judgment.permit {
            Permit::Allow => None,
            Permit::Deny => Some(answer(call, format!("not run: {}", judgment.why))),
            Permit::Ask => Some(Step::Ask(Box::new(self.approval(call, judgment.why)))),
        }
    }

    fn gate_after(&self, call: &ToolCall, record: &QuestionRecord) -> Option<Step> {
        match (&record.state, &record.question.subject) {
            (QuestionState::Open, _) => Some(Step::AwaitAnswer(record.question.id)),
            (_, Subject::Model { .. }) => {
                Some(Step::AnswerCall { call_id: call.id.clone(), outcome: Box::new(answers::outcome_of(record)) })
            }
            (QuestionState::Answered { reply, .. }, Subject::Approval { sha256, .. }) => {
                if reply.is(YES) && *sha256 == bound(call) {
                    return None;
                }
                Some(answer(call, refusal(reply)))
            }
            (QuestionState::Answered { reply, .. }, _) => Some(Step::AnswerCall {
                call_id: call.id.clone(),
                outcome: Box::new(Outcome::words(Status::Ok, format!("a person answered: {}", reply.words()))),
            }),
            (QuestionState::Over { end, .. }, subject) => {
                let asked = match subject {
                    Subject::Approval { .. } => "not run: ",
                    _ => "",
                };
                let how = match end {
                    QuestionEnd::Timeout => "nobody answered in time; that is neither a yes nor a no",
                    QuestionEnd::Withdrawn => "the question was withdrawn",
                };
                Some(answer(call, format!("{asked}{how}")))
            }
        }
    }

    fn approval(&self, call: &ToolCall, rule: String) -> Question {
        Question {
            id: self.questions().next_id(),
            text: format!("May this run? {rule}"),
            background: format!("{} {}", call.name, call.arguments),
            evidence: Vec::new(),
            options: vec![
                Choice::new(YES, "runs it, this once"),
                Choice::new(NO, "does not run it, and tells the model"),
            ],
            recommended: Some(NO.to_owned()),
            silence: self.spec().rules.silence,
            subject: Subject::Approval { call_id: call.id.clone(), sha256: bound(call), rule },
        }
    }
}

/// What an approval holds for: SHA-256 of the call's name and arguments.
fn bound(call: &ToolCall) -> String {
    let mut hash = Sha256::new();
    hash.update(call.name.len().to_le_bytes());
    hash.update(&call.name);
    hash.update(&call.arguments);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refusal(reply: &Reply) -> String {
    match reply.text.is_empty() {
        true => "not run: a person said no".to_owned(),
        false => format!("not run: a person said: {}", reply.words()),
    }
}

fn answer(call: &ToolCall, text: String) -> Step {
    Step::AnswerCall { call_id: call.id.clone(), outcome: Box::new(Outcome::words(Status::Refused, text)) }
}
