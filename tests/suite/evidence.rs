//! What failures come from where neither exit code nor words tell, and by the signatures that a user knows.

use std::fs;

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::small_disk::SmallDisk;
use crate::stage::{Ran, Stage};

fn run(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, &[&["do", "x"], args].concat()).output().unwrap())
}

/// The failures of the newest run's calls.
fn failures(stage: &Stage) -> Vec<Value> {
    stage.events_of("tool_ended").iter().map(|event| event["outcome"]["failure"].clone()).collect()
}

#[test]
fn a_disk_that_runs_full_is_a_failure_whatever_the_exit_code() {
    let Some(disk) = SmallDisk::mount() else { return };
    let stage = Stage::new();
    let silent = "head -c 900000 /dev/zero > big 2>/dev/null; true";
    let server = server_of(vec![shell("true"), shell(silent), shell("rm big"), finish("done")]);
    let dir = disk.path.to_str().unwrap();
    run(&stage, &server, &["--sandbox", "host", "-C", dir]).exits_with(0);
    let failures = failures(&stage);
    assert_eq!((&failures[0], &failures[2]), (&Value::Null, &Value::Null), "what has room is no failure");
    assert_eq!(failures[1]["class"], "disk_full", "{failures:?}");
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains(&format!("[failure: disk_full · no room is left on the disk of {dir}")), "{told}");
}

#[test]
fn a_job_that_fails_is_told_with_what_it_comes_from() {
    let stage = Stage::new();
    let command = "sleep 1; echo 'curl: (6) Could not resolve host: nowhere.test' >&2; exit 6";
    let begin = json!({"command": command, "session": "work", "cwd": null, "expected_s": 1, "yield_s": 0});
    let wait = json!({"exit": ["j1"]});
    let server = server_of(vec![Reply::call("shell", &begin), Reply::call("wait", &wait), finish("seen")]);
    run(&stage, &server, &["--sandbox", "host"]).exits_with(0);
    let ended = stage.events_of("job_ended");
    assert_eq!(ended[0]["end"]["failure"]["class"], "network", "{ended:?}");
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("j1: [failure: network · curl: (6) Could not resolve host"), "{told}");
    let jobs = stage.run(&["jobs", "last"]).exits_with(0).stdout;
    assert!(jobs.contains("exit 6") && jobs.contains("network: curl: (6)"), "{jobs}");
}

#[test]
fn what_a_user_knows_of_failures_comes_before_what_comes_with_the_program_and_a_project_has_nothing_run_again() {
    let stage = Stage::new();
    fs::create_dir_all(stage.home().join(".config/longhaul")).unwrap();
    let config = stage.home().join(".config/longhaul/config.toml");
    let own = "max_turns = 9\n\n[[signature]]\nclass = 'quota'\npatterns = ['no more builds today']\nexit = [1]\n";
    fs::write(&config, own).unwrap();
    fs::create_dir_all(stage.project().join(".longhaul")).unwrap();
    let project = "[[signature]]\nclass = 'network'\npatterns = ['try later']\n\n\
                   [[signature]]\nclass = 'wrong_result'\npatterns = ['metric is low']\n";
    fs::write(stage.project().join(".longhaul/config.toml"), project).unwrap();
    let commands = ["echo metric is low; exit 1", "echo try later; exit 1"];
    let server = server_of(vec![shell(commands[0]), shell(commands[1]), finish("done")]);
    let ran = run(&stage, &server, &["--sandbox", "host"]);
    assert!(ran.stderr.contains("a signature of `network`"), "{}", ran.stderr);
    let classes: Vec<Value> = failures(&stage).iter().map(|failure| failure["class"].clone()).collect();
    assert_eq!(classes[..2], [json!("wrong_result"), json!("unknown")]);

    let server = server_of(vec![shell("echo No more builds today; exit 1")]);
    run(&stage, &server, &["--sandbox", "host"]);
    let attempts = stage.events_of("attempt_failed");
    let asked =
        attempts.iter().map(|event| &event["outcome"]["failure"]["class"]).chain([&Value::Null]).next().unwrap();
    assert_eq!(asked, "quota", "{attempts:?}");

    fs::write(&config, "[[signature]]\nclass = 'netwrok'\npatterns = ['x']\n").unwrap();
    let ran = run(&stage, &server, &[]).exits_with(2);
    assert!(
        ran.stderr.contains("config.toml:2: there is no class `netwrok`; did you mean `network`?"),
        "{}",
        ran.stderr
    );
    fs::write(&config, "[[signature]]\nclass = 'network'\npatterns = [\n  'fine',\n  '(',\n]\n").unwrap();
    let ran = run(&stage, &server, &[]).exits_with(2);
    assert!(ran.stderr.contains("config.toml:5: ") && ran.stderr.contains("unclosed group"), "{}", ran.stderr);
}
