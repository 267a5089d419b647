//! `agent logs`: what a session has printed, neutralised on its way to a terminal, as plain text into a pipe.

mod follow;
mod list;

use std::io::{self, Read as _, Write};
use std::path::Path;

use self::follow::{Follow, Woken};
use super::args::LogsArgs;
use super::output::{Stop, finished};
use super::plain_view::PlainView;
use super::target::{of_store, store};
use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::guest::LogReader;
use crate::journal::{RunDir, RunStore};
use crate::terminal::{PlainLine, PlainLines};

const PIECE: usize = 64 << 10;

/// Longest line that goes into a pipe whole.
const LONGEST_LINE: usize = 16 << 20;

/// Runs `agent logs`.
pub(super) async fn run(args: LogsArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    let run = store.find(&args.run).map_err(|error| of_store(&error))?;
    if args.raw && place.stdout_tty {
        return Err(Failure::new(
            ExitReason::Usage,
            "raw output must not go to a terminal: what a program printed acts on it",
        )
        .hint(format!("write it to a file: `agent logs {} SESSION --raw > FILE`", run.id())));
    }
    let sessions = list::sessions(&run.sessions());
    let session = match &args.session {
        Some(session) => session.clone(),
        None => match sessions.as_slice() {
            [] => return Err(none_yet(&run)),
            [only] => only.name.clone(),
            many => return finished(list::print(&run, many, out).await),
        },
    };
    // As long as a file's name can be.
    let is_plain_name = session.len() <= 200 && !session.contains(['/', '\0']);
    let log = LogReader::open(&run.sessions(), &format!("{session}.log"));
    let log = match log {
        Ok(log) if is_plain_name => log,
        Err(error) if is_plain_name && error.kind() != io::ErrorKind::NotFound => {
            let what = format!("cannot read the log of session `{session}`");
            return Err(Failure::new(ExitReason::Failed, what).because_of(&error));
        }
        Ok(_) | Err(_) => return Err(unknown(&session, &sessions, &run)),
    };
    let form = match (args.raw, place.stdout_tty) {
        (true, _) => Form::Raw,
        (false, true) => Form::Screen(Box::default()),
        (false, false) => Form::Lines(Box::new(PlainLines::keeping(LONGEST_LINE))),
    };
    let mut printer = Printer { form, out };
    let printed = match print(log, &args, &store, &run, &mut printer).await {
        Ok(()) => printer.end(),
        Err(stop) => Err(stop),
    };
    finished(printed.map(|()| ExitReason::Done))
}

fn none_yet(run: &RunDir) -> Failure {
    Failure::new(ExitReason::Usage, format!("run {} has no session yet", run.id()))
        .hint(format!("see what happened: `agent replay {}`", run.id()))
}

fn unknown(session: &str, sessions: &[list::SessionLog], run: &RunDir) -> Failure {
    let cut: String = session.chars().take(80).collect();
    let what = format!("run {} has no session `{cut}`", run.id());
    let there: Vec<&str> = sessions.iter().map(|session| session.name.as_str()).collect();
    match there.as_slice() {
        [] => Failure::new(ExitReason::Usage, what).because("it has none yet"),
        there => Failure::new(ExitReason::Usage, what)
            .because(format!("it has {}", there.join(", ")))
            .hint(format!("see them: `agent logs {}`", run.id())),
    }
}

async fn print(
    mut log: LogReader,
    args: &LogsArgs,
    store: &RunStore,
    run: &RunDir,
    printer: &mut Printer<'_>,
) -> Result<(), Stop> {
    let unread = |error: io::Error| Failure::new(ExitReason::Failed, "cannot read the log").because_of(&error);
    if let Some(lines) = args.lines {
        let begin = from_end(&mut log, lines).map_err(unread)?;
        log.seek(begin);
    }
    if !args.follow {
        return printer.all(&mut log);
    }
    // The watch stands before the first look, so that nothing falls between them.
    let mut follow = Follow::begin(run.path(), &run.sessions()).map_err(unread)?;
    loop {
        let goes_on = store.is_driven(run.id());
        printer.all(&mut log)?;
        printer.out.flush()?;
        if !goes_on {
            return Ok(());
        }
        match follow.next(|| store.is_driven(run.id())).await {
            Woken::Run => {}
            Woken::Person | Woken::Reader => return Ok(()),
        }
    }
}

/// Where the last lines begin.
fn from_end(log: &mut LogReader, lines: u64) -> io::Result<u64> {
    let size = log.size();
    let (mut end, mut left) = (size, lines);
    let mut buffer = vec![0; PIECE];
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let piece = &mut buffer[..usize::try_from(end - begin).unwrap_or(PIECE)];
        log.seek(begin);
        log.read_exact(piece)?;
        // The last line feed ends a line and begins none.
        let from = if end == size && piece.last() == Some(&b'\n') && lines > 0 { piece.len() - 1 } else { piece.len() };
        for feed in memchr::memrchr_iter(b'\n', &piece[..from]) {
            if left <= 1 {
                return Ok(begin + feed as u64 + 1);
            }
            left -= 1;
        }
        end = begin;
    }
    Ok(if lines == 0 { size } else { 0 })
}

/// How bytes are shown.
enum Form {
    /// As they are.
    Raw,
    /// On a terminal.
    Screen(Box<PlainView>),
    /// As lines of text.
    Lines(Box<PlainLines>),
}

struct Printer<'a> {
    form: Form,
    out: &'a mut dyn Write,
}

impl Printer<'_> {
    /// Prints what there is from where the log stands.
    fn all(&mut self, log: &mut LogReader) -> Result<(), Stop> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = log.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.piece(&buffer[..read])?;
        }
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.form {
            Form::Raw => self.out.write_all(bytes),
            Form::Screen(view) => self.out.write_all(&view.pass(bytes)),
            Form::Lines(lines) => {
                let mut text = Vec::with_capacity(bytes.len());
                lines.feed(bytes, &mut |line| put(&mut text, line));
                self.out.write_all(&text)
            }
        }
    }

    /// What is left to be printed, and the terminal as it was.
    fn end(self) -> Result<(), Stop> {
        match self.form {
            Form::Raw => {}
            Form::Screen(view) => self.out.write_all(&view.leave())?,
            Form::Lines(lines) if lines.rest().text.is_empty() => {}
            Form::Lines(lines) => {
                let mut text = Vec::new();
                put(&mut text, lines.rest());
                self.out.write_all(&text)?;
            }
        }
        Ok(self.out.flush()?)
    }
}

fn put(text: &mut Vec<u8>, line: PlainLine<'_>) {
    text.extend_from_slice(String::from_utf8_lossy(line.text).as_bytes());
    text.extend_from_slice(if line.cut { " […]\n".as_bytes() } else { b"\n" });
}

/// The size of a log of a run, all its files together.
fn size_of(dir: &Path, log: &str) -> u64 {
    LogReader::open(dir, log).map_or(0, |mut log| log.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let text = (1..=30_000).fold(String::new(), |text, n| format!("{text}line {n}\n"));
        let begin_of = |text: &str, lines| {
            std::fs::write(dir.path().join("main.log"), text).unwrap();
            let mut log = LogReader::open(dir.path(), "main.log").unwrap();
            text[usize::try_from(from_end(&mut log, lines).unwrap()).unwrap()..].to_owned()
        };
        assert_eq!(begin_of(&text, 2), "line 29999\nline 30000\n");
        assert_eq!(begin_of(&format!("{text}$ "), 2), "line 30000\n$ ");
        assert_eq!(begin_of(&text, 20_000).lines().next(), Some("line 10001"));
        assert_eq!(
            (begin_of(&text, 0), begin_of("a\nb\n", 9), begin_of("", 3)),
            ("".into(), "a\nb\n".into(), "".into())
        );
    }
}
