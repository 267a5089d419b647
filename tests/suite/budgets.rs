//! Limits on what a run may cost: warned of, held, told to the model, and told afterwards.

use std::process::Command;

use serde_json::{Value, json};

use crate::at_a_terminal::Terminal;
use crate::goal::{finish, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

fn ran(mut program: Command) -> Ran {
    Ran::of(&program.output().unwrap())
}

/// A server whose every answer counts as 100 tokens in and 10 out: a step, again and again.
fn steps() -> ModelServer {
    let mut nth = 0;
    ModelServer::replying(move |_| {
        nth += 1;
        shell(&format!("echo step {nth}"))
    })
}

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];

fn limited(server: &ModelServer, more: &[&str]) -> (Stage, Ran) {
    let stage = Stage::new();
    let ran = ran(stage.asking(server, &[&LOCAL[..], more].concat()));
    (stage, ran)
}

#[test]
fn a_limit_of_tokens_is_never_passed_by_more_than_one_answer() {
    let server = steps();
    let (stage, ran) = limited(&server, &["--max-tokens", "1000"]);
    let ran = ran.exits_with(5);
    // 110 tokens an answer: 1,100 after ten of them.
    assert_eq!(server.requests().len(), 10, "{}", ran.stderr);
    let end = &stage.events_of("run_ended")[0];
    assert_eq!((&end["verdict"], &end["reason"]), (&json!("stopped"), &json!("budget")));
    assert!(end["why"].as_str().unwrap().contains("1000 tokens was reached (1100 tokens spent)"), "{end}");
    let warnings: Vec<Value> = stage.events_of("noticed");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        (&warnings[0]["kind"], &warnings[0]["text"]),
        (&json!("budget_near"), &json!("80 % of the budget is spent: 880 tokens of 1000 tokens"))
    );
    let last = server.requests().last().unwrap().last_text().to_owned();
    assert!(last.contains("Budget spent: 990 tokens of 1000 tokens."), "{last}");
    stage.verifies();
}

#[test]
fn a_limit_of_money_is_held_by_the_price_that_was_given_and_told_afterwards() {
    let server = steps();
    // A hundred tokens in cost a tenth of a cent, ten out a hundredth.
    let (stage, ran) = limited(&server, &["--max-cost", "0.01", "--price", "10,1,10"]);
    let ran = ran.exits_with(5);
    assert_eq!(server.requests().len(), 10, "{}", ran.stderr);
    assert!(ran.stderr.contains("$0.02"), "the sum stands at the end: {}", ran.stderr);
    let told = stage.run(&["cost", "last"]).exits_with(0).stdout;
    for part in [
        "answers   10\n",
        "tokens    1000 in, 0 of them cached, 100 out\n",
        "cost      $0.02 (price: as given)\n",
        "limit     $0.01\n",
    ] {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    let told: Value = serde_json::from_str(&stage.run(&["cost", "--json", "last"]).exits_with(0).stdout).unwrap();
    assert_eq!((&told["cost_micro_usd"], &told["models"][0]["answers"]), (&json!(11_000), &json!(10)));
}

#[test]
fn without_a_known_price_there_are_tokens_and_no_limit_on_money() {
    let server = ModelServer::start();
    server.push(finish("done"));
    let (stage, ran) = limited(&server, &["--max-cost", "1"]);
    let ran = ran.exits_with(2);
    for part in ["error: a limit on money can't be held\n", "  because: the price of ", "hint: say it with `--price"] {
        assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
    }
    assert!(server.requests().is_empty());
    assert!(Ran::of(&stage.asking(&server, &LOCAL).output().unwrap()).exits_with(0).stderr.contains("100 tokens in"));
    let told = stage.run(&["cost"]).exits_with(0).stdout;
    assert!(told.contains("cost      not known"), "{told}");
}

#[test]
fn a_server_that_does_not_count_is_held_to_an_estimate() {
    let chunk = |delta: Value, reason: Value| json!({"choices": [{"delta": delta, "finish_reason": reason}]});
    let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "shell", "arguments": "{\"command\": \"true\"}"}}]});
    let stream = format!(
        "data: {}\n\ndata: {}\n\ndata: [DONE]\n\n",
        chunk(call, Value::Null),
        chunk(json!({}), json!("tool_calls"))
    );
    let server = ModelServer::replying(move |_| Reply::raw(stream.clone()));
    let (stage, ran) = limited(&server, &["--max-tokens", "20000"]);
    ran.exits_with(5);
    let requests = server.requests();
    let bytes: usize = requests.iter().map(|request| request.raw.len()).sum();
    assert!(
        (80_000..80_000 + requests.last().unwrap().raw.len() * 2).contains(&bytes),
        "{bytes} bytes in {}",
        requests.len()
    );
    stage.verifies();
}

#[test]
fn a_deadline_ends_a_run_and_one_that_has_passed_begins_none() {
    let server = ModelServer::replying(|_| shell("sleep 600"));
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let (stage, ran) = limited(&server, &["--deadline", &at.to_string()]);
    ran.exits_with(5);
    assert!(stage.events_of("run_ended")[0]["why"].as_str().unwrap().contains("the limit at 20"));
    for (bad, because) in [("2001-01-01T00:00Z", "it has passed"), ("soon", "18:00")] {
        let (_, ran) = limited(&server, &["--deadline", bad]);
        assert!(ran.exits_with(2).stderr.contains(because));
    }
    let (_, both) = limited(&server, &["--deadline", "18:00", "--max-time", "1h"]);
    assert!(both.exits_with(2).stderr.contains("cannot be used with"));
}

#[test]
fn a_run_that_its_budget_stopped_goes_on_with_a_larger_one() {
    let mut nth = 0;
    let server = ModelServer::replying(move |_| {
        nth += 1;
        if nth < 7 { shell(&format!("echo {nth} >> steps; wc -l < steps")) } else { finish("seven") }
    });
    let (stage, first) = limited(&server, &["--max-tokens", "500", "--check", "test $(wc -l < steps) = 6"]);
    first.exits_with(5);
    assert_eq!(server.requests().len(), 5);
    let mut program = stage.asking(&server, &["resume", "last", "--max-tokens", "5000"]);
    let second = Ran::of(&program.output().unwrap()).exits_with(0);
    assert_eq!(server.requests().len(), 7, "{}", second.stderr);
    stage.verifies();
}

#[test]
fn a_person_at_a_terminal_is_asked_for_more_and_the_run_goes_on_in_the_same_box() {
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    let call = |command: &str| {
        format!("[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = {{ command = \"{command}\" }}\n")
    };
    let turns =
        [call("export KEPT=yes"), call("echo kept=$KEPT"), call("echo more"), "[[turn]]\nsay = \"Done.\"\n".to_owned()];
    std::fs::write(&script, turns.concat()).unwrap();
    let model = format!("script:{}", script.display());
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--model", &model, "--max-turns", "1"]);
    run.until("the limit of 1 model requests was reached");
    run.until("how many more model requests? (Enter ends the run)");
    run.type_keys("many\r");
    run.until("how many more model requests?");
    run.type_keys("2\r");
    run.until("raised: 3 model requests");
    run.until("kept=yes");
    run.until("how many more model requests?");
    run.type_keys("\r");
    assert_eq!(run.child.wait().unwrap().exit_code(), 5);
    let raised = stage.events_of("limits_raised");
    assert_eq!((raised.len(), &raised[0]["asked"]["max_turns"]), (1, &json!(3)));
    // What the person has allowed holds when the run is taken up again.
    let known = stage.run(&["resume", "last"]).exits_with(2).stderr;
    assert!(known.contains("the limit of 3 model requests was reached"), "{known}");
    stage.run(&["resume", "last", "--max-turns", "9"]).exits_with(0);
    stage.verifies();
}

#[test]
fn limits_that_are_none_are_refused_before_anything_begins() {
    let server = ModelServer::start();
    for (args, because) in [
        (&["--max-cost=-1"][..], "an amount in US dollars above zero"),
        (&["--max-cost", "0"], "an amount in US dollars above zero"),
        (&["--max-tokens", "0"], "a whole number of tokens above zero"),
        (&["--max-tokens=-5"], "a whole number of tokens above zero"),
        (&["--max-turns", "0"], "a whole number above zero"),
        (&["--max-time", "0s"], "a time such as 90s"),
        (&["--price=-1,2"], "US dollars per million tokens"),
        (&["--price", "cheap"], "US dollars per million tokens"),
        (&["--patience", "0s"], "a time such as 90s"),
    ] {
        let (_, ran) = limited(&server, args);
        let told = ran.exits_with(2).stderr;
        assert!(told.contains("makes no sense") && told.contains(because), "{args:?}: {told}");
    }
    assert!(server.requests().is_empty());
}
