//! `agent answer`: a person's answer from another terminal. It is left in the run's inbox, for whoever drives the run now
//! or takes it up again.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::output::finished;
use super::questions::{recorded, state_words};
use super::target::{of_store, store};
use super::{Failure, Place, send};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{Event, ExitReason, Question, QuestionId, QuestionState, Reply};
use crate::journal::{LeftAnswer, PostError, RunDir, RunStore, post_answer};

/// How long a driver gets to say that it has taken the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often its record is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// `agent answer`.
#[derive(Debug, Args)]
#[command(override_usage = "agent answer [RUN] QUESTION ANSWER…")]
pub(super) struct AnswerArgs {
    /// The run (may be left out where only one has such a question open), the question, such as q1, and the answer: the
    /// name or number of an option, words of your own, or both; `-` reads it from standard input
    #[arg(value_name = "WORD", required = true)]
    pub(super) words: Vec<String>,
}

/// Runs `agent answer`.
///
/// # Errors
/// When there is no such question, or it is not open any more, or the answer is none of it.
pub(super) fn run(args: &AnswerArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    let (name, id, words) = parts(&args.words)?;
    let run = match name {
        Some(name) => store.find(name).map_err(|error| of_store(&error))?,
        None => only_one_with(&store, id)?,
    };
    let text = match words {
        [dash] if dash == "-" => send::from_stdin("answer")?,
        words => words.join(" "),
    };
    let read_from = fs::metadata(run.journal()).map_or(0, |journal| journal.len());
    let reply = reply_to(&run, id, &text)?;
    let said = reply.words();
    let is_driven = store.is_driven(run.id());
    let answer = LeftAnswer { question: id, reply };
    let name =
        post_answer(&run, answer, SystemClock::new().now(), fastrand::u128(..)).map_err(|error| match error {
            PostError::Answered(..) => Failure::new(ExitReason::Usage, error.to_string())
                .hint(format!("see it: `agent questions {}`", run.id())),
            error => Failure::new(ExitReason::Internal, "cannot leave the answer").because_of(&error),
        })?;
    let told = match is_driven.then(|| taken(&run, read_from, id)).flatten() {
        Some(Taken { mail: Some(mail) }) if mail == name => format!("{id} of run {} is answered: {said}", run.id()),
        Some(_) => return Err(not_open(&run, id)?),
        None if is_driven => format!("left for run {}: it takes the answer with its next step", run.id()),
        None => format!("left for run {}: go on with `agent resume {}`", run.id(), run.id()),
    };
    let written = writeln!(out, "{}", crate::report::visible_line(&told));
    finished(written.map(|()| ExitReason::Done).map_err(Into::into))
}

/// The run where one is named, the question, and the answer in words.
fn parts(words: &[String]) -> Result<(Option<&String>, QuestionId, &[String]), Failure> {
    let usage = |because: String| {
        Failure::new(ExitReason::Usage, "it is not clear what is answered")
            .because(because)
            .hint("name the question, and say your answer: `agent answer q1 yes`")
            .hint("see what is asked: `agent questions`")
    };
    match words {
        [first, rest @ ..] if first.parse::<QuestionId>().is_ok() => {
            Ok((None, first.parse().expect("just done"), rest))
        }
        [run, id, rest @ ..] => {
            let id = id.parse().map_err(|error: crate::domain::IdError| usage(error.to_string()))?;
            Ok((Some(run), id, rest))
        }
        [run] => Err(usage(format!("`{run}` is no question, and no question follows"))),
        [] => Err(usage("nothing is named".to_owned())),
    }
}

/// The one run that has such a question open.
fn only_one_with(store: &RunStore, id: QuestionId) -> Result<RunDir, Failure> {
    let all = store.list().map_err(|error| of_store(&error))?;
    let asking: Vec<_> = all.iter().filter(|run| run.questions.iter().any(|open| open.id == id)).collect();
    match &asking[..] {
        [one] => Ok(store.run(&one.run)),
        [] => Err(Failure::new(ExitReason::Usage, format!("no run has an open question {id}"))
            .hint("see what is asked: `agent questions`")
            .hint("see what was: `agent questions --all`")),
        many => {
            let mut failure =
                Failure::new(ExitReason::Usage, format!("{} runs have an open question {id}", many.len()));
            for run in many {
                let open = run.questions.iter().find(|open| open.id == id).map_or("", |open| &open.text);
                failure = failure.because(format!("run {} asks: {open}", run.run));
            }
            Err(failure.hint(format!("name the run: `agent answer {} {id} yes`", many[0].run)))
        }
    }
}

/// What was meant, where the question is open and that is an answer to it.
fn reply_to(run: &RunDir, id: QuestionId, text: &str) -> Result<Reply, Failure> {
    let questions = recorded(run)?;
    let question = match questions.get(id) {
        Some(record) if record.state == QuestionState::Open => &record.question,
        Some(_) | None => return Err(not_open(run, id)?),
    };
    let Some(reply) = Reply::read(question, text) else {
        return Err(Failure::new(ExitReason::Usage, format!("nothing is said to {id}: {}", question.text))
            .because(format!("its options are {}", question.names()))
            .hint(answer_with(run, question)));
    };
    if !question.admits(&reply) {
        return Err(Failure::new(ExitReason::Usage, format!("`{}` is no answer to {id}", reply.words()))
            .because(format!("it has to be one of {}; words may follow", question.names()))
            .hint(answer_with(run, question)));
    }
    Ok(reply)
}

fn answer_with(run: &RunDir, question: &Question) -> String {
    format!("choose one: `agent answer {} {} {}`", run.id(), question.id, question.first_choice())
}

/// Why a question can't be answered.
fn not_open(run: &RunDir, id: QuestionId) -> Result<Failure, Failure> {
    let questions = recorded(run)?;
    let failure = match questions.get(id) {
        None => Failure::new(ExitReason::Usage, format!("run {} has no question {id}", run.id())),
        Some(record) => {
            let what = match &record.state {
                QuestionState::Answered { .. } => "was answered before",
                QuestionState::Open | QuestionState::Over { .. } => "is over",
            };
            let state = state_words(&record.state).split_whitespace().collect::<Vec<_>>().join(" ");
            Failure::new(ExitReason::Usage, format!("question {id} of run {} {what}", run.id())).because(state)
        }
    };
    Ok(failure.hint(format!("see what it asked: `agent questions {} --all`", run.id())))
}

/// What has closed a question.
struct Taken {
    /// The name of the answer that counted.
    mail: Option<String>,
}

/// Waits for what closes the question in the record, from `begin` on; None where nothing does in time.
fn taken(run: &RunDir, begin: u64, id: QuestionId) -> Option<Taken> {
    let until = Instant::now() + PATIENCE;
    let mut from = begin;
    while Instant::now() < until {
        if let Ok(Some(taken)) = closing(run, &mut from, id) {
            return Some(taken);
        }
        // The record grows by plain writes of another process, and this waits for a moment at most.
        std::thread::sleep(LOOK);
    }
    None
}

/// Looks at the whole lines that have come since `from`.
fn closing(run: &RunDir, from: &mut u64, id: QuestionId) -> io::Result<Option<Taken>> {
    let mut journal = BufReader::new(File::open(run.journal())?);
    journal.seek(SeekFrom::Start(*from))?;
    let mut line = String::new();
    while journal.read_line(&mut line)? > 0 && line.ends_with('\n') {
        *from += line.len() as u64;
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        match serde_json::from_value(entry["event"].clone()) {
            Ok(Event::QuestionAnswered { question, mail, .. }) if question == id => return Ok(Some(Taken { mail })),
            Ok(Event::QuestionClosed { question, .. }) if question == id => return Ok(Some(Taken { mail: None })),
            _ => {}
        }
        line.clear();
    }
    Ok(None)
}
