//! The person beside `agent do`: Ctrl-C, SIGTERM, a line typed after an interruption, and the end of the terminal.

use std::io::{self, BufRead as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Place};
use crate::agent::{Grant, Limit, Person, Word};
use crate::domain::{ExitReason, NoticeKind};

/// The signals by which a person or a system reaches a run, and the end of its terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    terminal: Option<AsyncFd<OwnedFd>>,
    hung_up: bool,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    End,
    /// SIGHUP, or the terminal is gone without one. Comes once.
    HangUp,
}

impl Signals {
    /// Takes the signals over from the system's default, and watches the terminal.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub(super) fn listen(place: &Place) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(ExitReason::Internal, "cannot listen to signals").because_of(&error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            terminal: terminal(place),
            hung_up: false,
        })
    }

    /// Resolves when one comes; none that came before is lost.
    pub(super) async fn next(&mut self) -> Came {
        let gone = async {
            match &self.terminal {
                Some(terminal) if !self.hung_up => closed(terminal).await,
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => return Came::Interrupt,
            _ = self.terminate.recv() => return Came::End,
            _ = self.hang_up.recv(), if !self.hung_up => {}
            () = gone => {}
        }
        self.hung_up = true;
        Came::HangUp
    }

    /// Whether the terminal is gone, of which [`Signals::next`] will tell no more then.
    fn lost_terminal(&mut self) -> bool {
        self.hung_up |= self.terminal.as_ref().is_some_and(is_closed);
        self.hung_up
    }
}

/// Whether nobody holds the terminal's other end.
fn is_closed(terminal: &AsyncFd<OwnedFd>) -> bool {
    let mut polled = [PollFd::new(terminal.get_ref(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// The terminal at which the program was started, by a descriptor of its own.
fn terminal(place: &Place) -> Option<AsyncFd<OwnedFd>> {
    let fd = match (place.stdin_tty, place.stderr_tty, place.stdout_tty) {
        (true, ..) => rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3),
        (_, true, _) => rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3),
        (.., true) => rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3),
        _ => return None,
    };
    // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
    unsafe { AsyncFd::register_with_interest(fd.ok()?, Interest::READABLE) }.ok()
}

/// Resolves when nobody holds the terminal's other end any more. A process that is not in the foreground, or whose shell
/// has let go of it, gets no signal then.
async fn closed(terminal: &AsyncFd<OwnedFd>) {
    loop {
        match terminal.ready(Interest::READABLE).await {
            Ok(ready) if ready.ready().is_read_closed() => return,
            // Keys, which others read.
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => return std::future::pending().await,
        }
    }
}

/// What is done when the terminal goes away.
pub(super) type Leave = Box<dyn FnMut() + Send>;

/// The end that SIGTERM means.
pub(super) fn terminated() -> Word {
    Word::End { reason: ExitReason::Terminated, why: "terminated by a signal".to_owned() }
}

/// The end that Ctrl-C means.
pub(super) fn interrupted() -> Word {
    Word::End { reason: ExitReason::Interrupted, why: "interrupted by the person".to_owned() }
}

/// Nobody is there to answer: the first Ctrl-C ends the run, and a hang-up does not.
pub(super) struct Nobody {
    signals: Signals,
    leave: Leave,
}

impl Nobody {
    /// Listens to signals only; `leave` is called when the terminal goes away.
    pub(super) fn new(signals: Signals, leave: Leave) -> Self {
        Self { signals, leave }
    }

    fn headless(&mut self) -> Word {
        (self.leave)();
        Word::Notice { kind: NoticeKind::Headless, text: "hung up: the run goes on without a terminal".to_owned() }
    }
}

#[async_trait::async_trait]
impl Person for Nobody {
    async fn interrupts(&mut self) -> Word {
        match self.signals.next().await {
            Came::Interrupt => interrupted(),
            Came::End => terminated(),
            Came::HangUp => self.headless(),
        }
    }

    async fn speaks(&mut self) -> Word {
        let why = "a person is needed and nobody is there".to_owned();
        Word::End { reason: ExitReason::NeedsHuman, why }
    }
}

/// A person at a terminal: the first Ctrl-C interrupts the turn, the second ends the run. When the terminal goes away,
/// nobody is there any more.
pub(super) struct Keyboard {
    nobody: Nobody,
    /// The line that is being typed: whoever waits for it may give up and come back.
    line: Option<tokio::sync::mpsc::Receiver<Option<String>>>,
}

impl Keyboard {
    /// Listens to signals and, after an interruption, to standard input; `leave` is called when the terminal goes away.
    pub(super) fn new(signals: Signals, leave: Leave) -> Self {
        Self { nobody: Nobody::new(signals, leave), line: None }
    }

    fn is_there(&self) -> bool {
        !self.nobody.signals.hung_up
    }
}

#[async_trait::async_trait]
impl Person for Keyboard {
    async fn interrupts(&mut self) -> Word {
        match self.nobody.signals.next().await {
            Came::Interrupt if self.is_there() => Word::Interrupt,
            Came::Interrupt => interrupted(),
            Came::End => terminated(),
            Came::HangUp => self.nobody.headless(),
        }
    }

    async fn speaks(&mut self) -> Word {
        if !self.is_there() {
            return self.nobody.speaks().await;
        }
        let line = self.line.get_or_insert_with(|| ask_for_a_line(INTERRUPTED));
        tokio::select! {
            came = self.nobody.signals.next() => match came {
                Came::Interrupt => interrupted(),
                Came::End => terminated(),
                Came::HangUp => self.nobody.headless(),
            },
            text = line.recv() => {
                self.line = None;
                match text.flatten() {
                    Some(text) if !text.trim().is_empty() => Word::Say(text.trim().to_owned()),
                    Some(_) => Word::Say("Go on.".to_owned()),
                    None if self.nobody.signals.lost_terminal() => self.nobody.headless(),
                    None => interrupted(),
                }
            }
        }
    }

    async fn grants(&mut self, limit: Limit, why: &str) -> Grant {
        let unit = match limit {
            Limit::Turns => "model requests",
            Limit::Tokens => "tokens",
            Limit::Cost => "US dollars",
        };
        while self.is_there() {
            let prompt =
                format!("{why}; the box and what runs in it are kept\nhow many more {unit}? (Enter ends the run)");
            let mut line = ask_for_a_line(&prompt);
            let text = tokio::select! {
                came = self.nobody.signals.next() => return match came {
                    Came::Interrupt => Grant::Nothing,
                    Came::End => Grant::Word(terminated()),
                    Came::HangUp => Grant::Word(self.nobody.headless()),
                },
                text = line.recv() => text.flatten(),
            };
            match text {
                Some(text) if !text.trim().is_empty() => {
                    if let Some(more) = more(limit, &text) {
                        return Grant::More(more);
                    }
                }
                Some(_) => return Grant::Nothing,
                None if self.nobody.signals.lost_terminal() => return Grant::Word(self.nobody.headless()),
                None => return Grant::Nothing,
            }
        }
        Grant::Nothing
    }
}

/// How much more a line says; None where it makes no sense.
fn more(limit: Limit, line: &str) -> Option<u64> {
    let line = line.trim().trim_start_matches('+');
    let above_zero = |text: &str| text.parse().ok().filter(|more: &u64| *more > 0);
    match limit {
        Limit::Turns | Limit::Tokens => above_zero(line),
        Limit::Cost => {
            let dollars: Option<f64> = line.trim_start_matches('$').parse().ok();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
            dollars.filter(|dollars| (0.000_001..=1e9).contains(dollars)).map(|dollars| (dollars * 1e6).round() as u64)
        }
    }
}

const INTERRUPTED: &str = "interrupted; the box and what runs in it are kept\n\
     type a message for the model, or press Ctrl-C again to end the run";

/// Shows the prompt and reads a line on a thread of its own: a read from a terminal can't be cancelled, and must not hold
/// the runtime up at its end.
fn ask_for_a_line(prompt: &str) -> tokio::sync::mpsc::Receiver<Option<String>> {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "\n{prompt}\n> ");
    let _ = stderr.flush();
    let (said, line) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = io::stdin().lock().read_line(&mut text);
        let _ = said.blocking_send(read.ok().filter(|&bytes| bytes > 0).map(|_| text));
    });
    line
}
