//! `agent stats` and `agent lessons`, over runs that were driven for real.

use std::fs;

use serde_json::{Value, json};

use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};
use crate::story;

/// A server that answers with these statuses, one after the other.
fn web(statuses: &[u16]) -> ModelServer {
    let web = ModelServer::start();
    statuses.iter().for_each(|status| web.push(Reply::status(*status)));
    web
}

/// A run in which a file is fetched from `web`, and then `next` happens.
fn run(stage: &Stage, web: &ModelServer, next: Vec<Reply>, args: &[&str]) -> Ran {
    let fetch = shell(&format!("curl -sS -i --fail-with-body {}", web.base_url()));
    let server = server_of([vec![fetch], next].concat());
    let args = [&["do", "x", "--sandbox", "host"], args].concat();
    Ran::of(&stage.asking(&server, &args).output().unwrap())
}

fn stats(stage: &Stage, args: &[&str]) -> Value {
    let ran = stage.run(&[&["stats", "--json"], args].concat()).exits_with(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn gives_up() -> Reply {
    Reply::call("finish", &json!({"summary": "it is not there", "artifacts": [], "outcome": "blocked"}))
}

#[test]
fn scenarios_are_counted_and_show_how_many_questions_were_needed() {
    let stage = Stage::new();
    // Passes by itself; is not there, and the model gives up; wants credentials, which only a person has.
    run(&stage, &web(&[503, 200]), vec![finish("fetched")], &[]).exits_with(0);
    run(&stage, &web(&[404]), vec![gives_up()], &[]);
    run(&stage, &web(&[401]), vec![gives_up()], &[]);
    let stats = stats(&stage, &[]);
    assert_eq!((&stats["runs"], &stats["retries"], &stats["left_out"]), (&json!(3), &json!(1), &json!([])));
    assert_eq!(
        stats["decisions"]["retry_as_is"],
        json!({"made": 1, "worked": 1, "failed": 0, "changed": 0, "unknown": 0})
    );
    assert_eq!((&stats["failures"]["network"], &stats["failures"]["auth"]), (&json!(1), &json!(1)), "{stats}");
    let questions = &stats["questions"];
    tell(questions, &stats["not_asked"]);
    assert!(stats["not_asked"].as_u64().unwrap() <= 1, "what only a person has was asked for: {stats}");
    let text = stage.run(&["stats"]).exits_with(0).stdout;
    assert!(text.contains("retry_as_is") && text.contains("1 of 1 worked\n"), "no share of so few: {text}");
    assert!(!text.contains('%'), "{text}");
}

#[test]
fn what_has_helped_is_known_to_the_next_run_and_can_be_forgotten() {
    let stage = Stage::new();
    run(&stage, &web(&[503, 200]), vec![finish("fetched")], &[]).exits_with(0);
    let lessons =
        || -> Value { serde_json::from_str(&stage.run(&["lessons", "--json"]).exits_with(0).stdout).unwrap() };
    let learned = lessons();
    assert_eq!(learned.as_array().unwrap().len(), 1, "{learned}");
    assert_eq!(
        (&learned[0]["action"], &learned[0]["tried"], &learned[0]["worked"]),
        (&json!("retry_as_is"), &json!(1), &json!(1))
    );
    let mark = learned[0]["fingerprint"].as_str().unwrap();
    let text = stage.run(&["lessons"]).exits_with(0).stdout;
    assert!(text.starts_with(&format!("{mark}  retry_as_is worked 1 of 1 times")), "{text}");
    stage.run(&["lessons", "--forget", "network/nothing/1"]).exits_with(2);
    assert_eq!(stage.run(&["lessons", "--forget", mark]).exits_with(0).stdout, "forgot 1\n");
    assert_eq!(lessons(), json!([]));
    let off =
        |stage: &Stage| fs::write(stage.home().join(".config/longhaul/config.toml"), "lessons = \"off\"\n").unwrap();
    fs::create_dir_all(stage.home().join(".config/longhaul")).unwrap();
    off(&stage);
    run(&stage, &web(&[503, 200]), vec![finish("fetched")], &[]).exits_with(0);
    assert_eq!(lessons(), json!([]), "nothing is remembered where that is switched off");
    fs::write(stage.state().join("lessons.json"), "{").unwrap();
    let damaged = stage.run(&["lessons"]).exits_with(0);
    assert!(damaged.stderr.contains("set aside"), "{}", damaged.stderr);
}

#[test]
fn a_run_that_cannot_be_read_is_left_out_with_a_notice_and_the_others_count() {
    let stage = Stage::new();
    let told = story::record(&stage.state());
    let broken = stage.state().join("runs/01KE0000000000000000000043");
    fs::create_dir_all(&broken).unwrap();
    fs::copy(told.journal(), broken.join("journal.jsonl")).unwrap();
    let text = fs::read_to_string(broken.join("journal.jsonl")).unwrap();
    fs::write(broken.join("journal.jsonl"), text.replacen("awk: not found", "awk: was found", 1)).unwrap();
    let ran = stage.run(&["stats", "--json"]).exits_with(0);
    assert!(ran.stderr.contains("notice: run 01KE0000000000000000000043 is left out"), "{}", ran.stderr);
    let stats: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&stats["runs"], &stats["left_out"][0]["run"]), (&json!(1), &json!("01KE0000000000000000000043")));
    assert_eq!(stats["verdicts"], json!({"verified": 1}));
    let since = |when: &str| stage.run(&["stats", "--since", when]).exits_with(0).stdout;
    assert_eq!(since("2200-01-01"), "no runs\n");
    assert!(since("1970-01-02").starts_with("runs        1"));
    assert!(stage.run(&["stats", "--since", "soon"]).exits_with(2).stderr.contains("--since soon"));
}

#[expect(clippy::print_stderr, reason = "the figures are for whoever reads the test's output")]
fn tell(questions: &Value, not_asked: &Value) {
    eprintln!(
        "calibration: {} of {} answered questions were needed ({} asked); {not_asked} runs were ended by a failure that \
         nobody was asked about",
        questions["needed"], questions["answered"], questions["asked"]
    );
}
