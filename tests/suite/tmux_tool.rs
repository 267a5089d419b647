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
        (done.outcome, done.facts)
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
