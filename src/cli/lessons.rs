//! `agent lessons`: what was learned across runs, and how it is forgotten.

use std::io::{self, Write};

use serde_json::json;

use super::output::{Stop, finished};
use super::target::store;
use super::{Failure, Place};
use crate::domain::{ExitReason, Lesson};
use crate::journal::{Lessons, LessonsError, OpenedLessons};
use crate::report::{visible_json, visible_line};

/// `agent lessons`.
#[derive(Debug, clap::Args)]
pub struct LessonsArgs {
    /// Forgets what is known of this failure
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "forget_all")]
    forget: Option<String>,
    /// Forgets everything
    #[arg(long)]
    forget_all: bool,
    /// Prints an array of JSON objects
    #[arg(long)]
    json: bool,
}

/// Runs `agent lessons`.
///
/// # Errors
/// When what was learned can't be changed, or there is no such failure.
pub(super) fn run(args: &LessonsArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let OpenedLessons { mut lessons, notice } = Lessons::open(store(place)?.state_dir());
    if let Some(notice) = notice {
        let _ = writeln!(io::stderr(), "notice: {}", visible_line(&notice));
    }
    if args.forget_all || args.forget.is_some() {
        let forgotten = lessons.forget(args.forget.as_deref()).map_err(|error| of_lessons(&error))?;
        if let (0, Some(mark)) = (forgotten, &args.forget) {
            return Err(Failure::new(ExitReason::Usage, format!("nothing was learned about `{mark}`"))
                .hint("see what there is: `agent lessons`"));
        }
        return finished(writeln!(out, "forgot {forgotten}").map(|()| ExitReason::Done).map_err(Stop::from));
    }
    let all: Vec<&Lesson> = lessons.all().collect();
    finished(if args.json { print_json(&all, out) } else { print(&all, out) })
}

fn of_lessons(error: &LessonsError) -> Failure {
    let failure = Failure::new(ExitReason::Usage, error.to_string()).because_of_source(error);
    match error {
        LessonsError::Busy(_) => failure.hint("try it again in a moment"),
        LessonsError::Newer(_) => failure.hint("use the version of longhaul that wrote it, or a later one"),
        LessonsError::Io { .. } => failure.hint("set LONGHAUL_STATE_DIR to a directory that you can write to"),
    }
}

fn print_json(all: &[&Lesson], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    writeln!(out, "{}", visible_json(&json!(all)))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

fn print(all: &[&Lesson], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if all.is_empty() {
        writeln!(out, "nothing was learned yet")?;
    }
    for lesson in all {
        let Lesson { fingerprint, action, tried, worked, last, .. } = lesson;
        let line = format!("{fingerprint}  {action} worked {worked} of {tried} times, last {last:.0}");
        writeln!(out, "{}", visible_line(&line))?;
        for command in &lesson.commands {
            writeln!(out, "    $ {}", visible_line(command))?;
        }
    }
    out.flush()?;
    Ok(ExitReason::Done)
}
