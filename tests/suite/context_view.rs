//! How full the window is, as a person sees it.

use serde_json::{Value, json};

use crate::goal::{finish, server_of, shell};
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
