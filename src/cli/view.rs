//! What is shown on standard error while a run goes, and when it is over.

use std::io::{self, Write};

use super::launch::Over;
use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::report::{Live, LiveOptions, visible, wrapped};

/// The live view of a run with a goal: on standard error.
pub(super) fn live(place: &Place) -> Live<io::Stderr> {
    let options = options(place, place.stderr_tty, columns_of_stderr);
    Live::new(io::stderr(), LiveOptions { answer_follows: one_place(), trouble_follows: true, ..options })
}

/// The live view of a run whose end is told as JSON on standard output, and nowhere else.
pub(super) fn live_beside_json(place: &Place) -> Live<io::Stderr> {
    Live::new(io::stderr(), options(place, place.stderr_tty, columns_of_stderr))
}

/// The live view of a chat: on standard output.
pub(super) fn live_chat(place: &Place) -> Live<io::Stdout> {
    let options = options(place, place.stdout_tty, columns_of_stdout);
    Live::new(io::stdout(), LiveOptions { trouble_follows: true, ..options })
}

fn options(place: &Place, tty: bool, columns: fn() -> Option<u16>) -> LiveOptions {
    let terminal = tty && place.var("TERM") != Some("dumb");
    LiveOptions { colour: place.colour(tty), terminal, columns: tty.then_some(columns), ..LiveOptions::default() }
}

fn columns_of_stderr() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_col).filter(|&columns| columns > 0)
}

fn columns_of_stdout() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|&columns| columns > 0)
}

/// The columns to wrap standard output at; none where it is no terminal.
pub(super) fn width_of_stdout(place: &Place) -> Option<usize> {
    place.stdout_tty.then(columns_of_stdout).flatten().map(usize::from)
}

/// Says something on standard error, wrapped where that is a terminal.
pub(super) fn say(text: &str, place: &Place) {
    let width = place.stderr_tty.then(columns_of_stderr).flatten().map(usize::from);
    let _ = writeln!(io::stderr(), "{}", wrapped(&visible(text), width));
}

/// Whether standard output and standard error are one terminal, pipe or file.
fn one_place() -> bool {
    let place = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    match (rustix::fs::fstat(io::stdout()), rustix::fs::fstat(io::stderr())) {
        (Ok(out), Ok(err)) => place(out) == place(err),
        _ => false,
    }
}

/// Says what stopped the run, where it lies, and how to look at it. Goes to standard error.
pub(super) fn print_end(over: &Over, place: &Place) {
    let mut stderr = io::stderr();
    if let Some(trouble) = &over.trouble {
        let _ = writeln!(stderr);
        let _ = Failure::from(trouble.clone()).print(&mut stderr);
    }
    let closing = &over.closing;
    let run = closing.run_dir.rsplit('/').next().unwrap_or_default();
    let home = place.home().map(|home| home.to_string_lossy().into_owned());
    let shown = match home.as_deref().and_then(|home| closing.run_dir.strip_prefix(home)) {
        Some(rest) if rest.starts_with('/') => format!("~{rest}"),
        _ => closing.run_dir.clone(),
    };
    let head: String = closing.head_hash.chars().take(12).collect();
    let changes =
        if closing.keeps_changes { format!("\n  changes agent diff {run}, agent apply {run}") } else { String::new() };
    let _ = writeln!(
        stderr,
        "{changes}\n  report  {}/report.md\n  replay  agent replay {run}\n  verify  agent verify {run}  (head {} {head})",
        visible(&shown),
        closing.head_seq,
    );
}

/// Prints the answer to standard output; `shown` tells that the live view has had its words. It is left out only where
/// it would stand twice on one terminal, and never where standard output goes elsewhere.
///
/// # Errors
/// When nobody takes it: says where else it stands.
pub(super) fn print_answer(over: &Over, shown: bool, place: &Place) -> Result<(), Failure> {
    let answer = over.ending.answer.trim_end();
    let one_place = one_place();
    if answer.is_empty() || (shown && one_place) {
        return Ok(());
    }
    let separator = if one_place { "\n" } else { "" };
    let answer = wrapped(&visible(answer), width_of_stdout(place));
    let mut stdout = io::stdout();
    let printed = writeln!(stdout, "{separator}{answer}").and_then(|()| stdout.flush());
    printed.map_err(|error| {
        Failure::new(ExitReason::Internal, "the run is over, but its answer could not be printed")
            .because_of(&error)
            .hint(format!("read it in {}/report.md", over.closing.run_dir))
    })
}
