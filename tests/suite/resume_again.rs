//! Runs taken up in the background, at a terminal, in a container, and with a limit of time.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::at_a_terminal::Terminal;
use crate::engines::{BUSYBOX, DOCKER};
use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::Reply;
use crate::resume::{Driven, go, goal, has_event, is, nothing_is_left, resume, soon, until_go};
use crate::stage::Stage;

fn waits(event: &Value) -> bool {
    event["type"] == "tool_started" && event["call"]["name"] == "wait"
}

#[test]
fn a_run_is_taken_up_in_the_background() {
    let stage = Stage::new();
    let go = go(&stage);
    let server = server_of(vec![shell(&until_go(&go)), finish("done")]);
    let driven = Driven::start(&stage, &server, &goal("work"));
    soon("the command", || has_event(&stage, is("session_opened")));
    driven.kill();
    let run = stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned();
    let ran = resume(&stage, &server, &["--detach"]).exits_with(0);
    assert_eq!(ran.stdout, format!("{run}\n"));
    assert!(has_event(&stage, is("run_resumed")), "it returns when the run goes on");
    let refused = resume(&stage, &server, &["last", "--detach"]).exits_with(2);
    assert!(refused.stderr.contains("is driven by process"), "{}", refused.stderr);
    std::fs::write(&go, "").unwrap();
    soon("its end", || has_event(&stage, is("run_ended")));
    assert_eq!(stage.events_of("run_ended")[0]["reason"], "done");
    soon("the end of its driver", || {
        stage.run(&["verify", "last"]).code == 0 && resume(&stage, &server, &[]).code == 2
    });
    nothing_is_left(&stage);
    let finished = resume(&stage, &server, &["last", "--detach"]).exits_with(2);
    assert!(finished.stderr.contains("has finished"), "{}", finished.stderr);
}

#[test]
fn a_chat_whose_driver_was_killed_goes_on_at_another_terminal_with_its_box() {
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    let turns = "[[turn]]\n[[turn.call]]\ntool = 'shell'\narguments = { command = 'MOOD=good; echo made > made' }\n\
         [[turn]]\nsay = 'Made it.'\n\
         [[turn]]\nexpect = ['what now', 'was interrupted for']\n\
         [[turn.call]]\ntool = 'shell'\narguments = { command = 'cat made; echo mood $MOOD' }\n\
         [[turn]]\nexpect = ['mood good']\nsay = 'All there.'\n";
    std::fs::write(&script, turns).unwrap();
    let model = format!("script:{}", script.display());
    let mut chat = Terminal::run(&stage, &["chat", "--sandbox", "local", "--model", &model]);
    chat.until("> ");
    chat.type_keys("make it\r");
    chat.until("Made it.");
    chat.until("> ");
    let pid = chat.child.process_id().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    chat.child.wait().unwrap();
    let mut again = Terminal::run(&stage, &["resume"]);
    again.until("> ");
    again.type_keys("what now\r");
    again.until("All there.");
    again.until("> ");
    again.type_keys("\x04");
    again.until("the person ended the chat");
    assert_eq!(again.child.wait().unwrap().exit_code(), 0);
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "adopted");
    assert_eq!(stage.events_of("user_said").len(), 2);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_limit_of_time_counts_the_time_that_drivers_drove() {
    const LIMIT: Duration = Duration::from_secs(4);
    let stage = Stage::new();
    let server = server_of(vec![
        Reply::call("shell", &json!({"command": "sleep 600", "yield_s": 0})),
        Reply::call("wait", &json!({"all": ["j1"], "deadline_s": 600})),
        finish("never"),
    ]);
    let args = [&goal("work")[..], &["--max-time", "4s"]].concat();
    let driven = Driven::start(&stage, &server, &args);
    soon("the wait", || has_event(&stage, waits));
    driven.kill();
    let away = Instant::now();
    soon("a longer time than the limit", || away.elapsed() > LIMIT);
    let begun = Instant::now();
    let ran = resume(&stage, &server, &[]).exits_with(5);
    assert!(begun.elapsed() > LIMIT / 2, "it had time left: {:?}\n{}", begun.elapsed(), ran.stderr);
    let refused = resume(&stage, &server, &["last"]).exits_with(2);
    assert!(refused.stderr.contains("would end at once"), "{}", refused.stderr);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_job_in_a_container_runs_on() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let command = "echo $$ >> pids; while [ ! -e /tmp/go ]; do sleep 0.1; done; cat pids | wc -l; exit 3";
    let server = server_of(vec![
        Reply::call("shell", &json!({"command": command, "session": "job", "yield_s": 0})),
        Reply::call("wait", &json!({"all": ["j1"], "deadline_s": 600})),
        shell("wc -l < pids"),
        finish("done"),
    ]);
    let driven = Driven::start(&stage, &server, &["do", "work", "--image", BUSYBOX]);
    soon("the wait", || has_event(&stage, waits));
    driven.kill();
    let container = stage.events_of("box_opened")[0]["facts"]["id"].as_str().unwrap().to_owned();
    let touched = Command::new("docker").args(["exec", &container, "touch", "/tmp/go"]).output().unwrap();
    assert!(touched.status.success(), "{touched:?}");
    resume(&stage, &server, &[]).exits_with(0);
    let told = last_result(&server.requests()[2].body).to_owned();
    assert!(told.contains("j1") && told.contains("exit 3"), "{told}");
    assert!(last_result(&server.requests()[3].body).ends_with('1'), "it ran once");
    assert_eq!(stage.events_of("run_resumed")[0]["found"], "adopted");
    assert_eq!((stage.events_of("job_started").len(), stage.events_of("job_ended").len()), (1, 1));
    stage.verifies();
    let run = longhaul::domain::RunId::new(stage.run_dir().file_name().unwrap().to_str().unwrap()).unwrap();
    nothing_is_left(&stage);
    assert_eq!(DOCKER.left_of(&run), Vec::<String>::new());
}
