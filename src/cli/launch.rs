//! Puts a run together, has it driven, and leaves its report behind: what `do`, `chat` and `demo` have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::observers::Observers;
use super::open_box::{Backends, BoxWish, RunBoxes};
use super::project_docs::{self, ProjectDocs};
use super::settings::Settings;
use super::target::{of_read, of_store, store};
use super::{Failure, Place, gc, reports, secrets};
use crate::agent::{Doubt, Driver, Ending, Finished, Parts, Person, Resume, Trouble};
use crate::clock::{Clock, SystemClock};
use crate::context::Prompt;
use crate::domain::{AskedNew, BoxAsked, Check, Entry, Event, ExitReason, NoticeKind, Observer, RunMode, RunSpec};
use crate::journal::{
    CheckpointFiles, Inbox, Lessons, LockError, OpenedLessons, Recorder, ReopenError, Reopened, RunDir, RunStore,
    new_run_id,
};
use crate::model::{self, Fallback, Model};
use crate::notify::NotifyPlan;
use crate::recovery::{Classifier, Signatures};
use crate::report::Closing;
use crate::sandbox::{BoxSpec, Network, left_token};
use crate::telemetry::{Redactor, Spans};
use crate::tools::{Registry, Said};

/// What a run is for.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// A goal or a chat.
    pub(super) mode: RunMode,
    /// A few words for lists.
    pub(super) title: String,
    /// The goal; empty in a chat.
    pub(super) goal: String,
    /// The checks.
    pub(super) checks: Vec<Check>,
    /// Globs of files that it must leave as they are.
    pub(super) protect: Vec<String>,
}

/// A run that is ready to begin.
pub(super) struct Prepared {
    spec: RunSpec,
    run: RunDir,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    redactor: Arc<Redactor>,
    model: Arc<dyn Model>,
    wish: BoxWish,
    backends: Backends,
    again: Option<Again>,
    /// What of the project's documents the model is not shown, and why.
    left_out: Vec<String>,
    beside: Beside,
}

/// What a run has beside it, new or taken up again.
struct Beside {
    /// How a person is told of what needs them.
    notify: NotifyPlan,
    /// Knows failures by what they say.
    classifier: Arc<Classifier>,
    /// What earlier runs have learned.
    lessons: OpenedLessons,
}

impl Beside {
    fn of(settings: &Settings, store: &RunStore) -> Self {
        let lessons = match settings.lessons {
            true => Lessons::open(store.state_dir()),
            false => OpenedLessons { lessons: Lessons::off(), notice: None },
        };
        Self { notify: settings.notify.clone(), classifier: Arc::clone(&settings.classifier), lessons }
    }
}

/// Asks a person what became of a call.
pub(super) type Asker = Box<dyn FnMut(&Doubt) -> Option<Said> + Send>;

/// With what a run is taken up again.
pub(super) struct Again {
    pub(super) resume: Resume,
    pub(super) asks: Asker,
}

/// A run that is over.
pub(super) struct Over {
    /// Its end.
    pub(super) ending: Ending,
    /// What stopped it, where that has more to say.
    pub(super) trouble: Option<Trouble>,
    /// Where it lies, and its head.
    pub(super) closing: Closing,
}

/// Makes everything that a run needs but its box. Nothing is left behind when this fails, except that an empty state
/// directory may be.
pub(super) fn prepare(task: Task, settings: &Settings, place: &Place) -> Result<Prepared, Failure> {
    let model = model::open_all(&settings.model, &settings.other_models(place))
        .map_err(|error| Failure::from(Trouble::from(error)))?;
    let store = store(place)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let random = fastrand::u128(..);
    let ProjectDocs { docs, left_out } =
        if settings.docs { project_docs::read(&settings.workspace) } else { ProjectDocs::default() };
    let spec = RunSpec { docs, ..run_spec(task, settings, new_run_id(clock.now(), random)) };
    let mut hidden = secrets::of(place);
    hidden.extend(settings.secrets(place));
    let redactor = Arc::new(Redactor::new(&hidden));
    let run = store.create(&spec, &redactor).map_err(|error| of_store(&error))?;
    let recorder = Recorder::create(&run, Arc::clone(&clock), Arc::clone(&redactor))
        .map_err(|error| Failure::new(ExitReason::Internal, "cannot begin the transcript").because_of(&error))?;
    let (wish, backends) = wish(&spec, &run, settings, &store, &clock, place);
    let beside = Beside::of(settings, &store);
    Ok(Prepared { spec, run, clock, recorder, redactor, model, wish, backends, again: None, left_out, beside })
}

/// The box that is wanted.
fn wish(
    spec: &RunSpec,
    run: &RunDir,
    settings: &Settings,
    store: &RunStore,
    clock: &Arc<dyn Clock>,
    place: &Place,
) -> (BoxWish, Backends) {
    let env = utf8_vars(place);
    let backends = Backends::new(store.state_dir().to_owned(), settings.image.clone(), env.clone(), place.home());
    let wish = BoxWish {
        wanted: settings.sandbox,
        spec: BoxSpec {
            run: spec.run.clone(),
            run_dir: run.path().to_owned(),
            state_dir: store.state_dir().to_owned(),
            workspace: settings.workspace.clone(),
            bind_workspace: settings.bind_workspace,
            image: settings.image.clone(),
            home: place.home(),
            network: settings.network,
            limits: settings.limits,
            why: String::new(),
            env,
            token: token(),
            tmux: settings.tmux,
            from: None,
        },
        clock: Arc::clone(clock),
    };
    (wish, backends)
}

/// The boxes of a run that nobody drives, to look for the one that may be up.
pub(super) fn boxes_of(spec: &RunSpec, run: &RunDir, settings: &Settings, place: &Place) -> Result<RunBoxes, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (mut wish, backends) = wish(spec, run, settings, &store(place)?, &clock, place);
    wish.spec.token = left_token(run.path()).unwrap_or(wish.spec.token);
    Ok(RunBoxes::new(backends, wish))
}

/// Makes everything that a run needs to be taken up again. `settings` are those that it had but for what is asked for
/// otherwise.
///
/// # Errors
/// When it can't be driven, or its transcript can't be trusted; nothing of it is changed then.
pub(super) fn prepare_again(
    run: RunDir,
    settings: &Settings,
    asked: AskedNew,
    asks: Asker,
    place: &Place,
) -> Result<Prepared, Failure> {
    let model = model::open_all(&settings.model, &settings.other_models(place))
        .map_err(|error| Failure::from(Trouble::from(error)))?;
    let store = store(place)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut hidden = secrets::of(place);
    hidden.extend(settings.secrets(place));
    let redactor = Arc::new(Redactor::new(&hidden));
    let mut resume = Resume { asked, ..Resume::default() };
    let mut spec = None;
    let each = &mut |entry: Entry| {
        if let Event::RunStarted { spec: asked, .. } | Event::RunForked { spec: asked } = &entry.event {
            spec = Some(asked.clone());
        }
        resume.entries.push(entry);
    };
    let reopened = Recorder::reopen(&run, Arc::clone(&clock), Arc::clone(&redactor), each);
    let Reopened { recorder, torn, lost } = reopened.map_err(|error| of_reopen(&error, &run))?;
    let Some(spec) = spec else {
        return Err(Failure::new(ExitReason::Failed, "the transcript has no beginning")
            .hint(format!("see all that is wrong: `agent verify {}`", run.id())));
    };
    if let Some(torn) = torn {
        resume
            .notes
            .push(format!("A last line of the transcript was cut short ({} bytes) and is gone.", torn.size_bytes));
    }
    if lost > 0 {
        resume
            .notes
            .push(format!("A power failure took the last {lost} entries of the transcript; nothing had followed."));
    }
    let (mut wish, backends) = wish(&spec, &run, settings, &store, &clock, place);
    // What was let into the box is let in again.
    wish.spec.token = left_token(run.path()).unwrap_or(wish.spec.token);
    let again = Some(Again { resume, asks });
    let (left_out, beside) = (Vec::new(), Beside::of(settings, &store));
    Ok(Prepared { spec, run, clock, recorder, redactor, model, wish, backends, again, left_out, beside })
}

fn of_reopen(error: &ReopenError, run: &RunDir) -> Failure {
    match error {
        ReopenError::Lock(LockError::Io(_)) | ReopenError::Exists | ReopenError::Io(_) => {
            Failure::new(ExitReason::Internal, error.to_string()).because_of_source(error)
        }
        ReopenError::Lock(_) => super::resume::is_driven(run),
        ReopenError::Read(error) => of_read(error),
        ReopenError::CutTail => Failure::new(ExitReason::Failed, error.to_string())
            .hint(format!("see all that is wrong: `agent verify {}`", run.id())),
    }
}

impl Prepared {
    /// The run's specification.
    pub(super) fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// The run's directory.
    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    /// Where the run's words go when it has no terminal.
    pub(super) fn log(&self) -> PathBuf {
        self.run.path().join("agent.log")
    }

    /// Drives the run to its end and writes its report.
    ///
    /// # Errors
    /// When what happens can't be recorded any more.
    pub(super) async fn drive(self, observer: Box<dyn Observer>, person: Box<dyn Person>) -> Result<Over, Failure> {
        self.begin(observer, person).await?.drive().await
    }

    /// How a person is told of what needs them.
    pub(super) fn notify(&self) -> &NotifyPlan {
        &self.beside.notify
    }

    /// What happened so far; empty for a new run.
    pub(super) fn entries(&self) -> &[Entry] {
        self.again.as_ref().map_or(&[], |again| &again.resume.entries)
    }

    /// Begins the run, or takes it up again: the first entry of that is on disk when this returns.
    ///
    /// # Errors
    /// When it can't be recorded, or can't go on.
    pub(super) async fn begin(self, observer: Box<dyn Observer>, person: Box<dyn Person>) -> Result<Begun, Failure> {
        gc::at_start(RunStore::new(&self.wish.spec.state_dir));
        // The first failure does not wait for it; without the thread it does.
        drop(std::thread::Builder::new().name("signatures".to_owned()).spawn(Signatures::prepare));
        let Self { spec, run, clock, recorder, redactor, model, wish, backends, again, left_out, beside } = self;
        let Beside { classifier, lessons: OpenedLessons { lessons, notice }, .. } = beside;
        let parts = Parts {
            clock,
            recorder,
            blobs: run.blobs(Arc::clone(&redactor)),
            model,
            registry: Registry::for_mode(spec.mode),
            boxes: Arc::new(RunBoxes::new(backends, wish)),
            checkpoint_files: CheckpointFiles::of(&run, redactor),
            observer: Box::new(Observers(vec![observer, Box::new(Spans::new(&spec))])),
            person,
            // Without it the run is as good; `agent send` says that nothing would read a message.
            inbox: Inbox::open(run.path()).ok(),
            lessons,
            classifier,
        };
        let mut driver = match again {
            None => {
                let mut driver = Driver::begin(spec, parts)?;
                for text in left_out {
                    driver.notice(NoticeKind::DocLeftOut, text)?;
                }
                driver
            }
            Some(Again { resume, mut asks }) => Box::pin(Driver::resume(resume, parts, &mut asks)).await?,
        };
        if let Some(text) = notice {
            driver.notice(NoticeKind::LessonsLost, text)?;
        }
        Ok(Begun { driver, run })
    }
}

/// A run that has begun.
pub(super) struct Begun {
    driver: Driver,
    run: RunDir,
}

impl Begun {
    /// Drives the run to its end and writes its report.
    ///
    /// # Errors
    /// When what happens can't be recorded any more.
    pub(super) async fn drive(self) -> Result<Over, Failure> {
        let Finished { ending, trouble } = Box::pin(self.driver.drive()).await?;
        let closing = reports::write(&self.run)?;
        Ok(Over { ending, trouble, closing })
    }
}

fn run_spec(task: Task, settings: &Settings, run: crate::domain::RunId) -> RunSpec {
    let tools_sha256 = tools_hash(task.mode);
    RunSpec {
        title: task.title,
        checks: task.checks,
        check_timeout_s: settings.check_timeout_s,
        baseline: settings.baseline && task.mode == RunMode::Goal,
        protect: task.protect,
        rules: settings.rules.clone(),
        workspace: settings.workspace.to_string_lossy().into_owned(),
        model: settings.model.name.clone(),
        base_url: settings.model.shown_base_url(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        prompts: prompt_hashes(),
        tools_sha256,
        max_turns: settings.max_turns,
        max_retries: settings.max_retries,
        max_time_s: settings.max_time_s,
        keep_services: settings.keep_services,
        asked: Some(asked(settings)),
        checkpoints: Some(settings.checkpoints.clone()),
        budget: settings.budget.clone(),
        window_tokens: settings.window_tokens,
        fallbacks: settings.fallbacks.iter().map(Fallback::shown).collect(),
        ..RunSpec::new(run, task.mode, &task.goal)
    }
}

/// SHA-256 of each prompt template, by name.
pub(super) fn prompt_hashes() -> BTreeMap<String, String> {
    Prompt::ALL.iter().map(|prompt| (prompt.name().to_owned(), sha256(prompt.template().as_bytes()))).collect()
}

/// SHA-256 of the tools of such a run, as the model is told of them.
pub(super) fn tools_hash(mode: RunMode) -> String {
    let mut tools = Sha256::new();
    for tool in Registry::for_mode(mode).tools() {
        tools.update(tool.name);
        tools.update(tool.manual);
        tools.update(tool.parameters.to_string());
    }
    hex(&tools.finalize())
}

/// The box as it was asked for, so that one made later is like it.
fn asked(settings: &Settings) -> BoxAsked {
    let limits = &settings.limits;
    BoxAsked {
        sandbox: settings.sandbox.to_string(),
        image: settings.image.clone(),
        network: settings.network == Network::Open,
        bind_workspace: settings.bind_workspace,
        tmux: settings.tmux,
        memory_bytes: limits.memory_bytes,
        memory_max_bytes: memory_max(settings),
        pids: limits.pids,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few processors")]
        cpu_milli: limits.cpus.map(|cpus| (cpus * 1000.0).round() as u64),
        log_bytes: limits.log_bytes,
        save_image: settings.save_image.clone(),
    }
}

/// What the box's memory limit may be raised to; nothing where it has none.
fn memory_max(settings: &Settings) -> Option<u64> {
    let limit = settings.limits.memory_bytes?;
    let half = machine_memory().map_or(u64::MAX, |machine| machine / 2);
    let most = settings.memory_max_bytes.unwrap_or_else(|| limit.saturating_mul(2).min(half));
    (most > limit).then_some(most)
}

/// The memory of this machine, in bytes.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// In lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 128 random bits: what a client shows a box's guest. Drawn from the system, since it guards the box's channel.
fn token() -> String {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += got.expect("the kernel has a random source");
    }
    hex(&bytes)
}

/// The variables whose names and values are UTF-8.
pub(super) fn utf8_vars(place: &Place) -> BTreeMap<String, String> {
    let both = |(name, value): (&std::ffi::OsString, &std::ffi::OsString)| {
        Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
    };
    place.vars.iter().filter_map(both).collect()
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let Trouble { reason, what, because, hints } = trouble;
        Self { reason, what, because, hints }
    }
}
