//! `agent do`: one goal, worked on until the harness has a verdict.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::args::DoArgs;
use super::background::{self, Starter};
use super::launch::{Over, Prepared, Task, prepare};
use super::observers::{Observers, Shared};
use super::person::{Answers, Keyboard, Leave, Nobody, Signals};
use super::settings::{Flags, Settings};
use super::{Failure, Place, apply, launch, notify, view};
use crate::agent::Person;
use crate::config::OutputFormat;
use crate::domain::{ExitReason, Observer, RunMode, SandboxKind, Verdict};
use crate::notify::Notifier;
use crate::report::{JsonMode, JsonOutput, Live};
use crate::sandbox::Launch;
use crate::sandbox::choose::Wanted;
use crate::sandbox::docker::Docker;

/// The largest goal that is taken.
pub(super) const LARGEST_GOAL: u64 = 10 << 20;
/// Longest title, in characters.
const TITLE: usize = 72;

/// Runs `agent do`.
pub(super) async fn run(args: DoArgs, place: &Place) -> Result<ExitReason, Failure> {
    let flags = Flags {
        model: Some(&args.model),
        sandbox: Some(&args.sandbox),
        proof: Some(&args.proof),
        policy: Some(&args.policy),
        max_turns: args.limits.max_turns.as_deref(),
        max_retries: args.limits.max_retries.as_deref(),
        max_time: args.limits.max_time.as_deref(),
        max_tokens: args.limits.max_tokens.as_deref(),
        max_cost: args.limits.max_cost.as_deref(),
        deadline: args.limits.deadline.as_deref(),
        keep_services: args.keep_services,
        no_docs: args.no_docs,
        output_format: args.output_format.as_deref(),
        notify: Some(&args.notify),
    };
    let starter = if args.in_background { Some(starter()?) } else { None };
    let quiet;
    let place = match starter {
        None => place,
        Some(_) => {
            quiet = place.without_terminal();
            &quiet
        }
    };
    let mut settings = Settings::resolve(&flags, place)?;
    if let Some(name) = &args.save_image {
        will_save(name, &mut settings, place).await?;
    }
    let manner = Manner {
        output_format: settings.output_format,
        require_verified: args.require_verified,
        apply: args.apply,
        starter,
    };
    let make = |place: &Place| {
        let goal = goal(&args, place)?;
        let title = title(&goal);
        let checks = settings.checks.iter().cloned().chain(args.proof.checks()).collect();
        let protect = settings.protect.iter().chain(&args.proof.protect).cloned().collect();
        prepare(Task { mode: RunMode::Goal, title, goal, checks, protect }, &settings, place)
    };
    Box::pin(carry_out(make, manner, place)).await
}

/// How a run with a goal is carried out.
pub(super) struct Manner {
    pub(super) output_format: OutputFormat,
    pub(super) require_verified: bool,
    pub(super) apply: bool,
    /// The tie to the process that waits for the run to begin, in the background.
    pub(super) starter: Option<Starter>,
}

/// Makes a run ready, drives it, and shows and tells how it went.
pub(super) async fn carry_out(
    make: impl FnOnce(&Place) -> Result<Prepared, Failure>,
    manner: Manner,
    place: &Place,
) -> Result<ExitReason, Failure> {
    let Manner { output_format, require_verified, apply, starter } = manner;
    let json = match output_format {
        OutputFormat::Text => None,
        OutputFormat::Json => Some(Shared::new(JsonOutput::new(io::stdout(), JsonMode::Single))),
        OutputFormat::StreamJson => Some(Shared::new(JsonOutput::new(io::stdout(), JsonMode::Stream))),
    };
    let live = Shared::new(if json.is_some() { view::live_beside_json(place) } else { view::live(place) });
    let over = attempt(make, place, live.clone(), json.clone(), starter).await;
    let ended = over.as_ref().ok().map(|over| (over.closing.run_dir.clone(), over.ending.verdict));
    let reason = match json {
        Some(json) => told_as_json(&json, over, require_verified)?,
        None => {
            let over = over?;
            view::print_end(&over, place);
            view::print_answer(&over, live.with(|live| live.has_shown(&over.ending.answer)), place)?;
            reason(&over, require_verified)
        }
    };
    match ended.filter(|_| apply) {
        None => Ok(reason),
        Some((run_dir, verdict)) => {
            let run = run_dir.rsplit('/').next().unwrap_or_default();
            let applied = apply::at_end(run, verdict, place)?;
            Ok(if applied == ExitReason::Done { reason } else { applied })
        }
    }
}

/// Makes sure, before anything is begun, that the box can be kept as an image of this name.
async fn will_save(name: &str, settings: &mut Settings, place: &Place) -> Result<(), Failure> {
    match settings.sandbox {
        Wanted::Auto => settings.sandbox = Wanted::Only(SandboxKind::Docker),
        Wanted::Only(SandboxKind::Docker) => {}
        Wanted::Only(SandboxKind::Local | SandboxKind::Host) => {
            return Err(Failure::new(ExitReason::Usage, "only a container can be kept as an image")
                .because(format!("the sandbox is {}", settings.sandbox))
                .hint("run with `--sandbox docker`, or leave `--save-image` out"));
        }
    }
    let launch = Launch { program: PathBuf::from("/proc/self/exe"), state_dir: PathBuf::new() };
    let docker = Docker::new(launch, None, launch::utf8_vars(place), place.home());
    docker.may_save(name).await.map_err(|error| Failure {
        reason: ExitReason::Usage,
        what: error.what,
        because: error.because.into_iter().collect(),
        hints: error.hint.into_iter().collect(),
    })?;
    settings.save_image = Some(name.to_owned());
    Ok(())
}

type Json = Shared<JsonOutput<io::Stdout>>;

pub(super) type LiveView = Shared<Live<io::Stderr>>;

async fn attempt(
    make: impl FnOnce(&Place) -> Result<Prepared, Failure>,
    place: &Place,
    live: LiveView,
    json: Option<Json>,
    starter: Option<Starter>,
) -> Result<Over, Failure> {
    let prepared = make(place)?;
    if !prepared.entries().is_empty() {
        live.with(|live| live.catch_up(prepared.entries()));
        if let Some(json) = &json {
            json.with(|json| json.catch_up(prepared.entries()));
        }
    }
    let signals = Signals::listen(place)?;
    let leave = left_by_terminal(place, prepared.log(), live.clone());
    let notifier = notify::begin(&prepared, live.clone());
    let mut observers = Observers::default();
    observers.0.push(Box::new(live.clone()));
    observers.0.extend(notifier.as_ref().map(Notifier::observer));
    if let Some(json) = json {
        observers.0.push(Box::new(json));
    }
    let person: Box<dyn Person> = match place.stdin_tty && place.stderr_tty {
        true => Box::new(Keyboard::new(signals, leave, live, prepared.spec().run.clone())),
        false => {
            let answers = if starter.is_some() { Answers::MayCome } else { Answers::DoNotCome };
            Box::new(Nobody::new(signals, leave, answers))
        }
    };
    let over = Box::pin(driven(prepared, Box::new(observers), person, starter)).await;
    notify::end(notifier, &over).await;
    over
}

/// Drives a run to its end, in the background where it has a `starter`.
async fn driven(
    prepared: Prepared,
    observer: Box<dyn Observer>,
    person: Box<dyn Person>,
    starter: Option<Starter>,
) -> Result<Over, Failure> {
    let Some(starter) = starter else { return Box::pin(prepared.drive(observer, person)).await };
    let run = prepared.spec().run.clone();
    let before = background::to_log(&prepared.log())?;
    match prepared.begin(observer, person).await {
        Ok(begun) => {
            // Whoever reads what was printed here sees the end of it.
            drop(before);
            starter.has_begun(&run);
            begun.drive().await
        }
        Err(failure) => {
            before.restore();
            Err(failure)
        }
    }
}

pub(super) fn starter() -> Result<Starter, Failure> {
    Starter::of_this_process()
        .map_err(|error| Failure::new(ExitReason::Internal, "cannot go on in the background").because_of(&error))
}

/// What is done when the terminal goes away: the view goes on in the run's log.
pub(super) fn left_by_terminal(place: &Place, log: PathBuf, live: LiveView) -> Leave {
    let place = place.clone();
    Box::new(move || {
        background::leave_terminal(&place, &log);
        if place.stderr_tty {
            live.with(Live::leave_terminal);
        }
    })
}

/// The exit code's reason: the run's own, but for a result without proof where proof was asked for.
fn reason(over: &Over, require_verified: bool) -> ExitReason {
    match (over.ending.reason, over.ending.verdict) {
        (ExitReason::Done, Verdict::Unverified) if require_verified => ExitReason::Unverified,
        (reason, _) => reason,
    }
}

fn told_as_json(json: &Json, over: Result<Over, Failure>, require_verified: bool) -> Result<ExitReason, Failure> {
    json.with(|json| match over {
        Ok(over) => {
            if let Some(trouble) = &over.trouble {
                json.failure(trouble.reason, &trouble.what, &trouble.because, &trouble.hints);
            }
            json.end(Some(&over.closing));
            Ok(reason(&over, require_verified))
        }
        Err(failure) => {
            json.failure(failure.reason, &failure.what, &failure.because, &failure.hints);
            json.end(None);
            Err(failure)
        }
    })
}

fn goal(args: &DoArgs, place: &Place) -> Result<String, Failure> {
    let goal = match (&args.file, &args.goal[..]) {
        (Some(file), _) => {
            let path = place.cwd.join(file);
            let open = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
            read_goal(open, &path)?
        }
        (None, [dash]) if dash == "-" => read_goal(io::stdin().lock(), Path::new("standard input"))?,
        (None, words) => words.join(" "),
    };
    if goal.len() as u64 > LARGEST_GOAL {
        return Err(too_large());
    }
    match goal.trim() {
        "" => Err(Failure::new(ExitReason::Usage, "the goal is empty")
            .hint("say what is to be reached, such as `agent do \"make the tests pass\" --check \"make test\"`")),
        goal => Ok(goal.to_owned()),
    }
}

fn read_goal(input: impl Read, from: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input.take(LARGEST_GOAL + 1).read_to_end(&mut bytes).map_err(|error| unreadable(from, &error))?;
    if bytes.len() as u64 > LARGEST_GOAL {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(ExitReason::Usage, format!("the goal in {} is not text", from.display()))
            .because(format!("it is not UTF-8 at byte {at}"))
            .hint("save it as UTF-8, such as with `iconv -f LATIN1 -t UTF-8 FILE`")
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitReason::Usage, format!("cannot read the goal from {}", path.display()))
        .because_of(error)
        .hint("name a file that you can read, or say the goal in words: `agent do \"make the tests pass\"`")
}

fn too_large() -> Failure {
    Failure::new(ExitReason::Usage, "the goal is larger than 10 MiB")
        .hint("put the material into a file of the project and name it in the goal")
}

/// The first line of the goal, cut to a readable length.
pub(super) fn title(goal: &str) -> String {
    let line = goal.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(TITLE) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
    }
}
