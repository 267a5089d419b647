//! Arguments in, wiring, words and exit code out.

mod answer;
mod apply;
mod args;
mod attach;
mod background;
mod budget;
mod changes;
mod chat;
mod checkpoint;
mod context;
mod cost;
mod demo;
mod diff;
mod do_goal;
mod doctor;
mod failure;
mod fork;
mod gc;
mod hidden;
mod jobs;
mod launch;
mod lessons;
mod lines;
mod logs;
mod notify;
mod observers;
mod open_box;
mod output;
mod patch;
mod person;
mod place;
mod plain_view;
mod policy_view;
mod project_docs;
mod questions;
mod replay;
mod reports;
mod resume;
mod runs;
mod secrets;
mod send;
mod settings;
mod stats;
mod sweep;
mod target;
mod tools_list;
mod tracing;
mod tree;
mod verify;
mod view;
mod workflow;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

pub use checkpoint::CheckpointCommand;
pub use failure::Failure;
pub use lessons::LessonsArgs;
pub use place::Place;
pub use policy_view::ShowPolicyArgs;
pub use replay::ReplayArgs;
pub use runs::RunsCommand;
pub use stats::StatsArgs;
pub use verify::VerifyArgs;
pub use workflow::{GraphArgs, ValidateArgs};

use self::args::{Cli, Command};
use self::background::GoalFrom;
use crate::domain::ExitReason;

/// The program: reads its surroundings once, does what its arguments say, and returns the exit code.
pub fn main() -> ExitCode {
    let place = match Place::of_this_process() {
        Ok(place) => place,
        Err(error) => {
            let failure = Failure::new(ExitReason::Usage, "cannot tell the working directory").because_of(&error);
            return failed(&failure.hint("change to a directory that exists"));
        }
    };
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = hidden::dispatch(&args[1.min(args.len())..], &place) {
        return code;
    }
    let in_background = args.get(1).is_some_and(|word| word == background::MARK);
    if in_background {
        args.remove(1);
    }
    let mut cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions go to stdout and are no failure; clap knows which is which.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ExitReason::Usage.code()));
        }
    };
    if let Some(Command::Fork(wish)) = &cli.command {
        // Made here, a fork is driven as any run that is taken up.
        match fork::make(wish, &place) {
            Ok(words) => args = words,
            Err(failure) => return failed(&failure),
        }
        cli = Cli::try_parse_from(&args).expect("`fork::make` gives the arguments of `agent resume`");
    }
    let goes_away = match &mut cli.command {
        Some(Command::Do(wish)) => {
            wish.in_background = in_background;
            let from = if wish.goal == ["-"] { GoalFrom::Stdin } else { GoalFrom::Arguments };
            wish.detach.then_some(from)
        }
        Some(Command::Resume(wish)) => {
            wish.in_background = in_background;
            wish.detach.then_some(GoalFrom::Arguments)
        }
        _ => None,
    };
    if let Some(from) = goes_away.filter(|_| !in_background) {
        return background::start(from, &args).unwrap_or_else(|failure| failed(&failure));
    }
    match run(cli, &place) {
        Ok(reason) => ExitCode::from(reason.code()),
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    let _ = failure.print(&mut io::stderr());
    ExitCode::from(failure.reason.code())
}

fn run(cli: Cli, place: &Place) -> Result<ExitReason, Failure> {
    let mut stdout = io::stdout();
    match cli.command {
        Some(Command::Do(args)) => traced(args.log.clone(), place, do_goal::run(*args, place)),
        Some(Command::Chat(args)) => traced(args.log.clone(), place, chat::run(*args, place)),
        None => traced(cli.chat.log.clone(), place, chat::run(cli.chat, place)),
        Some(Command::Demo(args)) => traced(None, place, demo::run(args, place)),
        Some(Command::Resume(args)) => traced(args.log.clone(), place, resume::run(args, place)),
        Some(Command::Fork(_)) => unreachable!("it has become `agent resume`"),
        Some(Command::Attach(args)) => working(attach::run(args, place)),
        Some(Command::Send(args)) => send::run(&args, place, &mut stdout),
        Some(Command::Answer(args)) => answer::run(&args, place, &mut stdout),
        Some(Command::Questions(args)) => questions::run(&args, place, &mut stdout),
        Some(Command::Logs(args)) => working(logs::run(args, place, &mut stdout)),
        Some(Command::Jobs(args)) => working(jobs::run(args, place, &mut stdout)),
        Some(Command::Checkpoint(args)) => working(args.run(place, &mut stdout)),
        Some(Command::Doctor(args)) => working(doctor::run(args, place)),
        Some(Command::Diff(args)) => diff::run(&args, place, &mut stdout),
        Some(Command::Apply(args)) => apply::run(&args, place, &mut stdout),
        Some(Command::Replay(args)) => args.run(place, &mut stdout),
        Some(Command::Verify(args)) => args.run(place, &mut stdout),
        Some(Command::Cost(args)) => cost::run(&args, place, &mut stdout),
        Some(Command::Stats(args)) => stats::run(&args, place, &mut stdout),
        Some(Command::Lessons(args)) => lessons::run(&args, place, &mut stdout),
        Some(Command::Context(args)) => context::run(&args, place, &mut stdout),
        Some(Command::Compact(args)) => context::compact(&args, place, &mut stdout),
        Some(Command::Runs(args)) => {
            let RunsCommand::Rm { runs } = &args else { return args.run(place, &mut stdout) };
            let (snapshots, meant) = (sweep::snapshots_of(runs, place)?, sweep::ids_of(runs, place)?);
            let tell = |lines: Vec<String>| lines.iter().for_each(|line| drop(writeln!(io::stderr(), "{line}")));
            tell(working(sweep::boxes_of(runs, place))?);
            let removed = args.run(place, &mut stdout);
            tell(working(sweep::discard(snapshots, place))?);
            tell(working(sweep::forget(&meant, place))?);
            removed
        }
        Some(Command::Gc(args)) => working(gc::run(args, place, &mut stdout)),
        Some(Command::Notify(args)) => working(notify::test(args, place)),
        Some(Command::Validate(args)) => args.run(place, &mut stdout),
        Some(Command::Graph(args)) => args.run(place, &mut stdout),
        Some(Command::Policy(args)) => policy_view::run(&args, place, &mut stdout),
        Some(Command::Tools(args)) => tools_list::run(&args, place, &mut stdout),
        Some(Command::Completions { shell }) => printed(&mut stdout, |out| {
            clap_complete::generate(shell, &mut Cli::command(), "agent", out);
            Ok(())
        }),
        Some(Command::Man) => printed(&mut stdout, |out| clap_mangen::Man::new(Cli::command()).render(out)),
    }
}

/// Runs what drives a run: what it does is traced where that is wanted.
fn traced<T>(
    log: Option<PathBuf>,
    place: &Place,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    provide_tls();
    let traced = tracing::begin(log, place)?;
    let done = working(work);
    traced.end();
    done
}

/// Gives the process the TLS provider that every client in it takes.
fn provide_tls() {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs what needs a runtime, and the TLS provider that the model's client takes from the process.
fn working<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    provide_tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(ExitReason::Internal, "cannot start the runtime").because_of(&error))?;
    let done = runtime.block_on(work);
    // A thread may still sit in a read from the terminal.
    runtime.shutdown_background();
    done
}

/// Prints something whole, so that a reader that goes away is no failure.
fn printed(out: &mut dyn Write, make: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<ExitReason, Failure> {
    let mut text = Vec::new();
    let written = make(&mut text).and_then(|()| out.write_all(&text));
    output::finished(written.map(|()| ExitReason::Done).map_err(output::Stop::from))
}
