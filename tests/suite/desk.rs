//! A workbench without a box around it, called as the model calls it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longhaul::clock::{Clock, SystemClock, VirtualClock};
use longhaul::domain::{Event, Outcome, Progress, RunMode, ToolCall, WaitProgress};
use longhaul::sandbox::host::Host;
use longhaul::sandbox::{Backend, Launch, Sandbox};
use longhaul::terminal::{Board, Terminal, TerminalOptions};
use longhaul::tools::{Attention, CallNames, Registry, Services, Workbench};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::boxless::options;
use crate::sandbox_contract::Bench;

/// A workbench, and what calls are numbered by.
pub(crate) struct Desk {
    /// Where it is.
    pub(crate) place: Bench,
    bench: Workbench,
    calls: AtomicU32,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Called {
    /// What the model is told.
    pub(crate) outcome: Outcome,
    /// What is recorded before it.
    pub(crate) facts: Vec<Event>,
}

impl Desk {
    /// One that waits by the machine's clock.
    pub(crate) async fn new() -> Self {
        Self::by(Arc::new(SystemClock::new())).await
    }

    /// One that waits by this clock.
    pub(crate) async fn by(clock: Arc<dyn Clock>) -> Self {
        let place = Bench::below(std::path::Path::new("/tmp"));
        let launch = Launch { program: PathBuf::from(env!("CARGO_BIN_EXE_agent")), state_dir: place.state_dir() };
        let sandbox = Host::new(launch, PathBuf::from("/tmp")).create(&place.spec()).await.unwrap();
        Self::in_box(place, sandbox, clock)
    }

    /// One in this box.
    pub(crate) fn in_box(place: Bench, sandbox: Box<dyn Sandbox>, clock: Arc<dyn Clock>) -> Self {
        let options = TerminalOptions { clock, ..options(&place.workspace()) };
        let terminal = Terminal::new(sandbox.guest().clone(), options);
        let bench = Workbench::new(sandbox, terminal, &place.run_dir().join("artifacts"));
        Self { place, bench, calls: AtomicU32::new(0) }
    }

    /// The next thing that happens beside the calls.
    pub(crate) async fn news(&self) -> Event {
        self.bench.news().await
    }

    /// The jobs.
    pub(crate) fn board(&self) -> &Board {
        self.bench.terminal().board()
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Called {
        self.call_with(tool, arguments, &Attention::new(), &mut |_| {}).await
    }

    /// Calls a tool as somebody who may wake it and sees how its wait stands.
    pub(crate) async fn call_with(
        &self,
        tool: &str,
        arguments: Value,
        attention: &Attention,
        standing: &mut (dyn FnMut(WaitProgress) + Send),
    ) -> Called {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        let (work, id) = (format!("c{nth}"), format!("call-{nth}"));
        let call = ToolCall { id: id.clone(), name: tool.to_owned(), arguments: arguments.to_string() };
        let read = Registry::for_mode(RunMode::Goal).read(std::slice::from_ref(&call));
        let action = match read {
            Ok(mut read) => read.remove(0).1,
            Err(mut malformed) => return Called { outcome: malformed.remove(0).1, facts: Vec::new() },
        };
        let mut show = |progress| {
            if let Progress::Waiting(waiting) = progress {
                standing(waiting);
            }
        };
        let names = CallNames { work: &work, call: &id };
        let done = self.bench.run(names, &action, &mut show, attention).await.unwrap();
        let mut facts = self.board().pending();
        facts.extend(done.facts);
        Called { outcome: done.outcome, facts }
    }

    /// Starts a job in a session.
    pub(crate) async fn job(&self, session: &str, command: &str) -> Called {
        self.call("shell", serde_json::json!({"command": command, "session": session, "yield_s": 0})).await
    }

    /// Ends what still runs.
    pub(crate) async fn close(self) {
        self.bench.close(Services::End).await;
    }
}

/// A call that is under way, on a clock that the test moves.
pub(crate) struct Waiting {
    /// How it stands, as often as it tells.
    pub(crate) standing: mpsc::UnboundedReceiver<WaitProgress>,
    /// What wakes it.
    pub(crate) attention: Attention,
    /// What comes of it.
    pub(crate) called: tokio::task::JoinHandle<Called>,
    passed_ms: u64,
}

impl Waiting {
    /// Begins to wait; returns when the wait is on.
    pub(crate) async fn begin(desk: &Arc<Desk>, arguments: Value) -> Self {
        let (tell, mut standing) = mpsc::unbounded_channel();
        let attention = Attention::new();
        let (desk, waker) = (Arc::clone(desk), attention.clone());
        let called = tokio::spawn(async move {
            desk.call_with("wait", arguments, &waker, &mut |waiting| drop(tell.send(waiting))).await
        });
        standing.recv().await.expect("it waits");
        Self { standing, attention, called, passed_ms: 0 }
    }

    /// Lets time pass until the wait has looked at the clock again; None when it has ended.
    pub(crate) async fn pass(&mut self, clock: &VirtualClock, seconds: u64) -> Option<WaitProgress> {
        clock.advance(std::time::Duration::from_secs(seconds));
        self.passed_ms += seconds * 1000;
        loop {
            let standing = self.standing.recv().await?;
            if standing.waited_ms >= self.passed_ms {
                return Some(standing);
            }
        }
    }

    /// Its end.
    pub(crate) async fn ends(self) -> Called {
        self.called.await.expect("it does not fail")
    }
}
