//! A run as JSON for programs: an object per line as it goes, or one at the end. `docs/OUTPUT.md` describes the objects.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::totals::{Totals, has_failed};
use super::{Closing, visible_json};
use crate::domain::{Entry, Event, ExitReason, JobRecord, Observer, Progress, RunSpec, Verdict};

/// The version of the objects: it goes up when a member changes its meaning or goes away.
pub const OUTPUT_SCHEMA_VERSION: u32 = 1;

/// Which JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonMode {
    /// One object at the end.
    Single,
    /// An object per line as the run goes; the last is the result.
    Stream,
}

/// Prints a run as JSON. Never fails: a writer that is gone is written to no more.
pub struct JsonOutput<W> {
    out: W,
    mode: JsonMode,
    totals: Totals,
    artifacts: Vec<Value>,
    checks: Vec<Value>,
    failure: Option<Value>,
    failed_as: Option<ExitReason>,
    gone: bool,
}

impl<W: Write + Send> JsonOutput<W> {
    /// JSON on `out`.
    pub fn new(out: W, mode: JsonMode) -> Self {
        Self {
            out,
            mode,
            totals: Totals::default(),
            artifacts: Vec::new(),
            checks: Vec::new(),
            failure: None,
            failed_as: None,
            gone: false,
        }
    }

    /// Takes in what happened before anybody looked: the result is that of the whole run.
    pub fn catch_up(&mut self, entries: &[Entry]) {
        let mode = std::mem::replace(&mut self.mode, JsonMode::Single);
        entries.iter().for_each(|entry| self.entry(entry));
        self.mode = mode;
    }

    /// Tells of a failure of the harness itself: what, because, hints.
    pub fn failure(&mut self, reason: ExitReason, what: &str, because: &[String], hints: &[String]) {
        let error = json!({ "what": what, "because": because, "hints": hints });
        self.line("error", error.clone());
        self.failure = Some(error);
        self.failed_as = Some(reason);
    }

    /// Writes the result, the last object; `closing` is None where there is no transcript.
    pub fn end(&mut self, closing: Option<&Closing>) {
        let result = self.result(closing);
        self.write(&object("result", result));
    }

    fn result(&self, closing: Option<&Closing>) -> Value {
        let t = &self.totals;
        let verdict = t.end.as_ref().map_or(Verdict::Error, |end| end.verdict);
        let reason = self.failed_as.or(t.end.as_ref().map(|end| end.reason)).unwrap_or(ExitReason::Internal);
        json!({
            "run": t.spec.as_ref().map(|spec| &spec.run),
            "verdict": verdict,
            "verified": verdict == Verdict::Verified,
            "exit_reason": reason,
            "exit_code": reason.code(),
            "why": t.end.as_ref().map(|end| &end.why),
            "answer": t.end.as_ref().map(|end| &end.answer),
            "error": self.failure,
            "duration_ms": t.wall_ms,
            "model_ms": t.model_ms,
            "tool_ms": t.tool_ms,
            "waited_ms": t.waited_ms,
            "waiting_ms": t.waiting_ms,
            "turns": t.turns,
            "usage": t.usage,
            "cost_micro_usd": t.cost(),
            "tool_calls": t.calls,
            "failed_tool_calls": t.failed_calls,
            "waits": t.waits,
            "jobs": t.jobs.all().map(job_members).collect::<Vec<_>>(),
            "box_usage": t.usage_of_box,
            "checks": self.checks,
            "artifacts": self.artifacts,
            "run_dir": closing.map(|closing| &closing.run_dir),
            "head": closing.map(|closing| json!({ "seq": closing.head_seq, "hash": closing.head_hash })),
        })
    }

    fn line(&mut self, kind: &str, members: Value) {
        if self.mode == JsonMode::Stream {
            self.write(&object(kind, members));
        }
    }

    fn write(&mut self, object: &Value) {
        if self.gone {
            return;
        }
        let written = writeln!(self.out, "{}", visible_json(object)).and_then(|()| self.out.flush());
        self.gone = written.is_err();
    }

    fn answered(&mut self, entry: &Entry) {
        let Event::ModelAnswered { turn, text, reasoning, calls, finish_reason, usage, duration_ms, .. } = &entry.event
        else {
            return;
        };
        if !text.is_empty() || !reasoning.is_empty() {
            let members = json!({ "role": "assistant", "turn": turn, "text": text, "reasoning": reasoning });
            self.line("message", at(entry, members));
        }
        let members = json!({
            "turn": turn, "finish_reason": finish_reason, "calls": calls.len(), "usage": usage, "duration_ms": duration_ms,
        });
        self.line("usage", at(entry, members));
    }
}

impl<W: Write + Send> Observer for JsonOutput<W> {
    fn entry(&mut self, entry: &Entry) {
        self.totals.add(entry);
        match &entry.event {
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => self.line("init", at(entry, asked(spec))),
            Event::UserSaid { text, .. } => self.line("message", at(entry, json!({ "role": "user", "text": text }))),
            Event::HarnessSaid { text } => self.line("message", at(entry, json!({ "role": "harness", "text": text }))),
            Event::ModelAnswered { .. } => self.answered(entry),
            Event::ModelFailed { why, reason, .. } | Event::StopAsked { why, reason } => {
                self.line("error", at(entry, json!({ "what": why, "exit_reason": reason })));
            }
            Event::ToolStarted { call } => {
                let arguments = serde_json::from_str(&call.arguments).unwrap_or(json!(call.arguments));
                let members = json!({ "id": call.id, "name": call.name, "arguments": arguments });
                self.line("tool_use", at(entry, members));
            }
            Event::ToolEnded { call_id, outcome } => {
                self.line("tool_result", at(entry, joined(json!({ "id": call_id }), outcome)));
            }
            Event::CheckEnded { result } => {
                let which = json!({
                    "check": result.check, "round": result.round, "passed": !has_failed(&result.outcome),
                });
                if result.round > 0 {
                    self.checks.push(which.clone());
                }
                self.line("check", at(entry, joined(which, &result.outcome)));
            }
            Event::ArtifactCollected { path, stored, size_bytes, sha256 } => self
                .artifacts
                .push(json!({ "path": path, "stored": stored, "size_bytes": size_bytes, "sha256": sha256 })),
            Event::JobStarted { job } => self.line("job", at(entry, joined(json!({ "event": "started" }), job))),
            Event::JobNoted { job, finding } => {
                let members = json!({ "event": "noted", "id": job, "words": finding.words() });
                self.line("job", at(entry, joined(members, finding)));
            }
            Event::JobEnded { job, end } => {
                self.line("job", at(entry, joined(json!({ "event": "ended", "id": job }), end)));
            }
            Event::Waited { wait } => self.line("wait", at(entry, json!(wait))),
            Event::PersonTyped { session } => self.line("typed", at(entry, json!({ "session": session }))),
            Event::SessionClosed { session, why } => {
                self.line("session_closed", at(entry, json!({ "session": session, "why": why })));
            }
            Event::BoxMeasured { usage } => self.line("box_usage", at(entry, json!(usage))),
            Event::Noticed { kind, text } => self.line("notice", at(entry, json!({ "kind": kind, "text": text }))),
            Event::RunResumed { epoch, away_ms, found, notes, asked } => {
                let members =
                    json!({ "epoch": epoch, "away_ms": away_ms, "box": found, "notes": notes, "asked": asked });
                self.line("resumed", at(entry, members));
            }
            Event::CheckpointTaken { checkpoint } => {
                self.line("checkpoint", at(entry, joined(json!({ "event": "taken" }), checkpoint)));
            }
            Event::CheckpointRestored { checkpoint, sessions, notes } => {
                let members = json!({ "event": "restored", "id": checkpoint, "sessions": sessions, "notes": notes });
                self.line("checkpoint", at(entry, members));
            }
            Event::CheckpointDeleted { checkpoint } => {
                self.line("checkpoint", at(entry, json!({ "event": "deleted", "id": checkpoint })));
            }
            Event::SidecarStarted { name, image, id } => {
                let members = json!({ "event": "started", "name": name, "image": image, "id": id });
                self.line("sidecar", at(entry, members));
            }
            Event::SidecarStopped { name, why } => {
                self.line("sidecar", at(entry, json!({ "event": "stopped", "name": name, "why": why })));
            }
            Event::ImageSaved { name, id, .. } => {
                self.line("image", at(entry, json!({ "name": name, "id": id })));
            }
            Event::LimitsRaised { asked } => self.line("limits_raised", at(entry, json!(asked))),
            Event::ModelSwitched { from, to, why } => {
                self.line("model_switched", at(entry, json!({ "from": from, "to": to, "why": why })));
            }
            Event::ConversationReduced { reduction } => self.line("context", at(entry, json!(reduction))),
            Event::QuestionAsked { question } => self.line("question", at(entry, json!(question))),
            Event::QuestionAnswered { question, reply, at: from, .. } => {
                let value = json!({ "question": question, "choice": reply.choice, "text": reply.text, "at": from });
                self.line("answer", at(entry, value));
            }
            Event::QuestionClosed { question, end, why } => {
                self.line("question_closed", at(entry, json!({ "question": question, "end": end, "why": why })));
            }
            Event::DecisionMade { decision } => self.line("decision", at(entry, json!(decision))),
            Event::DecisionJudged { decision, turned_out, why } => {
                let value = json!({ "decision": decision, "turned_out": turned_out, "why": why });
                self.line("decision_judged", at(entry, value));
            }
            Event::AttemptFailed { call_id, attempt, outcome } => {
                let value = json!({ "call_id": call_id, "attempt": attempt, "failure": outcome.failure });
                self.line("attempt_failed", at(entry, value));
            }
            Event::BoxGrown { memory_bytes, why } => {
                self.line("box_grown", at(entry, json!({ "memory_bytes": memory_bytes, "why": why })));
            }
            Event::ProtectedChanged { paths, programs } => {
                self.line("protected_changed", at(entry, json!({ "paths": paths, "programs": programs })));
            }
            Event::ChecksOutdated { round, paths, running } => {
                let members = json!({ "round": round, "paths": paths, "running": running });
                self.line("checks_outdated", at(entry, members));
            }
            _ => {}
        }
    }

    fn progress(&mut self, _progress: &Progress) {}
}

/// A job as the result lists it.
fn job_members(record: &JobRecord) -> Value {
    let job = &record.job;
    json!({
        "id": job.id,
        "session": job.session,
        "command": job.command,
        "service": job.service,
        "started": format!("{:.3}", record.started),
        "expected_s": job.expected_s,
        "alive": record.is_alive(),
        "ready": record.is_ready(),
        "end": record.end(),
        "log": job.log,
    })
}

fn object(kind: &str, members: Value) -> Value {
    joined(json!({ "type": kind, "schema_version": OUTPUT_SCHEMA_VERSION }), members)
}

/// What was asked; of documents that they are there, not what they say.
fn asked(spec: &RunSpec) -> Value {
    let mut asked = json!(spec);
    let docs = asked.get_mut("docs").and_then(Value::as_array_mut);
    for doc in docs.into_iter().flatten().filter_map(Value::as_object_mut) {
        doc.shift_remove("text");
    }
    asked
}

fn at(entry: &Entry, members: Value) -> Value {
    joined(json!({ "seq": entry.seq, "time": format!("{:.3}", entry.time) }), members)
}

fn joined(first: Value, second: impl serde::Serialize) -> Value {
    let mut all = Map::new();
    for part in [Some(first), serde_json::to_value(second).ok()] {
        if let Some(Value::Object(members)) = part {
            all.extend(members);
        }
    }
    Value::Object(all)
}
