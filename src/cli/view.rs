//! What is shown on standard error while a run goes, and when it is over.

use std::io::{self, Write};

use super::launch::Over;
use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::report::{Live, LiveOptions, visible};

/// The live view on `out`, which is standard error or, in a chat, standard output.
pub(super) fn live<W: Write + Send>(out: W, place: &Place) -> Live<W> {
    Live::new(out, options(place, place.stderr_tty))
}

fn options(place: &Place, tty: bool) -> LiveOptions {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_col).filter(|&cols| cols > 0);
    let terminal = tty && place.var("TERM") != Some("dumb");
    LiveOptions { colour: place.colour(tty), terminal, columns }
}

/// Says what stopped the run, where it lies, and how to look at it. Goes to standard error.
pub(super) fn print_end(over: &Over, place: &Place) {
    let mut stderr = io::stderr();
    if let Some(trouble) = &over.trouble {
        let _ = Failure::from(trouble.clone()).print(&mut stderr);
    }
    let run = over.closing.run_dir.rsplit('/').next().unwrap_or_default().to_owned();
    let home = place.home().map(|home| home.to_string_lossy().into_owned());
    let shown = match home.as_deref().and_then(|home| over.closing.run_dir.strip_prefix(home)) {
        Some(rest) if rest.starts_with('/') => format!("~{rest}"),
        _ => over.closing.run_dir.clone(),
    };
    let _ = writeln!(
        stderr,
        "report  {shown}/report.md\nreplay  agent replay {run}\nverify  agent verify {run}   (head {} {})",
        over.closing.head_seq,
        &over.closing.head_hash[..over.closing.head_hash.len().min(12)],
    );
}

/// Prints the answer to standard output.
///
/// # Errors
/// When nobody takes it: says where else it stands.
pub(super) fn print_answer(over: &Over) -> Result<(), Failure> {
    let answer = over.ending.answer.trim_end();
    if answer.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout();
    let printed = writeln!(stdout, "{}", visible(answer)).and_then(|()| stdout.flush());
    printed.map_err(|error| {
        Failure::new(ExitReason::Internal, "the run is over, but its answer could not be printed")
            .because_of(&error)
            .hint(format!("read it in {}/report.md", over.closing.run_dir))
    })
}
