//! What stands between a call and its effect: rules that deny it, and a person who is asked first. Pure.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::answers;
use super::approvals::{ALL, ALWAYS, NO, YES, in_the_box};
use super::state::{State, Step};
use crate::context::Prompt;
use crate::domain::{
    Choice, Effect, Outcome, Permit, Question, QuestionEnd, QuestionRecord, QuestionState, Reply, Scope, Status,
    Subject, ToolCall, visible_line,
};
use crate::policy::{self, Judgment, Place};
use crate::tools::decode;

impl State {
    /// What has to happen before an open call may run; None where nothing has to.
    pub(super) fn gate(&self, call: &ToolCall) -> Option<Step> {
        if self.begun_as(&call.id).is_some() {
            return None;
        }
        let asked = self.questions().about_call(&call.id);
        if let Some(record) = asked.filter(|record| self.approvals().is_own(record.question.id)) {
            return self.gate_after(call, record);
        }
        // What cannot be read is not run either.
        let arguments = decode::arguments(&call.arguments).ok()?;
        let granted = self.approvals().granted(self.questions());
        let judgment = policy::judge(&self.spec().rules, &granted, &call.name, &arguments, self.place());
        match judgment.permit {
            Permit::Allow => None,
            Permit::Deny => Some(refused(call, &judgment.why())),
            Permit::Ask => Some(self.approval(call, &arguments, &judgment)),
        }
    }

    /// How far a call reaches at most.
    pub(super) fn effect_of(&self, call: &ToolCall) -> Effect {
        let arguments = decode::arguments(&call.arguments).unwrap_or_default();
        policy::effect_of(&call.name, &arguments, self.place())
    }

    fn place(&self) -> Place<'_> {
        Place { workspace: &self.spec().workspace, beside: self.approvals().beside() }
    }

    fn gate_after(&self, call: &ToolCall, record: &QuestionRecord) -> Option<Step> {
        match (&record.state, &record.question.subject) {
            (QuestionState::Open, _) => Some(Step::AwaitAnswer(record.question.id)),
            (_, Subject::Model { .. }) => {
                Some(Step::AnswerCall { call_id: call.id.clone(), outcome: Box::new(answers::outcome_of(record)) })
            }
            (QuestionState::Answered { reply, .. }, Subject::Approval { sha256, .. }) => {
                let offers = |name: &str| record.question.options.iter().any(|option| option.name == name);
                let lets = |name: &str| reply.is(name) && offers(name);
                match (lets(YES) || lets(ALWAYS) || lets(ALL), *sha256 == bound(call)) {
                    (true, true) => None,
                    (true, false) => Some(refused(call, "what a person allowed is not this call")),
                    (false, _) => Some(refused(call, &refusal(reply))),
                }
            }
            (QuestionState::Answered { reply, .. }, _) => Some(Step::AnswerCall {
                call_id: call.id.clone(),
                outcome: Box::new(Outcome::words(Status::Ok, format!("a person answered: {}", reply.words()))),
            }),
            (QuestionState::Over { end, .. }, subject) => {
                let how = match end {
                    QuestionEnd::Timeout => "nobody answered in time; that is neither a yes nor a no",
                    QuestionEnd::Withdrawn => "the question was withdrawn",
                };
                Some(match subject {
                    Subject::Approval { rule, .. } => refused(call, &format!("{rule}, and {how}")),
                    _ => Step::AnswerCall {
                        call_id: call.id.clone(),
                        outcome: Box::new(Outcome::words(Status::Refused, how)),
                    },
                })
            }
        }
    }

    fn approval(&self, call: &ToolCall, arguments: &Value, judgment: &Judgment) -> Step {
        let rule = judgment.why();
        let background = match policy::shown(&call.name, arguments) {
            Ok(background) => background,
            Err(long) => {
                let how =
                    format!("{rule}, and {long}; send it in smaller steps, or write the long text with `write_file`");
                return refused(call, &how);
            }
        };
        let always: Vec<Scope> = judgment.grounds.iter().map(|ground| ground.scope.clone()).collect();
        let mut options = vec![
            Choice::new(YES, "runs it, this once"),
            Choice::new(ALWAYS, format!("runs it, and for the rest of the run {}", all_like(&always))),
        ];
        let everything = in_the_box();
        let is_by_mode = always.iter().all(|scope| everything.covers(scope));
        if is_by_mode {
            options.push(Choice::new(ALL, "runs it, and for the rest of the run whatever stays in the box"));
        }
        options.push(Choice::new(NO, "does not run it, and tells the model"));
        Step::Ask(Box::new(Question {
            id: self.questions().next_id(),
            text: format!("May this run? {rule}"),
            background,
            evidence: Vec::new(),
            options,
            recommended: (!is_by_mode).then(|| NO.to_owned()),
            silence: judgment.silence.unwrap_or(self.spec().rules.silence),
            subject: Subject::Approval { call_id: call.id.clone(), sha256: bound(call), rule, always },
        }))
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

/// The calls of these scopes, in words.
fn all_like(scopes: &[Scope]) -> String {
    let mut programs: Vec<String> = scopes
        .iter()
        .filter_map(|scope| {
            Some(format!("`{}` with an effect up to {}", visible_line(scope.program.as_ref()?), scope.effect.name()))
        })
        .collect();
    programs.dedup();
    format!("all that the same rule asks for: {}", programs.join(", "))
}

fn refusal(reply: &Reply) -> String {
    match (reply.is(NO), reply.text.is_empty()) {
        (true, true) => "a person said no".to_owned(),
        (true, false) => format!("a person said no: {}", reply.text),
        (false, _) => format!("a person did not say yes, but: {}", reply.words()),
    }
}

fn refused(call: &ToolCall, how: &str) -> Step {
    let text = Prompt::Refused.render(&[("how", how)]).expect("the template is fixed and tested");
    Step::AnswerCall { call_id: call.id.clone(), outcome: Box::new(Outcome::words(Status::Refused, text)) }
}

#[cfg(test)]
mod tests;
