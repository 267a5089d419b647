//! What may run unasked: rules, modes and approvals, through the whole loop and in a real box.

use std::fs;

use serde_json::json;

use crate::at_a_terminal::Terminal;
use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::Reply;
use crate::questions::run;
use crate::resume::nothing_is_left;
use crate::stage::Stage;

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];
/// On the list that is built in, and harmless where it runs after all.
const ASKED_FOR: &str = "rm -rf \"$NOWHERE\"; echo gone";

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&LOCAL[..], more].concat()
}

#[test]
fn what_nobody_allows_does_not_happen_and_a_no_is_told_as_one() {
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::calls(&[
            ("shell", json!({"command": "mkdir .git; echo ref > .git/HEAD"})),
            ("shell", json!({"command": "cd . && rm -rf .git"})),
        ]),
        shell("cat .git/HEAD"),
        finish("left it"),
    ]);
    let stopped = run(&stage, &server, &LOCAL).exits_with(4);
    for part in ["question q1 waits for an answer", "rm -r of /, ~, .git or an unset variable", "agent answer "] {
        assert!(stopped.stderr.contains(part), "`{part}` is not in:\n{}", stopped.stderr);
    }
    assert_eq!(stage.events_of("tool_ended").len(), 1, "what came before it has run");
    let question = &stage.events_of("question_asked")[0]["question"];
    assert_eq!(question["background"], "shell\n  command | cd . && rm -rf .git");
    stage.run(&["answer", "q1", "no", "that", "is", "our", "history"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(0);
    let requests = server.requests();
    let refused = last_result(&requests[1].body);
    assert!(refused.starts_with("Not run: a person said no: that is our history."), "{refused}");
    assert!(refused.contains("do not look for a way around it"), "{refused}");
    assert!(last_result(&requests[2].body).ends_with("ref"), "it is still there");
    let ended = stage.events_of("tool_ended");
    assert_eq!(ended[1]["outcome"]["status"], "refused");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_yes_is_good_for_once_and_always_for_the_rest_of_the_run() {
    let stage = Stage::new();
    let asks = || shell(ASKED_FOR);
    let server = server_of(vec![asks(), asks(), asks(), shell("rm -rf /etc/../"), finish("done")]);
    run(&stage, &server, &LOCAL).exits_with(4);
    stage.run(&["answer", "q1", "yes"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(4);
    assert!(last_result(&server.requests()[1].body).ends_with("gone"), "it has run");
    stage.run(&["answer", "q2", "always"]).exits_with(0);
    let third = run(&stage, &server, &["resume", "--mode", "plan"]).exits_with(0);
    assert_eq!(stage.events_of("question_asked").len(), 2, "{}", third.stderr);
    let requests = server.requests();
    assert!(last_result(&requests[2].body).ends_with("gone"));
    // What a person has allowed does not lift a mode that denies.
    for nth in [3, 4] {
        let told = last_result(&requests[nth].body);
        assert!(told.starts_with("Not run: in mode plan nothing may be changed."), "{told}");
    }
    let always = &stage.events_of("question_asked")[1]["question"]["subject"]["always"][0];
    assert_eq!((&always["program"], &always["effect"]), (&json!("rm"), &json!("workspace")));
    stage.verifies();
}

#[test]
fn silence_is_no_consent_and_no_denial() {
    let stage = Stage::new();
    let server = server_of(vec![shell("git push --force"), finish("could not push")]);
    run(&stage, &server, &with(&["--on-silence", "fail"])).exits_with(0);
    let requests = server.requests();
    let told = last_result(&requests[1].body);
    assert!(told.contains("is asked for (built in)") && told.contains("neither a yes nor a no"), "{told}");
    assert_eq!(stage.events_of("question_closed")[0]["end"], "timeout");
    assert!(stage.events_of("tool_started").iter().all(|event| event["call"]["name"] != "shell"), "it never began");
}

#[test]
fn plan_mode_looks_and_changes_nothing() {
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::calls(&[
            ("shell", json!({"command": "cat data.txt"})),
            ("shell", json!({"command": "echo x > new.txt"})),
            ("write_file", json!({"path": "new.txt", "content": "x"})),
            ("edit_file", json!({"path": "data.txt", "old": "one", "new": "1"})),
            ("tmux", json!({"action": "open", "session": "b", "command": "touch new.txt"})),
        ]),
        finish("the plan"),
    ]);
    run(&stage, &server, &with(&["--mode", "plan"])).exits_with(0);
    let ended = stage.events_of("tool_ended");
    let told: Vec<_> = ended.iter().map(|event| event["outcome"]["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["ok", "refused", "refused", "refused", "refused", "ok"]);
    assert_eq!(stage.run(&["diff"]).exits_with(0).stdout, "");
    assert!(server.requests()[0].body.to_string().contains("Mode: plan. Nothing may be changed"));
    assert_eq!(stage.events_of("run_started")[0]["spec"]["rules"]["mode"], "plan");
}

#[test]
fn a_rule_that_denies_holds_in_every_mode_and_a_project_may_add_one_but_allow_nothing() {
    let stage = Stage::new();
    fs::create_dir(stage.project().join(".longhaul")).unwrap();
    let project =
        "mode = 'ask'\n[[rule]]\npermit = 'allow'\ncommand = 'make *'\n[[rule]]\npermit = 'deny'\npath = 'keys'\n";
    fs::write(stage.project().join(".longhaul/config.toml"), project).unwrap();
    fs::write(stage.home().join("rules.toml"), "[[rule]]\npermit = 'deny'\ncommand = 'make'\n").unwrap();
    let server = server_of(vec![
        Reply::calls(&[
            ("shell", json!({"command": "true && make all"})),
            ("read_file", json!({"path": "./keys/a"})),
            ("shell", json!({"command": "cat keys/a"})),
        ]),
        finish("denied"),
    ]);
    let ran = run(&stage, &server, &with(&["--policy", "../home/rules.toml", "--mode", "auto"])).exits_with(0);
    assert!(ran.stderr.contains("a project may ask and deny, not allow"), "{}", ran.stderr);
    let ended = stage.events_of("tool_ended");
    for (event, rule) in ended.iter().zip(["`make` is denied (", "path `keys` is denied (", "path `keys` is denied ("])
    {
        let text = event["outcome"]["text"].as_str().unwrap();
        assert!(event["outcome"]["status"] == "refused" && text.contains(rule), "{text}");
    }
    let rules = &stage.events_of("run_started")[0]["spec"]["rules"]["rules"];
    assert!(rules[0]["origin"].as_str().unwrap().ends_with(".longhaul/config.toml:5"), "{rules}");
    assert!(rules[1]["origin"].as_str().unwrap().ends_with("rules.toml:1"), "{rules}");
}

#[test]
fn in_mode_ask_all_that_stays_in_the_box_can_be_allowed_at_once() {
    let stage = Stage::new();
    let server = server_of(vec![
        shell("echo a > a"),
        Reply::call("write_file", &json!({"path": "b", "content": "b"})),
        shell("git push"),
        finish("done"),
    ]);
    run(&stage, &server, &with(&["--mode", "ask"])).exits_with(4);
    stage.run(&["answer", "q1", "all"]).exits_with(0);
    let stopped = run(&stage, &server, &["resume"]).exits_with(4);
    assert!(stopped.stderr.contains("question q2"), "{}", stopped.stderr);
    let second = &stage.events_of("question_asked")[1]["question"];
    assert_eq!(second["background"], "shell\n  command | git push");
    let offered: Vec<_> = second["options"].as_array().unwrap().iter().map(|option| &option["name"]).collect();
    assert_eq!(offered, ["yes", "always", "no"], "what reaches further is never among all");
    stage.run(&["answer", "q2", "all"]);
    stage.run(&["answer", "q2", "no"]);
    run(&stage, &server, &["resume"]).exits_with(0);
    assert!(last_result(&server.requests()[3].body).starts_with("Not run:"));
}

#[test]
fn a_hostile_command_is_shown_for_what_it_is() {
    let stage = Stage::new();
    let padding = " ".repeat(500);
    let script = format!(
        r##"
[[turn]]
[[turn.call]]
tool = "shell"
arguments = {{ command = "# lists files\rcommand | ls\u001b[2K\necho \u202e\u200b\u2019{padding}; rm -rf \"$NOWHERE\"" }}
[[turn]]
expect = ["a person said no"]
say = "Left."
"##
    );
    fs::write(stage.project().join("hostile.toml"), script).unwrap();
    let mut terminal = Terminal::run(&stage, &with(&["--model", "script:hostile.toml"]));
    terminal.until("May this run?");
    terminal.until(r"| # lists files\rcommand | ls\e[2K");
    terminal.until(r"| echo \u{202e}\u{200b}\u{2019}[500 blanks]; rm -rf");
    terminal.until("always");
    terminal.until("\n> ");
    terminal.type_keys("no\r");
    terminal.until("refused");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn the_rules_that_hold_can_be_seen_and_tried() {
    let stage = Stage::new();
    let told = stage.run(&["policy", "git push --force"]).exits_with(0).stdout;
    assert!(told.starts_with("ask  (effect: irreversible)\n") && told.contains("(built in)"), "{told}");
    let told = stage.run(&["policy", "--mode", "plan", "make", "test"]).exits_with(0).stdout;
    assert!(told.starts_with("deny") && told.contains("in mode plan nothing may be changed"), "{told}");
    assert!(stage.run(&["policy", "ls", "-l"]).exits_with(0).stdout.starts_with("allow"));
    let listed = stage.run(&["policy"]).exits_with(0).stdout;
    assert!(listed.starts_with("mode: auto") && listed.contains("git push --force: rewrites"), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&stage.run(&["policy", "--json", "git", "push"]).exits_with(0).stdout).unwrap();
    assert_eq!((&json["permit"], &json["effect"]), (&json!("ask"), &json!("external")));

    for (rules, said) in [
        (
            "[[rule]]\npermit = 'deny'\ncomand = 'make'\n",
            "p.toml:3:1: there is no setting `comand`; did you mean `command`?",
        ),
        ("[[rule]]\ncommand = 'x'\n", "p.toml:1:1: `permit` must be said for every rule"),
        ("[[rule]]\npermit = 'never'\n", "p.toml:2:10: `permit` must be allow, ask or deny"),
        ("[rule]\npermit = 'deny'\n", "`rule` must be a list of tables"),
        ("rules = []\n", "p.toml:1:1: there is no setting `rules`; did you mean `rule`?"),
    ] {
        fs::write(stage.project().join("p.toml"), rules).unwrap();
        let failed = stage.run(&["policy", "--policy", "p.toml"]).exits_with(2).stderr;
        assert!(failed.contains(said), "`{said}` is not in:\n{failed}");
    }
    stage.run(&["policy", "--policy", "none.toml"]).exits_with(2);
    let useless = "[[rule]]\npermit = 'ask'\ntool = 'shel'\n[[rule]]\npermit = 'deny'\ncommand = ''\n[[rule]]\n\
        permit = 'deny'\nhost = 'https://x.example/y'\n[[rule]]\npermit = 'deny'\ncommand = 'a'\n[[rule]]\npermit = 'ask'\n\
        command = 'a'\n";
    fs::write(stage.project().join("p.toml"), useless).unwrap();
    let warned = stage.run(&["policy", "--policy", "p.toml"]).exits_with(0).stderr;
    for part in [
        "p.toml:1 can never match: there is no tool `shel`",
        "p.toml:4 can never match: its pattern is empty",
        "p.toml:7 can never match: a host is a name",
        "p.toml:13 can never match: ",
        "p.toml:10 denies all of it already",
    ] {
        assert!(warned.contains(part), "`{part}` is not in:\n{warned}");
    }
}
