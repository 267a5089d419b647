//! Everything that a provider can do wrong, in one run: it goes on, nothing is lost, and nothing is done twice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::goal::{finish, last_result, shell};
use crate::long_runs::{overflow, tokens, wants_summary};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

/// A reply to a request of so many tokens.
type Made = Box<dyn Fn(u64) -> Reply + Send>;

fn told(reply: Reply) -> Made {
    Box::new(move |_| reply.clone())
}

/// The same, the request's tokens counted.
fn counted(reply: Reply) -> Made {
    Box::new(move |tokens| reply.clone().counted(tokens))
}

/// Calls with much output.
fn talking(word: &str) -> Reply {
    let shell = |command: String| {
        ("shell", json!({"command": command, "session": null, "cwd": null, "expected_s": null, "yield_s": null}))
    };
    let much = format!("yes 'a line of {word}, and then another one' | head -n 1000");
    Reply::calls(&[shell(format!("echo {word} >> log; {much}")), shell(much)])
}

#[test]
fn a_run_outlives_whatever_its_provider_does() {
    let stage = Stage::new();
    let overloaded =
        || told(Reply::status(529).json(&json!({"error": {"type": "overloaded_error", "message": "Overloaded"}})));
    let cut = || Reply::answer("", &[("shell", json!({"command": "echo cut >> log"}).to_string())]);
    let replies = vec![
        told(Reply::status(429).header("retry-after", "3").json(&json!({"error": {"message": "slow down"}}))),
        counted(talking("one")),
        overloaded(),
        overloaded(),
        overloaded(),
        overloaded(),
        overloaded(),
        counted(talking("two")),
        // Half a tool call, and then nobody.
        told(cut().abort_after(3)),
        // The same, with the line held.
        told(cut().stall_after(3)),
        // What the server says is whole and is not.
        counted(Reply::answer("", &[("shell", "{\"command\": \"echo never >> log; rm -rf /tmp/bu".to_owned())])),
        // Too long, all of a sudden.
        Box::new(|tokens| overflow(tokens, tokens - 100)),
        counted(shell("echo three >> log; cat log")),
        counted(finish("All three.")),
    ];
    let count = replies.len();
    let mut replies = VecDeque::from(replies);
    let server = ModelServer::replying(move |seen| match wants_summary(seen) {
        true => Reply::text("Goal: three lines.\nDone: one and two, with exit 0.\nNext: three.").counted(tokens(seen)),
        false => replies.pop_front().expect("a reply for each request")(tokens(seen)),
    });
    let args =
        ["do", "x", "--sandbox", "local", "--workspace", "bind", "--stall", "2s", "--check", "test $(wc -l < log) = 3"];
    let begin = Instant::now();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    assert!(begin.elapsed() > Duration::from_secs(3), "the wait that was asked for is the least");
    assert_eq!(ran.stdout, "All three.\n");
    assert_eq!(std::fs::read_to_string(stage.project().join("log")).unwrap(), "one\ntwo\nthree\n");
    let (summaries, seen): (Vec<_>, Vec<_>) = server.requests().into_iter().partition(wants_summary);
    assert_eq!((summaries.len(), seen.len()), (1, count));
    // Every try of a request is the same, byte for byte; what was cut left nothing in the conversation.
    for pair in [(0, 1), (2, 7), (3, 4), (8, 10), (9, 10)] {
        assert_eq!(seen[pair.0].raw, seen[pair.1].raw, "{pair:?}");
    }
    assert!(last_result(&seen[11].body).contains("not JSON") || last_result(&seen[11].body).contains("JSON"));
    let commands: Vec<String> =
        stage.events_of("tool_started").iter().map(|event| event["call"]["arguments"].to_string()).collect();
    assert_eq!(commands.iter().filter(|command| command.contains("echo")).count(), 3, "{commands:?}");
    let waits = stage.events_of("model_delayed");
    assert_eq!(waits.len(), 8, "{waits:?}");
    for part in ["limits the rate (429)", "is overloaded (529): Overloaded", "broke", "sent nothing for 2 s"] {
        let is_told = |event: &serde_json::Value| event["why"].as_str().unwrap().contains(part);
        assert!(waits.iter().any(is_told), "`{part}` is not in the transcript: {waits:?}");
        assert!(ran.stderr.contains(part), "`{part}` is not on the screen:\n{}", ran.stderr);
    }
    let reductions = stage.events_of("conversation_reduced");
    let causes: Vec<_> = reductions.iter().map(|event| &event["reduction"]["cause"]).collect();
    assert_eq!(causes, ["refused"], "{reductions:#?}");
    assert!(seen[12].raw.len() < seen[11].raw.len(), "what was refused is sent again smaller");
    assert!(ran.stderr.contains("tokens came to"), "{}", ran.stderr);
    stage.verifies();
}
