//! `agent send`: a message from another terminal for the model of a run that goes on.

use std::io::{self, Read as _, Write};

use super::args::SendArgs;
use super::output::finished;
use super::target::{of_store, store};
use super::{Failure, Place};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::ExitReason;
use crate::journal::{LONGEST_MESSAGE, PostError, post};

/// Runs `agent send`.
///
/// # Errors
/// When nobody drives the run, or the message can't be left for who does.
pub(super) fn run(args: &SendArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let run = store(place)?.find(&args.run).map_err(|error| of_store(&error))?;
    let text = match &args.message[..] {
        [dash] if dash == "-" => from_stdin("message")?,
        words => words.join(" "),
    };
    post(&run, &text, SystemClock::new().now(), fastrand::u128(..)).map_err(|error| failed(&error))?;
    let said = writeln!(out, "left for run {}: the model gets it with its next request", run.id());
    finished(said.map(|()| ExitReason::Done).map_err(Into::into))
}

/// Reads a person's words from standard input; `what` they are.
pub(super) fn from_stdin(what: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = LONGEST_MESSAGE as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(ExitReason::Usage, format!("cannot read the {what} from standard input")).because_of(&error)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        // What was cut may have been cut within a character.
        let too_long = error.as_bytes().len() > LONGEST_MESSAGE;
        match too_long {
            true => failed(&PostError::TooLong),
            false => Failure::new(ExitReason::Usage, format!("the {what} is not text")).because_of(&error.utf8_error()),
        }
    })
}

fn failed(error: &PostError) -> Failure {
    match error {
        PostError::NotDriven(run) => Failure::new(ExitReason::Usage, error.to_string())
            .hint(format!("see how it stands with the run: `agent runs show {run}`")),
        PostError::Empty => Failure::new(ExitReason::Usage, error.to_string())
            .hint("say what the model is to know: `agent send last \"use batch size 16\"`"),
        PostError::TooLong => Failure::new(ExitReason::Usage, error.to_string())
            .hint("put the material into a file of the project and name it in the message"),
        PostError::Answered(..) => Failure::new(ExitReason::Usage, error.to_string()),
        PostError::Io(_) => Failure::new(ExitReason::Internal, error.to_string()).because_of_source(error),
    }
}
