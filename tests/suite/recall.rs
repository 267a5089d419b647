//! The steps of a run as its model can ask for them: in the run itself, after it was taken up again, and in a fork.

use serde_json::{Value, json};

use crate::checkpoints::{checkpoint, told};
use crate::goal::{finish, server_of, shell};
use crate::model_server::Reply;
use crate::stage::{Ran, Stage};

pub(crate) fn recall(arguments: Value) -> Reply {
    Reply::call("recall", &arguments)
}

#[test]
fn steps_are_recalled_from_the_record_with_the_whole_of_their_output() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("sh -c 'echo broken >&2; exit 3'"),
        shell("cd /tmp && seq 1 5000"),
        recall(json!({"step": 1})),
        recall(json!({"step": "2", "from_line": 2_500, "lines": 2})),
        recall(json!({"step": "99"})),
        recall(json!({"search": "brok.n"})),
        recall(json!({})),
        finish("recalled"),
    ]);
    let args = ["do", "remember", "--sandbox", "local", "--check", "true"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    let told = told(&server);
    let first = &told[2];
    assert!(first.starts_with("[step 1 · shell · exit 3 · "), "{first}");
    assert!(first.contains("\ncommand: sh -c 'echo broken >&2; exit 3'\n") && first.contains("\nbroken"), "{first}");
    assert!(told[3].contains("5,000 lines") && told[3].contains("\n2500: 2500\n2501: 2501\n"), "{}", told[3]);
    assert_eq!(told[4], "there is no step 99: the run has 5 so far");
    assert!(told[5].contains("[steps 1 to 6: 2 steps]") && told[5].contains("told: broken"), "{}", told[5]);
    let lines: Vec<&str> = told[6].lines().collect();
    assert_eq!(lines[0], "[steps 1 to 7 of 7]");
    assert!(
        lines[2].starts_with("2 · shell · exit 0 · ") && lines[2].ends_with(" · cd /tmp && seq 1 5000"),
        "{}",
        lines[2]
    );
    assert!(lines[5].starts_with("5 · recall · failed"), "{}", lines[5]);
    assert!(lines[7].starts_with("7 · recall · under way"), "{}", lines[7]);
    let waits = |event: &Value| event["type"] == "box_opened";
    assert_eq!(stage.events().iter().filter(|event| waits(event)).count(), 1);
    stage.verifies();
}

#[test]
fn a_run_that_is_taken_up_again_and_a_fork_recall_what_was_before() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo before the stop; false"), checkpoint("create", Some("mid"))]);
    let args = ["do", "remember", "--sandbox", "local", "--max-turns", "2"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(5);
    let asks = || {
        server_of(vec![
            recall(json!({"step": "1"})),
            recall(json!({"step": "1", "from_line": 1})),
            recall(json!({"step": "-1"})),
            finish("recalled"),
        ])
    };
    let resumed = asks();
    let more = ["resume", "last", "--max-turns", "20", "--base-url", resumed.base_url()];
    Ran::of(&stage.asking(&resumed, &more).output().unwrap()).exits_with(0);
    let forked = asks();
    let more = ["fork", "last@mid", "--max-turns", "20", "--base-url", forked.base_url()];
    Ran::of(&stage.asking(&forked, &more).output().unwrap()).exits_with(0);
    for server in [&resumed, &forked] {
        let told = told(server);
        assert!(told[0].starts_with("[step 1 · shell · exit 1 · "), "{}", told[0]);
        assert!(told[0].contains("command: echo before the stop; false\n"), "{}", told[0]);
        assert!(told[1].ends_with("\n1: before the stop"), "{}", told[1]);
        assert!(told[2].starts_with("[step 5 · recall · under way"), "{}", told[2]);
    }
}
