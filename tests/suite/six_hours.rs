//! Six hours of a run in some seconds: a real box and a real job, and a clock that the test moves.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longhaul::agent::{Boxes, Driver, Finished, FoundBench, Opening, Parts, Person, Word};
use longhaul::clock::{Clock, VirtualClock};
use longhaul::domain::{
    Entry, Event, ExitReason, Observer, Progress, RunMode, RunSpec, Snapshot, Verdict, WaitProgress,
};
use longhaul::journal::{CheckpointFiles, Inbox, Lessons, Reader, Recorder, RunDir, RunStore, verify};
use longhaul::model::Scripted;
use longhaul::sandbox::local::Local;
use longhaul::sandbox::{BoxSpec, Launch};
use longhaul::terminal::{ExcerptBudget, Terminal, TerminalOptions};
use longhaul::tools::{Registry, Workbench, WorkbenchError};
use tokio::sync::watch;

use crate::sandbox_contract::{Bench, open};
use crate::story;

const HOUR: Duration = Duration::from_secs(3600);

/// Says nothing, ever.
struct Silent;

#[async_trait::async_trait]
impl Person for Silent {
    async fn interrupts(&mut self) -> Word {
        std::future::pending().await
    }

    async fn speaks(&mut self) -> Word {
        Word::End { reason: ExitReason::NeedsHuman, why: "nobody is there".to_owned() }
    }
}

/// Tells the test how a wait stands.
struct Watcher(watch::Sender<Option<WaitProgress>>);

impl Observer for Watcher {
    fn entry(&mut self, _: &Entry) {}

    fn progress(&mut self, progress: &Progress) {
        if let Progress::Waiting(standing) = progress {
            self.0.send_replace(Some(standing.clone()));
        }
    }
}

/// The one box that is there.
struct OneBox(Mutex<Option<Workbench>>);

impl Boxes for OneBox {
    fn open(&self, _from: Option<Snapshot>) -> Opening {
        let bench = self.0.lock().unwrap().take().expect("opened once");
        async move { Ok(bench) }.boxed()
    }

    fn find(&self) -> BoxFuture<'static, Result<FoundBench, WorkbenchError>> {
        unreachable!("this run is never taken up again")
    }

    fn has_grown(&self, _: u64) {}

    fn has_ended(&self, _: &str) -> bool {
        false
    }

    fn lack_of(&self, _snapshot: &Snapshot) -> Option<String> {
        unreachable!("no checkpoint is restored")
    }

    fn discard(&self, _snapshot: Snapshot) -> BoxFuture<'static, Vec<String>> {
        unreachable!("no checkpoint is taken")
    }
}

/// A run whose box and clock are at hand.
struct Run {
    bench: Bench,
    dir: RunDir,
    clock: Arc<VirtualClock>,
    waits: watch::Receiver<Option<WaitProgress>>,
    driver: Mutex<Option<Driver>>,
}

impl Run {
    async fn begin(script: &str, max_time_s: Option<u64>) -> Self {
        let bench = Bench::new();
        fs::remove_file(bench.run_dir().join("journal.jsonl")).unwrap();
        let clock = Arc::new(VirtualClock::new("2026-01-01T20:00:00Z".parse().unwrap()));
        let dir = RunStore::new(bench.state_dir()).run(bench.run());
        let shared: Arc<dyn Clock> = clock.clone();
        let backend =
            Local::new(Launch { program: PathBuf::from(env!("CARGO_BIN_EXE_agent")), state_dir: bench.state_dir() });
        let sandbox = open(&backend, &BoxSpec { bind_workspace: true, ..bench.spec() }).await;
        let options = TerminalOptions {
            workspace: bench.workspace().display().to_string(),
            env: Default::default(),
            size: Default::default(),
            logs: "sessions".to_owned(),
            budget: ExcerptBudget::default(),
            clock: Arc::clone(&shared),
        };
        let terminal = Terminal::new(sandbox.guest().clone(), options);
        let workbench = Workbench::new(sandbox, terminal, &dir.artifacts());
        let (progress, waits) = watch::channel(None);
        let parts = Parts {
            clock: Arc::clone(&shared),
            recorder: Recorder::create(&dir, shared, story::redactor()).unwrap(),
            blobs: dir.blobs(story::redactor()),
            model: Arc::new(Scripted::from_text("script", script).unwrap()),
            registry: Registry::for_mode(RunMode::Goal),
            boxes: Arc::new(OneBox(Mutex::new(Some(workbench)))),
            checkpoint_files: CheckpointFiles::of(&dir, story::redactor()),
            observer: Box::new(Watcher(progress)),
            person: Box::new(Silent),
            inbox: Inbox::open(dir.path()).ok(),
            lessons: Lessons::off(),
            classifier: Arc::default(),
        };
        let asked = story::spec(bench.run().as_str());
        let workspace = bench.workspace().display().to_string();
        let spec = RunSpec { checks: Vec::new(), workspace, max_time_s, ..asked };
        let driver = Mutex::new(Some(Driver::begin(spec, parts).unwrap()));
        Self { bench, dir, clock, waits, driver }
    }

    /// Drives the run to its end; meanwhile `act` moves the clock.
    async fn drive(&self, act: impl Future<Output = ()>) -> Finished {
        let driver = self.driver.lock().unwrap().take().unwrap();
        let (finished, ()) = tokio::join!(Box::pin(driver.drive()), act);
        finished.unwrap()
    }

    /// Waits until the wait has gone on for so long by its own clock.
    async fn until_waited(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        let mut waits = self.waits.clone();
        let long = |standing: &Option<WaitProgress>| standing.as_ref().is_some_and(|now| now.waited_ms >= millis);
        tokio::time::timeout(Duration::from_secs(60), waits.wait_for(long)).await.expect("the wait goes on").unwrap();
    }

    fn events(&self) -> Vec<Event> {
        Reader::open(self.dir.path()).unwrap().map(|entry| entry.unwrap().event).collect()
    }

    fn requests(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::ModelRequested { .. })).count()
    }
}

/// A job that ends when somebody opens the gate, a wait for it, the end.
const SCRIPT: &str = r#"
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "mkfifo gate; cat gate; exit 4", session = "train", yield_s = 0, expected_s = 21600 }
[[turn]]
expect = ["j1", "Jobs that run"]
[[turn.call]]
tool = "wait"
arguments = { exit = ["j1"], expected_s = 21600 }
[[turn]]
expect = ["exit 4", "epoch 100/100"]
[[turn.call]]
tool = "finish"
arguments = { summary = "trained" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_six_hours_costs_three_requests_at_most() {
    let run = Run::begin(SCRIPT, None).await;
    let finished = run
        .drive(async {
            run.until_waited(Duration::ZERO).await;
            for hour in 1..=6 {
                run.clock.advance(HOUR);
                run.until_waited(HOUR * hour).await;
            }
            let gate = run.bench.workspace().join("gate");
            tokio::task::spawn_blocking(move || fs::write(gate, "epoch 100/100\n").unwrap()).await.unwrap();
        })
        .await;
    assert_eq!(finished.ending.verdict, Verdict::Unverified, "{finished:?}");
    assert!(run.requests() <= 3, "{} requests", run.requests());
    let events = run.events();
    let waited = events.iter().find_map(|event| if let Event::Waited { wait } = event { Some(wait) } else { None });
    let waited = waited.expect("a wait");
    assert_eq!((waited.waited_ms, waited.suspended_ms), (6 * 3_600_000, 0));
    assert!(verify(run.dir.path()).unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_machine_uses_up_the_runs_time() {
    let run = Run::begin(SCRIPT, Some(8 * 3600)).await;
    let finished = run
        .drive(async {
            run.until_waited(Duration::ZERO).await;
            run.clock.advance(HOUR);
            run.until_waited(HOUR).await;
            run.clock.suspend(HOUR * 8);
            // Time passes awake again, and somebody looks at what has become of it.
            run.clock.advance(Duration::from_secs(60));
        })
        .await;
    assert_eq!((finished.ending.verdict, finished.ending.reason), (Verdict::Stopped, ExitReason::Budget));
    let events = run.events();
    let waited = events.iter().find_map(|event| if let Event::Waited { wait } = event { Some(wait) } else { None });
    let waited = waited.expect("a wait");
    assert_eq!(waited.cause, longhaul::domain::WakeCause::Budget, "{waited:?}");
    assert_eq!(waited.suspended_ms, 8 * 3_600_000);
    assert_eq!(run.requests(), 2);
}
