//! The `tmux` tool in a real box: programs that talk back, logs, names that are data.

use longhaul::clock::SystemClock;
use longhaul::domain::{Event, Outcome, RunMode, Status, ToolCall};
use longhaul::guest::TermSize;
use longhaul::sandbox::local::Local;
use longhaul::sandbox::{Backend, Launch};
use longhaul::terminal::{ExcerptBudget, Terminal, TerminalOptions};
use longhaul::tools::{Attention, CallNames, Registry, Workbench};
use serde_json::{Value, json};

use crate::sandbox_contract::Bench;

/// A box and the tools in it.
struct Bed {
    bench: Bench,
    workbench: Workbench,
    calls: std::cell::Cell<u32>,
}

impl Bed {
    async fn new() -> Self {
        let bench = Bench::new();
        let launch = Launch { program: env!("CARGO_BIN_EXE_agent").into(), state_dir: bench.state_dir() };
        let sandbox = Local::new(launch).create(&bench.spec()).await.expect("a box");
        let options = TerminalOptions {
            workspace: bench.workspace().to_str().expect("UTF-8").to_owned(),
            env: [].into(),
            size: TermSize::default(),
            logs: "sessions".into(),
            budget: ExcerptBudget::default(),
            clock: std::sync::Arc::new(SystemClock::new()),
        };
        let terminal = Terminal::new(sandbox.guest().clone(), options);
        let workbench = Workbench::new(sandbox, terminal, &bench.run_dir().join("artifacts"));
        Self { bench, workbench, calls: std::cell::Cell::new(0) }
    }

    /// One call as a model writes it: what it is told, and what goes into the record before that.
    async fn call(&self, tool: &str, arguments: &Value) -> (Outcome, Vec<Event>) {
        let nth = self.calls.replace(self.calls.get() + 1).to_string();
        let call = ToolCall { id: nth.clone(), name: tool.to_owned(), arguments: arguments.to_string() };
        let read = Registry::for_mode(RunMode::Goal).read(&[call]);
        let (_, action) = read.unwrap_or_else(|malformed| panic!("{malformed:?}")).remove(0);
        let names = CallNames { work: &nth, call: &nth };
        let done = self.workbench.run(names, &action, &mut |_| {}, &Attention::new()).await.expect("the box is there");
        let mut facts = self.workbench.terminal().board().pending();
        facts.extend(done.facts);
        (done.outcome, facts)
    }

    async fn tmux(&self, arguments: Value) -> Outcome {
        self.call("tmux", &arguments).await.0
    }

    /// What a call says that does what was asked.
    async fn says(&self, arguments: Value) -> String {
        let outcome = self.tmux(arguments.clone()).await;
        assert_eq!(outcome.status, Status::Ok, "{arguments}: {}", outcome.text);
        outcome.text
    }

    async fn end(self) {
        let longhaul::tools::Closed { notes, removed, .. } = self.workbench.close(longhaul::tools::Services::End).await;
        assert!(removed, "{notes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_talks_back_is_driven_by_typing() {
    let bed = Bed::new().await;
    let command = "read -p 'your name? ' name; echo hello $name; read -p 'go on [y/n] ' yes; echo got $yes; (exit 7)";
    let (outcome, facts) =
        bed.call("tmux", &json!({"action": "open", "session": "talk", "command": command, "cols": 90})).await;
    assert_eq!(outcome.status, Status::Running, "{}", outcome.text);
    assert!(outcome.text.contains("90×48") && outcome.text.contains("job j1"), "{}", outcome.text);
    assert!(
        matches!(&facts[..], [Event::SessionOpened { session, .. }, Event::JobStarted { .. }] if session.as_str() == "talk"),
        "{facts:?}"
    );
    let asked = bed.call("wait", &json!({"input": "talk", "deadline_s": 60, "wake_on": "conditions"})).await.0;
    assert_eq!(asked.status, Status::Ok, "{}", asked.text);
    let text = bed.says(json!({"action": "send", "session": "talk", "text": "Ada"})).await;
    assert!(text.contains("hello Ada") && text.contains("a yes or no: go on [y/n]"), "{text}");
    let text = bed.says(json!({"action": "screen", "session": "talk"})).await;
    assert!(text.contains("your name? Ada\nhello Ada\ngo on [y/n]"), "{text}");
    let text = bed.says(json!({"action": "keys", "session": "talk", "keys": ["y", "Enter"]})).await;
    assert!(text.contains("got y") && !text.contains("hello") && text.contains("at its prompt"), "{text}");
    let text = bed.says(json!({"action": "read", "session": "talk"})).await;
    assert!(text.contains("nothing new"), "{text}");
    let (ended, _) = bed.call("wait", &json!({"exit": ["j1"]})).await;
    assert!(ended.text.contains("exit 7"), "{}", ended.text);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_left_to_a_person() {
    let bed = Bed::new().await;
    let command = "read -s -p 'Password for db: ' secret; echo; echo ${#secret} characters";
    bed.tmux(json!({"action": "open", "session": "db", "command": command})).await;
    let waited = bed.call("wait", &json!({"input": "db", "deadline_s": 60, "wake_on": "conditions"})).await.0;
    assert_eq!(waited.status, Status::Ok, "{}", waited.text);
    let text = bed.says(json!({"action": "screen", "session": "db"})).await;
    assert!(text.contains("waits for a password: Password for db:"), "{text}");
    for typing in [
        json!({"action": "send", "session": "db", "text": "hunter2"}),
        json!({"action": "keys", "session": "db", "keys": ["h", "u", "Enter"]}),
    ] {
        let outcome = bed.tmux(typing).await;
        assert_eq!(outcome.status, Status::Failed, "{}", outcome.text);
        let command = format!("agent attach {} db --write", bed.bench.run());
        assert!(outcome.text.contains(&command), "{}", outcome.text);
    }
    let text = bed.says(json!({"action": "keys", "session": "db", "keys": ["C-c"]})).await;
    assert!(text.contains("at its prompt") && !text.contains("\n0 characters"), "{text}");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_by_lines_and_bytes_and_searched() {
    let bed = Bed::new().await;
    let (ran, _) = bed.call("shell", &json!({"command": "seq 1 1000000; printf 'loss=\\033[31mnan\\033[0m\\n'"})).await;
    assert_eq!(ran.status, Status::Ok, "{}", ran.text);
    let page = |from: i64, lines: i64| json!({"action": "log", "session": "main", "from_line": from, "lines": lines});
    let text = bed.says(page(400_000, 51)).await;
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.len(), 51, "{text}");
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) && numbers[0].abs_diff(400_000) < 5, "{text}");
    assert!(text.starts_with("[session main · lines 400,000 to 400,050 of 1,000,0"), "{text}");
    let text = bed.says(page(-4, 4)).await;
    assert!(text.contains("\n1000000\nloss=nan\n"), "{text}");
    let text = bed.says(json!({"action": "log", "session": "main", "from_byte": 1000, "bytes": 20})).await;
    assert!(text.contains("bytes 1000 to 1020 of "), "{text}");
    let past = bed.tmux(page(2_000_000, 5)).await;
    assert_eq!(past.status, Status::Failed);
    assert!(past.text.contains("there is no line 2000000: the log of session main has 1,000,0"), "{}", past.text);
    let past = bed.tmux(json!({"action": "log", "session": "main", "from_byte": 99_000_000})).await;
    assert!(past.status == Status::Failed && past.text.contains(" bytes"), "{}", past.text);
    let grep = |pattern: &str| json!({"action": "grep", "session": "main", "pattern": pattern, "ignore_case": true});
    let text = bed.says(grep("LOSS=nan$")).await;
    assert!(text.starts_with("[1 of 1,000,0") && text.contains(": loss=nan"), "{text}");
    let text = bed.says(grep("^9{1,6}$")).await;
    assert!(text.starts_with("[6 of ") && text.contains(": 999999"), "{text}");
    let bad = bed.tmux(grep("(9")).await;
    assert!(bad.status == Status::Malformed && bad.text.contains("unclosed group"), "{}", bad.text);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_data_and_mistakes_are_answered_with_what_helps() {
    let bed = Bed::new().await;
    for (name, said) in [
        ("a b", "it has ' '"),
        ("a:b.c", "it has ':' '.'"),
        ("#{pid}", "it has '#' '{' '}'"),
        ("é", "it has 'é'"),
        ("../x", "it has '.' '/'"),
        ("", "it is empty"),
        (&"n".repeat(10_000), "it is 10000 characters long"),
        ("$(touch owned)", "it has '$' '(' ' ' ')'"),
    ] {
        let outcome = bed.tmux(json!({"action": "open", "session": name, "command": "true"})).await;
        assert_eq!(outcome.status, Status::Malformed);
        assert!(outcome.text.contains(said) && outcome.text.len() < 400, "{name}: {}", outcome.text);
    }
    assert!(bed.says(json!({"action": "list"})).await.contains("no session is open"));
    let unknown = bed.tmux(json!({"action": "read", "session": "train"})).await;
    assert!(unknown.text.contains("there is no session `train`; none is open"), "{}", unknown.text);
    bed.says(json!({"action": "open", "session": "one", "env": ["GREETING=a b"], "cwd": "/tmp"})).await;
    bed.says(json!({"action": "open", "session": "two", "cols": 80, "rows": 25})).await;
    let unknown = bed.tmux(json!({"action": "read", "session": "train"})).await;
    assert!(unknown.text.ends_with("open are one, two"), "{}", unknown.text);
    let text =
        bed.says(json!({"action": "send", "session": "one", "text": "echo \"<$GREETING>\" $PWD $COLUMNS"})).await;
    assert!(text.contains("<a b> /tmp") && text.contains("`shell` would have told its exit code"), "{text}");
    assert!(bed.says(json!({"action": "open", "session": "two"})).await.contains("was open already"));
    let list = bed.says(json!({"action": "list"})).await;
    assert!(list.contains("one · idle · /tmp · 160×48") && list.contains("two · ") && list.contains("80×25"), "{list}");
    for (arguments, said) in [
        (json!({"action": "read"}), "session: is missing"),
        (
            json!({"action": "keys", "session": "one", "keys": ["Return"]}),
            "there is no key `Return`; the keys are Enter",
        ),
        (json!({"action": "send", "session": "one"}), "text: is missing"),
        (json!({"action": "open", "session": "x", "cols": 0}), "cols: 0 is not from 10 to 1000"),
        (json!({"action": "open", "session": "x", "rows": 70_000}), "rows: 70000 is not from 2 to 500"),
        (json!({"action": "open", "session": "x", "env": ["A B=c"]}), "env: `A B=c` is not of the form NAME=value"),
        (json!({"action": "log", "session": "one", "from_line": 0}), "counted from 1"),
        (json!({"action": "log", "session": "one", "from_line": 1, "lines": -5}), "lines: -5 is not between 1"),
        (json!({"action": "log", "session": "one", "from_line": 1, "from_byte": 1}), "not both"),
        (json!({"action": "grep", "session": "one"}), "pattern: is missing"),
    ] {
        let outcome = bed.tmux(arguments.clone()).await;
        assert_eq!(outcome.status, Status::Malformed, "{arguments}: {}", outcome.text);
        assert!(outcome.text.contains(said), "{arguments}: {}", outcome.text);
    }
    bed.says(json!({"action": "close", "session": "two"})).await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ladder_ends_what_ignores_the_first_rungs_and_tells_each_step() {
    let bed = Bed::new().await;
    let idle = bed.call("shell", &json!({"command": "true"})).await.0;
    assert_eq!(idle.status, Status::Ok);
    let nothing = bed.tmux(json!({"action": "signal", "session": "main"})).await;
    assert!(
        nothing.status == Status::Failed && nothing.text.contains("nothing runs in session main"),
        "{}",
        nothing.text
    );
    let stubborn = "sh -c 'trap \"\" INT; trap \"echo asked; exit 9\" TERM; echo up; while :; do sleep 0.1; done'";
    let open = bed.call("tmux", &json!({"action": "open", "session": "deaf", "command": stubborn})).await.0;
    assert_eq!(open.status, Status::Running, "{}", open.text);
    // What the call has shown already is not new.
    if !open.text.contains("\nup") {
        let up = bed.call("wait", &json!({"output": {"pattern": "^up"}, "deadline_s": 60})).await.0;
        assert_eq!(up.status, Status::Ok, "{}", up.text);
    }
    let text = bed.says(json!({"action": "signal", "session": "deaf", "signal": "ladder"})).await;
    let steps: Vec<&str> = text.lines().collect();
    assert!(steps[0].starts_with("[SIGINT to `s") && steps[0].contains("still runs after"), "{text}");
    assert!(steps[1].starts_with("[SIGTERM to `s") && steps[1].contains("ended after"), "{text}");
    assert!(steps[2].starts_with("[exit 9 ") && text.contains("asked"), "{text}");
    // What a person or a program typed is no command of ours, and is ended all the same.
    bed.says(json!({"action": "send", "session": "deaf", "text": "sleep 600"})).await;
    let text = bed.says(json!({"action": "signal", "session": "deaf", "signal": "term"})).await;
    assert!(text.starts_with("[SIGTERM to `sleep`") && text.contains("ended after"), "{text}");
    bed.tmux(json!({"action": "open", "session": "deaf", "command": "sleep 600"})).await;
    let text = bed.says(json!({"action": "close", "session": "deaf"})).await;
    assert!(text.starts_with("[session deaf is closed]\n[it ended `sleep 600`]"), "{text}");
    assert!(!bed.says(json!({"action": "list"})).await.contains("deaf"));
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_screen_program_is_shown_by_its_screen_and_hears_its_keys() {
    let bed = Bed::new().await;
    let program = "printf '\\033[?1049h\\033[?1h\\033[2J\\033[3;5Hpick one'; cat -v; printf '\\033[?1049l'";
    bed.tmux(json!({"action": "open", "session": "menu", "command": program})).await;
    let shown = bed.call("wait", &json!({"input": "menu", "deadline_s": 60, "wake_on": "conditions"})).await.0;
    assert_eq!(shown.status, Status::Ok, "{}", shown.text);
    let text = bed.says(json!({"action": "keys", "session": "menu", "keys": ["Up", "F1", "M-x", "Enter"]})).await;
    assert!(text.contains("its screen:]\n\n\n    pick one^[OA^[OP^[x"), "{text}");
    let text = bed.says(json!({"action": "screen", "session": "menu"})).await;
    assert!(text.contains("alternate screen") && text.contains("    pick one"), "{text}");
    let text = bed.says(json!({"action": "keys", "session": "menu", "keys": ["C-d"]})).await;
    assert!(text.contains("at its prompt"), "{text}");
    bed.end().await;
}
