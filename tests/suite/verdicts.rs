//! What a verdict rests on: checks of every kind, what they said before any work, files that must stay as they are.

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

/// Runs `agent do` in a local box with these flags and this model, to its end.
fn ran(stage: &Stage, server: &ModelServer, flags: &[&str]) -> Ran {
    let args = [&["do", "reach it", "--sandbox", "local"][..], flags].concat();
    Ran::of(&stage.asking(server, &args).output().unwrap())
}

/// The verdict of the newest run and what decided it.
#[track_caller]
fn verdict(stage: &Stage) -> (String, String) {
    let ended = stage.events_of("run_ended").pop().unwrap();
    let text = |name: &str| ended[name].as_str().unwrap().to_owned();
    (text("verdict"), text("why"))
}

/// How often the checks were run in each round, by round.
fn rounds(stage: &Stage) -> Vec<u64> {
    stage.events_of("check_ended").iter().map(|event| event["result"]["round"].as_u64().unwrap()).collect()
}

fn write(path: &str, content: &str) -> Reply {
    Reply::call("write_file", &json!({"path": path, "content": content}))
}

#[test]
fn a_file_and_a_metric_prove_a_result_as_a_command_does() {
    let stage = Stage::new();
    let server = server_of(vec![
        finish("done, I believe"),
        write("eval.json", "{\"accuracy\": 0.93}"),
        write("out/report.csv", "a,b\n"),
        finish("now it is"),
    ]);
    let flags = ["--check-file", "out/report.csv", "--check-metric", "eval.json#/accuracy>=0.9"];
    ran(&stage, &server, &flags).exits_with(0);
    assert_eq!(verdict(&stage), ("verified".to_owned(), "2 checks passed".to_owned()));
    let told = last_result(&server.requests()[1].body).to_owned();
    assert!(told.contains("2 of 2 checks failed") && told.contains("out/report.csv is not there"), "{told}");
    assert_eq!(rounds(&stage), [0, 0, 1, 1, 2, 2]);
    let last = stage.events_of("check_ended").pop().unwrap();
    assert_eq!(last["result"]["outcome"]["text"], "eval.json: `/accuracy` is 0.93 (it must be >= 0.9)");
    let spec = &stage.events_of("run_started")[0]["spec"];
    assert_eq!(spec["checks"][1], json!({"metric": "eval.json", "pointer": "/accuracy", "is": ">=", "than": 0.9}));
    stage.verifies();
}

#[test]
fn a_metric_that_can_not_be_read_fails_and_says_what_was_found() {
    for (content, says) in [
        (None, "eval.json is not there"),
        (Some("accuracy: 0.9"), "eval.json is not JSON: "),
        (Some("{\"accuracy\": NaN}"), "NaN and Infinity are no numbers there"),
        (Some("{\"acc\": 0.95}"), "eval.json has nothing at `/accuracy`; there is `acc`"),
        (Some("{\"accuracy\": \"0.95\"}"), "eval.json has a string at `/accuracy`, not a number"),
        (Some("{\"accuracy\": 0.5}"), "eval.json has `/accuracy` at 0.5 (it must be >= 0.9)"),
    ] {
        let stage = Stage::new();
        let first = content.map(|content| write("eval.json", content));
        let claims = (0..3).map(|_| finish("done"));
        let server = server_of(first.into_iter().chain(claims).collect());
        ran(&stage, &server, &["--check-metric", "eval.json#/accuracy>=0.9"]).exits_with(4);
        let outcome = stage.events_of("check_ended").pop().unwrap()["result"]["outcome"].clone();
        assert!(outcome["text"].as_str().unwrap().contains(says), "{outcome}");
        assert_eq!(verdict(&stage).0, "blocked");
    }
}

#[test]
fn a_check_that_makes_no_sense_ends_it_before_it_begins() {
    let stage = Stage::new();
    let said = |flag: &str, value: &str| stage.run(&["do", "x", flag, value]).exits_with(2).stderr;
    let metric = said("--check-metric", "eval.json#/x=1");
    assert!(metric.contains("column 15: one of >=, >, <=, < and == is expected"), "{metric}");
    let metric = said("--check-metric", "eval.json");
    assert!(metric.contains("column 10: `#` and a JSON pointer is expected"), "{metric}");
    assert!(said("--check-file", "").contains("the path of a file"));
    assert!(said("--check-timeout", "soon").contains("a time such as 90s"));
    assert!(said("--protect", "../x").contains("it leads out of the project"));
    assert!(said("--protect", "a[").contains("unclosed character class"));
    assert!(!stage.state().join("runs").exists(), "nothing was begun");
}

#[test]
fn a_check_that_hangs_is_ended_and_told_as_such_and_the_run_goes_on() {
    let stage = Stage::new();
    let server = server_of(vec![shell("touch slow"), finish("done"), shell("rm slow; echo 1 > ok"), finish("mended")]);
    let check = "test -e slow && exec sleep 600; test -s ok";
    ran(&stage, &server, &["--check", check, "--check-timeout", "1s"]).exits_with(0);
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("it did not end within 1.0 s, its limit, and was killed"), "{told}");
    assert_eq!(verdict(&stage).0, "verified");
    stage.verifies();
}

#[test]
fn a_check_that_passes_before_any_work_proves_nothing() {
    let stage = Stage::new();
    let server = server_of(vec![shell("touch new"), finish("done")]);
    ran(&stage, &server, &["--check", "test -s data.txt"]).exits_with(0);
    let (word, why) = verdict(&stage);
    assert_eq!(
        (word.as_str(), why.as_str()),
        ("unverified", "1 check passed, but passed before any work too: it proves nothing")
    );
    assert_eq!(rounds(&stage), [0, 1]);

    let again = || server_of(vec![shell("echo 1 > new"), finish("done")]);
    let flags = ["--check", "test -s data.txt", "--check-file", "new"];
    ran(&stage, &again(), &flags).exits_with(0);
    assert_eq!(verdict(&stage), ("verified".to_owned(), "2 checks passed, 1 of them before any work too".to_owned()));

    ran(&stage, &again(), &["--check", "true", "--require-verified"]).exits_with(8);
    ran(&stage, &again(), &["--check", "true", "--no-baseline", "--require-verified"]).exits_with(0);
    assert_eq!(rounds(&stage), [1]);
}

#[test]
fn the_checks_before_any_work_do_not_keep_the_model_waiting_and_are_not_run_again() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo 1 > new"), finish("done")]);
    let check = "echo ran >> /tmp/count; test -s new";
    ran(&stage, &server, &["--check", check]).exits_with(0);
    let kinds: Vec<Value> = stage.events().iter().map(|event| event["type"].clone()).collect();
    let first = |kind: &str| kinds.iter().position(|one| one == kind).unwrap();
    assert!(
        first("model_answered") < first("check_started") && first("check_ended") < first("tool_started"),
        "{kinds:?}"
    );
}

/// A project whose test is protected, and which it does not pass yet.
fn protected_project() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.project().join("tests")).unwrap();
    std::fs::write(stage.project().join("tests/run.sh"), "test \"$(cat answer)\" = 42\n").unwrap();
    stage
}

const PROTECTED: [&str; 4] = ["--check", "sh tests/run.sh", "--protect", "tests/**"];

#[test]
fn a_model_that_changes_a_protected_test_is_told_and_may_bring_it_back() {
    let stage = protected_project();
    let server = server_of(vec![
        shell("cp tests/run.sh /tmp/kept; echo true > tests/run.sh"),
        finish("passes"),
        shell("cp /tmp/kept tests/run.sh; echo 42 > answer"),
        finish("passes by itself"),
    ]);
    ran(&stage, &server, &PROTECTED).exits_with(0);
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("have been changed, removed or added: tests/run.sh"), "{told}");
    assert_eq!(verdict(&stage).0, "verified");
    assert_eq!(stage.events_of("protected_seen")[0]["files"].as_array().unwrap().len(), 1);
    stage.verifies();
}

#[test]
fn a_model_that_does_not_leave_protected_files_alone_needs_a_person() {
    for meddle in
        ["echo true > tests/run.sh", "rm -r tests; mkdir tests; ln -s /bin/true tests/run.sh", "touch tests/new"]
    {
        let stage = protected_project();
        let server = server_of(vec![
            shell("echo 42 > answer"),
            shell(meddle),
            finish("passes"),
            finish("it does"),
            finish("yes"),
        ]);
        ran(&stage, &server, &PROTECTED).exits_with(4);
        let (word, why) = verdict(&stage);
        assert_eq!((word.as_str(), server.requests().len()), ("blocked", 4), "{meddle}: {why}");
        assert!(why.contains("2 times with protected files changed"), "{why}");
        stage.verifies();
    }
}

#[test]
fn files_that_can_not_be_protected_are_told_before_any_work() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo 1 > new"), finish("done")]);
    ran(&stage, &server, &["--check-file", "new", "--protect", "nothing/*.py"]).exits_with(0);
    let noticed = stage.events_of("noticed").remove(0);
    assert_eq!(noticed["text"], "nothing is protected yet: no file matches nothing/*.py");

    std::fs::File::create(stage.project().join("huge")).unwrap().set_len(4 << 30).unwrap();
    let server = server_of(vec![shell("echo 1 > new"), finish("done")]);
    let ran = ran(&stage, &server, &["--check-file", "new", "--protect", "huge"]).exits_with(2);
    assert!(ran.stderr.contains("they are more than 1.0 GB with huge, which has 4.2 GB"), "{}", ran.stderr);
    assert!(stage.events_of("tool_started").is_empty());
}

#[test]
fn a_job_that_changes_the_result_under_the_checks_is_noticed() {
    let stage = Stage::new();
    // Right while the first check looks, wrong while the second does.
    let flip =
        "echo good > result; (until test -e between; do sleep 0.02; done; echo bad > result; sleep 600) & sleep 0.1";
    let server = server_of(vec![shell(flip), finish("done"), finish("done"), finish("done")]);
    let second = "touch between; until grep -q bad result; do sleep 0.02; done";
    let flags = ["--no-baseline", "--check", "grep -q good result", "--check", second];
    ran(&stage, &server, &flags).exits_with(4);
    assert_ne!(verdict(&stage).0, "verified");
    let outdated = stage.events_of("checks_outdated");
    assert!(outdated[0]["paths"].to_string().contains("result"), "{outdated:?}");
    assert!(outdated[0]["running"].to_string().contains("sleep"), "{outdated:?}");
    stage.verifies();
}

#[test]
fn a_service_that_writes_nothing_keeps_no_result_from_being_proved() {
    let stage = Stage::new();
    let server = server_of(vec![shell("(sleep 600) & echo 1 > new"), finish("done")]);
    ran(&stage, &server, &["--check", "test -s new"]).exits_with(0);
    assert_eq!(verdict(&stage).0, "verified");
    let started = stage.events_of("check_started").pop().unwrap();
    assert!(started["watched_since_ns"].is_i64(), "{started}");
    assert!(stage.events_of("checks_outdated").is_empty());
}

#[test]
fn a_job_that_goes_on_writing_keeps_a_result_from_being_proved() {
    let stage = Stage::new();
    let write = "(while :; do echo good >> result; sleep 0.01; done) & sleep 0.1";
    let server = server_of((0..1).map(|_| shell(write)).chain((0..3).map(|_| finish("done"))).collect());
    ran(&stage, &server, &["--check", "sleep 0.2; grep -q good result"]).exits_with(4);
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("what they look at changed meanwhile: result"), "{told}");
    assert_eq!(stage.events_of("checks_outdated").len(), 9, "three rounds, three times each");
}

#[test]
fn programs_that_a_run_replaces_or_writes_prove_nothing() {
    for (check, forge) in [
        ("sha256sum -c sums", "printf '#!/bin/sh\\n' > /usr/local/bin/sha256sum; chmod +x /usr/local/bin/sha256sum"),
        ("grep -q 42 answer", "printf '#!/bin/sh\\n' > g; chmod +x g; mv g /usr/bin/grep"),
        ("sh check.sh", "echo true > check.sh"),
        ("./check", "printf '#!/bin/sh\\n' > check; chmod +x check"),
    ] {
        let stage = Stage::new();
        std::fs::write(stage.project().join("sums"), "0000  data.txt\n").unwrap();
        let server = server_of(vec![shell(forge), finish("done")]);
        ran(&stage, &server, &["--check", check]).exits_with(0);
        let (word, why) = verdict(&stage);
        assert_eq!(word, "unverified", "{check}: {why}");
        assert!(why.contains("this run made or changed what they run"), "{why}");
    }
}

/// The newest run's report for programs.
fn report(stage: &Stage) -> Value {
    serde_json::from_slice(&std::fs::read(stage.run_dir().join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_requirement_is_verified_only_where_a_check_stands_behind_it() {
    let stage = Stage::new();
    let requirements = json!([
        {"requirement": "there is a file", "evidence": "new, made in step 1", "check": 1},
        {"requirement": "it is | <b>fast</b>", "evidence": "out/bench.txt"},
        {"requirement": "tests pass", "evidence": "step 2 and step 9", "check": 7},
    ]);
    let claim = Reply::call("finish", &json!({"summary": "did it", "requirements": requirements}));
    let server = server_of(vec![shell("echo 1 > new"), shell("exit 3"), claim]);
    ran(&stage, &server, &["--check", "test -s new", "--check-file", "data.txt"]).exits_with(0);
    let report = report(&stage);
    let rows = report["requirements"].as_array().unwrap();
    let stands: Vec<_> =
        rows.iter().map(|row| (row["verified"].as_bool().unwrap(), row["notes"].to_string())).collect();
    assert_eq!(stands[0], (true, "[]".to_owned()));
    assert_eq!(stands[1], (false, "[\"out/bench.txt is not there\"]".to_owned()));
    assert_eq!(stands[2], (false, "[\"step 2: exit 3\",\"there is no step 9\",\"there is no check 7\"]".to_owned()));
    assert_eq!(report["unnamed_checks"], json!([2]));
    assert_eq!(report["checks"][1]["proves"], false);
    let text = std::fs::read_to_string(stage.run_dir().join("report.md")).unwrap();
    assert!(text.contains("- 3 requirements, 1 of them proved by a check"), "{text}");
    assert!(text.contains("- doubt: check 2 passed before any work, too"), "{text}");
    assert!(!text.contains("<b>"), "{text}");
    stage.verifies();
}

#[test]
fn a_run_that_was_stopped_has_its_report_too() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo 1 > new"), shell("echo 2 > new")]);
    ran(&stage, &server, &["--check", "test -s other", "--max-turns", "1"]).exits_with(5);
    let report = report(&stage);
    assert_eq!((report["verdict"].as_str(), report["turns"].as_u64()), (Some("stopped"), Some(1)));
    assert_eq!(report["checks"][0]["last"], "not_known");
    assert!(!stage.run_dir().join("runbook.patch").exists(), "nothing was learned");
}

#[test]
fn what_a_check_writes_outdates_nothing_where_only_shells_and_the_view_for_people_are_beside_it() {
    let stage = Stage::new();
    let server = server_of(vec![shell("echo x > new"), finish("made")]);
    ran(&stage, &server, &["--check", "date +%N > made; test -s new"]).exits_with(0);
    assert_eq!(verdict(&stage), ("verified".to_owned(), "1 check passed".to_owned()));
    assert_eq!(rounds(&stage), [0, 1]);
    assert!(stage.events_of("checks_outdated").is_empty());
    stage.verifies();
}
