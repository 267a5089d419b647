//! Notifications: real commands, a real HTTP server, and whatever channels do wrong.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use longhaul::domain::{
    AnsweredAt, Choice, Entry, Event, ExitReason, Question, QuestionId, Reply as Answer, Silence, Subject,
};
use longhaul::notify::{Channel, Ground, Notifier, NotifyPlan};
use serde_json::{Value, json};

use crate::goal::until;
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};
use crate::story;

fn entries(events: Vec<Event>) -> Vec<Entry> {
    events.into_iter().zip(0..).map(|(event, seq)| Entry { seq, time: Timestamp::UNIX_EPOCH, event }).collect()
}

fn started() -> Event {
    Event::RunStarted { format_major: 1, format_minor: 4, spec: story::spec(story::RUN) }
}

fn asked(id: u32) -> Event {
    let question = Question {
        id: QuestionId(id),
        subject: Subject::Stuck,
        text: format!("Question {id}?"),
        background: "It goes round in a circle.".to_owned(),
        evidence: Vec::new(),
        options: vec![Choice::new("go_on", "goes on"), Choice::new("stop", "ends the run")],
        recommended: Some("stop".to_owned()),
        silence: Silence::default(),
    };
    Event::QuestionAsked { question }
}

fn answered(id: u32) -> Event {
    let reply = Answer { choice: Some("stop".to_owned()), text: String::new() };
    Event::QuestionAnswered { question: QuestionId(id), reply, at: AnsweredAt::Inbox, mail: None }
}

/// What was said of channels that do not work.
type Said = Arc<Mutex<Vec<String>>>;

fn notifier(channels: &[&str], remind_after: Duration, past: &[Entry]) -> (Notifier, Said) {
    let channels = channels.iter().map(|text| text.parse::<Channel>().unwrap()).collect();
    let env = [("PATH", "/usr/bin:/bin"), ("OPENAI_API_KEY", "sk-secret")];
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let ground = Ground { env, cwd: "/".into() };
    let said = Said::default();
    let say = {
        let said = Arc::clone(&said);
        move |text: &str| said.lock().unwrap().push(text.to_owned())
    };
    let notifier = Notifier::start(NotifyPlan { channels, remind_after, ground }, past, Arc::new(say));
    (notifier.expect("somebody is told"), said)
}

const HOUR: Duration = Duration::from_secs(3600);

fn tell(notifier: &Notifier, events: Vec<Event>) {
    let mut observer = notifier.observer();
    entries(events).iter().for_each(|entry| observer.entry(entry));
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a message is one line of JSON")).collect()
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_command_is_given_the_question_and_how_to_answer_it_and_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (file, env) = (dir.path().join("told"), dir.path().join("env"));
    let command = format!("cat >> {}; env > {}", file.display(), env.display());
    let (notifier, said) = notifier(&[&command], HOUR, &[]);
    // The same question noted twice is told once.
    tell(&notifier, vec![started(), asked(1), asked(1)]);
    notifier.finish(None, Timestamp::UNIX_EPOCH).await;
    let told = lines(&file);
    assert_eq!(kinds(&told), ["needs_input"]);
    assert_eq!((&told[0]["version"], &told[0]["run"]), (&json!(1), &json!(story::RUN)));
    assert_eq!(told[0]["id"], format!("{}/q1", story::RUN));
    assert_eq!(told[0]["question"]["answer_with"], format!("agent answer {} q1", story::RUN));
    assert_eq!(told[0]["question"]["options"][1], json!({ "name": "stop", "what": "ends the run" }));
    assert_eq!(said.lock().unwrap().as_slice(), [] as [&str; 0]);
    let env = fs::read_to_string(env).unwrap();
    assert!(env.contains("PATH=/usr/bin:/bin") && !env.contains("OPENAI_API_KEY"), "{env}");
}

#[tokio::test]
async fn a_channel_that_fails_is_said_once_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told");
    let channels = ["echo no mail today >&2; exit 1", "/no/such/notifier", &format!("cat >> {}", file.display())];
    let (notifier, said) = notifier(&channels, HOUR, &[]);
    tell(&notifier, vec![started(), asked(1), asked(2), asked(3)]);
    notifier.finish(None, Timestamp::UNIX_EPOCH).await;
    assert_eq!(lines(&file).len(), 3);
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().any(|line| line.ends_with("exit 1: no mail today")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("exit 127") && line.contains("/no/such/notifier")), "{said:?}");
}

#[tokio::test]
async fn a_channel_that_hangs_or_floods_delays_nobody_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (file, pid) = (dir.path().join("told"), dir.path().join("pid"));
    let hang = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let channels = [&hang, "yes", "yes >&2", &format!("cat >> {}", file.display())];
    let (notifier, said) = notifier(&channels, HOUR, &[]);
    let begin = Instant::now();
    let mut observer = notifier.observer();
    let many = (1..=200).map(asked);
    entries([vec![started()], many.collect()].concat()).iter().for_each(|entry| observer.entry(entry));
    assert!(begin.elapsed() < Duration::from_secs(1), "whoever tells does not wait: {:?}", begin.elapsed());
    drop(observer);
    until(|| pid.exists() && !lines(&file).is_empty());
    let begin = Instant::now();
    notifier.finish(None, Timestamp::UNIX_EPOCH).await;
    assert!(begin.elapsed() < Duration::from_secs(8), "the end is bounded: {:?}", begin.elapsed());
    assert!(said.lock().unwrap().iter().any(|line| line.contains("had not arrived")));
    let sleeper = fs::read_to_string(&pid).unwrap();
    until(|| !Path::new("/proc").join(sleeper.trim()).exists());
}

#[tokio::test]
async fn a_webhook_whose_server_is_in_trouble_is_tried_again() {
    let server = ModelServer::start();
    for status in [500, 500, 200, 404] {
        server.push(Reply::status(status));
    }
    let (notifier, said) = notifier(&[&format!("{}/hook", server.base_url())], HOUR, &[]);
    tell(&notifier, vec![started(), asked(1), asked(2)]);
    let seen = server.wait_for_requests(4);
    notifier.finish(None, Timestamp::UNIX_EPOCH).await;
    let ids: Vec<_> = seen.iter().map(|request| request.body["question"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["q1", "q1", "q1", "q2"], "what may pass is tried again, what is refused is not");
    assert!(seen[0].path.ends_with("/hook"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[2].header("idempotency-key"), Some(format!("{}/q1", story::RUN).as_str()));
    let said = said.lock().unwrap();
    assert!(said.len() == 1 && said[0].contains("404"), "{said:?}");
}

#[tokio::test]
async fn a_question_is_reminded_of_until_it_is_answered_also_by_who_takes_the_run_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told");
    let channel = format!("cat >> {}", file.display());
    let past = entries(vec![started(), asked(1), asked(2), answered(2)]);
    let (notifier, _) = notifier(&[&channel], Duration::from_millis(50), &past);
    until(|| lines(&file).len() >= 3);
    tell(&notifier, vec![answered(1)]);
    notifier.finish(None, Timestamp::UNIX_EPOCH).await;
    let told = lines(&file);
    // What was told by the driver before is not told again.
    assert!(kinds(&told).iter().all(|kind| *kind == "reminder"), "{told:?}");
    assert!(told.iter().all(|message| message["question"]["id"] == "q1"), "{told:?}");
    let counts: Vec<_> = told.iter().map(|message| message["question"]["reminders"].as_u64().unwrap()).collect();
    assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>());
    assert_eq!(told[1]["id"], format!("{}/q1/r2", story::RUN));
}

#[tokio::test]
async fn an_end_that_could_not_be_recorded_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told");
    let (notifier, _) = notifier(&[&format!("cat >> {}", file.display())], HOUR, &[]);
    tell(&notifier, vec![started()]);
    let trouble = (ExitReason::Internal, "the disk is full".to_owned());
    notifier.finish(Some(trouble), Timestamp::UNIX_EPOCH).await;
    let told = lines(&file);
    assert_eq!(kinds(&told), ["failed"]);
    assert_eq!((&told[0]["end"]["why"], &told[0]["end"]["exit_code"]), (&json!("the disk is full"), &json!(1)));
}

/// A model that is done at once.
fn script(stage: &Stage) -> String {
    let path = stage.home().join("done.toml");
    let text = "[[turn]]\n[[turn.call]]\ntool = 'finish'\narguments = { summary = 'all is well' }\n";
    fs::write(&path, text).unwrap();
    format!("script:{}", path.display())
}

#[test]
fn the_end_of_a_run_is_told_whether_it_has_a_terminal_or_not_and_a_bad_notifier_changes_nothing() {
    let stage = Stage::new();
    let (model, told) = (script(&stage), stage.home().join("told"));
    let tell = format!("cat >> {}", told.display());
    let run = |extra: &[&str]| stage.run(&[&["do", "x", "--sandbox", "host", "--model", &model][..], extra].concat());
    let ran = run(&["--notify", &tell, "--notify", "exit 1", "--notify", "bell"]).exits_with(0);
    assert!(ran.stderr.contains("a notification did not arrive by the command `exit 1`: exit 1"), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{7}'), "nothing rings where there is no terminal");
    let first = lines(&told);
    assert_eq!(kinds(&first), ["done"]);
    assert_eq!((&first[0]["title"], &first[0]["end"]["answer"]), (&json!("x"), &json!("all is well")));
    assert_eq!(first[0]["workspace"], stage.project().to_str().unwrap());
    stage.verifies();

    run(&["--notify", &tell, "--detach"]).exits_with(0);
    until(|| lines(&told).len() == 2);
}

#[test]
fn who_is_told_is_the_users_to_say_and_not_the_projects() {
    let stage = Stage::new();
    let (model, told) = (script(&stage), stage.home().join("told"));
    fs::create_dir_all(stage.project().join(".longhaul")).unwrap();
    fs::write(stage.project().join(".longhaul/config.toml"), "notify = [\"touch /tmp/lh-never\"]\n").unwrap();
    fs::create_dir_all(stage.home().join(".config/longhaul")).unwrap();
    let own = format!("notify = [\"cat >> {}\", \"bell\"]\n", told.display());
    fs::write(stage.home().join(".config/longhaul/config.toml"), own).unwrap();
    let begin = ["do", "x", "--sandbox", "host", "--model", &model];
    let ran = stage.run(&begin).exits_with(0);
    assert!(ran.stderr.contains("a project may not set it"), "{}", ran.stderr);
    assert_eq!(lines(&told).len(), 1);
    assert!(!Path::new("/tmp/lh-never").exists());
    stage.run(&[&begin[..], &["--notify", "none"]].concat()).exits_with(0);
    assert_eq!(lines(&told).len(), 1);
    let ran = stage.run(&[&begin[..], &["--notify", "http://example.org/x"]].concat()).exits_with(2);
    assert!(ran.stderr.contains("only `https://` may leave this machine"), "{}", ran.stderr);
}

#[test]
fn channels_can_be_tried_before_they_are_needed() {
    let stage = Stage::new();
    let server = ModelServer::start();
    server.push(Reply::status(200));
    let url = format!("{}/T0/secret", server.base_url());
    let test = ["notify", "--test", "--notify", &url, "--notify", "exit 3"];
    let Ran { stdout, .. } = stage.run(&test).exits_with(3);
    assert_eq!(stdout, "ok      the webhook at 127.0.0.1\nfailed  the command `exit 3`: exit 3\n");
    assert_eq!(server.requests()[0].body["event"], "test");
    stage.run(&["notify", "--test"]).exits_with(2);
}
