//! `agent gc`: what nothing needs is found and removed, and nothing else.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::checkpoints::checkpoint;
use crate::goal::{finish, server_of, shell};
use crate::stage::{Ran, Stage};

#[test]
fn what_nothing_needs_is_listed_first_and_removed_when_asked() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo 1 > a"), checkpoint("create", None), finish("done")]);
    let args = ["do", "x", "--sandbox", "local", "--checkpoints", "off"];
    Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    let layers = stage.state().join("layers");
    let needed: Vec<_> = fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().file_name()).collect();
    assert_eq!(needed.len(), 1);
    fs::create_dir_all(layers.join("zzzzzzzz-k1-7/data")).unwrap();
    fs::write(layers.join("zzzzzzzz-k1-7/data/file"), "x".repeat(10_000)).unwrap();
    let half = layers.join(".tmp-zzzzzzzz-k2-9");
    fs::create_dir_all(half.join("closed")).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 3600);
    fs::File::open(&half).unwrap().set_modified(long_ago).unwrap();
    let listed = stage.run(&["gc", "--json"]).exits_with(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let what: Vec<&str> = listed["found"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert!(what.contains(&"layer zzzzzzzz-k1-7"), "{what:?}");
    assert!(what.iter().any(|what| what.ends_with(".tmp-zzzzzzzz-k2-9")), "{what:?}");
    assert!(!what.iter().any(|what| needed.iter().any(|layer| what.contains(layer.to_str().unwrap()))), "{what:?}");
    assert!(layers.join("zzzzzzzz-k1-7").exists() && half.exists(), "it was only listed");
    stage.run(&["gc", "--apply"]).exits_with(0);
    assert!(!layers.join("zzzzzzzz-k1-7").exists() && !half.exists());
    let left: Vec<_> = fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().file_name()).collect();
    assert_eq!(left, needed, "what a checkpoint stands on stays");
    let size = stage.run(&["runs", "du"]).exits_with(0).stdout;
    assert!(size.contains("in all"), "{size}");
    stage.verifies();
}

#[test]
fn a_run_that_begins_clears_away_what_was_left_half_made() {
    let stage = Stage::new();
    let half = stage.state().join("layers/.tmp-zzzzzzzz-k2-9");
    let young = stage.state().join("layers/.tmp-zzzzzzzz-k3-9");
    fs::create_dir_all(half.join("data")).unwrap();
    fs::create_dir_all(&young).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 3600);
    fs::File::open(&half).unwrap().set_modified(long_ago).unwrap();
    let server = server_of(vec![shell("true"), finish("done")]);
    Ran::of(&stage.asking(&server, &["do", "x", "--sandbox", "local"]).output().unwrap()).exits_with(0);
    assert!(!half.exists());
    assert!(young.exists(), "it may be in the making");
}
