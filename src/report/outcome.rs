//! What became of a call, in words.

use std::borrow::Cow;

use super::style::{Style, duration, one_line, size};
use super::totals::has_failed;
use super::visible;
use crate::domain::{Outcome, Status};

/// Longest line of output that is shown, in characters.
pub(super) const WIDEST: usize = 300;

/// What a line of facts about a command begins with.
const FACTS: [&str; 3] = ["[exit ", "[killed by ", "[still running"];

/// What a line holds that tells the model how to go on waiting.
const RUNS_ON: &str = "it runs on; ";

/// How much of a text is shown: so many lines of its beginning and of its end.
pub(super) type Room = (usize, usize);

/// The text that the model is shown, without the line of facts that it begins with; and how the command stands, as that
/// line says it.
fn parts(outcome: &Outcome) -> (Option<&str>, &str) {
    let text = outcome.text.trim_end();
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let facts = line.strip_suffix(']').filter(|line| FACTS.iter().any(|fact| line.starts_with(fact)));
    match facts.and_then(|facts| facts.split_once(" · ")).filter(|_| outcome.output.is_some()) {
        Some((how, _)) => (Some(&how[1..]), without_advice(rest)),
        None => (None, text),
    }
}

fn without_advice(text: &str) -> &str {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    if line.starts_with('[') && line.contains(RUNS_ON) { rest } else { text }
}

/// Whether a command runs on as a job, which is told of by itself.
pub(super) fn is_job(outcome: &Outcome) -> bool {
    outcome.status == Status::Running && outcome.text.lines().nth(1).is_some_and(|line| line.starts_with("[job j"))
}

/// What a command printed, as far as the model is shown it.
pub(super) fn printed(outcome: &Outcome) -> &str {
    parts(outcome).1
}

/// How it ended: `exit 3`, `killed by SIGTERM`, `still running`, `malformed call`. Safe to print.
pub(super) fn how(outcome: &Outcome) -> String {
    if let (Some(how), _) = parts(outcome) {
        return visible(how).into_owned();
    }
    match (outcome.status, outcome.exit) {
        (_, Some(exit)) => exit.to_string(),
        (Status::Malformed, None) => "malformed call".to_owned(),
        (Status::Unknown, None) => "result unknown".to_owned(),
        (status, None) => status.word().to_owned(),
    }
}

/// How it ended, how long it took, how much it printed.
pub(super) fn in_words(outcome: &Outcome, style: Style) -> String {
    let how = match (outcome.status, outcome.exit) {
        (Status::Malformed | Status::Refused | Status::Cancelled | Status::Unknown, None) => style.warn(&how(outcome)),
        _ if has_failed(outcome) => style.bad(&how(outcome)),
        _ => how(outcome),
    };
    let printed = outcome.output.as_ref().filter(|output| output.size_bytes > 0);
    let printed = printed.map(|output| format!(", {}", size(output.size_bytes)));
    format!("{how}, {}{}", duration(outcome.duration_ms), printed.unwrap_or_default())
}

/// Safe text, its middle left out where it is longer than `room`. None: all of it.
pub(super) fn cut(text: &str, room: Option<Room>) -> Cow<'_, str> {
    let Some((head, tail)) = room else { return visible(text) };
    let lines: Vec<&str> = text.split('\n').collect();
    let shown = |lines: &[&str]| lines.iter().map(|line| one_line(line, WIDEST)).collect::<Vec<_>>().join("\n");
    if lines.len() <= head + tail + 1 {
        return Cow::Owned(shown(&lines));
    }
    let (from, left) = (lines.len() - tail, lines.len() - head - tail);
    let head = if head == 0 { String::new() } else { shown(&lines[..head]) + "\n" };
    Cow::Owned(format!("{head}[... {left} lines]\n{}", shown(&lines[from..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Exit, OutputFacts};

    fn outcome(status: Status, exit: Option<Exit>, text: &str) -> Outcome {
        let output = OutputFacts { size_bytes: 38, omitted_bytes: 0, log: "sessions/main.log".into(), offset: 0 };
        Outcome { status, exit, duration_ms: 1_200, cwd: None, output: Some(output), failure: None, text: text.into() }
    }

    fn words(outcome: &Outcome) -> String {
        in_words(outcome, Style::default())
    }

    #[test]
    fn the_line_of_facts_is_said_once() {
        let killed =
            outcome(Status::Failed, Some(Exit::Signal(9)), "[killed by SIGKILL · 1.20 s · /p · 2 lines]\na\nb\n");
        assert_eq!((words(&killed).as_str(), printed(&killed)), ("killed by SIGKILL, 1.2 s, 38 B", "a\nb"));
        let late = outcome(Status::Failed, Some(Exit::Code(0)), "[exit 0, killed: out of time · 1.20 s · no output]");
        assert_eq!((words(&late).as_str(), printed(&late)), ("exit 0, killed: out of time, 1.2 s, 38 B", ""));
    }

    #[test]
    fn advice_for_the_model_is_not_shown() {
        let running = outcome(Status::Running, None, "[still running · 1.20 s · /p · 1 line]\n[it runs on; wait]\na");
        assert_eq!((words(&running).as_str(), printed(&running)), ("still running, 1.2 s, 38 B", "a"));
    }

    #[test]
    fn what_only_looks_like_facts_is_kept() {
        for text in ["[exit 3]\nx", "exit 3 · x", "[not started: `a · b` runs · c]", "[exit 3 · x\ny]"] {
            assert_eq!(printed(&outcome(Status::Failed, Some(Exit::Code(3)), text)), text);
        }
        assert_eq!(printed(&Outcome::words(Status::Ok, "[exit 0 · x]\ny")), "[exit 0 · x]\ny");
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        assert_eq!(cut("a\nb\nc\nd\ne", Some((1, 2))), "a\n[... 2 lines]\nd\ne");
        assert_eq!(cut("a\nb\nc\nd\ne", Some((0, 3))), "[... 2 lines]\nc\nd\ne");
        assert_eq!(cut("a\nb\nc\nd", Some((0, 3))), "a\nb\nc\nd");
        assert_eq!(cut("a\r", None), "a\\r");
    }
}
