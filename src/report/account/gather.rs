//! The fold from entries to an account.

use std::collections::BTreeMap;

use super::proof::Proof;
use super::{
    Account, ArtifactRow, AttemptRow, DecisionRow, FailureRow, HeadRow, PredictionRow, QuestionRow,
    REPORT_SCHEMA_VERSION, Standing, TimeRow,
};
use crate::domain::{Decision, Entry, Event, Level, Outcome, QuestionState, Questions, Reaction, ToolCall, TurnedOut};
use crate::report::outcome::how;
use crate::report::{Closing, Totals, call_line};

/// What the entries so far have told.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    steps: Vec<(ToolCall, Option<Outcome>)>,
    numbers: BTreeMap<String, usize>,
    proof: Proof,
    attempts: Vec<AttemptRow>,
    failures: Vec<FailureRow>,
    decisions: Vec<(Decision, TurnedOut, String)>,
    questions: Questions,
    interventions: Vec<String>,
    artifacts: Vec<ArtifactRow>,
    last: jiff::Timestamp,
}

impl Gathered {
    /// Takes the next entry in.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.last = entry.time;
        self.questions.apply(entry);
        self.proof.add(&entry.event);
        match &entry.event {
            Event::ModelAnswered { calls, .. } => {
                for call in calls {
                    self.steps.push((call.clone(), None));
                    self.numbers.insert(call.id.clone(), self.steps.len());
                }
            }
            Event::ToolEnded { call_id, outcome } => {
                let Some(&number) = self.numbers.get(call_id) else { return };
                self.steps[number - 1].1 = Some(outcome.clone());
                self.failed(number, outcome);
            }
            Event::AttemptFailed { call_id, attempt, outcome } => {
                let step = self.numbers.get(call_id).copied().unwrap_or_default();
                let class = outcome.failure.as_ref().map(|failure| failure.class);
                self.attempts.push(AttemptRow { step, attempt: *attempt, class, how: how(outcome) });
                self.failed(step, outcome);
            }
            Event::DecisionMade { decision } => {
                self.decisions.push((decision.clone(), TurnedOut::Unknown, String::new()));
            }
            Event::DecisionJudged { decision, turned_out, why } => {
                let made = self.decisions.iter_mut().rfind(|(made, ..)| made.id == *decision);
                if let Some((_, as_it_was, shown)) = made {
                    (*as_it_was, *shown) = (*turned_out, why.clone());
                }
            }
            Event::ArtifactCollected { path, stored, size_bytes, sha256 } => self.artifacts.push(ArtifactRow {
                path: path.clone(),
                stored: format!("artifacts/{stored}"),
                size_bytes: *size_bytes,
                sha256: sha256.clone(),
            }),
            event => self.intervened(entry.seq, event),
        }
    }

    fn intervened(&mut self, seq: u64, event: &Event) {
        let what = match event {
            Event::UserSaid { .. } => "a person said something".to_owned(),
            Event::PersonTyped { session } => format!("a person typed into session {session}"),
            Event::TurnInterrupted { turn } => format!("a person interrupted turn {turn}"),
            Event::LimitsRaised { asked } => format!("a person raised a limit: {}", asked.limits_words()),
            Event::RunResumed { .. } => "the run was taken up again".to_owned(),
            Event::RestoreStarted { checkpoint, .. } => format!("the box went back to {checkpoint}"),
            _ => return,
        };
        self.interventions.push(format!("entry {seq}: {what}"));
    }

    fn failed(&mut self, step: usize, outcome: &Outcome) {
        let Some(failure) = &outcome.failure else { return };
        let at = self.failures.iter().position(|row| row.fingerprint == failure.fingerprint).unwrap_or_else(|| {
            let command = step.checked_sub(1).and_then(|at| self.steps.get(at));
            self.failures.push(FailureRow {
                class: failure.class,
                evidence: failure.evidence.clone(),
                fingerprint: failure.fingerprint.clone(),
                times: 0,
                steps: Vec::new(),
                command: command.map(|(call, _)| call_line(call)).unwrap_or_default(),
            });
            self.failures.len() - 1
        });
        let row = &mut self.failures[at];
        row.times += 1;
        if row.steps.last() != Some(&step) {
            row.steps.push(step);
        }
    }

    /// All of it.
    pub(super) fn account(self, totals: &Totals, closing: &Closing) -> Account {
        let (spec, end) = (totals.spec.as_ref(), totals.end.as_ref());
        let text = |of: fn(&crate::domain::RunSpec) -> &String| spec.map(of).cloned().unwrap_or_default();
        let checks = self.proof.checks(spec);
        let requirements = self.proof.requirements(&checks, end.map(|end| end.verdict), &self.steps);
        let named =
            |number: &usize| requirements.iter().any(|row| row.check.map(|check| check as usize) == Some(*number));
        let unnamed_checks = checks.iter().map(|check| check.number).filter(|number| !named(number)).collect();
        let questions: Vec<QuestionRow> = self.questions();
        Account {
            schema_version: REPORT_SCHEMA_VERSION,
            run: spec.map(|spec| spec.run.clone()),
            title: text(|spec| &spec.title),
            goal: text(|spec| &spec.goal),
            model: text(|spec| &spec.model),
            workspace: text(|spec| &spec.workspace),
            verdict: end.map(|end| end.verdict),
            exit_reason: end.map(|end| end.reason),
            why: end.map(|end| end.why.clone()).unwrap_or_default(),
            done: end.map(|end| end.answer.clone()).unwrap_or_default(),
            doubts: self.proof.doubts(&checks, &requirements),
            unnamed_checks,
            time: TimeRow {
                wall_ms: totals.wall_ms,
                active_ms: totals.model_ms + totals.tool_ms,
                model_ms: totals.model_ms,
                tool_ms: totals.tool_ms,
                waits_ms: totals.waited_ms,
                server_ms: totals.waiting_ms,
                people_ms: questions.iter().map(|question| question.open_ms).sum(),
                away_ms: totals.away_ms,
            },
            predictions: predictions(&self.decisions),
            decisions: self.decisions.iter().map(decision_row).collect(),
            checks,
            requirements,
            protected: self.proof.protected,
            attempts: self.attempts,
            failures: self.failures,
            questions,
            interventions: self.interventions,
            artifacts: self.artifacts,
            tokens: totals.usage,
            cost_micro_usd: totals.cost(),
            turns: totals.turns,
            tool_calls: totals.calls,
            failed_tool_calls: totals.failed_calls,
            resources: totals.usage_of_box.clone(),
            learned: closing.learned.clone(),
            head: HeadRow { seq: closing.head_seq, hash: closing.head_hash.clone() },
        }
    }

    fn questions(&self) -> Vec<QuestionRow> {
        let row = |record: &crate::domain::QuestionRecord| {
            let (answer, at, over, until) = match &record.state {
                QuestionState::Open => (None, None, None, self.last),
                QuestionState::Answered { reply, at, time } => (Some(reply.words()), Some(*at), None, *time),
                QuestionState::Over { end, time } => (None, None, Some(*end), *time),
            };
            QuestionRow {
                id: record.question.id.to_string(),
                text: record.question.text.clone(),
                answer,
                at,
                over,
                open_ms: u64::try_from(until.duration_since(record.asked).as_millis()).unwrap_or(0),
            }
        };
        self.questions.all().map(row).collect()
    }
}

fn decision_row((decision, turned_out, why): &(Decision, TurnedOut, String)) -> DecisionRow {
    let confidence = &decision.confidence;
    let worst = confidence.signals.iter().filter(|signal| signal.level == confidence.level);
    DecisionRow {
        id: decision.id.to_string(),
        class: decision.class,
        chosen: match &decision.chosen {
            Reaction::RetryChanged { what } => format!("retry_changed: {what}"),
            other => other.name().to_owned(),
        },
        confidence: confidence.level,
        reasons: worst.map(|signal| format!("{}: {}", signal.name, signal.why)).collect(),
        expected: decision.expected.clone(),
        turned_out: *turned_out,
        why: why.clone(),
    }
}

fn predictions(decisions: &[(Decision, TurnedOut, String)]) -> Vec<PredictionRow> {
    let of = |level: Level| {
        let all = decisions.iter().filter(|(decision, ..)| decision.confidence.level == level);
        let count = |is: fn(&TurnedOut) -> bool| {
            u32::try_from(all.clone().filter(|(_, turned_out, _)| is(turned_out)).count()).unwrap_or(u32::MAX)
        };
        PredictionRow {
            confidence: level,
            made: count(|_| true),
            worked: count(|turned_out| *turned_out == TurnedOut::Worked),
            failed: count(|turned_out| matches!(turned_out, TurnedOut::Failed | TurnedOut::Changed)),
        }
    };
    [Level::High, Level::Medium, Level::Low].map(of).into_iter().filter(|row| row.made > 0).collect()
}

impl Standing {
    /// In a word or two.
    pub(in crate::report) fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotKnown => "not known",
        }
    }
}
