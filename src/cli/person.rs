//! The person beside `agent do`: Ctrl-C, SIGTERM, a line typed after an interruption, and the end of the terminal.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::do_goal::LiveView;
use super::lines::Lines;
use super::questions::silence_words;
use super::{Failure, Place};
use crate::agent::{Grant, Heard, Limit, Person, Word};
use crate::config::{Key, Value};
use crate::domain::{ExitReason, NoticeKind, Question, QuestionId, Reply, RunId};
use crate::report::{Live, visible};

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

/// Whether somebody may come who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// The run goes on in the background: from another terminal.
    MayCome,
    /// It was started by something that waits for its end.
    DoNotCome,
}

/// Nobody is there to answer: the first Ctrl-C ends the run, and a hang-up does not.
pub(super) struct Nobody {
    signals: Signals,
    leave: Leave,
    answers: Answers,
}

impl Nobody {
    /// Listens to signals only; `leave` is called when the terminal goes away.
    pub(super) fn new(signals: Signals, leave: Leave, answers: Answers) -> Self {
        Self { signals, leave, answers }
    }

    fn headless(&mut self) -> Word {
        (self.leave)();
        // Whoever had it in sight knows of it, and may come back.
        self.answers = Answers::MayCome;
        Word::Notice { kind: NoticeKind::Headless, text: "hung up: the run goes on without a terminal".to_owned() }
    }

    /// What a signal means where no turn can be interrupted.
    fn ends(&mut self, came: Came) -> Word {
        match came {
            Came::Interrupt => interrupted(),
            Came::End => terminated(),
            Came::HangUp => self.headless(),
        }
    }
}

#[async_trait::async_trait]
impl Person for Nobody {
    async fn interrupts(&mut self) -> Word {
        let came = self.signals.next().await;
        self.ends(came)
    }

    async fn speaks(&mut self) -> Word {
        let why = "a person is needed and nobody is there".to_owned();
        Word::End { reason: ExitReason::NeedsHuman, why }
    }

    async fn answers(&mut self, _: &Question) -> Heard {
        match self.answers {
            Answers::DoNotCome => Heard::Nobody,
            Answers::MayCome => Heard::Word(self.interrupts().await),
        }
    }
}

/// What the person is asked to type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    /// Something for the model.
    Message,
    /// How much more the run may take.
    Grant,
    /// An answer.
    Answer(QuestionId),
}

/// A person at a terminal: the first Ctrl-C interrupts the turn, the second ends the run. When the terminal goes away,
/// nobody is there any more.
pub(super) struct Keyboard {
    nobody: Nobody,
    lines: Lines,
    /// What stands on the screen: whoever waits for the line may give up and come back.
    standing: Option<Prompt>,
    /// What shows the run: shows nothing while an answer is being typed.
    live: LiveView,
    run: RunId,
}

impl Keyboard {
    /// Listens to signals and, where something is asked, to standard input; `leave` is called when the terminal goes away.
    pub(super) fn new(signals: Signals, leave: Leave, live: LiveView, run: RunId) -> Self {
        let nobody = Nobody::new(signals, leave, Answers::DoNotCome);
        Self { nobody, lines: Lines::of_stdin(), standing: None, live, run }
    }

    fn is_there(&self) -> bool {
        !self.nobody.signals.hung_up
    }

    /// Shows what is asked, unless it stands there already.
    fn stand(&mut self, prompt: Prompt, words: &str) {
        if self.standing == Some(prompt) {
            return;
        }
        if prompt != Prompt::Message {
            // What was typed before anything was asked answers nothing.
            self.lines.forget();
            self.live.with(Live::hold);
        }
        print_prompt(&format!("\n{words}\n> "));
        self.standing = Some(prompt);
    }

    /// Nothing is asked any more.
    fn over(&mut self) {
        self.standing = None;
        self.live.with(Live::go_on);
    }

    /// The next line, or the word that a signal or the end of the terminal means.
    async fn line(&mut self) -> Result<Option<String>, Word> {
        tokio::select! {
            came = self.nobody.signals.next() => {
                self.over();
                Err(self.nobody.ends(came))
            }
            line = self.lines.next() => match line {
                None if self.nobody.signals.lost_terminal() => {
                    self.over();
                    Err(self.nobody.headless())
                }
                line => Ok(line),
            },
        }
    }
}

fn print_prompt(words: &str) {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(words.as_bytes());
    let _ = stderr.flush();
}

#[async_trait::async_trait]
impl Person for Keyboard {
    async fn interrupts(&mut self) -> Word {
        match self.nobody.signals.next().await {
            Came::Interrupt if self.is_there() => Word::Interrupt,
            came => self.nobody.ends(came),
        }
    }

    async fn speaks(&mut self) -> Word {
        if !self.is_there() {
            return self.nobody.speaks().await;
        }
        self.stand(Prompt::Message, INTERRUPTED);
        let line = match self.line().await {
            Ok(line) => line,
            Err(word) => return word,
        };
        self.over();
        match line {
            Some(text) if !text.trim().is_empty() => Word::Say(text.trim().to_owned()),
            Some(_) => Word::Say("Go on.".to_owned()),
            None => interrupted(),
        }
    }

    async fn grants(&mut self, limit: Limit, why: &str) -> Grant {
        while self.is_there() {
            let prompt =
                format!("{why}; the box and what runs in it are kept\n{} (Enter ends the run)", limit.question());
            self.stand(Prompt::Grant, &prompt);
            let line = self.line().await;
            self.over();
            match line {
                Ok(Some(text)) if !text.trim().is_empty() => {
                    if let Some(more) = more(limit, &text) {
                        return Grant::More(more);
                    }
                }
                Ok(_) => return Grant::Nothing,
                Err(word) if word == interrupted() => return Grant::Nothing,
                Err(word) => return Grant::Word(word),
            }
        }
        Grant::Nothing
    }

    async fn answers(&mut self, question: &Question) -> Heard {
        if !self.is_there() {
            return self.nobody.answers(question).await;
        }
        self.stand(Prompt::Answer(question.id), &how_to_answer(&self.run, question));
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(word) => return Heard::Word(word),
            };
            let Some(line) = line else {
                self.over();
                return Heard::Word(interrupted());
            };
            match read_answer(question, &line) {
                Ok(reply) => {
                    self.over();
                    return Heard::Reply(reply);
                }
                Err(why) => print_prompt(&format!("{why}\n> ")),
            }
        }
    }

    fn put_away(&mut self, question: QuestionId) {
        if self.standing == Some(Prompt::Answer(question)) {
            // The prompt goes, and what was typed there with it.
            print_prompt("\r\u{1b}[K");
            self.lines.forget();
            self.over();
        }
    }
}

/// What stands below a question that is put to a person.
pub(super) fn how_to_answer(run: &RunId, question: &Question) -> String {
    let with = match question.takes_words() {
        true => "a number, a name or words of your own",
        false => "a number or a name; words may follow",
    };
    format!(
        "answer with {with}\n{}; from another terminal: agent answer {run} {} …",
        silence_words(question.silence),
        question.id
    )
}

/// What a line says to a question.
///
/// # Errors
/// Why it is no answer, in words.
pub(super) fn read_answer(question: &Question, line: &str) -> Result<Reply, String> {
    match Reply::read(question, line) {
        None => Err(format!("nothing is taken for an answer but one of {}", question.names())),
        Some(reply) if question.admits(&reply) => Ok(reply),
        Some(reply) => Err(visible(&format!("`{}` is none of {}", reply.words(), question.names())).into_owned()),
    }
}

/// How much more a line says; None where it makes no sense.
pub(super) fn more(limit: Limit, line: &str) -> Option<u64> {
    let line = line.trim().trim_start_matches('+');
    let above_zero = |text: &str| text.parse().ok().filter(|more: &u64| *more > 0);
    match limit {
        Limit::Turns | Limit::Tokens => above_zero(line),
        Limit::Time => match Key::MaxTime.parse(line) {
            Ok(Value::Count(seconds)) => Some(seconds),
            Ok(_) | Err(_) => None,
        },
        Limit::Cost => {
            let dollars: Option<f64> = line.trim_start_matches('$').parse().ok();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
            dollars.filter(|dollars| (0.000_001..=1e9).contains(dollars)).map(|dollars| (dollars * 1e6).round() as u64)
        }
    }
}

const INTERRUPTED: &str = "interrupted; the box and what runs in it are kept\n\
     type a message for the model, or press Ctrl-C again to end the run";
