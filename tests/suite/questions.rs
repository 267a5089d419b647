//! Questions to a person: asked once, waited for at no cost, answered once, from wherever the person is.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{Driven, has_event, is, nothing_is_left, soon};
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

#[test]
fn of_two_answers_at_once_the_first_counts_and_the_second_is_told_so() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    detached(&stage, &server, &[]);
    soon("the question", || has_event(&stage, is("question_asked")));
    let answer = |choice: &str| {
        let mut program = stage.agent(&["answer", "last", "q1", choice]);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [answer("left"), answer("right")];
    let ran = both.map(|child| Ran::of(&child.wait_with_output().unwrap()));
    let (won, lost): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.code == 0);
    assert_eq!((won.len(), lost.len()), (1, 1), "{ran:?}");
    assert_eq!(lost[0].code, 2);
    soon("the end", || has_event(&stage, is("run_ended")));
    let answered = stage.events_of("question_answered");
    assert_eq!(answered.len(), 1);
    let counted = answered[0]["reply"]["choice"].as_str().unwrap();
    assert!(won[0].stdout.contains(counted), "{ran:?}");
    assert!(lost[0].stderr.contains("answered before") || lost[0].stderr.contains("answered already"), "{ran:?}");
    assert!(lost[0].stderr.contains(counted), "{ran:?}");
}

#[test]
fn an_answer_given_while_nobody_drives_a_killed_run_is_taken_once() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    let driven = Driven::start(&stage, &server, &[&LOCAL[..], &["--detach"]].concat());
    soon("the question", || has_event(&stage, is("question_asked")));
    let pid = stage.run(&["runs", "show", "--json"]).exits_with(0).stdout;
    let pid = serde_json::from_str::<Value>(&pid).unwrap()["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    driven.kill();
    soon("its driver's end", || stage.run(&["answer", "last", "q1", "nonsense"]).code == 0);
    let inbox = stage.run_dir().join("inbox");
    let files = || std::fs::read_dir(&inbox).into_iter().flatten().flatten().map(|file| file.path());
    let left: Vec<_> = files().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let content = std::fs::read(&left[0]).unwrap();
    let again = Driven::start(&stage, &server, &["resume"]);
    soon("the answer", || has_event(&stage, is("question_answered")));
    again.kill();
    // As if it had been killed before it came to remove what it had recorded.
    std::fs::create_dir_all(&inbox).unwrap();
    std::fs::write(&left[0], content).unwrap();
    run(&stage, &server, &["resume"]);
    assert_eq!(stage.events_of("question_asked").len(), 1);
    assert_eq!(stage.events_of("question_answered").len(), 1);
    assert_eq!(stage.events_of("noticed").len(), 0, "{:?}", stage.events_of("noticed"));
    let told = server.requests().iter().filter(|seen| last_result(&seen.body).contains("nonsense")).count();
    assert!(told >= 1, "words alone are an answer to the model's question");
    assert_eq!(files().count(), 0);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_file_left_by_hand_is_an_answer_and_one_that_answers_nothing_is_noted_and_goes() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("went")]);
    detached(&stage, &server, &[]);
    soon("the question", || has_event(&stage, is("question_asked")));
    let inbox = stage.run_dir().join("inbox");
    for (nth, answer) in [
        json!({"question": "q9", "choice": "left"}),
        json!({"question": "q1", "choice": "up"}),
        json!({"question": "q1", "choice": "left", "text": ""}),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(inbox.join(format!("{nth}.json")), json!({"answer": answer}).to_string()).unwrap();
    }
    soon("the end", || has_event(&stage, is("run_ended")));
    assert_eq!(last_result(&server.requests()[1].body), "[answered q1: left]");
    let unused: Vec<String> =
        stage.events_of("noticed").iter().map(|notice| notice["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        unused,
        [
            "an answer to q9 (`left`) was left and not taken: there is no such question",
            "an answer to q1 (`up`) was left and not taken: it is none of left, right",
        ]
    );
}

#[test]
fn an_answer_that_nobody_waits_for_comes_as_a_message_and_wakes_a_wait() {
    let stage = Stage::new();
    let server = server_of(vec![
        ask("Which way?", false),
        Reply::call("ask_human", &asked("Which way?", true)),
        Reply::call("shell", &json!({"command": "sleep 600", "yield_s": 0})),
        Reply::call("wait", &json!({"all": ["j1"], "deadline_s": 600})),
        ask("Which way?", true),
        finish("went"),
    ]);
    detached(&stage, &server, &[]);
    soon("the wait", || has_event(&stage, |event| event["type"] == "tool_started" && event["call"]["name"] == "wait"));
    let listed = stage.run(&["runs", "ls"]).exits_with(0).stdout;
    assert!(listed.contains("[asks q1] x"), "{listed}");
    let jobs = stage.run(&["jobs"]).exits_with(0).stdout;
    assert!(jobs.contains("q1 waits for an answer: Which way?"), "{jobs}");
    stage.run(&["answer", "last", "q1", "left"]).exits_with(0);
    soon("the end", || has_event(&stage, is("run_ended")));
    let requests = server.requests();
    let body = |nth: usize| requests[nth].body.to_string();
    assert!(last_result(&requests[1].body).starts_with("[asked q1]\nThe answer comes as a message."));
    assert!(body(1).contains("Question q1, put ") && body(1).contains("waits for an answer: Which way?"));
    assert!(last_result(&requests[2].body).contains("not asked: it is the same as q1, which is open"));
    assert!(body(4).contains("A person has answered q1 (Which way?):\\nleft"), "{}", body(4));
    assert!(!body(4).contains("waits for an answer: Which way?"));
    assert!(last_result(&requests[5].body).contains("this is what came of it:\n[answered q1: left]"));
    assert_eq!(stage.events_of("question_asked").len(), 1);
    assert_eq!(stage.events_of("waited")[0]["wait"]["cause"], "person");
}

#[test]
fn a_question_that_is_none_comes_back_with_the_place_of_the_mistake() {
    let stage = Stage::new();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut arguments = asked("Which way?", true);
        change(&mut arguments);
        Reply::call("ask_human", &arguments)
    };
    let server = server_of(vec![
        with(&|arguments| arguments["options"] = json!([{"name": "left", "what": "x"}])),
        with(&|arguments| arguments["options"][0]["name"] = json!("1")),
        shell("true"),
        with(&|arguments| arguments["recommended"] = json!("up")),
        with(&|arguments| arguments["background"] = json!("x".repeat(4_001))),
        finish("enough"),
    ]);
    run(&stage, &server, &LOCAL).exits_with(0);
    let requests = server.requests();
    for (nth, told) in [
        (1, "options: there are 1, and there must be 2 to 4"),
        (2, "options[0].name: it must be one word"),
        (4, "recommended: `up` is none of the options"),
        (5, "background: it is longer than 4000 characters"),
    ] {
        assert!(last_result(&requests[nth].body).contains(told), "{}", last_result(&requests[nth].body));
    }
    assert_eq!(stage.events_of("question_asked").len(), 0);
}

#[test]
fn a_model_that_gives_up_goes_on_with_what_a_person_says() {
    let stage = Stage::new();
    let blocked = json!({"summary": "I have no login.", "outcome": "blocked"});
    let server = server_of(vec![
        Reply::call("finish", &blocked),
        Reply::call("finish", &blocked),
        Reply::call("finish", &blocked),
        finish("logged in"),
    ]);
    let ran = run(&stage, &server, &LOCAL).exits_with(4);
    assert_eq!(ran.stdout, "I have no login.\n");
    stage.run(&["answer", "q1", "go_on:", "it is hunter2"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(4);
    let told = last_result(&server.requests()[1].body).to_owned();
    assert_eq!(told, "[answered q1: go_on]\nit is hunter2");
    // A message says what to do as well as an answer does.
    run(&stage, &server, &["resume", "--message", "ask Ann"]).exits_with(4);
    assert_eq!(stage.events_of("question_closed")[0]["end"], "withdrawn");
    assert!(server.requests()[2].body.to_string().contains("ask Ann"));
    stage.run(&["answer", "q3", "2"]).exits_with(0);
    let ran = run(&stage, &server, &["resume"]).exits_with(4);
    assert_eq!(ran.stdout, "I have no login.\n");
    assert_eq!(server.requests().len(), 3, "it was ended");
    assert_eq!(stage.events_of("question_asked").len(), 3);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn failed_claims_may_be_taken_as_they_are_or_tried_again() {
    let stage = Stage::new();
    let server = server_of((0..9).map(|nth| finish(&format!("done {nth}"))).collect());
    let args = [&LOCAL[..], &["--check", "false"]].concat();
    run(&stage, &server, &args).exits_with(4);
    stage.run(&["answer", "q1", "the", "file", "is", "elsewhere"]).exits_with(0);
    run(&stage, &server, &["resume"]).exits_with(4);
    let requests = server.requests();
    assert_eq!(requests.len(), 6, "three more tries");
    assert!(requests[3].body.to_string().contains("the file is elsewhere"));
    stage.run(&["answer", "q2", "accept"]).exits_with(0);
    let ran = run(&stage, &server, &["resume"]).exits_with(0);
    assert_eq!(ran.stdout, "done 5\n");
    assert_eq!(stage.events_of("run_ended")[2]["verdict"], "unverified");
    stage.verifies();
}

#[test]
fn a_fork_withdraws_what_was_open() {
    let stage = Stage::new();
    let server = server_of(vec![ask("Which way?", true), finish("another way")]);
    run(&stage, &server, &LOCAL).exits_with(4);
    let first = run_id(&stage);
    run(&stage, &server, &["fork", &format!("{first}@0")]).exits_with(0);
    let entry = stage.run(&["questions", &first, "--json"]).exits_with(0).stdout;
    let open: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((&open[0]["id"], &open[0]["state"], &open[0]["left"]), (&json!("q1"), &json!("open"), &Value::Null));
    let asked = stage.events_of("question_asked").len();
    assert_eq!(asked, 0, "the fork is from before");
}
