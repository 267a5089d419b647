//! `agent questions`: what runs have asked people, and what came of it.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::output::{Stop, finished};
use super::target::{of_read, of_store, store};
use super::{Failure, Place, view};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{
    AnsweredAt, ExitReason, OnSilence, QuestionEnd, QuestionRecord, QuestionState, Questions, Silence,
};
use crate::journal::{Reader, RunDir, RunStore, left_answers};
use crate::report::{duration_words, visible, visible_json, visible_line, wrapped};

/// `agent questions`.
#[derive(Debug, Args)]
pub(super) struct QuestionsArgs {
    /// The run: its id, a unique beginning of it, or `last`; all runs without
    #[arg(value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Those that are over, too
    #[arg(long)]
    pub(super) all: bool,
    /// Prints an array of JSON objects
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs `agent questions`.
///
/// # Errors
/// When there is no such run, or its transcript can't be read.
pub(super) fn run(args: &QuestionsArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    let all = match &args.run {
        Some(name) => {
            let run = store.find(name).map_err(|error| of_store(&error))?;
            let questions = recorded(&run)?;
            vec![(run, questions)]
        }
        None => of_all(&store, args.all)?,
    };
    let shown: Vec<(&RunDir, &QuestionRecord)> = all
        .iter()
        .flat_map(|(run, questions)| questions.all().map(move |record| (run, record)))
        .filter(|(_, record)| args.all || record.state == QuestionState::Open)
        .collect();
    finished(match args.json {
        true => print_json(&shown, out),
        false => print(&shown, args, view::width_of_stdout(place), out),
    })
}

/// The questions of a run, from its transcript.
pub(super) fn recorded(run: &RunDir) -> Result<Questions, Failure> {
    let mut questions = Questions::default();
    for entry in Reader::open(run.path()).map_err(|error| of_read(&error))? {
        questions.apply(&entry.map_err(|error| of_read(&error))?);
    }
    Ok(questions)
}

/// The questions of all runs, the newest run first; without `over` only of those that have one open. A transcript that
/// can't be read has none.
fn of_all(store: &RunStore, over: bool) -> Result<Vec<(RunDir, Questions)>, Failure> {
    let runs = store.list().map_err(|error| of_store(&error))?;
    let asking = runs.iter().filter(|summary| over || !summary.questions.is_empty());
    let read = asking.filter_map(|summary| {
        let run = store.run(&summary.run);
        let questions = recorded(&run).ok()?;
        Some((run, questions))
    });
    Ok(read.collect())
}

fn print_json(shown: &[(&RunDir, &QuestionRecord)], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let object = |(run, record): &(&RunDir, &QuestionRecord)| -> Value {
        let mut object = json!(record.question);
        object["run"] = json!(run.id());
        object["asked"] = json!(format!("{:.3}", record.asked));
        object["left"] = json!(left(run, record));
        let (state, more) = match &record.state {
            QuestionState::Open => ("open", json!({})),
            QuestionState::Answered { reply, at, time } => {
                let time = format!("{time:.3}");
                ("answered", json!({ "choice": reply.choice, "text": reply.text, "at": at, "time": time }))
            }
            QuestionState::Over { end, time } => ("over", json!({ "end": end, "time": format!("{time:.3}") })),
        };
        object["state"] = json!(state);
        object["answer"] = more;
        object
    };
    let all: Vec<Value> = shown.iter().map(object).collect();
    writeln!(out, "{}", visible_json(&Value::Array(all)))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

/// The words of an answer that lies in the inbox and was not taken yet.
fn left(run: &RunDir, record: &QuestionRecord) -> Option<String> {
    let left = left_answers(run).into_iter().find(|left| left.question == record.question.id)?;
    (record.state == QuestionState::Open).then(|| left.reply.words())
}

fn print(
    shown: &[(&RunDir, &QuestionRecord)],
    args: &QuestionsArgs,
    width: Option<usize>,
    out: &mut dyn Write,
) -> Result<ExitReason, Stop> {
    if shown.is_empty() {
        let of = args.run.as_ref().map_or("no run".to_owned(), |run| format!("run {}: nothing", visible_line(run)));
        let what = if args.all { "was ever asked" } else { "waits for an answer" };
        writeln!(out, "{of} {what}")?;
        return Ok(ExitReason::Done);
    }
    let texts: Vec<String> = shown.iter().map(|(run, record)| words(run, record)).collect();
    write!(out, "{}", wrapped(&visible(&texts.join("\n")), width))?;
    out.flush()?;
    Ok(ExitReason::Done)
}

/// A question as people read it.
fn words(run: &RunDir, record: &QuestionRecord) -> String {
    let question = &record.question;
    let (id, run_id) = (question.id, run.id());
    let mut text = format!("{id}  {}\n  run         {run_id}\n", question.text);
    let ago = SystemClock::new().now().duration_since(record.asked).as_millis();
    let ago = duration_words(u64::try_from(ago).unwrap_or(0));
    text.push_str(&format!("  asked       {:.0} ({ago} ago)\n", record.asked));
    for line in question.background.trim().lines() {
        text.push_str(&format!("  | {line}\n"));
    }
    for evidence in &question.evidence {
        text.push_str(&format!("  see         {evidence}\n"));
    }
    for (nth, option) in question.options.iter().enumerate() {
        let mark = if question.recommended.as_ref() == Some(&option.name) { " (recommended)" } else { "" };
        text.push_str(&format!("  {}. {}{mark}: {}\n", nth + 1, option.name, option.what));
    }
    match &record.state {
        QuestionState::Open => match left(run, record) {
            Some(left) => {
                text.push_str(&format!("  answered    {left}; waits to be taken: `agent resume {run_id}`\n"));
            }
            None => {
                text.push_str(&format!("  silence     {}\n", silence_words(question.silence)));
                text.push_str(&format!("  answer      agent answer {run_id} {id} …\n"));
            }
        },
        state => text.push_str(&format!("  {}\n", state_words(state))),
    }
    text
}

/// What came of a question that is not open, such as `answered    yes, at the terminal, 2026-01-02T03:04:05Z`.
pub(super) fn state_words(state: &QuestionState) -> String {
    match state {
        QuestionState::Open => "open".to_owned(),
        QuestionState::Answered { reply, at, time } => {
            let at = match at {
                AnsweredAt::Terminal => "at the terminal",
                AnsweredAt::Inbox => "from elsewhere",
            };
            format!("answered    {}, {at}, {time:.0}", reply.words())
        }
        QuestionState::Over { end: QuestionEnd::Timeout, time } => format!("over        nobody answered, {time:.0}"),
        QuestionState::Over { end: QuestionEnd::Withdrawn, time } => format!("over        withdrawn, {time:.0}"),
    }
}

/// What becomes of a question while nobody answers, in words.
pub(super) fn silence_words(silence: Silence) -> String {
    let within = silence.within_s.map(|seconds| duration_words(seconds.saturating_mul(1000)));
    match (silence.then, within) {
        (OnSilence::Wait, _) => "it waits until somebody answers".to_owned(),
        (OnSilence::Pause, None) => "it waits; where nobody is there the run stops, and can be resumed".to_owned(),
        (OnSilence::Pause, Some(within)) => format!("after {within} the run stops, and can be resumed"),
        (OnSilence::Fail, None) => "it waits; where nobody is there the run goes on without an answer".to_owned(),
        (OnSilence::Fail, Some(within)) => format!("after {within} the run goes on without an answer"),
    }
}
