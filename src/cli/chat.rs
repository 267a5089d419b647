//! `agent chat`: a person and the model take turns; the model has the same tools and box as in a run with a goal.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Cmd, Config, Context, Editor, EventHandler, KeyCode, KeyEvent, Modifiers};
use rustyline::{Helper, Highlighter, Hinter, Validator};

use super::args::ChatArgs;
use super::launch::{Prepared, Task, prepare};
use super::observers::{Observers, Shared};
use super::person::{Came, Signals, how_to_answer, more, read_answer, terminated};
use super::settings::{Flags, Settings};
use super::{Failure, Place, context, notify, view};
use crate::agent::{Grant, Heard, Limit, Person, Word};
use crate::domain::{Entry, ExitReason, Observer, Progress, Question, QuestionId, RunMode};
use crate::journal::RunDir;
use crate::notify::Notifier;
use crate::report::{Totals, visible};

const COMMANDS: [(&str, &str); 5] = [
    ("/help", "shows this"),
    ("/status", "model, box, turns and tokens so far"),
    ("/context", "how full the model's window is, and of what"),
    ("/compact", "makes the conversation smaller now: older steps are summed up"),
    ("/quit", "ends the chat and removes the box (Ctrl-D does the same)"),
];

/// Runs `agent chat`.
pub(super) async fn run(args: ChatArgs, place: &Place) -> Result<ExitReason, Failure> {
    let flags = Flags {
        model: Some(&args.model),
        sandbox: Some(&args.sandbox),
        policy: Some(&args.policy),
        notify: Some(&args.notify),
        no_docs: args.no_docs,
        ..Flags::default()
    };
    let settings = Settings { max_turns: u32::MAX, max_time_s: None, ..Settings::resolve(&flags, place)? };
    let (checks, protect) = Default::default();
    let task = Task { mode: RunMode::Chat, title: "chat".to_owned(), goal: String::new(), checks, protect };
    Box::pin(talk(prepare(task, &settings, place)?, &settings.model.name, place)).await
}

/// Has a person and the model talk, to the end of the chat.
pub(super) async fn talk(prepared: Prepared, model: &str, place: &Place) -> Result<ExitReason, Failure> {
    let mut totals = Totals::default();
    prepared.entries().iter().for_each(|entry| totals.add(entry));
    let status = Shared::new(Status {
        model: model.to_owned(),
        run: prepared.spec().run.to_string(),
        sandbox: "not up yet".to_owned(),
        totals,
    });
    let mut observers = Observers::default();
    let mut live = view::live_chat(place);
    if !prepared.entries().is_empty() {
        live.catch_up(prepared.entries());
    }
    let live = Shared::new(live);
    let notifier = notify::begin(&prepared, live.clone());
    observers.0.push(Box::new(live));
    observers.0.extend(notifier.as_ref().map(Notifier::observer));
    observers.0.push(Box::new(status.clone()));
    let signals = Signals::listen(place)?;
    let editor = editor(place).map_err(|error| {
        Failure::new(ExitReason::Internal, "cannot read from the terminal").because(error.to_string())
    })?;
    let _ = writeln!(io::stdout(), "longhaul {} · {} · /help for help", env!("CARGO_PKG_VERSION"), model);
    let history = place.state_dir().map(|dir| dir.join("chat_history"));
    let run = prepared.run().clone();
    let chatter = Chatter { signals, editor: Some(editor), line: None, asked: None, history, status, run };
    let over = Box::pin(prepared.drive(Box::new(observers), Box::new(chatter))).await;
    notify::end(notifier, &over).await;
    let over = over?;
    view::print_end(&over, place);
    Ok(over.ending.reason)
}

/// What `/status` shows.
struct Status {
    model: String,
    run: String,
    sandbox: String,
    totals: Totals,
}

impl Observer for Status {
    fn entry(&mut self, entry: &Entry) {
        if let crate::domain::Event::BoxOpened { facts } = &entry.event {
            self.sandbox = format!("{:?} ({})", facts.kind, facts.why).to_lowercase();
        }
        self.totals.add(entry);
    }

    fn progress(&mut self, _: &Progress) {}
}

/// A person at a prompt.
struct Chatter {
    signals: Signals,
    /// Not here while a line is being read.
    editor: Option<Editor<Commands, FileHistory>>,
    /// The line that is being read: whoever waits for it may give up and come back.
    line: Option<tokio::sync::mpsc::Receiver<ReadLine>>,
    /// What it is to answer: it was begun when that was asked.
    asked: Option<QuestionId>,
    history: Option<PathBuf>,
    status: Shared<Status>,
    /// The run's directory.
    run: RunDir,
}

/// What came of reading a line.
type ReadLine = (Editor<Commands, FileHistory>, Result<String, ReadlineError>);

#[async_trait::async_trait]
impl Person for Chatter {
    async fn interrupts(&mut self) -> Word {
        match self.signals.next().await {
            Came::Interrupt => Word::Interrupt,
            // A chat without a person is nothing.
            Came::End | Came::HangUp => terminated(),
        }
    }

    async fn speaks(&mut self) -> Word {
        loop {
            let Some((asked, read)) = self.read(None).await else { return terminated() };
            match read {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) if line.trim_start().starts_with('/') => {
                    if let Some(word) = self.command(line.trim()) {
                        return word;
                    }
                }
                Ok(line) => match asked {
                    None => return Word::Say(line.trim().to_owned()),
                    Some(id) => say(&format!("({id} needs no answer any more; type it again to say it to the model)")),
                },
                Err(ReadlineError::Interrupted) => say(HOW_TO_LEAVE),
                Err(_) => return left(),
            }
        }
    }

    async fn answers(&mut self, question: &Question) -> Heard {
        if self.asked != Some(question.id) {
            say(&how_to_answer(self.run.id(), question));
        }
        loop {
            let Some((asked, read)) = self.read(Some(question.id)).await else { return Heard::Word(terminated()) };
            match read {
                Ok(line) if line.trim_start().starts_with('/') => {
                    if let Some(word) = self.command(line.trim()) {
                        return Heard::Word(word);
                    }
                }
                Ok(_) if asked != Some(question.id) => {
                    say(&format!("(begun before {} was asked, and so no answer to it; type it again)", question.id));
                }
                Ok(line) => match read_answer(question, &line) {
                    Ok(reply) => return Heard::Reply(reply),
                    Err(why) => say(&why),
                },
                Err(ReadlineError::Interrupted) => say(HOW_TO_LEAVE),
                Err(_) => return Heard::Word(left()),
            }
        }
    }

    async fn grants(&mut self, limit: Limit, why: &str) -> Grant {
        say(&format!("{why}; the box and what runs in it are kept\n{} (Enter ends the chat)", limit.question()));
        loop {
            let Some((_, read)) = self.read(None).await else { return Grant::Word(terminated()) };
            match read {
                Ok(line) if line.trim().is_empty() => return Grant::Nothing,
                Ok(line) => match more(limit, &line) {
                    Some(more) => return Grant::More(more),
                    None => say(&format!("`{}` makes no sense here", visible(line.trim()))),
                },
                Err(_) => return Grant::Nothing,
            }
        }
    }
}

const HOW_TO_LEAVE: &str = "(Ctrl-D or /quit ends the chat)";

fn left() -> Word {
    Word::End { reason: ExitReason::Done, why: "the person ended the chat".to_owned() }
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

impl Chatter {
    /// Reads a line on a thread of its own, to answer what is `asked` or to say something; with it comes what was asked
    /// when it was begun, since a line that is being typed stays. None when the program is to end meanwhile.
    async fn read(&mut self, asked: Option<QuestionId>) -> Option<(Option<QuestionId>, Result<String, ReadlineError>)> {
        if let Some(mut editor) = self.editor.take() {
            let (done, line) = tokio::sync::mpsc::channel(1);
            let prompt = asked.map_or("> ".to_owned(), |id| format!("{id}> "));
            self.asked = asked;
            std::thread::spawn(move || {
                let read = editor.readline(&prompt);
                let _ = done.blocking_send((editor, read));
            });
            self.line = Some(line);
        }
        let line = self.line.as_mut()?;
        let (mut editor, read) = loop {
            tokio::select! {
                line = line.recv() => break line?,
                came = self.signals.next() => if came != Came::Interrupt { return None },
            }
        };
        self.line = None;
        if let (Ok(line), Some(history)) = (&read, &self.history) {
            let _ = editor.add_history_entry(line);
            let _ = editor.append_history(history);
        }
        self.editor = Some(editor);
        Some((self.asked.take(), read))
    }

    fn command(&self, line: &str) -> Option<Word> {
        match line {
            "/quit" | "/exit" | "/q" => return Some(left()),
            "/help" | "/?" => COMMANDS.iter().for_each(|(name, what)| say(&format!("  {name:9} {what}"))),
            "/status" => self.status.with(|status| {
                say(&format!("  run      {}\n  model    {}\n  box      {}", status.run, status.model, status.sandbox));
                say(&format!("  so far   {}", status.totals.counts()));
            }),
            "/context" => {
                if let Err(failure) = context::print_of(self.run.path(), &mut io::stdout()) {
                    say(&format!("  {}", failure.what));
                }
            }
            "/compact" => {
                if let Err(failure) = context::ask_to_compact(&self.run) {
                    say(&format!("  {}", failure.what));
                }
            }
            other => say(&format!("no command `{other}`; {}", nearest(other))),
        }
        None
    }
}

/// The command that begins most like what was typed.
fn nearest(typed: &str) -> String {
    let common = |name: &str| name.chars().zip(typed.chars()).take_while(|(a, b)| a == b).count();
    let best = COMMANDS.iter().map(|(name, _)| *name).max_by_key(|name| common(name));
    match best.filter(|name| common(name) > 1) {
        Some(name) => format!("did you mean {name}?"),
        None => "/help lists them".to_owned(),
    }
}

fn editor(place: &Place) -> rustyline::Result<Editor<Commands, FileHistory>> {
    let config = Config::builder().history_ignore_dups(true)?.auto_add_history(false).build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Commands));
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
    editor.bind_sequence(KeyEvent::ctrl('j'), EventHandler::Simple(Cmd::Newline));
    if let Some(history) = place.state_dir().map(|dir| dir.join("chat_history")) {
        let _ = editor.load_history(&history);
    }
    Ok(editor)
}

/// Completes slash commands.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Commands;

impl Completer for Commands {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed: Cow<'_, str> = line[..pos].into();
        let fits = COMMANDS.iter().filter(|(name, _)| typed.starts_with('/') && name.starts_with(&*typed));
        Ok((0, fits.map(|(name, _)| (*name).to_owned()).collect()))
    }
}
