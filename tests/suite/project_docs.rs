//! AGENTS.md and RUNBOOK.md of a project: told in the first message, once and for all, and never in the way.

use std::fs;

use serde_json::Value;

use crate::goal::{finish, server_of, shell};
use crate::model_server::ModelServer;
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 4] = ["do", "count the lines", "--sandbox", "local"];

fn ran(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, args).output().unwrap())
}

fn messages(body: &Value) -> Vec<Value> {
    body["messages"].as_array().unwrap().clone()
}

#[test]
fn documents_are_told_once_in_the_first_message_and_a_resumed_run_keeps_their_words() {
    let stage = Stage::new();
    let agents = stage.project().join("AGENTS.md");
    fs::write(&agents, "Lines are counted with `wc`.\n").unwrap();
    fs::write(stage.project().join("RUNBOOK.md"), "1. Count.\n2. Tell.\n").unwrap();
    let server = server_of(vec![shell("wc -l data.txt"), finish("Three.")]);
    ran(&stage, &server, &[&LOCAL[..], &["--max-turns", "1"]].concat()).exits_with(5);
    fs::write(&agents, "Something else.\n").unwrap();
    ran(&stage, &server, &["resume", "last", "--max-turns", "2"]).exits_with(0);

    let requests = server.requests();
    let (first, second) = (messages(&requests[0].body), messages(&requests[1].body));
    let told = first[1]["content"].as_str().unwrap();
    let order = ["[harness]", "AGENTS.md", "counted with `wc`", "RUNBOOK.md", "1. Count.", "Goal:\ncount the lines"];
    let places: Vec<_> = order.iter().map(|part| told.find(part).unwrap_or_else(|| panic!("{part}: {told}"))).collect();
    assert!(places.is_sorted(), "{told}");
    assert_eq!(first[1]["role"], "user", "a project is not the harness");
    assert_eq!(first[..2], second[..2], "the prefix stays as it was");
    assert!(!second[2..].iter().any(|message| message.to_string().contains("counted with")), "it is told once");

    let asked = stage.events_of("run_started").remove(0)["spec"].clone();
    assert_eq!(asked["docs"][0]["path"], "AGENTS.md");
    assert_eq!(asked["docs"][0]["text"], "Lines are counted with `wc`.\n");
    assert!(asked["prompts"]["docs"].is_string());
    stage.verifies();
}

#[test]
fn without_documents_nothing_is_told_of_them() {
    let stage = Stage::new();
    fs::write(stage.project().join("AGENTS.md"), "Lines are counted with `wc`.\n").unwrap();
    let server = server_of(vec![finish("Three.")]);
    ran(&stage, &server, &[&LOCAL[..], &["--no-docs"]].concat()).exits_with(0);
    let first = messages(&server.requests()[0].body);
    assert!(first[1]["content"].as_str().unwrap().starts_with("Goal:\n"), "{first:#?}");
    assert!(stage.events_of("run_started")[0]["spec"].get("docs").is_none());
}

#[test]
fn a_document_that_can_not_be_shown_is_said_and_the_run_goes_on() {
    let stage = Stage::new();
    fs::write(stage.project().join("AGENTS.md"), "A line of a large file.\n".repeat(440_000)).unwrap();
    fs::write(stage.project().join("RUNBOOK.md"), b"\x7fELF\x02\x00\x00").unwrap();
    let server = server_of(vec![finish("Three.")]);
    let args = [&LOCAL[..], &["--output-format", "stream-json"]].concat();
    let ran = ran(&stage, &server, &args).exits_with(0);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let notices: Vec<_> = lines.iter().filter(|line| line["kind"] == "doc_left_out").collect();
    assert_eq!(notices[0]["text"], "AGENTS.md has 10560000 bytes; the model is shown the first 32760");
    assert_eq!(notices[1]["text"], "RUNBOOK.md is not shown to the model: it is no text");
    let doc = &lines[0]["docs"][0];
    assert_eq!((doc["size_bytes"].as_u64(), doc.get("text")), (Some(10_560_000), None), "{doc}");
    let sent = server.requests()[0].body.to_string();
    assert!(sent.len() < 150_000 && sent.contains("only its beginning"), "{}", sent.len());
    for notice in notices {
        assert!(ran.stderr.contains(notice["text"].as_str().unwrap()), "{}", ran.stderr);
    }
    stage.verifies();
}
