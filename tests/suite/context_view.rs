//! How full the window is, as a person sees it.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

#[test]
fn the_parts_of_a_conversation_are_told_and_come_to_the_whole() {
    let stage = Stage::new();
    let server = server_of(vec![shell("seq 1 2000"), shell("echo small; false"), finish("counted")]);
    let args = ["do", "count to two thousand", "--sandbox", "local", "--check", "true"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    let shown = stage.run(&["context", "last", "--json"]).exits_with(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {shown}"));
    assert_eq!((number(&shown["steps"]), number(&shown["first_step_shown"])), (3, 1));
    assert_eq!((&shown["reductions"], number(&shown["results_left_out"])), (&json!([]), 0));
    let estimate = number(&shown["estimate_tokens"]);
    let part = |name: &str| {
        let parts = shown["parts"].as_array().unwrap();
        parts.iter().find(|part| part["part"] == name).map_or(0, |part| number(&part["tokens"]))
    };
    let names = ["instructions", "tools", "goal", "summary", "persons", "answers", "results", "harness", "state"];
    let sum: u64 = names.map(part).iter().sum();
    assert!(sum <= estimate && sum + 9 >= estimate, "{sum} of {estimate}: {shown}");
    assert!(
        part("tools") > 1_000 && part("instructions") > 100 && part("results") > 500 && part("summary") == 0,
        "{shown}"
    );
    let (window, trigger) = (number(&shown["window_tokens"]), number(&shown["reduced_from_tokens"]));
    assert!(estimate < trigger && trigger < window, "{shown}");
    let words = stage.run(&["context"]).exits_with(0).stdout;
    assert!(words.starts_with("window    ") && words.contains("\nnext      about "), "{words}");
    assert!(words.contains("  tools  ") && words.ends_with("shown     all of 3 steps\n"), "{words}");
    stage.run(&["context", "-"]).exits_with(2);
    stage.run(&["context", "no-such-run"]).exits_with(2);
}

#[test]
fn a_person_can_have_the_conversation_of_a_driven_run_made_smaller() {
    let stage = Stage::new();
    let server = ModelServer::replying({
        let mut turn = 0;
        move |seen| {
            if seen.body["tool_choice"] == "none" {
                return Reply::text("Goal: wait. Done: much was printed. Next: finish.");
            }
            turn += 1;
            match turn {
                1..=12 => shell(&format!("seq {turn} 900")),
                13 => Reply::call("shell", &json!({"command": "while [ ! -e go ]; do sleep 0.1; done; echo went"})),
                _ => finish("done"),
            }
        }
    });
    let mut agent = stage.asking(&server, &["do", "wait for me", "--sandbox", "local", "--workspace", "bind"]);
    let child = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_requests(13);
    let asked = stage.run(&["compact", "last"]).exits_with(0);
    assert!(asked.stdout.starts_with("asked for: run "), "{}", asked.stdout);
    std::fs::write(stage.project().join("go"), "").unwrap();
    Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    let reduced = stage.events_of("conversation_reduced");
    assert_eq!((reduced.len(), &reduced[0]["reduction"]["cause"]), (1, &json!("asked")));
    let shown = stage.run(&["context", "last"]).exits_with(0).stdout;
    assert!(shown.contains("\nreduced   at entry ") && shown.contains("(asked for)"), "{shown}");
    let late = stage.run(&["compact", "last"]).exits_with(2);
    assert!(late.stderr.contains("is not being driven") && late.stderr.contains("agent resume "), "{}", late.stderr);
}
