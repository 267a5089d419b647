//! What a run says of itself to others: spans to a collector, lines in a file; and that neither is ever in its way.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 8] =
    ["do", "reach the harbour", "--sandbox", "local", "--check", "true", "--no-baseline", "--no-docs"];

fn collector() -> ModelServer {
    ModelServer::replying(|_| Reply::status(200).json(&json!({})))
}

fn endpoint(collector: &ModelServer) -> String {
    collector.base_url().trim_end_matches("/v1").to_owned()
}

fn two_steps() -> ModelServer {
    server_of(vec![shell("echo albatross"), shell("exit 3"), finish("Moored.")])
}

fn ran(mut program: Command) -> Ran {
    Ran::of(&program.output().unwrap())
}

/// A span as it came: its ids, its attributes by name, whether it failed.
struct Span {
    id: String,
    parent: String,
    trace: String,
    attributes: BTreeMap<String, Value>,
    failed: bool,
}

/// The spans that a collector was sent, by name, in the order in which they ended.
fn spans(collector: &ModelServer) -> Vec<(String, Span)> {
    let mut found = Vec::new();
    for seen in collector.requests() {
        assert_eq!(seen.path, "/v1/traces");
        let scopes = seen.body["resourceSpans"][0]["scopeSpans"].as_array().unwrap().clone();
        for span in scopes.iter().flat_map(|scope| scope["spans"].as_array().unwrap()) {
            let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
            let attribute = |one: &Value| (one["key"].as_str().unwrap().to_owned(), one["value"].clone());
            let attributes = span["attributes"].as_array().unwrap().iter().map(attribute).collect();
            let (id, parent, trace) = (text("spanId"), text("parentSpanId"), text("traceId"));
            let failed = !span["status"]["code"].is_null() && span["status"]["code"] != 0;
            found.push((text("name"), Span { id, parent, trace, attributes, failed }));
        }
    }
    found
}

#[test]
fn the_spans_of_a_run_arrive_with_their_names_parents_and_counts_and_without_a_word_of_it() {
    let (stage, server, collector) = (Stage::new(), two_steps(), collector());
    let mut program = stage.asking(&server, &LOCAL);
    program.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint(&collector)).env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    ran(program).exits_with(0);

    let spans = spans(&collector);
    let mut names: Vec<&str> = spans.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let wanted = [
        "chat fake",
        "chat fake",
        "chat fake",
        "check",
        "execute_tool finish",
        "execute_tool shell",
        "execute_tool shell",
        "invoke_agent longhaul",
        "invoke_workflow longhaul",
    ];
    assert_eq!(names, wanted);
    let named = |wanted: &str| -> Vec<&Span> {
        spans.iter().filter(|(name, _)| name == wanted).map(|(_, span)| span).collect()
    };
    let (workflow, agent) = (named("invoke_workflow longhaul")[0], named("invoke_agent longhaul")[0]);
    assert_eq!((workflow.parent.as_str(), &agent.parent), ("", &workflow.id));
    assert_eq!(named("check")[0].parent, workflow.id);
    for (name, span) in &spans {
        assert_eq!(span.trace, workflow.trace);
        let is_step = name.starts_with("chat ") || name.starts_with("execute_tool ");
        assert_eq!(span.parent == agent.id, is_step, "{name}");
    }
    let chat = &named("chat fake")[0].attributes;
    assert_eq!(chat["gen_ai.operation.name"]["stringValue"], "chat");
    assert_eq!(chat["gen_ai.request.model"]["stringValue"], "fake");
    assert_eq!(chat["server.address"]["stringValue"], "127.0.0.1");
    assert_eq!(chat["gen_ai.response.finish_reasons"]["arrayValue"]["values"][0]["stringValue"], "tool_calls");
    for name in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens"] {
        assert!(chat[name]["intValue"].is_string() || chat[name]["intValue"].is_number(), "{name}: {chat:?}");
    }
    let tools = named("execute_tool shell");
    assert_eq!((tools[0].failed, tools[1].failed), (false, true));
    assert_eq!(tools[1].attributes["error.type"]["stringValue"], "failed");
    assert_eq!(workflow.attributes["longhaul.verdict"]["stringValue"], "verified");
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(agent.attributes["gen_ai.conversation.id"]["stringValue"], run.as_str());

    let sent: String =
        collector.requests().iter().map(|seen| String::from_utf8_lossy(&seen.raw).into_owned()).collect();
    assert!(sent.contains(r#""longhaul""#), "the service has its name");
    for word in ["harbour", "albatross", "Moored", "sk-test"] {
        assert!(!sent.contains(word), "`{word}` is nobody's business");
    }
}

#[test]
fn spans_go_out_as_protobuf_where_nothing_else_is_asked_for_and_not_at_all_where_they_are_switched_off() {
    let (stage, collector) = (Stage::new(), collector());
    let run = |off: &[(&str, &str)]| {
        let server = two_steps();
        let mut program = stage.asking(&server, &LOCAL);
        program.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint(&collector)).envs(off.iter().copied());
        ran(program).exits_with(0);
    };
    run(&[("OTEL_SDK_DISABLED", "true")]);
    run(&[("OTEL_TRACES_EXPORTER", "none")]);
    assert!(collector.requests().is_empty());
    run(&[]);
    let seen = collector.requests().remove(0);
    assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
    assert!(String::from_utf8_lossy(&seen.raw).contains("invoke_agent longhaul"));
}

#[test]
fn a_collector_that_hangs_refuses_or_is_none_neither_delays_nor_fails_a_run() {
    let (mute, refusing) = (ModelServer::replying(|_| Reply::mute()), ModelServer::replying(|_| Reply::status(503)));
    let nobody = "http://127.0.0.1:9".to_owned();
    for endpoint in [endpoint(&mute), endpoint(&refusing), nobody, "no url at all".to_owned()] {
        let (stage, server) = (Stage::new(), two_steps());
        let mut program = stage.asking(&server, &LOCAL);
        program.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        let begun = Instant::now();
        let ran = ran(program).exits_with(0);
        assert!(begun.elapsed() < Duration::from_secs(12), "{endpoint}: {:?}", begun.elapsed());
        assert_eq!(ran.stdout, "Moored.\n", "{endpoint}");
        assert_eq!(ran.stderr.contains("warning: no spans"), endpoint.contains(' '), "{endpoint}: {}", ran.stderr);
        stage.verifies();
    }
}

#[test]
fn a_log_has_a_line_for_each_step_and_one_that_can_not_be_is_told() {
    let (stage, server) = (Stage::new(), two_steps());
    let mut program = stage.asking(&server, &[&LOCAL[..], &["--log", "../agent.log"]].concat());
    program.env("MY_TOKEN", "fake-fake-fake");
    ran(program).exits_with(0);
    let log = std::fs::read_to_string(stage.project().join("../agent.log")).unwrap();
    for part in ["chat{", "execute_tool{", "gen_ai.tool.name=\"shell\"", "longhaul.verdict=\"verified\""] {
        assert!(log.contains(part), "`{part}` is not in:\n{log}");
    }
    assert!(!log.contains("albatross") && !log.contains("sk-test"), "{log}");

    let refused = |log: &str, filter: &str| {
        let mut program = stage.asking(&server, &[&LOCAL[..], &["--log", log]].concat());
        program.env("LONGHAUL_LOG", filter);
        let told = ran(program).exits_with(2).stderr;
        assert!(told.starts_with("error: cannot log\n  because: "), "{told}");
    };
    refused("/nowhere/log", "info");
    refused("log", "longhaul=loud");
}
