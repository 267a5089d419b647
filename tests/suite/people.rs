//! People beside a run: they look in and take over, close and rename what they see, and leave no trace of passwords.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::domain::RunId;
use longhaul::guest::{Client, OpenSession, TermSize, TmuxInfo};

use crate::at_a_terminal::Terminal;
use crate::boxless::{Boxless, run, session};
use crate::containers::traces;
use crate::engines::{BUSYBOX, DOCKER};
use crate::stage::{Ran, Stage, contents};

/// Waits for a condition, which must come about within half a minute.
#[track_caller]
fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A model that has one command run in session `work` and is done.
fn script(stage: &Stage, name: &str, command: &str) -> String {
    let path = stage.home().join(format!("{name}.toml"));
    let text = format!(
        "[[turn]]\n[[turn.call]]\ntool = 'shell'\n[turn.call.arguments]\nsession = 'work'\nyield_s = 120\n\
         command = '''{command}'''\n\
         [[turn]]\n[[turn.call]]\ntool = 'finish'\narguments = {{ summary = 'seen {name}' }}\n"
    );
    std::fs::write(&path, text).unwrap();
    format!("script:{}", path.display())
}

fn begin(mut program: Command) -> Child {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What session `work` of the newest run has printed.
fn printed(stage: &Stage) -> String {
    if noted(stage).is_empty() {
        return String::new();
    }
    std::fs::read_to_string(stage.run_dir().join("sessions/work.log")).unwrap_or_default()
}

/// The newest run's transcript so far.
fn noted(stage: &Stage) -> String {
    let dir = stage.state().join("runs");
    let run = std::fs::read_dir(dir).ok().and_then(|mut runs| runs.next()).and_then(Result::ok);
    run.and_then(|run| std::fs::read_to_string(run.path().join("journal.jsonl")).ok()).unwrap_or_default()
}

fn newest(stage: &Stage) -> RunId {
    RunId::new(stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned()).unwrap()
}

#[test]
fn who_only_looks_sends_nothing_and_changes_no_size() {
    let stage = Stage::new();
    let model = script(&stage, "look", "echo ready; read -r line; echo \"got=[$line]\"; stty size");
    let child = begin(stage.agent(&["do", "look", "--sandbox", "local", "--model", &model]));
    soon("the command", || printed(&stage).contains("ready"));

    let mut watcher = Terminal::run(&stage, &["attach", "last", "work"]);
    watcher.until("ready");
    watcher.resize(10, 30);
    watcher.type_keys("intruder\r");
    watcher.type_keys("q");
    watcher.until("left; the run goes on");
    assert_eq!(watcher.child.wait().unwrap().exit_code(), 0);

    let mut watcher = Terminal::run(&stage, &["attach"]);
    watcher.until("ready");
    watcher.resize(10, 30);
    watcher.type_keys("intruder\r");
    // tmux's own keys still work: these leave. It takes keys that come at once for pasted text, so they come apart.
    for key in ["\x02", "d"] {
        std::thread::sleep(Duration::from_millis(100));
        watcher.type_keys(key);
    }
    watcher.until("left; the run goes on");
    assert_eq!(watcher.child.wait().unwrap().exit_code(), 0);

    let mut lost = Terminal::run(&stage, &["attach", "last", "nowhere"]);
    lost.until("there is no session `nowhere`");
    lost.until("there are: work");
    assert_eq!(lost.child.wait().unwrap().exit_code(), 2);

    let mut partner = Terminal::run(&stage, &["attach", "last", "work", "--write"]);
    partner.until("Ctrl-] leaves");
    partner.resize(12, 34);
    partner.type_keys("friend\r");
    partner.until("got=[friend]");
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    assert!(ran.stdout.contains("seen look"), "{ran:?}");
    let outcome = stage.events_of("tool_ended")[0]["outcome"]["text"].as_str().unwrap().to_owned();
    assert!(outcome.contains("got=[friend]") && outcome.contains("48 160"), "{outcome}");
    assert!(!outcome.contains("intruder"), "{outcome}");
}

#[test]
fn passwords_that_a_person_types_stand_nowhere() {
    const SECRET: &str = "tr0ub4dor-and-3";
    let stage = Stage::new();
    let ask = "printf 'Password: '; read -rs first; echo; echo first=${#first}; \
               printf 'Again: '; read -rs second; echo; [ \"$first\" = \"$second\" ] && echo the same";
    let model = script(&stage, "password", ask);
    let child = begin(stage.agent(&["do", "ask", "--sandbox", "local", "--model", &model]));
    soon("the question", || printed(&stage).contains("Password: "));
    let mut person = Terminal::run(&stage, &["attach", "last", "work", "--write"]);
    person.until("Password: ");
    person.type_keys(&format!("{SECRET}\r"));
    person.until(&format!("first={}", SECRET.len()));
    person.type_keys("\x1d");
    person.until("left; the run goes on");
    let mut person = Terminal::run(&stage, &["attach", "--write"]);
    person.until("Again: ");
    person.type_keys(&format!("{SECRET}\r"));
    Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    assert!(printed(&stage).contains("the same"), "{}", printed(&stage));
    for (path, content) in contents(&stage.state()) {
        let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "it stands in {}", path.display());
    }
    stage.verifies();
}

#[test]
fn a_job_outlives_the_killed_agent_can_be_looked_at_and_is_removed_with_its_run() {
    let stage = Stage::new();
    let path = stage.home().join("job.toml");
    let calls = "[[turn]]\n[[turn.call]]\ntool = 'shell'\n[turn.call.arguments]\nsession = 'work'\nyield_s = 1\n\
                 command = 'i=0; while :; do i=$((i + 1)); echo tick-$i; sleep 0.2; done'\n\
                 [[turn]]\n[[turn.call]]\ntool = 'shell'\narguments = { command = 'sleep 600', yield_s = 600 }\n";
    std::fs::write(&path, calls).unwrap();
    let model = format!("script:{}", path.display());
    let mut child = begin(stage.agent(&["do", "job", "--sandbox", "local", "--model", &model]));
    soon("a job", || noted(&stage).contains("job_started"));
    child.kill().unwrap();
    child.wait().unwrap();
    let run = newest(&stage);
    let ticks = printed(&stage).matches("tick-").count();
    soon("more of the job's output", || printed(&stage).matches("tick-").count() > ticks + 2);
    let jobs = stage.run(&["jobs", "last"]).exits_with(0);
    assert!(jobs.stdout.contains("j1") && jobs.stdout.contains("work"), "{jobs:?}");
    let mut watcher = Terminal::run(&stage, &["attach", "last", "work"]);
    watcher.until(&format!("tick-{}", ticks + 3));
    watcher.type_keys("q");
    watcher.until("left");
    stage.run(&["runs", "rm", "last"]).exits_with(0);
    assert_eq!(traces(&stage.state(), &run), [""; 0]);
}

#[test]
fn two_runs_in_one_project_know_nothing_of_each_other() {
    let stage = Stage::new();
    let before = contents(&stage.project());
    let child = |name: &str| {
        let command = format!(
            "echo {name} >mine; export WHO={name}; cd /tmp; echo {name} >only-{name}; sleep 1; \
             echo \"$WHO $(cat {}/mine) $(ls /tmp | grep only- | tr '\\n' ' ')\"",
            stage.project().display()
        );
        let model = script(&stage, name, &command);
        begin(stage.agent(&["do", name, "--sandbox", "local", "--model", &model]))
    };
    let both = [("ada", child("ada")), ("bob", child("bob"))];
    for (name, child) in both {
        let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
        assert!(ran.stdout.contains(&format!("seen {name}")), "{ran:?}");
        let dir = runs(&stage).into_iter().find(|dir| {
            std::fs::read_to_string(dir.join("report.md")).is_ok_and(|text| text.contains(&format!("seen {name}")))
        });
        let log = std::fs::read_to_string(dir.expect("a run").join("sessions/work.log")).unwrap();
        assert!(log.contains(&format!("{name} {name} only-{name} \r\n")), "{log}");
        let other = if name == "ada" { "bob" } else { "ada" };
        assert!(!log.contains(other), "{log}");
    }
    assert_eq!(contents(&stage.project()), before);
}

fn runs(stage: &Stage) -> Vec<PathBuf> {
    std::fs::read_dir(stage.state().join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_box_without_tmux_and_bash_can_be_looked_into_all_the_same() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    let model = script(&stage, "ash", "echo in $0; read -r line; echo \"got=[$line]\"");
    let mut program = stage.agent(&["do", "look", "--image", BUSYBOX, "--model", &model]);
    program.env("DOCKER_HOST", format!("unix://{}", DOCKER.socket));
    let child = begin(program);
    soon("the command", || printed(&stage).contains("in "));
    let mut partner = Terminal::run(&stage, &["attach", "--write"]);
    partner.until("[session work; Ctrl-] leaves]");
    partner.type_keys("by hand\r");
    partner.until("got=[by hand]");
    Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    assert_eq!(DOCKER.left_of(&newest(&stage)), [""; 0]);
}

fn tmux(info: &TmuxInfo, words: &[&str]) -> String {
    let output = Command::new(&info.program).args(["-S", &info.socket]).args(words).output().expect("tmux runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sessions that have a window, by name, with the window's size.
fn windows(info: &TmuxInfo) -> Vec<String> {
    let listed = tmux(info, &["list-windows", "-a", "-F", "#{@longhaul} #{window_width}x#{window_height}"]);
    let mut all: Vec<String> = listed.lines().filter(|line| !line.starts_with(' ')).map(str::to_owned).collect();
    all.sort();
    all
}

/// Waits until the view has these windows: new ones are made in the background.
async fn shows(client: &Client, wanted: &[&str]) -> TmuxInfo {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let info = client.tmux().await.expect("tmux");
        if windows(&info) == wanted {
            return info;
        }
        assert!(Instant::now() < until, "{:?} instead of {wanted:?}", windows(&info));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_person_does_to_the_tmux_view_the_sessions_go_on_and_the_view_comes_back() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    let client = terminal.guest();
    run(&terminal, "1", "cd /usr; export KEPT=yes").await;
    let small = TermSize { cols: 90, rows: 20 };
    let second = OpenSession {
        session: session("second"),
        shell: None,
        cwd: None,
        env: std::collections::BTreeMap::new(),
        size: small,
    };
    client.open(second).await.expect("a second session");
    let all = ["main 160x48", "second 90x20"];
    let info = shows(client, &all).await;

    // Windows closed, renamed, resized; the tmux session renamed.
    tmux(&info, &["kill-window", "-t", "=longhaul:=second"]);
    let info = shows(client, &all).await;
    tmux(&info, &["rename-window", "-t", "=longhaul:=main", "mine"]);
    tmux(&info, &["rename-session", "-t", "=longhaul", "work of mine"]);
    let info = shows(client, &all).await;
    assert_eq!(tmux(&info, &["list-sessions", "-F", "#{session_name}"]), "work of mine\n");
    tmux(&info, &["resize-window", "-t", "=work of mine:=mine", "-x", "33", "-y", "11"]);
    assert_eq!(run(&terminal, "2", "stty size; pwd; echo $KEPT").await.excerpt.text, "48 160\n/usr\nyes\n");
    tmux(&info, &["resize-window", "-t", "=work of mine:=mine", "-x", "160", "-y", "48"]);

    // The server killed: nothing but the view is gone, and who asks next gets all of it again.
    for id in ["3", "4"] {
        let info = shows(client, &all).await;
        tmux(&info, &["kill-server"]);
        assert_eq!(run(&terminal, id, "stty size; echo $KEPT").await.excerpt.text, "48 160\nyes\n");
    }
    let info = shows(client, &all).await;

    // A session's own new size is its window's.
    client.resize(&session("second"), TermSize { cols: 70, rows: 15 }).await.expect("resized");
    shows(client, &["main 160x48", "second 70x15"]).await;
    client.close(&session("second")).await.expect("closed");
    shows(client, &["main 160x48"]).await;
    drop(info);
}
