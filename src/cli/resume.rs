//! `agent resume`: a run goes on where its driver has left it.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write};

use super::args::{BoxArgs, ModelArgs, ResumeArgs};
use super::chat;
use super::do_goal::{Manner, carry_out, starter};
use super::launch::{self, Prepared, prepare_again};
use super::open_box::RunBoxes;
use super::output::finished;
use super::settings::{Flags, Settings};
use super::target::{of_read, of_store, store};
use super::{Failure, Place};
use crate::agent::Doubt;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{
    AskedNew, BoxAsked, Budget, Effect, Event, ExitReason, Price, QuestionRecord, Questions, Rules, RunMode, RunSpec,
    SandboxKind, Silence, Verdict, duration_words,
};
use crate::journal::{
    Heartbeat, Holder, Inbox, Reader, RunDir, RunState, RunStore, RunSummary, left_answers, post, silent_for,
};
use crate::model::{Fallback, SCRIPT_PREFIX};
use crate::report::visible;
use crate::sandbox::choose::Wanted;
use crate::sandbox::{Limits, Network};
use crate::tools::Said;

/// Runs `agent resume`.
///
/// # Errors
/// When there is nothing to take up, or it can't be.
pub(super) async fn run(args: ResumeArgs, place: &Place) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    if args.all {
        return list(&store, &mut io::stdout());
    }
    let run = match &args.run {
        Some(name) => store.find(name).map_err(|error| of_store(&error))?,
        None => newest(&store)?,
    };
    let known = known_of(&run)?;
    can_go_on(&run, &known)?;
    // Otherwise somebody answers, may come, or has said what to do.
    let is_alone = !place.stdin_tty || !place.stderr_tty;
    if is_alone && !args.in_background && args.message.is_none() {
        is_answered(&run, &known)?;
    }
    let settled = settled(&args.settle)?;
    let starter = if args.in_background { Some(starter()?) } else { None };
    let quiet;
    let place = match starter {
        None => place,
        Some(_) => {
            quiet = place.without_terminal();
            &quiet
        }
    };
    let (settings, asked) = settings(&args, &known, place)?;
    let is_there = place.stdin_tty && place.stderr_tty;
    let asks = Box::new(move |doubt: &Doubt| match settled.get(&doubt.call.id) {
        Some(said) => Some(*said),
        None if is_there => ask(doubt),
        None => None,
    });
    let make = |place: &Place| -> Result<Prepared, Failure> {
        let prepared = prepare_again(run.clone(), &settings, asked, asks, place)?;
        if let Some(message) = &args.message {
            // A run that has ended has no inbox any more; its new driver opens this one.
            drop(Inbox::open(run.path()));
            post(&run, message, SystemClock::new().now(), fastrand::u128(..))
                .map_err(|error| Failure::new(ExitReason::Usage, error.to_string()).because_of_source(&error))?;
        }
        Ok(prepared)
    };
    match known.spec.mode {
        RunMode::Chat => Box::pin(chat::talk(make(place)?, &settings.model.name, place)).await,
        RunMode::Goal => {
            let manner =
                Manner { output_format: settings.output_format, require_verified: false, apply: false, starter };
            Box::pin(carry_out(make, manner, place)).await
        }
    }
}

/// The boxes of a run that nobody drives.
pub(super) fn boxes_of(run: &RunDir, place: &Place) -> Result<RunBoxes, Failure> {
    let known = known_of(run)?;
    let (settings, _) = settings(&ResumeArgs::default(), &known, place)?;
    launch::boxes_of(&known.spec, run, &settings, place)
}

/// What is known of a run before it is taken up.
struct Known {
    spec: RunSpec,
    /// The kind of its last box.
    kind: Option<SandboxKind>,
    /// Its end, if that is its last word.
    end: Option<(Verdict, ExitReason)>,
    questions: Questions,
}

fn known_of(run: &RunDir) -> Result<Known, Failure> {
    let (mut spec, mut kind, mut end) = (None, None, None);
    let mut questions = Questions::default();
    for entry in Reader::open(run.path()).map_err(|error| of_read(&error))? {
        let entry = entry.map_err(|error| of_read(&error))?;
        questions.apply(&entry);
        match entry.event {
            Event::RunStarted { spec: asked, .. } | Event::RunForked { spec: asked } => {
                (spec, end) = (Some(asked), None);
            }
            Event::RunResumed { asked, .. } => {
                end = None;
                if let Some(spec) = &mut spec {
                    asked.change(spec);
                }
            }
            Event::LimitsRaised { asked } => {
                if let Some(spec) = &mut spec {
                    asked.change(spec);
                }
            }
            Event::BoxOpened { facts } => kind = Some(facts.kind),
            Event::RunEnded { verdict, reason, .. } => end = Some((verdict, reason)),
            _ => {}
        }
    }
    let spec = spec.ok_or_else(|| {
        Failure::new(ExitReason::Failed, "the transcript is empty: nothing had begun")
            .hint(format!("remove it: `agent runs rm {}`", run.id()))
    })?;
    Ok(Known { spec, kind, end, questions })
}

/// Whether a run with this end can be taken up again: it was stopped by something that may be otherwise now.
fn is_open(verdict: Verdict, mode: RunMode) -> bool {
    match verdict {
        Verdict::Stopped | Verdict::Blocked | Verdict::Error => true,
        Verdict::Verified | Verdict::Unverified | Verdict::Failed => mode == RunMode::Chat,
    }
}

/// Where nobody is there to answer, a run that stands still for want of an answer would do so again.
fn is_answered(run: &RunDir, known: &Known) -> Result<(), Failure> {
    let left = left_answers(run);
    let stops = |record: &&QuestionRecord| {
        let question = &record.question;
        let waits = question.subject.stops_the_run() && question.silence == Silence::default();
        waits && left.iter().all(|answer| answer.question != question.id)
    };
    let Some(record) = known.questions.open().find(stops).filter(|_| known.end.is_some()) else { return Ok(()) };
    let (id, question) = (run.id(), &record.question);
    Err(Failure::new(
        ExitReason::NeedsHuman,
        format!("question {} waits for an answer: {}", question.id, question.text),
    )
    .because("nobody is there to be asked")
    .hint(format!("see what is asked: `agent questions {id}`"))
    .hint(format!("answer it first: `agent answer {id} {} {}`", question.id, question.first_choice())))
}

fn can_go_on(run: &RunDir, known: &Known) -> Result<(), Failure> {
    if matches!(RunSummary::read(run).state, RunState::Running { .. }) {
        return Err(is_driven(run));
    }
    match known.end {
        Some((verdict, _)) if !is_open(verdict, known.spec.mode) => {
            Err(Failure::new(ExitReason::Usage, format!("run {} has finished: {}", run.id(), verdict.word()))
                .hint(format!("see what it did: `agent runs show {}`", run.id()))
                .hint(format!("go another way from a checkpoint of it: `agent fork {}`", run.id())))
        }
        Some(_) | None => Ok(()),
    }
}

/// Somebody drives the run already.
pub(super) fn is_driven(run: &RunDir) -> Failure {
    let holder = Holder::last(run.path());
    let who = match &holder {
        Some(holder) => format!("process {} on {}", holder.pid, holder.host),
        None => "another process".to_owned(),
    };
    let mut failure = Failure::new(ExitReason::Usage, format!("run {} is driven by {who}", run.id()));
    if let (Some(silent), Some(sign)) = (silent_for(run.path()), Heartbeat::read(run.path())) {
        let ago = duration_words(u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
        failure = failure.because(format!(
            "it is driver {}, gave its last sign of life {ago} ago, and has recorded entry {}",
            sign.epoch, sign.seq
        ));
    }
    failure
        .hint(format!("look in: `agent attach {}`", run.id()))
        .hint(format!("tell it something: `agent send {} 'message'`", run.id()))
}

/// The newest run that nobody drives and that has not finished.
fn newest(store: &RunStore) -> Result<RunDir, Failure> {
    let all = store.list().map_err(|error| of_store(&error))?;
    let found = all.iter().find(|summary| why_open(summary).is_some());
    found.map(|summary| store.run(&summary.run)).ok_or_else(|| {
        Failure::new(ExitReason::Usage, "there is no run to take up again")
            .because("every run has finished or is being driven")
            .hint("see what there is: `agent runs ls`")
    })
}

/// Why a run can be taken up again, in words; None if it can't.
fn why_open(summary: &RunSummary) -> Option<String> {
    match &summary.state {
        RunState::Interrupted => Some("its driver has gone".to_owned()),
        RunState::Ended { verdict, reason } if is_open(*verdict, RunMode::Goal) => {
            Some(format!("{}, exit code {}", verdict.word(), reason.code()))
        }
        RunState::Ended { .. } | RunState::Running { .. } | RunState::Broken { .. } => None,
    }
}

fn list(store: &RunStore, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let all = store.list().map_err(|error| of_store(&error))?;
    let mut text = String::new();
    for summary in &all {
        let Some(why) = why_open(summary) else { continue };
        let started = summary.started.map(|time| format!("{time:.0}")).unwrap_or_default();
        let title = visible(&summary.title).replace('\n', " ");
        text.push_str(&format!("{}  {started:<20}  {why}  {title}\n", summary.run));
    }
    if text.is_empty() {
        text.push_str("no run can be taken up again: every one has finished or is being driven\n");
    }
    finished(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map(|()| ExitReason::Done).map_err(Into::into))
}

/// The settings that the run had, but for what is asked for otherwise; and that.
fn settings(args: &ResumeArgs, known: &Known, place: &Place) -> Result<(Settings, AskedNew), Failure> {
    let spec = &known.spec;
    let model = ModelArgs {
        model: Some(args.model.model.clone().unwrap_or_else(|| script_again(spec, place))),
        price: args.model.price.clone().or_else(|| price_again(args, spec)),
        fallback: fallbacks_again(args, spec),
        ..args.model.clone()
    };
    let sandbox = BoxArgs { dir: Some(spec.workspace.clone().into()), ..BoxArgs::default() };
    let flags = Flags {
        model: Some(&model),
        sandbox: Some(&sandbox),
        proof: None,
        policy: Some(&args.policy),
        max_turns: args.limits.max_turns.as_deref(),
        max_retries: args.limits.max_retries.as_deref(),
        max_time: args.limits.max_time.as_deref(),
        max_tokens: args.limits.max_tokens.as_deref(),
        max_cost: args.limits.max_cost.as_deref(),
        deadline: args.limits.deadline.as_deref(),
        keep_services: spec.keep_services,
        no_docs: true,
        output_format: args.output_format.as_deref(),
        notify: Some(&args.notify),
    };
    let mut settings = Settings::resolve(&flags, place)?;
    if args.model.base_url.is_none() && !spec.base_url.is_empty() && settings.model.shown_base_url() != spec.base_url {
        settings.model.base_url = Some(spec.base_url.clone());
    }
    if let Some(asked) = &spec.asked {
        take_box(&mut settings, asked)?;
    }
    if let Some(kind) = known.kind {
        settings.sandbox = Wanted::Only(kind);
    }
    let base_url = settings.model.shown_base_url();
    let asked = AskedNew {
        model: args.model.model.clone().filter(|name| *name != spec.model),
        base_url: Some(base_url).filter(|url| *url != spec.base_url),
        fallbacks: Some(settings.fallbacks.iter().map(Fallback::shown).collect()).filter(|all| *all != spec.fallbacks),
        max_turns: args.limits.max_turns.is_some().then_some(settings.max_turns),
        max_retries: settings.max_retries.filter(|_| args.limits.max_retries.is_some()),
        window_tokens: settings.window_tokens.filter(|_| args.model.window.is_some()),
        max_time_s: settings.max_time_s.filter(|_| args.limits.max_time.is_some()),
        budget: Some(budget(args, spec, &settings)).filter(|budget| *budget != spec.budget),
        rules: Some(rules(args, spec, &settings)).filter(|rules| *rules != spec.rules),
    };
    Ok((settings, asked))
}

/// The run's rules, but for what is said otherwise; a file of rules comes beside them.
fn rules(args: &ResumeArgs, spec: &RunSpec, settings: &Settings) -> Rules {
    let (flags, new) = (&args.policy, &settings.rules);
    let mut rules = spec.rules.clone();
    if flags.mode.is_some() {
        rules.mode = new.mode;
    }
    if flags.on_silence.is_some() {
        rules.silence.then = new.silence.then;
    }
    if flags.answer_within.is_some() {
        rules.silence.within_s = new.silence.within_s;
    }
    if flags.policy.is_some() {
        let known = std::mem::take(&mut rules.rules);
        let more = new.rules.iter().filter(|rule| !known.contains(rule)).cloned().collect();
        rules.rules = [known, more].concat();
    }
    rules
}

/// The price that the run knew, for the same model.
fn price_again(args: &ResumeArgs, spec: &RunSpec) -> Option<String> {
    let price = spec.budget.price.as_ref().filter(|_| args.model.model.is_none() && args.model.base_url.is_none())?;
    Some(price_words(price))
}

fn price_words(price: &Price) -> String {
    #[expect(clippy::cast_precision_loss, reason = "some dollars")]
    let dollars = [price.input, price.cached, price.output].map(|millionths| (millionths as f64 / 1e6).to_string());
    dollars.join(",")
}

/// The run's fallbacks with the prices that it knew, unless others are named.
fn fallbacks_again(args: &ResumeArgs, spec: &RunSpec) -> Vec<String> {
    let known = |name: &String| match spec.budget.fallback_prices.get(name) {
        Some(price) => format!("{name}={}", price_words(price)),
        None => name.clone(),
    };
    match args.model.fallback.is_empty() {
        true => spec.fallbacks.iter().map(known).collect(),
        false => args.model.fallback.clone(),
    }
}

/// The run's budget, but for what is said otherwise.
fn budget(args: &ResumeArgs, spec: &RunSpec, settings: &Settings) -> Budget {
    let (old, new) = (&spec.budget, &settings.budget);
    let is_same_model = args.model.model.is_none() && args.model.base_url.is_none();
    let fallbacks = if args.model.fallback.is_empty() { old } else { new };
    let price = if is_same_model && args.model.price.is_none() { &old.price } else { &new.price };
    Budget {
        max_tokens: if args.limits.max_tokens.is_some() { new.max_tokens } else { old.max_tokens },
        max_cost: if args.limits.max_cost.is_some() { new.max_cost } else { old.max_cost },
        deadline: if args.limits.deadline.is_some() { new.deadline } else { old.deadline },
        price: price.clone(),
        fallback_prices: fallbacks.fallback_prices.clone(),
    }
}

/// The model of the run; a script is looked for in the project where it is not here.
fn script_again(spec: &RunSpec, place: &Place) -> String {
    let script = spec.model.strip_prefix(SCRIPT_PREFIX);
    let elsewhere = script.filter(|file| !place.cwd.join(file).exists());
    match elsewhere {
        Some(file) => format!("{SCRIPT_PREFIX}{}/{file}", spec.workspace),
        None => spec.model.clone(),
    }
}

/// The box as it was asked for.
fn take_box(settings: &mut Settings, asked: &BoxAsked) -> Result<(), Failure> {
    settings.sandbox = asked.sandbox.parse().map_err(|error: crate::sandbox::SandboxError| {
        Failure::new(ExitReason::Usage, "the box of the run is of a kind that is not known").because(error.what)
    })?;
    settings.image.clone_from(&asked.image);
    settings.network = if asked.network { Network::Open } else { Network::None };
    settings.bind_workspace = asked.bind_workspace;
    settings.tmux = asked.tmux;
    #[expect(clippy::cast_precision_loss, reason = "a few processors")]
    let cpus = asked.cpu_milli.map(|milli| milli as f64 / 1000.0);
    settings.limits = Limits { memory_bytes: asked.memory_bytes, pids: asked.pids, cpus, log_bytes: asked.log_bytes };
    Ok(())
}

/// `CALL=ran`, `CALL=not-run` and `CALL=look`, by call.
fn settled(given: &[String]) -> Result<BTreeMap<String, Said>, Failure> {
    let one = |text: &String| {
        let (call, said) = text.rsplit_once('=')?;
        let said = match said {
            "ran" => Said::Ran,
            "not-run" => Said::NotRun,
            "look" => Said::Look,
            _ => return None,
        };
        Some((call.to_owned(), said))
    };
    let read = given.iter().map(|text| {
        one(text).ok_or_else(|| {
            Failure::new(ExitReason::Usage, format!("`--settle {text}` makes no sense"))
                .because("it must be CALL=ran, CALL=not-run or CALL=look")
        })
    });
    read.collect()
}

/// Asks at the terminal.
fn ask(doubt: &Doubt) -> Option<Said> {
    let mut stderr = io::stderr();
    let reach = match doubt.effect {
        Effect::Irreversible => "may have changed something outside the box for good",
        Effect::External | Effect::Workspace | Effect::None => "may have changed something outside the box",
    };
    let _ = write!(
        stderr,
        "\nthis was under way when the run was interrupted at {}, and {reach}:\n\n  {}\n\n\
         did it take effect? [y]es, [n]o, or let the model find [o]ut: ",
        doubt.begun.strftime("%Y-%m-%d %H:%M:%S UTC"),
        visible(&doubt.words()).replace('\n', "\n  "),
    );
    let _ = stderr.flush();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    match line.trim().chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('y') => Some(Said::Ran),
        Some('n') => Some(Said::NotRun),
        Some('o') => Some(Said::Look),
        _ => None,
    }
}
