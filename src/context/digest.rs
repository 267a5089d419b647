//! A summary that needs no model: what was done, a line each, from the entries alone.

use super::unit::{Kind, Unit, clip};
use crate::domain::Summary;
use crate::model::Message;

const WROTE: &str = "Files written: ";
const STEP: &str = "- step ";
const OLDER: &str = "- older steps";
const LAST_WORDS: &str = "The model's last words: ";
/// So many files are named, the newest.
const MOST_FILES: usize = 40;
/// Bytes of the model's last words.
const WORDS: usize = 600;

/// Sums `units` up, and what `before` stands for, in at most `bytes`.
///
/// What does not fit is left out from the oldest steps on; the steps that failed and those that wrote go last.
pub(super) fn digest<'a>(units: impl Iterator<Item = &'a Unit>, before: Option<&Summary>, bytes: usize) -> String {
    let mut parts = before.map(Parts::read).unwrap_or_default();
    for unit in units.filter(|unit| unit.kind == Kind::Answer) {
        parts.take(unit);
    }
    parts.write(bytes)
}

#[derive(Default)]
struct Parts {
    /// An earlier summary's words that are none of the others.
    earlier: Vec<String>,
    files: Vec<String>,
    /// How many steps an earlier summary had left out already.
    older: Option<String>,
    steps: Vec<String>,
    words: Option<String>,
}

impl Parts {
    /// Takes an earlier summary apart.
    fn read(summary: &Summary) -> Self {
        let mut parts = Self::default();
        for line in summary.text.lines() {
            if let Some(files) = line.strip_prefix(WROTE) {
                parts.files = files.trim_end_matches('.').split(", ").map(str::to_owned).collect();
            } else if line.starts_with(STEP) {
                parts.steps.push(line.to_owned());
            } else if line.starts_with(OLDER) {
                parts.older = Some(line.to_owned());
            } else if !line.starts_with(LAST_WORDS) {
                parts.earlier.push(line.to_owned());
            }
        }
        parts
    }

    fn take(&mut self, unit: &Unit) {
        for step in &unit.steps {
            if let Some(path) = &step.writes {
                self.files.retain(|file| file != path);
                self.files.push(path.clone());
            }
            self.steps.push(format!("- {}", step.line()));
        }
        if let Some(Message::Assistant { text, .. }) = unit.messages.first()
            && !text.trim().is_empty()
        {
            let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            clip(&mut words, WORDS);
            self.words = Some(words.replace('\n', " "));
        }
    }

    fn write(mut self, bytes: usize) -> String {
        let mut earlier = self.earlier.join("\n").trim().to_owned();
        clip(&mut earlier, bytes / 2);
        let unnamed = self.files.len().saturating_sub(MOST_FILES);
        self.files.drain(..unnamed);
        let mut files = format!("{WROTE}{}.", self.files.join(", "));
        clip(&mut files, bytes / 6);
        let files = if self.files.is_empty() { String::new() } else { files.replace('\n', " ") };
        let mut words = self.words.take().map(|words| format!("{LAST_WORDS}{words}")).unwrap_or_default();
        clip(&mut words, bytes / 6);
        let older = format!("{OLDER} are not listed; `recall` lists them.");
        let fixed = earlier.len() + files.len() + words.len() + older.len() + 8;
        let left_out = self.leave_out(bytes.saturating_sub(fixed));
        let older = if left_out || self.older.is_some() { older } else { String::new() };
        let parts = [vec![earlier, files, older], self.steps, vec![words.replace('\n', " ")]].concat();
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let mut text = parts.join("\n");
        clip(&mut text, bytes);
        text
    }

    /// Leaves steps out until the others fit in `bytes`: first the oldest that just went well, then the oldest. True if
    /// some were.
    fn leave_out(&mut self, bytes: usize) -> bool {
        let size = |steps: &[String]| steps.iter().map(|step| step.len() + 1).sum::<usize>();
        let mut over = size(&self.steps).saturating_sub(bytes);
        let is_left_out = over > 0;
        let newest = self.steps.len().saturating_sub(self.steps.len() / 2);
        for only_dull in [true, false] {
            let mut at = 0;
            self.steps.retain(|step| {
                at += 1;
                let goes = over > 0 && (!only_dull || (at <= newest && is_dull(step)));
                if goes {
                    over = over.saturating_sub(step.len() + 1);
                }
                !goes
            });
        }
        is_left_out
    }
}

fn is_dull(line: &str) -> bool {
    [" · exit 0 · ", " · ok · "].iter().any(|end| line.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Step;
    use crate::domain::{Exit, Outcome, Status, SummaryBy, ToolCall};

    fn unit(number: u64, command: &str, code: i32) -> Unit {
        let arguments = serde_json::json!({"command": command}).to_string();
        let call = ToolCall { id: format!("a{number}"), name: "shell".to_owned(), arguments };
        let mut step = Step::begun(number, &call);
        let status = if code == 0 { Status::Ok } else { Status::Failed };
        step.ended(&Outcome { exit: Some(Exit::Code(code)), ..Outcome::words(status, "out") });
        let answer = Message::Assistant { text: format!("Step {number}."), calls: vec![call], opaque: None };
        Unit { seq: number, kind: Kind::Answer, messages: vec![answer], steps: vec![step] }
    }

    fn summary(text: String) -> Summary {
        Summary { by: SummaryBy::Harness, text }
    }

    #[test]
    fn what_was_done_is_told_a_line_each() {
        let units = [unit(1, "make", 0), unit(2, "make test", 2)];
        insta::assert_snapshot!(digest(units.iter(), None, 4_000), @r"
        - step 1 · shell · exit 0 · 0.00 s · 3 B · make
        - step 2 · shell · exit 2 · 0.00 s · 3 B · make test
        The model's last words: Step 2.
        ");
    }

    #[test]
    fn summaries_are_merged_and_never_outgrow_their_room() {
        let mut before = Some(summary("Goal: all of it.\nFiles written: a, b.".to_owned()));
        for round in 0..50 {
            let units: Vec<Unit> =
                (0..20).map(|nth| unit(round * 20 + nth + 1, "echo x", i32::from(nth == 7))).collect();
            let text = digest(units.iter(), before.as_ref(), 3_000);
            assert!(text.len() <= 3_000, "{}", text.len());
            assert!(text.starts_with("Goal: all of it.\nFiles written: a, b."), "{text}");
            assert!(text.contains(&format!("- step {} · ", round * 20 + 20)), "{text}");
            assert!(text.contains(&format!("- step {} · shell · exit 1", round * 20 + 8)), "{text}");
            assert_eq!(text.matches(OLDER).count(), usize::from(round > 1).max(text.matches(OLDER).count()), "{text}");
            before = Some(summary(text));
        }
    }
}
