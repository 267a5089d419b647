//! A run as spans, with the names that OpenTelemetry's conventions for generative AI have: a fold of its entries like any
//! other view. Names, counts and kinds go into them, never what was said, typed or printed.

use std::collections::HashMap;

use opentelemetry::{Array, Value as OtelValue};
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::domain::{Entry, Event, ExitReason, Observer, Progress, RunSpec, Status, Usage, Verdict};

/// The target of every span here: what is exported.
pub(super) const TARGET: &str = "gen_ai";

/// The longest name that a model gave to something.
const NAME: usize = 64;

/// Makes the spans: one `invoke_workflow` of one `invoke_agent`, in which are `chat` and `execute_tool`; checks are beside
/// it.
#[derive(Debug)]
pub struct Spans {
    run: String,
    model: String,
    server: String,
    workflow: Span,
    agent: Span,
    chat: Option<Span>,
    summary: Option<Span>,
    tools: HashMap<String, Span>,
    check: Option<Span>,
    used: Usage,
}

impl Spans {
    /// Of the run that is driven with `spec` from here on. One that was taken up again has spans of its own.
    pub fn new(spec: &RunSpec) -> Self {
        let workflow = info_span!(
            target: TARGET, parent: None, "invoke_workflow",
            otel.name = "invoke_workflow longhaul",
            otel.kind = "internal",
            gen_ai.operation.name = "invoke_workflow",
            gen_ai.workflow.name = "longhaul",
            gen_ai.conversation.id = spec.run.to_string(),
            longhaul.verdict = Empty,
            longhaul.exit_reason = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        );
        let agent = info_span!(
            target: TARGET, parent: &workflow, "invoke_agent",
            otel.name = "invoke_agent longhaul",
            otel.kind = "internal",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = "longhaul",
            gen_ai.agent.version = spec.version.as_str(),
            gen_ai.provider.name = "openai",
            gen_ai.request.model = spec.model.as_str(),
            gen_ai.conversation.id = spec.run.to_string(),
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        );
        let (chat, summary, check) = (None, None, None);
        let (run, model, server) = (spec.run.to_string(), spec.model.clone(), host(&spec.base_url).to_owned());
        Self {
            run,
            model,
            server,
            workflow,
            agent,
            chat,
            summary,
            tools: HashMap::new(),
            check,
            used: Usage::default(),
        }
    }

    fn chat(&self, purpose: &str) -> Span {
        info_span!(
            target: TARGET, parent: &self.agent, "chat",
            otel.name = format!("chat {}", self.model),
            otel.kind = "client",
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = "openai",
            gen_ai.request.model = self.model.as_str(),
            gen_ai.conversation.id = self.run.as_str(),
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            server.address = self.server.as_str(),
            longhaul.purpose = purpose,
            longhaul.turn = Empty,
            longhaul.tool_calls = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }

    fn tool(&self, id: &str, name: &str) -> Span {
        let name: String = name.chars().take(NAME).collect();
        info_span!(
            target: TARGET, parent: &self.agent, "execute_tool",
            otel.name = format!("execute_tool {name}"),
            otel.kind = "internal",
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = name.as_str(),
            gen_ai.tool.type = "function",
            gen_ai.tool.call.id = id,
            longhaul.status = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }
}

impl Spans {
    fn count(&mut self, span: &Span, usage: Option<Usage>) {
        if let Some(usage) = usage {
            record_usage(span, usage);
            self.used += usage;
        }
    }

    fn over(&mut self, verdict: Verdict, reason: ExitReason) {
        record_usage(&self.agent, self.used);
        self.workflow.record("longhaul.verdict", verdict.word());
        self.workflow.record("longhaul.exit_reason", reason_word(reason));
        match verdict {
            Verdict::Verified | Verdict::Unverified => {}
            Verdict::Failed | Verdict::Blocked | Verdict::Stopped | Verdict::Error => {
                failed(&self.agent, reason_word(reason));
                failed(&self.workflow, reason_word(reason));
            }
        }
        // What an earlier driver had begun, or this one could not end, ends with the run.
        self.tools.clear();
        (self.chat, self.summary, self.check) = (None, None, None);
        (self.agent, self.workflow) = (Span::none(), Span::none());
    }
}

fn record_usage(span: &Span, usage: Usage) {
    span.record("gen_ai.usage.input_tokens", whole(usage.input_tokens));
    span.record("gen_ai.usage.output_tokens", whole(usage.output_tokens));
    span.record("gen_ai.usage.cache_read.input_tokens", whole(usage.cached_tokens));
}

/// A number as spans have them: of the other kind they would make text.
fn whole(number: impl Into<u64>) -> i64 {
    i64::try_from(number.into()).unwrap_or(i64::MAX)
}

fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "error");
}

/// The host of a URL, for those who look where a request went.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let port = authority.rfind(':').filter(|at| authority[at + 1..].chars().all(|c| c.is_ascii_digit()));
    &authority[..port.unwrap_or(authority.len())]
}

fn reason_word(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Done => "done",
        ExitReason::Internal => "internal",
        ExitReason::Usage => "usage",
        ExitReason::Failed => "failed",
        ExitReason::NeedsHuman => "needs_human",
        ExitReason::Budget => "budget",
        ExitReason::Refused => "refused",
        ExitReason::SandboxUnavailable => "sandbox_unavailable",
        ExitReason::Unverified => "unverified",
        ExitReason::ProviderUnavailable => "provider_unavailable",
        ExitReason::Auth => "auth",
        ExitReason::Interrupted => "interrupted",
        ExitReason::Terminated => "terminated",
    }
}

impl Observer for Spans {
    fn entry(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ModelRequested { turn, .. } => {
                let chat = self.chat("turn");
                chat.record("longhaul.turn", whole(*turn));
                self.chat = Some(chat);
            }
            Event::ModelDelayed { wait_ms, .. } => {
                if let Some(chat) = &self.chat {
                    tracing::info!(target: TARGET, parent: chat, wait_ms = whole(*wait_ms), "waiting");
                }
            }
            Event::ModelAnswered { finish_reason, usage, calls, .. } => {
                if let Some(chat) = self.chat.take() {
                    let reason: String = finish_reason.chars().take(NAME).collect();
                    let reasons = Array::String(vec![reason.into()]);
                    chat.set_attribute("gen_ai.response.finish_reasons", OtelValue::Array(reasons));
                    chat.record("longhaul.tool_calls", whole(calls.len() as u64));
                    self.count(&chat, *usage);
                }
            }
            Event::ModelFailed { reason, .. } => {
                if let Some(chat) = self.chat.take() {
                    failed(&chat, reason_word(*reason));
                }
            }
            Event::TurnInterrupted { .. } => {
                if let Some(chat) = self.chat.take() {
                    failed(&chat, "interrupted");
                }
            }
            Event::ModelSwitched { to, .. } => {
                let (model, server) = to.split_once('@').unwrap_or((to, ""));
                model.clone_into(&mut self.model);
                if !server.is_empty() {
                    host(server).clone_into(&mut self.server);
                }
            }
            Event::SummaryRequested { .. } => self.summary = Some(self.chat("summary")),
            Event::SummaryAnswered { usage, .. } => {
                if let Some(summary) = self.summary.take() {
                    self.count(&summary, *usage);
                }
            }
            Event::SummaryFailed { .. } => {
                if let Some(summary) = self.summary.take() {
                    failed(&summary, "failed");
                }
            }
            Event::ToolStarted { call } => {
                let span = self.tool(&call.id, &call.name);
                self.tools.insert(call.id.clone(), span);
            }
            Event::ToolEnded { call_id, outcome } => {
                if let Some(span) = self.tools.remove(call_id) {
                    let status = outcome.status.word();
                    span.record("longhaul.status", status);
                    match outcome.status {
                        Status::Ok | Status::Running => {}
                        Status::Failed | Status::Malformed | Status::Refused | Status::Cancelled | Status::Unknown => {
                            failed(&span, status);
                        }
                    }
                }
            }
            Event::CheckStarted { check, round, .. } => {
                self.check = Some(info_span!(
                    target: TARGET, parent: &self.workflow, "check",
                    otel.kind = "internal",
                    longhaul.check = whole(*check as u64),
                    longhaul.round = whole(*round),
                    longhaul.passed = Empty,
                ));
            }
            Event::CheckEnded { result } => {
                if let Some(check) = self.check.take() {
                    check.record("longhaul.passed", result.outcome.status == Status::Ok);
                }
            }
            Event::RunEnded { verdict, reason, .. } => self.over(*verdict, *reason),
            _ => {}
        }
    }

    fn progress(&mut self, _: &Progress) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_between_scheme_and_port() {
        for (url, wanted) in [
            ("http://127.0.0.1:8080/v1", "127.0.0.1"),
            ("https://api.example.com/v1", "api.example.com"),
            ("http://[::1]:80/v1", "[::1]"),
            ("http://[::1]/v1", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host(url), wanted, "{url}");
        }
    }
}
