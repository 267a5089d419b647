//! Questions to a person: asked once, waited for at no cost, answered once, from wherever the person is.

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{has_event, is, nothing_is_left, soon};
use crate::stage::{Ran, Stage};

const LOCAL: [&str; 4] = ["do", "x", "--sandbox", "local"];

/// A model's question with the options `left` and `right`.
pub(crate) fn ask(question: &str, waits: bool) -> Reply {
    Reply::call("ask_human", &asked(question, waits))
}

pub(crate) fn asked(question: &str, waits: bool) -> Value {
    json!({
        "question": question,
        "background": "the road forks here",
        "options": [{"name": "left", "what": "takes the left one"}, {"name": "right", "what": "takes the right one"}],
        "recommended": "right",
        "waits": waits,
    })
}

pub(crate) fn run(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    Ran::of(&stage.asking(server, args).output().unwrap())
}

/// A run in the background, which waits for answers from elsewhere.
fn detached(stage: &Stage, server: &ModelServer, more: &[&str]) {
    run(stage, server, &[&LOCAL[..], &["--detach"], more].concat()).exits_with(0);
}

fn run_id(stage: &Stage) -> String {
    stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn without_a_person_the_run_stops_with_the_question_and_goes_on_with_the_answer_where_it_stood() {
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::calls(&[("shell", json!({"command": "echo one >> steps"})), ("ask_human", asked("Which way?", true))]),
        shell("cat steps"),
        finish("went"),
    ]);
    let stopped = run(&stage, &server, &LOCAL).exits_with(4);
    let id = run_id(&stage);
    for part in [
        "error: question q1 waits for an answer: Which way?\n",
        "because: nobody is there to be asked\n",
        &format!("hint: answer it: `agent answer {id} q1 right`\n"),
        &format!("hint: then go on: `agent resume {id}`\n"),
    ] {
        assert!(stopped.stderr.contains(part), "`{part}` is not in:\n{}", stopped.stderr);
    }
    assert_eq!(server.requests().len(), 1);
    assert_eq!(stage.events_of("tool_ended").len(), 1, "the call waits on");
    let end = &stage.events_of("run_ended")[0];
    assert_eq!((&end["verdict"], &end["reason"]), (&json!("blocked"), &json!("needs_human")));

    let listed = stage.run(&["questions"]).exits_with(0).stdout;
    for part in ["q1  Which way?\n", "| the road forks here\n", "2. right (recommended): takes the right one\n"] {
        assert!(listed.contains(part), "`{part}` is not in:\n{listed}");
    }
    let said = stage.run(&["answer", "q1", "left", "but", "slowly"]).exits_with(0).stdout;
    assert!(said.contains(&format!("go on with `agent resume {id}`")), "{said}");
    let again = stage.run(&["answer", "q1", "right"]).exits_with(2);
    assert!(again.stderr.contains("question q1 is answered already, with `left: but slowly`"), "{}", again.stderr);

    run(&stage, &server, &["resume"]).exits_with(0);
    let requests = server.requests();
    assert_eq!(last_result(&requests[1].body), "[answered q1: left]\nbut slowly");
    assert!(last_result(&requests[2].body).ends_with("one"), "once: {}", last_result(&requests[2].body));
    let answered = stage.events_of("question_answered");
    assert_eq!(answered.len(), 1);
    assert_eq!((&answered[0]["at"], &answered[0]["reply"]["choice"]), (&json!("inbox"), &json!("left")));
    assert!(stage.run(&["questions"]).exits_with(0).stdout.contains("no run waits for an answer"));
    let late = stage.run(&["answer", &id, "q1", "right"]).exits_with(2);
    assert!(late.stderr.contains("was answered before") && late.stderr.contains("left: but slowly"), "{}", late.stderr);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_run_in_the_background_waits_and_takes_the_answer_at_once() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    detached(&stage, &server, &[]);
    soon("the question", || has_event(&stage, is("question_asked")));
    for (words, said) in [
        (&["q7", "left"][..], "no run has an open question q7"),
        (&["last", "q7", "left"], "has no question q7"),
        (&["last", "q1"], "its options are left, right"),
        (&["last", "one", "left"], "`one` is not a question id"),
        (&["nowhere"], "`nowhere` is no question"),
    ] {
        let ran = stage.run(&[&["answer"], words].concat()).exits_with(2);
        assert!(ran.stderr.contains(said), "`{said}` is not in:\n{}", ran.stderr);
    }
    let said = stage.run(&["answer", "q1", "2"]).exits_with(0).stdout;
    assert!(said.contains("is answered: right"), "{said}");
    soon("the end", || has_event(&stage, is("run_ended")));
    assert_eq!(last_result(&server.requests()[1].body), "[answered q1: right]");
    assert_eq!(server.requests().len(), 2, "it costs no request");
}
