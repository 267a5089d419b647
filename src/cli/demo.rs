//! `agent demo`: the main job without a key. The model's replies come from a script; everything else is real.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::{BoxArgs, DemoArgs, ModelArgs};
use super::do_goal::left_by_terminal;
use super::launch::{Task, prepare};
use super::observers::Shared;
use super::person::{Answers, Keyboard, Nobody, Signals};
use super::settings::{Flags, Settings};
use super::{Failure, Place, view};
use crate::agent::Person;
use crate::domain::{Check, ExitReason, RunMode};

/// The project that the demo works on, and the script that stands for a model.
const FILES: [(&str, &str); 4] = [
    ("project/iris.csv", include_str!("../../transcripts/demo/project/iris.csv")),
    ("project/RUNBOOK.md", include_str!("../../transcripts/demo/project/RUNBOOK.md")),
    ("project/evaluate.sh", include_str!("../../transcripts/demo/project/evaluate.sh")),
    ("script.toml", include_str!("../../transcripts/demo/script.toml")),
];

const GOAL: &str = "Train a classifier for iris.csv as RUNBOOK.md says, with nothing but sh and awk, \
                    and reach an accuracy of at least 0.9 on the held-out flowers.";
const CHECK: &str = "sh evaluate.sh 0.9";

/// Runs `agent demo`.
pub(super) async fn run(args: DemoArgs, place: &Place) -> Result<ExitReason, Failure> {
    let dir = unpack(place)?;
    let model =
        ModelArgs { model: Some(format!("script:{}", dir.join("script.toml").display())), ..ModelArgs::default() };
    let project = dir.join("project");
    let sandbox = BoxArgs { sandbox: args.sandbox, image: args.image, dir: Some(project), ..BoxArgs::default() };
    let settings =
        Settings::resolve(&Flags { model: Some(&model), sandbox: Some(&sandbox), ..Flags::default() }, place)?;
    let task = Task {
        mode: RunMode::Goal,
        title: "demo: train and evaluate a classifier".to_owned(),
        goal: GOAL.to_owned(),
        checks: vec![Check::Command(CHECK.to_owned())],
        protect: Vec::new(),
    };
    let prepared = prepare(task, &settings, place)?;
    view::say(
        "This is a demo: the model's replies are scripted, and everything else is real: the box, the terminal, the files, \
         the training, the failure, the check, the transcript.\n",
        place,
    );
    let signals = Signals::listen(place)?;
    let live = Shared::new(view::live(place));
    let leave = left_by_terminal(place, prepared.log(), live.clone());
    let person: Box<dyn Person> = match place.stdin_tty && place.stderr_tty {
        true => Box::new(Keyboard::new(signals, leave, live.clone(), prepared.spec().run.clone())),
        false => Box::new(Nobody::new(signals, leave, Answers::DoNotCome)),
    };
    let over = Box::pin(prepared.drive(Box::new(live.clone()), person)).await?;
    view::print_end(&over, place);
    view::print_answer(&over, live.with(|live| live.has_shown(&over.ending.answer)), place)?;
    Ok(over.ending.reason)
}

/// Writes the demo's files where the user's caches are; what an earlier demo left there is replaced.
fn unpack(place: &Place) -> Result<PathBuf, Failure> {
    let cache = place.var("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = cache.or_else(|| Some(place.home()?.join(".cache"))).ok_or_else(|| {
        Failure::new(ExitReason::Usage, "cannot tell where to put the demo's files")
            .because("neither XDG_CACHE_HOME nor HOME is set")
            .hint("set HOME")
    })?;
    let dir = base.join("longhaul/demo");
    write_files(&dir).map_err(|error| {
        Failure::new(ExitReason::Usage, format!("cannot write the demo's files to {}", dir.display()))
            .because_of(&error)
            .hint("set XDG_CACHE_HOME to a directory that can be written")
    })?;
    Ok(dir)
}

fn write_files(dir: &Path) -> io::Result<()> {
    for (name, content) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, content)?;
    }
    Ok(())
}
