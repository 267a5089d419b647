//! Questions to a person who sits at the run's terminal, or in a chat, and may be answered from another one meanwhile.

use std::process::Command;

use crate::at_a_terminal::Terminal;
use crate::questions::asked;
use crate::resume::{has_event, is, nothing_is_left, soon};
use crate::stage::Stage;

/// A model that asks these questions one after the other, and is done.
fn script(stage: &Stage, questions: &[&str], last: &str) -> String {
    let turn =
        |question: &&str| format!("[[turn]]\n[[turn.call]]\ntool = 'ask_human'\nraw = '{}'\n", asked(question, true));
    let turns: String = questions.iter().map(turn).collect();
    let path = stage.home().join("script.toml");
    std::fs::write(&path, format!("{turns}{last}")).unwrap();
    format!("script:{}", path.display())
}

const FINISH: &str = "[[turn]]\n[[turn.call]]\ntool = 'finish'\narguments = { summary = 'went' }\n";

#[test]
fn a_question_is_shown_whole_and_harmless_and_answered_by_number_name_or_words() {
    let stage = Stage::new();
    let model = script(&stage, &["Which\u{1b}[2J way?", "And now?", "At last?"], FINISH);
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--model", &model]);
    run.until("question  q1: Which\\e[2J way?");
    run.until("the road forks here");
    run.until("1. left: takes the left one");
    run.until("2. right (recommended): takes the right one");
    run.until("answer with a number, a name or words of your own");
    run.until("it waits until somebody answers; from another terminal: agent answer ");
    run.until("> ");
    run.type_keys("\r");
    run.until("nothing is taken for an answer but one of left, right");
    run.until("> ");
    run.type_keys("1\r");
    run.until("to q1: left");
    run.until("question  q2: And now?");
    run.until("> ");
    run.type_keys("RIGHT, but slowly\r");
    run.until("to q2: right: but slowly");
    run.until("question  q3: At last?");
    run.until("> ");
    run.type_keys("straight on\r");
    run.until("to q3: straight on");
    run.until("the model says it is done");
    assert_eq!(run.child.wait().unwrap().exit_code(), 0);
    assert!(stage.events_of("question_answered").iter().all(|event| event["at"] == "terminal"));
    stage.verifies();
}

#[test]
fn an_answer_from_elsewhere_takes_the_prompt_away_and_what_was_typed_there_answers_nothing() {
    let stage = Stage::new();
    let model = script(&stage, &["Which way?", "And now?"], FINISH);
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--model", &model]);
    run.until("agent answer ");
    run.until("> ");
    run.type_keys("lef");
    run.until("lef");
    stage.run(&["answer", "last", "q1", "right"]).exits_with(0);
    run.until("\r\u{1b}[K");
    run.until("to q1: right");
    run.until("question  q2: And now?");
    run.until("> ");
    run.type_keys("t\r");
    run.until("to q2: t");
    run.until("the model says it is done");
    assert_eq!(run.child.wait().unwrap().exit_code(), 0);
    stage.verifies();
}

#[test]
fn ctrl_c_at_a_question_ends_the_run_which_asks_again_when_it_is_taken_up() {
    let stage = Stage::new();
    let model = script(&stage, &["Which way?"], FINISH);
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--model", &model]);
    run.until("agent answer ");
    run.until("> ");
    run.type_keys("\x03");
    run.until("agent verify");
    assert_eq!(run.child.wait().unwrap().exit_code(), 130);
    assert_eq!(stage.events_of("tool_ended").len(), 0);
    let mut again = Terminal::run(&stage, &["resume"]);
    again.until("question  q1: Which way?");
    again.until("> ");
    again.type_keys("left\r");
    again.until("the model says it is done");
    assert_eq!(again.child.wait().unwrap().exit_code(), 0);
    assert_eq!((stage.events_of("question_asked").len(), stage.events_of("question_answered").len()), (1, 1));
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_run_whose_terminal_is_gone_waits_for_an_answer_from_elsewhere() {
    let stage = Stage::new();
    let model = script(&stage, &["Which way?"], FINISH);
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--model", &model]);
    run.until("> ");
    let pid = run.child.process_id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    soon("a note of it", || has_event(&stage, is("noticed")));
    stage.run(&["answer", "q1", "left"]).exits_with(0);
    assert_eq!(run.child.wait().unwrap().exit_code(), 0);
    stage.verifies();
}

#[test]
fn a_chat_asks_at_its_own_prompt() {
    let stage = Stage::new();
    let said = "[[turn]]\nexpect = ['answered q2 in words', 'up there']\nsay = 'Very well.'\n";
    let model = script(&stage, &["Which way?", "And now?"], said);
    let told = stage.home().join("told");
    let tell = format!("cat >> {}", told.display());
    let args = ["chat", "--sandbox", "local", "--notify", &tell, "--model", &model];
    let mut chat = Terminal::run(&stage, &args);
    chat.until("> ");
    chat.type_keys("go\r");
    chat.until("answer with a number, a name or words of your own");
    chat.until("q1> ");
    stage.run(&["answer", "last", "q1", "right"]).exits_with(0);
    chat.until("to q1: right");
    chat.until("q2: And now?");
    chat.type_keys("left\r");
    chat.until("begun before q2 was asked");
    chat.until("q2> ");
    chat.type_keys("up there\r");
    chat.until("Very well.");
    chat.until("> ");
    chat.type_keys("\x04");
    chat.until("the person ended the chat");
    assert_eq!(chat.child.wait().unwrap().exit_code(), 0);
    let told = std::fs::read_to_string(&told).unwrap_or_default();
    assert!(told.contains("Which way?") && told.contains("And now?"), "whoever looks elsewhere is told: {told}");
    stage.verifies();
}

#[test]
fn more_time_is_asked_for_at_a_terminal() {
    let stage = Stage::new();
    let path = stage.home().join("script.toml");
    let turns = "[[turn]]\n[[turn.call]]\ntool = 'shell'\narguments = { command = 'echo begun; sleep 600' }\n";
    std::fs::write(&path, format!("{turns}{FINISH}")).unwrap();
    let model = format!("script:{}", path.display());
    let mut run = Terminal::run(&stage, &["do", "x", "--sandbox", "local", "--max-time", "2s", "--model", &model]);
    run.until("how much more time, such as 30m? (Enter ends the run)");
    run.until("> ");
    run.type_keys("5m\r");
    run.until("the model says it is done");
    assert_eq!(run.child.wait().unwrap().exit_code(), 0);
    assert_eq!(stage.events_of("limits_raised")[0]["asked"]["max_time_s"], 302);
    stage.verifies();
}
