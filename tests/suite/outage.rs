//! Everything that a provider can do wrong, in one run: it goes on, nothing is lost, and nothing is done twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::Reply;
use crate::stage::{Ran, Stage};

#[test]
fn a_run_outlives_whatever_its_provider_does() {
    let stage = Stage::new();
    let overloaded =
        || Reply::status(529).json(&json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}));
    let cut = || Reply::answer("", &[("shell", json!({"command": "echo cut >> log"}).to_string())]);
    let replies = vec![
        Reply::status(429).header("retry-after", "3").json(&json!({"error": {"message": "slow down"}})),
        shell("echo one >> log"),
        overloaded(),
        overloaded(),
        overloaded(),
        overloaded(),
        overloaded(),
        shell("echo two >> log"),
        // Half a tool call, and then nobody.
        cut().abort_after(3),
        // The same, with the line held.
        cut().stall_after(3),
        // What the server says is whole and is not.
        Reply::answer("", &[("shell", "{\"command\": \"echo never >> log; rm -rf /tmp/bu".to_owned())]),
        shell("echo three >> log; cat log"),
        finish("All three."),
    ];
    let count = replies.len();
    let server = server_of(replies);
    let args =
        ["do", "x", "--sandbox", "local", "--workspace", "bind", "--stall", "2s", "--check", "test $(wc -l < log) = 3"];
    let begin = Instant::now();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    assert!(begin.elapsed() > Duration::from_secs(3), "the wait that was asked for is the least");
    assert_eq!(ran.stdout, "All three.\n");
    assert_eq!(std::fs::read_to_string(stage.project().join("log")).unwrap(), "one\ntwo\nthree\n");
    let seen = server.requests();
    assert_eq!(seen.len(), count);
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
    stage.verifies();
}
