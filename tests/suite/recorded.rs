//! The recorded run of the demo that is kept in `transcripts/`: it reads, verifies and shows what the demo does, with
//! nothing but the files themselves.

use std::path::Path;

use crate::stage::{Stage, contents};

fn kept() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts/demo/run")
}

#[test]
fn the_recorded_demo_verifies_and_replays_from_its_files_alone() {
    let (stage, run) = (Stage::new(), kept());
    let before = contents(&run);
    let path = run.to_str().unwrap();
    stage.run(&["verify", path]).exits_with(0);
    let shown = stage.run(&["replay", path]).exits_with(0).stdout;
    for words in
        ["loss -nan in epoch 3", "epoch 4000/4000 loss 0.0689", "held-out accuracy 0.9667", "verified: 1 check passed"]
    {
        assert!(shown.contains(words), "`{words}` is not in the replay:\n{shown}");
    }
    assert_eq!(contents(&run), before, "looking changes nothing");
    assert!(!stage.state().exists(), "looking leaves nothing");
}

#[test]
fn the_recorded_demo_is_of_the_project_and_the_script_that_are_shipped() {
    let stage = Stage::new();
    let ran = stage.run(&["demo", "--sandbox", "local"]).exits_with(0);
    assert!(ran.stderr.contains("the model's replies are scripted"), "{}", ran.stderr);
    let answers = |events: Vec<serde_json::Value>| -> Vec<serde_json::Value> {
        let answered = events.into_iter().filter(|event| event["type"] == "model_answered");
        answered.map(|event| serde_json::json!([event["text"], event["calls"]])).collect()
    };
    let journal = std::fs::read_to_string(kept().join("journal.jsonl")).unwrap();
    let recorded =
        journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone());
    assert_eq!(answers(stage.events()), answers(recorded.collect()), "record the demo anew: its script has changed");
    let stored = |run: &Path| std::fs::read_to_string(run.join("artifacts/model.tsv")).unwrap();
    assert_eq!(stored(&stage.run_dir()), stored(&kept()), "training gives the same model to the last digit");
    stage.verifies();
}
