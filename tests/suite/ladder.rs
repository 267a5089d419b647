//! What a failed command leads to, in a real box with a model that follows its script.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::engines::{DEBIAN, DOCKER};
use crate::goal::{finish, last_result, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::resume::{Driven, goal, has_event, is, nothing_is_left, resume, soon};
use crate::stage::{Ran, Stage};

/// A server that answers request after request with the next of these, and the last one for ever. An answer that begins with
/// `HOLD` is given when it is let go.
struct Web {
    url: String,
    asked: Arc<AtomicUsize>,
    let_go: Arc<AtomicBool>,
}

impl Web {
    fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let let_go = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&let_go);
        let (count, answers) =
            (Arc::clone(&asked), answers.iter().map(|&answer| answer.to_owned()).collect::<Vec<_>>());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let nth = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let held = answers[nth].strip_prefix("HOLD ");
                while held.is_some() && !gone.load(Ordering::SeqCst) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let answer = held.unwrap_or(&answers[nth]);
                let (head, body) = answer.split_once('|').unwrap_or((answer, ""));
                let length = body.len();
                let _ =
                    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        Self { url, asked, let_go }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Fetches it, fails where it is refused, and shows what the server says.
    fn fetch(&self) -> Reply {
        shell(&format!("curl -sS -i --fail-with-body {}", self.url))
    }
}

/// Runs to its end, with this server as the model.
fn run(stage: &Stage, server: &ModelServer, args: &[&str]) -> Ran {
    let args = [&["do", "x", "--sandbox", "local"], args].concat();
    Ran::of(&stage.asking(server, &args).output().unwrap())
}

/// What was decided, in order.
fn chosen(stage: &Stage) -> Vec<String> {
    let made = stage.events_of("decision_made");
    made.iter().map(|event| event["decision"]["chosen"]["action"].as_str().unwrap().to_owned()).collect()
}

/// How that turned out, in order of the judgments.
fn turned_out(stage: &Stage) -> Vec<String> {
    let judged = stage.events_of("decision_judged");
    judged.iter().map(|event| event["turned_out"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_passes_by_itself_is_tried_again_without_a_turn_of_the_model() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "503 Service Unavailable", "200 OK|here it is"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (3, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 2);
    assert_eq!(chosen(&stage), ["retry_as_is", "retry_as_is"]);
    assert_eq!(turned_out(&stage), ["failed", "worked"]);
    let waits: Vec<u64> = stage
        .events_of("decision_made")
        .iter()
        .map(|event| event["decision"]["chosen"]["after_ms"].as_u64().unwrap())
        .collect();
    assert!((5_000..6_000).contains(&waits[0]) && (10_000..12_000).contains(&waits[1]), "{waits:?}");
    let ended = &stage.events_of("tool_ended")[0]["outcome"];
    let text = ended["text"].as_str().unwrap();
    assert!(text.contains("[harness: tried 2 times before, which failed: network each time]"), "{text}");
    assert!(text.contains("here it is") && ended["failure"].is_null(), "{text}");
    assert_eq!(last_result(&server.requests()[1].body), text);
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn what_is_not_there_is_not_tried_again() {
    let stage = Stage::new();
    let web = Web::answering(&["404 Not Found"]);
    let server = server_of(vec![web.fetch(), finish("it is not there")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (1, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 0);
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["fix_forward".to_owned()], vec!["unknown".to_owned()]));
    let decision = &stage.events_of("decision_made")[0]["decision"];
    assert_eq!(
        (&decision["class"], &decision["options"][0]["reaction"]["action"]),
        (&json!("not_found"), &json!("retry_as_is"))
    );
    assert!(decision["options"][0]["why"].as_str().unwrap().starts_with("left out: "), "{decision}");
    stage.verifies();
}

#[test]
fn a_command_that_may_do_harm_twice_is_left_to_the_model() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "200 OK|x"]);
    let command = format!("echo begun >> log; curl -sS -f {}", web.url);
    let server = server_of(vec![shell(&command), shell("cat log"), finish("x")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!(web.asked(), 1);
    assert_eq!(chosen(&stage), ["fix_forward"]);
    assert!(last_result(&server.requests()[2].body).ends_with("begun"), "once");
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_the_other_side_says() {
    let stage = Stage::new();
    let web = Web::answering(&["429 Too Many Requests\r\nRetry-After: 2", "200 OK|slowly"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2));
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["park".to_owned()], vec!["worked".to_owned()]));
    stage.verifies();
}

#[test]
fn a_driver_that_is_killed_while_it_waits_is_followed_by_one_that_waits_on() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "200 OK|here it is"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    let driven = Driven::start(&stage, &server, &goal("x"));
    soon("the decision", || has_event(&stage, is("decision_made")));
    driven.kill();
    assert_eq!(web.asked(), 1);
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2));
    assert_eq!(stage.events_of("attempt_failed").len(), 1);
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["retry_as_is".to_owned()], vec!["worked".to_owned()]));
    let text = stage.events_of("tool_ended")[0]["outcome"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[harness: tried once before") && text.contains("here it is"), "{text}");
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn what_credentials_refuse_is_asked_about_at_once_and_nothing_is_tried() {
    let stage = Stage::new();
    let web = Web::answering(&["401 Unauthorized"]);
    let server = server_of(vec![web.fetch(), finish("x")]);
    run(&stage, &server, &[]).exits_with(4);
    assert_eq!((web.asked(), server.requests().len()), (1, 1));
    assert_eq!(chosen(&stage), ["ask"]);
    let question: Value = stage.events_of("question_asked")[0]["question"].clone();
    assert_eq!((&question["subject"]["about"], &question["subject"]["decision"]), (&json!("failure"), &json!("d1")));
    assert_eq!(question["options"].as_array().unwrap().len(), 3);
    assert_eq!(question["recommended"], "retry");
    stage.verifies();
}

#[test]
fn a_driver_that_is_killed_in_the_middle_of_a_try_is_followed_by_one_that_takes_it_over() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable", "HOLD 200 OK|here it is"]);
    let server = server_of(vec![web.fetch(), finish("fetched")]);
    let driven = Driven::start(&stage, &server, &goal("x"));
    soon("the second try", || web.asked() == 2);
    driven.kill();
    web.let_go.store(true, Ordering::SeqCst);
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2), "nothing was done twice");
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["retry_as_is".to_owned()], vec!["worked".to_owned()]));
    assert!(last_result(&server.requests()[1].body).contains("here it is"));
    stage.verifies();
    nothing_is_left(&stage);
}

#[test]
fn a_person_s_word_ends_the_wait_for_the_next_try() {
    let stage = Stage::new();
    let web = Web::answering(&["429 Too Many Requests\r\nRetry-After: 3600"]);
    let server = server_of(vec![web.fetch(), finish("left")]);
    let mut driven = Driven::start(&stage, &server, &["do", "x", "--sandbox", "local"]);
    soon("the decision", || has_event(&stage, is("decision_made")));
    stage.run(&["send", "last", "leave it"]).exits_with(0);
    assert!(driven.program.wait().unwrap().success());
    assert_eq!((web.asked(), server.requests().len()), (1, 2));
    let text = stage.events_of("tool_ended")[0]["outcome"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[harness: not tried again: a person has said something]"), "{text}");
    assert_eq!(server.requests()[1].last_text(), "leave it");
    assert_eq!(turned_out(&stage), ["unknown"]);
    stage.verifies();
}

#[test]
fn a_run_without_retries_leaves_all_to_the_model() {
    let stage = Stage::new();
    let web = Web::answering(&["503 Service Unavailable"]);
    let server = server_of(vec![web.fetch(), finish("x")]);
    run(&stage, &server, &["--max-retries", "0"]).exits_with(0);
    assert_eq!((web.asked(), chosen(&stage)), (1, vec!["fix_forward".to_owned()]));
    let decision = stage.events_of("decision_made")[0].to_string();
    assert!(decision.contains("the run's 0 retries are used up"), "{decision}");
}

/// Keeps 90 MiB in memory; its pipeline ends with 0 whatever becomes of that.
const GREEDY: &str = "head -c 90m /dev/zero | tail -c 90m | wc -c";

fn memory_is_raised_and_the_command_run_again(sandbox: &[&str]) {
    let stage = Stage::new();
    let server = server_of(vec![shell(GREEDY), finish("counted")]);
    let args = [&["do", "x", "--memory", "64MiB", "--memory-max", "128MiB"], sandbox].concat();
    let ran = Ran::of(&stage.asking(&server, &args).output().unwrap()).exits_with(0);
    assert_eq!(server.requests().len(), 2, "{}", ran.stderr);
    let failed = &stage.events_of("attempt_failed")[0]["outcome"];
    assert_eq!((&failed["exit"]["code"], &failed["failure"]["class"]), (&json!(0), &json!("oom")));
    assert_eq!((chosen(&stage), turned_out(&stage)), (vec!["retry_changed".to_owned()], vec!["worked".to_owned()]));
    assert_eq!(stage.events_of("box_grown")[0]["memory_bytes"], 128 << 20);
    assert!(
        last_result(&server.requests()[1].body).ends_with("94371840"),
        "{}",
        last_result(&server.requests()[1].body)
    );
    stage.verifies();
}

#[test]
fn a_local_box_that_runs_out_of_memory_gets_more() {
    memory_is_raised_and_the_command_run_again(&["--sandbox", "local"]);
}

#[test]
fn a_container_that_runs_out_of_memory_gets_more() {
    if DOCKER.is_there() {
        memory_is_raised_and_the_command_run_again(&["--image", DEBIAN]);
    }
}

#[test]
fn a_command_without_memory_that_may_not_come_twice_is_left_to_the_model_and_without_more_its_footprint_is_cut() {
    let stage = Stage::new();
    let greedy = format!("echo begun >> log; {GREEDY}");
    let small = "head -c 1m /dev/zero | tail -c 1m | wc -c";
    let server =
        server_of(vec![shell(&greedy), shell(GREEDY.replace("90m", "200m").as_str()), shell(small), finish("x")]);
    run(&stage, &server, &["--memory", "64MiB", "--memory-max", "128MiB"]).exits_with(0);
    let results: Vec<String> = server.requests()[1..].iter().map(|seen| last_result(&seen.body).to_owned()).collect();
    assert!(results[0].contains("the box's memory limit is 134.2 MB now: run it again"), "{}", results[0]);
    assert!(results[1].contains("less memory or a higher limit"), "{}", results[1]);
    assert_eq!(chosen(&stage), ["retry_changed", "fix_forward"]);
    stage.verifies();
}

#[test]
fn a_full_disk_is_told_as_such_and_left_to_the_model() {
    let stage = Stage::new();
    let server = server_of(vec![shell("cat data.txt > /dev/full"), finish("x")]);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!(chosen(&stage), ["fix_forward"]);
    assert!(
        last_result(&server.requests()[1].body).contains("[failure: disk_full · the same again fails again: make room")
    );
}

#[test]
fn versions_that_do_not_go_together_are_mended_on_a_snapshot() {
    let stage = Stage::new();
    std::fs::write(
        stage.project().join("resolve.sh"),
        "grep -q pinned lock 2>/dev/null && exit 0\necho 'ERROR: ResolutionImpossible: a 1.0 needs b<2'\nexit 1\n",
    )
    .unwrap();
    let server =
        server_of(vec![shell("sh resolve.sh"), shell("echo pinned > lock"), shell("sh resolve.sh"), finish("x")]);
    run(&stage, &server, &[]).exits_with(0);
    let decision = &stage.events_of("decision_made")[0]["decision"];
    assert_eq!(decision["chosen"], json!({"action": "fix_forward", "from": "k1"}));
    assert_eq!(turned_out(&stage), ["worked"]);
    let requests = server.requests();
    let told = last_result(&requests[1].body);
    assert!(told.contains("the way back is checkpoint k1"), "{told}");
    stage.verifies();
}

#[test]
fn a_wrong_result_gets_two_tries_then_the_box_goes_back_then_a_person_is_asked() {
    let stage = Stage::new();
    std::fs::write(stage.project().join("test.sh"), "echo 'AssertionError: expected 42, got 41'\nexit 1\n").unwrap();
    let test = || shell("sh test.sh");
    let try_it = |nth: u32| shell(&format!("echo {nth} > idea{nth}"));
    let server = server_of(vec![test(), try_it(1), test(), try_it(2), test(), shell("ls"), try_it(3), test()]);
    let ran = run(&stage, &server, &["--check", "sh test.sh", "--no-baseline"]).exits_with(4);
    assert_eq!(chosen(&stage), ["fix_forward", "fix_forward", "roll_back", "ask"], "{}", ran.stderr);
    assert_eq!(turned_out(&stage), ["failed", "failed", "failed", "unknown"]);
    let requests = server.requests();
    let back = last_result(&requests[5].body);
    assert!(back.contains("so the box goes back: take another path. Restored checkpoint k1"), "{back}");
    let files = last_result(&requests[6].body);
    assert!(files.contains("test.sh") && !files.contains("idea"), "{files}");
    assert!(stage.events_of("restore_started")[0]["saved"].is_string(), "nothing is lost");
    assert!(back.contains("(step 1: sh test.sh, step 3: sh test.sh)"), "{back}");
    let question = &stage.events_of("question_asked")[0]["question"];
    assert_eq!(question["subject"]["decision"], "d4");
    stage.verifies();
}

#[test]
fn a_failure_that_comes_from_another_place_each_time_is_progress() {
    let stage = Stage::new();
    std::fs::write(
        stage.project().join("test.sh"),
        "echo \"$(cat left) failed\"\necho 'AssertionError: not equal'\nexit 1\n",
    )
    .unwrap();
    let test = |left: u32| shell(&format!("echo {left} > left; sh test.sh"));
    let mut replies: Vec<Reply> = (0..6).map(|nth| test(9 - nth)).collect();
    replies.push(finish("x"));
    let server = server_of(replies);
    run(&stage, &server, &[]).exits_with(0);
    assert_eq!(chosen(&stage), ["fix_forward"; 6]);
    assert_eq!(turned_out(&stage)[..5], ["changed"; 5]);
}

#[test]
fn a_person_who_has_mended_it_answers_and_the_command_is_run_again() {
    let stage = Stage::new();
    let web = Web::answering(&["401 Unauthorized", "200 OK|let in"]);
    let server = server_of(vec![web.fetch(), finish("x")]);
    run(&stage, &server, &[]).exits_with(4);
    stage.run(&["answer", "q1", "retry"]).exits_with(0);
    resume(&stage, &server, &[]).exits_with(0);
    assert_eq!((web.asked(), server.requests().len()), (2, 2), "no turn was spent");
    assert!(last_result(&server.requests()[1].body).contains("let in"));
    stage.verifies();
}
