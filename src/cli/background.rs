//! A run without a terminal: begun in the background by `agent do --detach`, or left by its terminal on the way.
//!
//! The background process is this program once more, in a session of its own. Its standard input is a socket over which
//! it is given a goal that was piped in, and tells that its run has begun; until then its words go to the person's
//! terminal, from then on to the run's log.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::{Failure, Place};
use crate::domain::{ExitReason, RunId};
use crate::report::visible;

/// The hidden word before the arguments of the background process.
pub(super) const MARK: &str = "__detached";

/// Where the background process has its goal from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoalFrom {
    /// From its arguments, or from a run that there is.
    Arguments,
    /// From this process's standard input.
    Stdin,
}

/// Starts the same command in the background and waits until its run has begun.
///
/// # Errors
/// When it can't be started. That a run could not begin is told by the background process, and is its exit code here.
pub(super) fn start(goal: GoalFrom, words: &[OsString]) -> Result<ExitCode, Failure> {
    let cannot = |error: io::Error| {
        Failure::new(ExitReason::Internal, "cannot start the run in the background").because_of(&error)
    };
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    let mut child = Command::new("/proc/self/exe")
        .arg(MARK)
        .args(words.get(1..).unwrap_or_default())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(cannot)?;
    if goal == GoalFrom::Stdin {
        // A process that has failed already takes no goal, and says why it failed.
        let _ = io::copy(&mut io::stdin().lock().take(super::do_goal::LARGEST_GOAL + 1), &mut &ours);
    }
    let _ = ours.shutdown(Shutdown::Write);
    let mut line = String::new();
    // An error is a process that has ended without a word.
    let _ = BufReader::new(&ours).read_line(&mut line);
    match RunId::new(line.trim()) {
        Ok(run) => {
            print_ways_in(&run);
            Ok(ExitCode::SUCCESS)
        }
        Err(_) => child.wait().map(of_status).map_err(cannot),
    }
}

fn of_status(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.filter(|&code| code != 0).unwrap_or(ExitReason::Internal.code()))
}

fn print_ways_in(run: &RunId) {
    // Nobody may be reading; the run goes on all the same.
    let _ = writeln!(io::stdout(), "{run}");
    let _ = writeln!(
        io::stderr(),
        "\nthe run goes on in the background\n  look in  agent attach {run}\n  follow   agent logs {run} -f\n  \
         jobs     agent jobs {run}\n  tell it  agent send {run} 'message'\n  its end  agent runs show {run}"
    );
}

/// The background process's tie to the one that started it.
pub(super) struct Starter(UnixStream);

impl Starter {
    /// Leaves the person's terminal session, and takes over standard input's other use.
    ///
    /// # Errors
    /// When standard input is not what [`start`] makes it.
    pub(super) fn of_this_process() -> io::Result<Self> {
        // Fails only for a process that leads a session already.
        let _ = rustix::process::setsid();
        Ok(Self(UnixStream::from(dup(io::stdin())?)))
    }

    /// Says that the run has begun. From now on there is no standard input.
    pub(super) fn has_begun(mut self, run: &RunId) {
        // The one that waits may have been ended meanwhile; the run goes on.
        let _ = writeln!(self.0, "{run}");
        if let Ok(null) = File::open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
        }
    }
}

/// Standard output and standard error as they were before [`to_log`].
pub(super) struct Before(OwnedFd, OwnedFd);

impl Before {
    /// Puts them back.
    pub(super) fn restore(self) {
        // Both were open a moment ago.
        let _ = rustix::stdio::dup2_stdout(&self.0);
        let _ = rustix::stdio::dup2_stderr(&self.1);
    }
}

/// Sends all that is said from now on to the run's log.
///
/// # Errors
/// When the log can't be made.
pub(super) fn to_log(log: &Path) -> Result<Before, Failure> {
    let redirect = || {
        let file = open(log)?;
        let before = Before(dup(io::stdout())?, dup(io::stderr())?);
        rustix::stdio::dup2_stdout(&file)?;
        rustix::stdio::dup2_stderr(&file)?;
        Ok(before)
    };
    redirect().map_err(|error: io::Error| {
        let what = format!("cannot write the run's log {}", visible(&log.to_string_lossy()));
        Failure::new(ExitReason::Internal, what).because_of(&error)
    })
}

/// The terminal is gone: what stood there goes to the run's log from now on, or nowhere where that can't be written.
/// What was no terminal stays as it is.
pub(super) fn leave_terminal(place: &Place, log: &Path) {
    if !place.stdout_tty && !place.stderr_tty {
        return;
    }
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    let words = open(log).ok();
    let words = words.as_ref().unwrap_or(&null);
    // None of these can fail: the descriptors are open.
    if place.stdin_tty {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    if place.stdout_tty {
        let _ = rustix::stdio::dup2_stdout(words);
    }
    if place.stderr_tty {
        let _ = rustix::stdio::dup2_stderr(words);
    }
}

/// A second descriptor that no program started from here inherits.
fn dup(stream: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3)?)
}

fn open(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(log)
}
