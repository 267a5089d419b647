//! The person beside `agent do`: Ctrl-C, SIGTERM, and a line typed after an interruption.

use std::io::{self, BufRead as _, Write as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::agent::{Person, Word};
use crate::domain::ExitReason;

/// The signals by which a person or a system reaches a run.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM or SIGHUP.
    End,
}

impl Signals {
    /// Takes the signals over from the system's default.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(ExitReason::Internal, "cannot listen to signals").because_of(&error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Resolves when one comes; none that came before is lost.
    pub(super) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Interrupt,
            _ = self.terminate.recv() => Came::End,
            _ = self.hang_up.recv() => Came::End,
        }
    }
}

/// The end that SIGTERM means.
pub(super) fn terminated() -> Word {
    Word::End { reason: ExitReason::Terminated, why: "terminated by a signal".to_owned() }
}

/// The end that Ctrl-C means.
pub(super) fn interrupted() -> Word {
    Word::End { reason: ExitReason::Interrupted, why: "interrupted by the person".to_owned() }
}

/// Nobody is there to answer: the first Ctrl-C ends the run.
pub(super) struct Nobody {
    signals: Signals,
}

impl Nobody {
    /// Listens to signals only.
    pub(super) fn new(signals: Signals) -> Self {
        Self { signals }
    }
}

#[async_trait::async_trait]
impl Person for Nobody {
    async fn interrupts(&mut self) -> Word {
        match self.signals.next().await {
            Came::Interrupt => interrupted(),
            Came::End => terminated(),
        }
    }

    async fn speaks(&mut self) -> Word {
        let why = "a person is needed and nobody is there".to_owned();
        Word::End { reason: ExitReason::NeedsHuman, why }
    }
}

/// A person at a terminal: the first Ctrl-C interrupts the turn, the second ends the run.
pub(super) struct Keyboard {
    signals: Signals,
    /// The line that is being typed: whoever waits for it may give up and come back.
    line: Option<tokio::sync::mpsc::Receiver<Option<String>>>,
}

impl Keyboard {
    /// Listens to signals and, after an interruption, to standard input.
    pub(super) fn new(signals: Signals) -> Self {
        Self { signals, line: None }
    }
}

#[async_trait::async_trait]
impl Person for Keyboard {
    async fn interrupts(&mut self) -> Word {
        match self.signals.next().await {
            Came::Interrupt => Word::Interrupt,
            Came::End => terminated(),
        }
    }

    async fn speaks(&mut self) -> Word {
        let line = self.line.get_or_insert_with(ask_for_a_line);
        tokio::select! {
            came = self.signals.next() => match came {
                Came::Interrupt => interrupted(),
                Came::End => terminated(),
            },
            text = line.recv() => {
                self.line = None;
                match text.flatten() {
                    Some(text) if !text.trim().is_empty() => Word::Say(text.trim().to_owned()),
                    Some(_) => Word::Say("Go on.".to_owned()),
                    None => interrupted(),
                }
            }
        }
    }
}

/// Shows the prompt and reads a line on a thread of its own: a read from a terminal can't be cancelled, and must not hold
/// the runtime up at its end.
fn ask_for_a_line() -> tokio::sync::mpsc::Receiver<Option<String>> {
    let mut stderr = io::stderr();
    let _ = write!(
        stderr,
        "\ninterrupted; the box and what runs in it are kept\n\
         type a message for the model, or press Ctrl-C again to end the run\n> "
    );
    let _ = stderr.flush();
    let (said, line) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = io::stdin().lock().read_line(&mut text);
        let _ = said.blocking_send(read.ok().filter(|&bytes| bytes > 0).map(|_| text));
    });
    line
}
