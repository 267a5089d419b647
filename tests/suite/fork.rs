//! Forks: a run that parts from another, takes its own way, and is proved together with what it began with.

use std::fs;

use serde_json::{Value, json};

use crate::checkpoints::{checkpoint, told};
use crate::goal::{finish, server_of, shell};
use crate::model_server::ModelServer;
use crate::stage::{Ran, Stage};

/// The runs, oldest first.
fn runs(stage: &Stage) -> Vec<String> {
    let mut runs: Vec<_> =
        fs::read_dir(stage.state().join("runs")).unwrap().map(|run| run.unwrap().file_name()).collect();
    runs.sort();
    runs.into_iter().map(|run| run.into_string().unwrap()).collect()
}

fn journal(stage: &Stage, run: &str) -> String {
    fs::read_to_string(stage.state().join("runs").join(run).join("journal.jsonl")).unwrap()
}

/// A run that takes a checkpoint, then spoils its work and ends.
fn parent(stage: &Stage) -> String {
    let server = server_of(vec![
        shell("echo good > result; mkdir sub; cd sub; export WAY=first"),
        checkpoint("create", Some("good")),
        shell("echo bad > ../result; echo spoilt"),
        finish("spoilt"),
    ]);
    let args = ["do", "make a good result", "--sandbox", "local", "--check", "test -s result"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    runs(stage).pop().unwrap()
}

fn fork(stage: &Stage, server: &ModelServer, what: &str, more: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, &[&["fork", what, "--base-url", server.base_url()], more].concat()).output().unwrap())
}

#[test]
fn a_fork_takes_another_way_and_both_verify() {
    let stage = Stage::new();
    let parent = parent(&stage);
    let before = journal(&stage, &parent);
    let server = server_of(vec![
        shell("cat ../result; pwd; echo way $WAY"),
        shell("echo better >> ../result"),
        finish("better"),
    ]);
    let more = ["--message", "Take the other way.", "--check", "grep -q better result"];
    let ran = fork(&stage, &server, &format!("{parent}@good"), &more).exits_with(0);
    let child = runs(&stage).pop().unwrap();
    assert_ne!(child, parent);
    assert_eq!(journal(&stage, &parent), before, "the parent is as it was");
    let first = &server.requests()[0];
    let said: Vec<&str> =
        first.body["messages"].as_array().unwrap().iter().filter_map(|message| message["content"].as_str()).collect();
    let forked = said.iter().position(|text| text.starts_with("[harness] This run is a fork")).expect("it is told");
    assert!(said[forked].contains(&parent) && said[forked].contains("grep -q better result"), "{}", said[forked]);
    assert!(said[forked + 1..].contains(&"Take the other way."), "{said:#?}");
    assert!(!said.iter().any(|text| text.contains("spoilt")), "the parent's future is not the fork's: {said:#?}");
    let told = told(&server);
    assert!(told[0].contains("good") && told[0].contains("/sub") && told[0].contains("way first"), "{}", told[0]);
    for run in [&parent, &child] {
        stage.run(&["verify", run]).exits_with(0);
    }
    let diff = |run: &str| stage.run(&["diff", run]).exits_with(0).stdout;
    assert!(diff(&parent).contains("+bad"), "{}", diff(&parent));
    assert!(diff(&child).contains("+good") && diff(&child).contains("+better"), "{}", diff(&child));
    let prefix: Vec<&str> = before.lines().collect();
    let own = journal(&stage, &child);
    let shared = own.lines().zip(&prefix).take_while(|(a, b)| a == *b).count();
    let spec: Value = serde_json::from_str(own.lines().nth(shared).unwrap()).unwrap();
    assert_eq!(spec["event"]["type"], "run_forked");
    assert_eq!(spec["event"]["spec"]["parent"]["run"], json!(parent));
    assert_eq!(spec["event"]["spec"]["parent"]["seq"], json!(shared - 1));
    assert_eq!(spec["event"]["spec"]["checks"], json!(["test -s result", "grep -q better result"]));
    let tree = stage.run(&["runs", "tree"]).exits_with(0).stdout;
    assert!(tree.contains(&format!("{parent}  verified")), "{tree}");
    assert!(tree.contains(&format!("└─ {child}  verified     from entry {}, k1", shared - 1)), "{tree}");
    // The layers of the parent are the fork's, too: they outlive it.
    stage.run(&["runs", "rm", &parent]).exits_with(0);
    stage.run(&["verify", &child]).exits_with(0);
    assert!(diff(&child).contains("+good"), "{} {}", diff(&child), ran.stderr);
    stage.run(&["runs", "rm", &child]).exits_with(0);
    assert_eq!(fs::read_dir(stage.state().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_fork_whose_beginning_was_edited_does_not_verify() {
    let stage = Stage::new();
    let parent = parent(&stage);
    let server = server_of(vec![finish("as it was")]);
    fork(&stage, &server, &format!("{parent}@k1"), &[]).exits_with(0);
    let child = stage.state().join("runs").join(runs(&stage).pop().unwrap());
    let text = fs::read_to_string(child.join("journal.jsonl")).unwrap();
    assert!(text.contains(&format!("\"run\":\"{parent}\",\"seq\":")), "{text}");
    fs::write(child.join("journal.jsonl"), text.replacen("echo good", "echo evil", 1)).unwrap();
    stage.run(&["verify", "last"]).exits_with(3);
}

#[test]
fn a_fork_begins_where_the_files_can_be_had() {
    let stage = Stage::new();
    let parent = parent(&stage);
    let entries = journal(&stage, &parent);
    let place = |kind: &str, nth: usize| {
        let fits = |line: &&str| line.contains(&format!("\"event\":{{\"type\":\"{kind}\""));
        let line: Value = serde_json::from_str(entries.lines().filter(fits).nth(nth).unwrap()).unwrap();
        line["seq"].as_u64().unwrap()
    };
    // The third call has changed something, and nothing was kept between it and there.
    let spoilt = place("tool_ended", 2);
    let refused = fork(&stage, &server_of(Vec::new()), &format!("{parent}@{spoilt}"), &[]).exits_with(2);
    assert!(refused.stderr.contains("can't be had"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("agent fork {parent}@k1")), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("agent fork {parent}@k2")), "{}", refused.stderr);
    let nowhere = fork(&stage, &server_of(Vec::new()), &format!("{parent}@9999"), &[]).exits_with(2);
    assert!(nowhere.stderr.contains("has no entry 9999"), "{}", nowhere.stderr);
    let unknown = fork(&stage, &server_of(Vec::new()), &format!("{parent}@nothing"), &[]).exits_with(2);
    assert!(unknown.stderr.contains("has no checkpoint `nothing`"), "{}", unknown.stderr);
    assert_eq!(runs(&stage).len(), 1, "nothing is left of what was refused");
    // From the very beginning: nothing had been done.
    let server = server_of(vec![shell("ls"), shell("echo own > result"), finish("own")]);
    fork(&stage, &server, &format!("{parent}@0"), &[]).exits_with(0);
    assert!(!told(&server)[0].contains("result"), "{}", told(&server)[0]);
    stage.verifies();
    // From the newest: what the checks have proved.
    let server = server_of(vec![shell("cat ../result || cat result"), finish("seen")]);
    fork(&stage, &server, &parent, &[]).exits_with(0);
    assert!(told(&server)[0].contains("bad"), "{}", told(&server)[0]);
    stage.verifies();
}
