//! What the model is told of its claim to be done.

use crate::context::Prompt;
use crate::domain::{Check, CheckResult, JobRecord, Outcome, Status};

use super::answers;
use super::state::{MAX_CHECK_ROUNDS, Outdated, State};

/// Characters of a job's command that a claim's answer shows.
const SHOWN_OF_COMMAND: usize = 60;
/// Paths and programs that are named.
const MOST_NAMED: usize = 10;

/// The outcome of the claim that waits for its answer.
pub(super) fn answer(state: &State, accepted: bool) -> Outcome {
    if accepted {
        let mut text = "Accepted. The run ends here.".to_owned();
        let ending = ending_jobs(state);
        if !ending.is_empty() {
            text.push_str(&format!(" With it end the jobs that still run: {ending}."));
        }
        return Outcome::words(Status::Ok, text);
    }
    if let Some(record) = state.asked_for_help() {
        // The claim is no more; what was said to it counts.
        return Outcome { status: Status::Cancelled, ..answers::outcome_of(record) };
    }
    let changed = state.proof().changed();
    if !changed.is_empty() {
        return Outcome::words(Status::Refused, changed_words(changed));
    }
    if let Some(outdated) = state.proof().outdated() {
        return Outcome::words(Status::Failed, outdated_words(outdated));
    }
    let (results, checks) = (state.check_results(), &state.spec().checks);
    let failed: Vec<_> = results.iter().filter(|result| result.outcome.status != Status::Ok).collect();
    if failed.is_empty() {
        return Outcome::words(Status::Cancelled, "not decided: the run was ended before its checks were through");
    }
    let values = [
        ("failed", failed.len().to_string()),
        ("total", checks.len().to_string()),
        ("round", state.check_round().to_string()),
        ("rounds", MAX_CHECK_ROUNDS.to_string()),
        ("details", failed.iter().map(|result| in_words(result, checks)).collect::<Vec<_>>().join("\n")),
    ];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    let text = Prompt::CheckFailed.render(&values).expect("the template is fixed and tested");
    Outcome::words(Status::Failed, text)
}

fn changed_words(paths: &[String]) -> String {
    let shown = some_of(paths);
    format!(
        "Not accepted: files that must stay exactly as they are have been changed, removed or added: {shown}. Bring them \
         back as they were before the run, such as with `git checkout -- PATH`, take away what was added, and reach the \
         goal without them. The next claim with one of them changed ends the run."
    )
}

fn outdated_words(outdated: &Outdated) -> String {
    let paths = match outdated.paths.is_empty() {
        true => "the workspace".to_owned(),
        false => some_of(&outdated.paths),
    };
    let beside = match outdated.running.is_empty() {
        true => String::new(),
        false => format!(" Beside the checks there is: {}.", some_of(&outdated.running)),
    };
    format!(
        "Not accepted: each time the checks ran, what they look at changed meanwhile: {paths}.{beside} End what still \
         writes there, wait for its end, or have it write outside the project; then call finish again."
    )
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The outcome of a claim that came before a person's message was read.
pub(super) fn unread_mail() -> Outcome {
    Outcome::words(Status::Cancelled, "not decided: a person has said something meanwhile, and it follows")
}

/// The jobs that end with the run, such as ``j1 (`make`), j2 (`npm start`)``; empty if there are none.
pub(super) fn ending_jobs(state: &State) -> String {
    let named = |record: &JobRecord| {
        let line = record.job.command.lines().next().unwrap_or_default();
        let command: String = line.chars().take(SHOWN_OF_COMMAND).collect();
        let more = if command.len() < record.job.command.len() { "…" } else { "" };
        format!("{} (`{command}{more}`)", record.job.id)
    };
    let ending = state.jobs().ending(state.spec().keep_services);
    ending.map(named).collect::<Vec<_>>().join(", ")
}

fn in_words(result: &CheckResult, checks: &[Check]) -> String {
    format!("\n$ {}\n{}", checks[result.check], result.outcome.text)
}
