//! What a run has learned that the project's runbook does not say, and a patch that says it. Only a proposal: a person
//! applies it or does not.

use std::collections::HashMap;

use similar::TextDiff;

use super::visible_line;
use crate::domain::{Decision, DecisionId, Entry, Event, Learning, Question, QuestionId, Subject, TurnedOut};

/// The part of the runbook in which it stands.
const HEADING: &str = "## Learned in runs";
/// Most lines that one run proposes.
const MOST_LINES: usize = 20;
/// Longest piece of recorded text in a line, in characters.
const LONGEST: usize = 160;

/// What was learned, a line each: failures that something has helped against, questions that were answered with a fact.
pub fn learned(entries: &[Entry]) -> Vec<String> {
    let mut learning = Learning::default();
    let mut decisions: HashMap<DecisionId, &Decision> = HashMap::new();
    let mut questions: HashMap<QuestionId, &Question> = HashMap::new();
    let mut lines: Vec<String> = Vec::new();
    for entry in entries {
        let experience = learning.apply(entry);
        let line = match &entry.event {
            Event::DecisionMade { decision } => {
                decisions.insert(decision.id, decision);
                None
            }
            Event::DecisionJudged { decision, turned_out: TurnedOut::Worked, .. } => {
                let commands = experience.map(|experience| experience.commands).unwrap_or_default();
                decisions.get(decision).map(|decision| helped(decision, &commands))
            }
            Event::QuestionAsked { question } => {
                questions.insert(question.id, question);
                None
            }
            Event::QuestionAnswered { question, reply, .. } => {
                let asked = questions.get(question).filter(|asked| matches!(asked.subject, Subject::Model { .. }));
                asked.map(|asked| format!("- {} A person: {}", short(&asked.text), short(&reply.words())))
            }
            _ => None,
        };
        lines.extend(line.filter(|line| !lines.contains(line)));
    }
    lines.truncate(MOST_LINES);
    lines
}

fn helped(decision: &Decision, commands: &[String]) -> String {
    let seen = decision.evidence.first().map(|evidence| format!(" ({})", short(evidence))).unwrap_or_default();
    let action = decision.chosen.name().replace('_', " ");
    let by: Vec<String> = commands.iter().map(|command| format!("`{}`", short(command).replace('`', "'"))).collect();
    let by = if by.is_empty() { String::new() } else { format!(": {}", by.join(", then ")) };
    format!("- {}{seen}: what helped was {action}{by}", decision.class)
}

fn short(text: &str) -> String {
    let line = visible_line(text.trim());
    match line.char_indices().nth(LONGEST) {
        None => line.into_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// Those lines that a runbook does not have already, however it is spaced.
pub fn news<'l>(runbook: Option<&str>, lines: &'l [String]) -> Vec<&'l str> {
    let bare =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let known = bare(runbook.unwrap_or_default());
    lines.iter().map(String::as_str).filter(|line| !known.contains(&bare(line))).collect()
}

/// A patch that adds these lines to `RUNBOOK.md`, for `patch -p1` or `git apply`; None where there is nothing to add.
/// `runbook` is what stands there now, None where there is no such file.
pub fn runbook_patch(runbook: Option<&str>, lines: &[&str]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let old = runbook.unwrap_or_default();
    let new = with(old, lines);
    let before = if runbook.is_some() { "a/RUNBOOK.md" } else { "/dev/null" };
    let diff = TextDiff::from_lines(old, new.as_str());
    Some(diff.unified_diff().context_radius(3).header(before, "b/RUNBOOK.md").to_string())
}

/// The runbook with the lines at the end of their part, which is made where there is none.
fn with(old: &str, lines: &[&str]) -> String {
    let ending = if old.contains("\r\n") { "\r\n" } else { "\n" };
    let mut all: Vec<&str> = old.lines().collect();
    let heading = all.iter().position(|line| line.trim_end() == HEADING);
    let at = match heading {
        Some(heading) => {
            let next = all[heading + 1..].iter().position(|line| line.starts_with("# ") || line.starts_with("## "));
            let end = next.map_or(all.len(), |next| heading + 1 + next);
            (heading + 1..=end).rev().find(|at| !all[at - 1].trim().is_empty()).unwrap_or(end)
        }
        None => {
            if all.last().is_some_and(|line| !line.trim().is_empty()) {
                all.push("");
            }
            all.extend([HEADING, ""]);
            all.len()
        }
    };
    all.splice(at..at, lines.iter().copied());
    all.iter().flat_map(|line| [*line, ending]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_the_end_of_its_part() {
        let old = "# Runs\n\n## Learned in runs\n\n- one\n\n## Other\n\ntext\n";
        let patch = runbook_patch(Some(old), &["- two"]).unwrap();
        insta::assert_snapshot!(patch, @r"
        --- a/RUNBOOK.md
        +++ b/RUNBOOK.md
        @@ -3,6 +3,7 @@
         ## Learned in runs
         
         - one
        +- two
         
         ## Other
         
        ");
        assert_eq!(with("", &["- a"]), "## Learned in runs\n\n- a\n");
        assert_eq!(with("x", &["- a"]), "x\n\n## Learned in runs\n\n- a\n");
        assert_eq!(with("x\r\n", &["- a"]), "x\r\n\r\n## Learned in runs\r\n\r\n- a\r\n");
    }

    #[test]
    fn what_is_known_is_not_proposed_again() {
        let lines = ["- network (Could not resolve): what helped was retry as is".to_owned()];
        assert!(news(Some("* Network (could not  resolve): What helped was `retry as is`\n"), &lines).is_empty());
        assert_eq!(news(None, &lines).len(), 1);
        assert_eq!(runbook_patch(None, &[]), None);
    }
}
