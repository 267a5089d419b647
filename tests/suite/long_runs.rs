//! Runs that are longer than their model's window, with servers that hold to theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::checkpoints::checkpoint;
use crate::goal::{finish, shell};
use crate::model_server::{ModelServer, Reply, Seen};
use crate::resume::{Driven, has_event, is, resume, soon};
use crate::stage::{Ran, Stage};

/// Holds a few steps beside instructions and tools, of which each has about two thousand bytes of output.
const WINDOW: u64 = 20_000;
const STEPS: usize = 40;
const SUMMARY: &str = "Goal: count.\nDone: some steps, all with exit 0.\nNext: the next step.";

/// What the server counts: a token for four bytes, whatever they are.
pub(crate) fn tokens(seen: &Seen) -> u64 {
    seen.raw.len() as u64 / 4
}

pub(crate) fn wants_summary(seen: &Seen) -> bool {
    seen.body["tool_choice"] == "none"
}

pub(crate) fn overflow(tokens: u64, window: u64) -> Reply {
    let message = format!(
        "This model's maximum context length is {window} tokens. However, your messages resulted in {tokens} tokens."
    );
    Reply::status(400).json(&json!({"error": {"message": message, "code": "context_length_exceeded"}}))
}

fn step(nth: usize) -> Reply {
    match nth {
        STEPS => finish("counted"),
        7 => shell("echo the odd one; seq 1 400; false"),
        nth => shell(&format!("echo step {nth}; seq 1 400; echo {nth} >> steps")),
    }
}

/// A server with that window, that refuses what is longer.
fn server(window: u64, mut summary: impl FnMut() -> Reply + Send + 'static) -> (ModelServer, Arc<AtomicUsize>) {
    let refused = Arc::new(AtomicUsize::new(0));
    let refusals = Arc::clone(&refused);
    let mut nth = 0;
    let server = ModelServer::replying(move |seen| {
        let tokens = tokens(seen);
        if tokens > window {
            refusals.fetch_add(1, Ordering::Relaxed);
            return overflow(tokens, window);
        }
        if wants_summary(seen) {
            return summary();
        }
        nth += 1;
        step(nth).counted(tokens)
    });
    (server, refused)
}

const COUNT: [&str; 6] = ["do", "count to the end", "--sandbox", "local", "--check", "test $(wc -l < steps) -ge 37"];

fn count(stage: &Stage, server: &ModelServer, more: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, &[&COUNT[..], more].concat()).output().unwrap())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn messages(seen: &Seen) -> Vec<Value> {
    seen.body["messages"].as_array().unwrap().clone()
}

/// The conversation without the state block.
fn conversation(seen: &Seen) -> Vec<Value> {
    let mut messages = messages(seen);
    if seen.last_text().starts_with("[harness] How things stand") {
        messages.pop();
    }
    messages
}

fn reductions(stage: &Stage) -> Vec<Value> {
    stage.events_of("conversation_reduced").into_iter().map(|event| event["reduction"].clone()).collect()
}

/// Every call is answered once and every answer has its call, in every request.
fn all_are_paired(server: &ModelServer) {
    for seen in server.requests() {
        let mut open: Vec<String> = Vec::new();
        for message in messages(&seen) {
            if message["role"] == "tool" {
                let id = message["tool_call_id"].as_str().unwrap();
                let at = open.iter().position(|open| open == id).expect("a result of an open call");
                open.remove(at);
            } else {
                assert!(open.is_empty(), "{open:?}");
            }
            let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
            open.extend(calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()));
        }
        assert!(open.is_empty(), "{open:?}");
    }
}

#[test]
fn a_run_that_is_longer_than_the_window_is_summed_up_and_ends_verified() {
    let stage = Stage::new();
    let (server, refused) = server(WINDOW, || Reply::text(SUMMARY));
    let ran = count(&stage, &server, &["--window", "20000"]).exits_with(0);
    assert_eq!(refused.load(Ordering::Relaxed), 0, "nothing was sent that does not fit");
    let reductions = reductions(&stage);
    assert!(reductions.len() >= 2, "{reductions:?}");
    assert!(reductions.iter().any(|reduction| reduction["summary"]["by"] == "model"), "{reductions:?}");
    for reduction in &reductions {
        assert_eq!((&reduction["cause"], &reduction["window_tokens"]), (&json!("full"), &json!(WINDOW)));
        assert!(reduction["after_tokens"].as_u64() < reduction["before_tokens"].as_u64(), "{reduction}");
    }
    all_are_paired(&server);
    let requests = server.requests();
    let head = messages(&requests[0])[..2].to_vec();
    let mut grew = 0;
    for pair in requests.windows(2) {
        assert_eq!(messages(&pair[1])[..2], head[..], "instructions and goal stay");
        let (before, now) = (conversation(&pair[0]), conversation(&pair[1]));
        grew += usize::from(now.starts_with(&before));
        if wants_summary(&pair[1]) {
            let kept = &now[..now.len() - 1];
            assert!(kept.starts_with(&before[..before.len() - 1]), "it is asked for in the same conversation");
            assert_eq!(pair[1].body["tools"], pair[0].body["tools"], "the tools stay");
        }
    }
    assert!(grew >= requests.len() - 1 - 2 * reductions.len(), "{grew} of {}", requests.len());
    let last = requests.last().unwrap();
    let texts: Vec<String> =
        messages(last).iter().filter_map(|one| one["content"].as_str().map(str::to_owned)).collect();
    assert!(texts.iter().any(|text| text.contains("Done: some steps")), "{texts:#?}");
    assert!(last.last_text().contains("step 7 · echo the odd one"), "failed attempts are told: {}", last.last_text());
    assert!(ran.stderr.contains("tokens came to"), "{}", ran.stderr);
    stage.verifies();
}

#[test]
fn whatever_comes_in_the_place_of_a_summary_the_run_goes_on() {
    let mut nth = 0;
    let (server, _) = server(WINDOW, move || {
        nth += 1;
        match nth % 4 {
            1 => Reply::call("shell", &json!({"command": "echo never"})),
            2 => Reply::text(""),
            3 => Reply::text(&"on and on ".repeat(2_000)),
            _ => Reply::status(400).json(&json!({"error": {"message": "no"}})),
        }
    });
    let stage = Stage::new();
    count(&stage, &server, &["--window", "20000"]).exits_with(0);
    let reductions = reductions(&stage);
    assert!(reductions.len() >= 2, "{reductions:?}");
    for reduction in &reductions {
        assert_ne!(reduction["summary"]["by"], "model");
    }
    let told = reductions.iter().rev().find_map(|reduction| reduction["summary"]["text"].as_str()).unwrap();
    assert!(told.contains("step 7 · shell · exit 1") && told.contains("step 30 · shell · exit 0"), "{told}");
    let failed = stage.events_of("summary_failed");
    assert!(failed.len() >= 2, "{failed:?}");
    all_are_paired(&server);
    stage.verifies();
}

#[test]
fn a_server_that_refuses_a_conversation_as_too_long_is_asked_again_with_a_shorter_one() {
    let stage = Stage::new();
    let (server, refused) = server(WINDOW, || Reply::text(SUMMARY));
    count(&stage, &server, &[]).exits_with(0);
    assert!(refused.load(Ordering::Relaxed) <= 2, "it learns: {}", refused.load(Ordering::Relaxed));
    let reductions = reductions(&stage);
    assert_eq!(reductions[0]["cause"], "refused");
    assert!(reductions[0]["window_tokens"].as_u64().unwrap() <= WINDOW, "{}", reductions[0]);
    assert!(reductions[1..].iter().all(|reduction| reduction["cause"] == "full"), "{reductions:?}");
    assert!(stage.events_of("model_failed").is_empty());
    all_are_paired(&server);
    stage.verifies();
}

#[test]
fn a_server_that_refuses_everything_as_too_long_ends_the_run_with_the_reason() {
    let stage = Stage::new();
    let mut nth = 0;
    let server = ModelServer::replying(move |seen| {
        nth += 1;
        if nth <= 5 { step(nth).counted(tokens(seen)) } else { overflow(tokens(seen), 4_000) }
    });
    let ran = count(&stage, &server, &[]).exits_with(5);
    assert!(ran.stderr.contains("does not fit the model's window"), "{}", ran.stderr);
    assert!(server.requests().len() < 12, "{}", server.requests().len());
    stage.verifies();
}

#[test]
fn a_window_that_has_no_room_for_the_work_is_named_with_the_remedy() {
    let stage = Stage::new();
    let (server, _) = server(WINDOW, || Reply::text(SUMMARY));
    let ran = count(&stage, &server, &["--window", "2000"]).exits_with(5);
    for part in [
        "can't be made to fit the model's window",
        "because: instructions, tools, goal",
        "has 2000",
        "--window TOKENS`",
    ] {
        assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
    }
    assert!(server.requests().is_empty());
    stage.verifies();
}

#[test]
fn a_run_that_is_taken_up_after_a_reduction_goes_on_with_the_same_words() {
    let stage = Stage::new();
    let (mut nth, mut held) = (0, false);
    let server = ModelServer::replying(move |seen| {
        let tokens = tokens(seen);
        if wants_summary(seen) {
            return Reply::text(SUMMARY).counted(tokens);
        }
        let was_reduced =
            messages(seen).iter().any(|one| one["content"].as_str().is_some_and(|text| text.contains(SUMMARY)));
        if was_reduced && !std::mem::replace(&mut held, true) {
            return Reply::mute();
        }
        nth += 1;
        let reply = if nth == 3 { checkpoint("create", Some("early")) } else { step(nth) };
        reply.counted(tokens)
    });
    let driven = Driven::start(&stage, &server, &[&COUNT[..], &["--window", "20000"]].concat());
    soon("a reduction", || has_event(&stage, is("conversation_reduced")));
    soon("the request after it", || {
        let requests = server.requests();
        requests.iter().rposition(wants_summary).is_some_and(|at| requests.len() > at + 1)
    });
    let before = server.requests();
    driven.kill();
    resume(&stage, &server, &[]).exits_with(0);
    let again = &server.requests()[before.len()];
    let (was, is) = (conversation(before.last().unwrap()), conversation(again));
    assert_eq!(is[..was.len()], was[..], "the same messages, and then that it was interrupted");
    assert_eq!(is.len(), was.len() + 1);
    stage.verifies();
    // A fork from before the first reduction knows the first steps word by word.
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    let count = server.requests().len();
    let other = crate::goal::server_of(vec![finish("enough"), finish("enough"), finish("enough")]);
    let at = format!("{run}@early");
    let fork = stage.asking(&other, &["fork", &at, "--base-url", other.base_url()]).output().unwrap();
    assert_eq!(fork.status.code(), Some(4), "{}", String::from_utf8_lossy(&fork.stderr));
    assert_eq!(server.requests().len(), count);
    let first = conversation(&other.requests()[0]);
    let texts: Vec<&str> = first.iter().filter_map(|one| one["content"].as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("step 1\n")), "{texts:#?}");
    assert!(!texts.iter().any(|text| text.contains(SUMMARY)));
}

/// A script of so many steps, with or without a summary.
fn script(stage: &Stage, steps: usize, about: &str) -> String {
    let mut script = format!("[script]\n{about}\n");
    for nth in 1..=steps {
        script.push_str(&format!(
            "[[turn]]\nsay = 'Step {nth}.'\n[[turn.call]]\ntool = 'shell'\narguments = {{ command = 'echo {nth} >> steps; seq 1 400' }}\n"
        ));
    }
    script.push_str("[[turn]]\n[[turn.call]]\ntool = 'finish'\narguments = { summary = 'done' }\n");
    let file = stage.home().join("long.toml");
    std::fs::write(&file, script).unwrap();
    format!("script:{}", file.display())
}

#[test]
fn a_script_goes_on_where_it_was_though_its_conversation_is_made_smaller() {
    for (about, by) in [("summary = 'All is well.'", "model"), ("title = 'x'", "harness")] {
        let stage = Stage::new();
        let model = script(&stage, 30, about);
        let check = "test \"$(cat steps)\" = \"$(seq 1 30)\"";
        let args = ["do", "x", "--sandbox", "local", "--check", check, "--window", "28000", "--model", &model];
        stage.run(&args).exits_with(0);
        let reductions = reductions(&stage);
        assert!(!reductions.is_empty() && reductions.iter().all(|one| one["summary"]["by"] == by), "{reductions:?}");
        stage.verifies();
    }
}

/// A server with that window that counts, and answers a summary with what the closure makes of the count of them.
fn counting(summary: impl Fn(usize) -> Reply + Send + 'static) -> ModelServer {
    let (mut steps, mut summaries) = (0, 0);
    ModelServer::replying(move |seen| {
        if wants_summary(seen) {
            summaries += 1;
            return summary(summaries);
        }
        steps += 1;
        step(steps).counted(tokens(seen))
    })
}

#[test]
fn another_model_takes_over_in_the_middle_of_a_summary() {
    let stage = Stage::new();
    let no_credit = |_| Reply::status(402).json(&json!({"error": {"message": "no", "code": "insufficient_quota"}}));
    let first = counting(no_credit);
    let mut nth = 0;
    let second = ModelServer::replying(move |seen| {
        if wants_summary(seen) {
            return Reply::text(SUMMARY).counted(tokens(seen));
        }
        nth += 1;
        let reply = if nth < 10 { shell(&format!("echo there {nth} >> steps")) } else { finish("counted") };
        reply.counted(tokens(seen))
    });
    let there = format!("other@{}", second.base_url());
    let args =
        ["do", "x", "--sandbox", "local", "--check", "grep -q 'there 9' steps", "--window", "20000", "--fallback"];
    let mut program = stage.asking(&first, &[&args[..], &[&there]].concat());
    Ran::of(&program.output().unwrap()).exits_with(0);
    let asked: Vec<bool> = first.requests().iter().map(wants_summary).collect();
    assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "{asked:?}");
    assert_eq!(asked.last(), Some(&true), "nothing more is sent there");
    let requests = second.requests();
    assert!(wants_summary(&requests[0]), "the other one is asked for the same");
    let kinds: Vec<String> =
        stage.events().iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect();
    let at = kinds.iter().position(|kind| kind == "summary_requested").unwrap();
    let then = ["summary_requested", "model_switched", "summary_requested", "summary_answered", "conversation_reduced"];
    assert_eq!(kinds[at..at + 5], then, "{kinds:?}");
    assert_eq!(stage.events_of("model_requested").len() + 2, asked.len() + requests.len());
    let reduction = &reductions(&stage)[0];
    assert_eq!(reduction["summary"]["by"], "model", "{reduction}");
    let asked = stage.events_of("summary_requested");
    let hashes: Vec<String> = [first.requests().last().unwrap(), &requests[0]].map(|seen| hash(&seen.raw)).into();
    assert_eq!(asked.iter().map(|event| event["sha256"].as_str().unwrap()).collect::<Vec<_>>(), hashes);
    stage.verifies();
}

#[test]
fn a_summary_that_spends_the_budget_is_the_last_request() {
    let stage = Stage::new();
    let server = counting(|_| Reply::text(SUMMARY).counted(2_000_000));
    let ran = count(&stage, &server, &["--window", "20000", "--max-tokens", "2000000"]).exits_with(5);
    let requests = server.requests();
    assert!(wants_summary(requests.last().unwrap()), "nothing was asked after it");
    assert_eq!(requests.iter().filter(|seen| wants_summary(seen)).count(), 1);
    assert_eq!(reductions(&stage).len(), 1);
    assert!(ran.stderr.contains("2000000 tokens was reached"), "{}", ran.stderr);
    stage.verifies();
}
