//! Whether the steps of a run go round in a circle: the same call with the same result again and again, some calls in
//! turn, or one error that no other call gets past.
//!
//! What brings something new is no circle: another result, a wait that was declared, a number that moves.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::failures::{LABEL, NOTE};
use crate::domain::{Entry, Event, Outcome, Status, ToolCall};

/// How often something must have come round.
const ROUNDS: usize = 3;
/// Calls that take turns may be as many.
const LONGEST: usize = 3;
/// So many failures in a row with the same last words are one error that nothing gets past.
const SAME_ERRORS: usize = 5;
/// So many steps in a row that bring something new, and what was said about circles before counts no more.
const NEW_STEPS: usize = 5;
/// Characters of a call that are named.
const NAMED: usize = 120;

/// Steps that go round in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// What goes round, in words.
    pub what: String,
    /// How often the model was told of a circle lately.
    pub told: u32,
}

/// The fold.
#[derive(Debug, Clone, Default)]
pub struct Circles {
    /// Calls that have begun.
    open: HashMap<String, ToolCall>,
    /// The last steps since a circle was told of.
    steps: VecDeque<Step>,
    /// Marks of the steps of the circle that was told of last.
    known: Vec<u64>,
    told: u32,
    new_in_a_row: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// Of call and result together.
    mark: u64,
    /// Of the last words of a failure, without what changes each time.
    error: Option<String>,
    /// The call, to be named.
    name: String,
    /// How it ended, to be named.
    end: String,
}

impl Circles {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ToolStarted { call } => drop(self.open.insert(call.id.clone(), call.clone())),
            Event::ToolEnded { call_id, outcome } => {
                if let Some(call) = self.open.remove(call_id) {
                    self.step(&call, outcome);
                }
            }
            Event::HarnessSaid { .. } if self.found().is_some() => {
                self.known = self.steps.iter().map(|step| step.mark).collect();
                self.steps.clear();
                self.told += 1;
            }
            // Whoever says something has seen how it stands, and things are as they were long ago or elsewhere.
            Event::UserSaid { .. }
            | Event::QuestionAnswered { .. }
            | Event::RunResumed { .. }
            | Event::RunForked { .. }
            | Event::CheckpointRestored { .. } => {
                *self = Self { open: std::mem::take(&mut self.open), ..Self::default() };
            }
            _ => {}
        }
    }

    fn step(&mut self, call: &ToolCall, outcome: &Outcome) {
        if is_wait(call) || outcome.status == Status::Running {
            return;
        }
        let mark = mark(call, outcome);
        let is_new = !self.known.contains(&mark) && self.steps.iter().all(|step| step.mark != mark);
        self.new_in_a_row = if is_new { self.new_in_a_row + 1 } else { 0 };
        if self.new_in_a_row >= NEW_STEPS {
            self.told = 0;
            self.known.clear();
        }
        let has_failed = outcome.status == Status::Failed || outcome.exit.is_some_and(|exit| !exit.is_success());
        let error = has_failed.then(|| last_words(&outcome.text)).filter(|words| !words.is_empty());
        let end = outcome.exit.map_or_else(|| outcome.status.word().to_owned(), |exit| exit.to_string());
        self.steps.push_back(Step { mark, error, name: named(call), end });
        if self.steps.len() > (ROUNDS * LONGEST).max(SAME_ERRORS) {
            self.steps.pop_front();
        }
    }

    /// The circle that the last steps make, if they make one.
    pub fn found(&self) -> Option<Circle> {
        let what = self.repeated().or_else(|| self.same_error())?;
        Some(Circle { what, told: self.told })
    }

    fn repeated(&self) -> Option<String> {
        let marks: Vec<u64> = self.steps.iter().map(|step| step.mark).collect();
        let length = (1..=LONGEST).find(|length| {
            let last = marks.len().checked_sub(length * ROUNDS).map(|from| &marks[from..]);
            last.is_some_and(|last| last.chunks(*length).all(|round| round == &last[..*length]))
        })?;
        let round: Vec<&Step> = self.steps.iter().skip(self.steps.len() - length).collect();
        let names: Vec<String> = round.iter().map(|step| format!("`{}` ({})", step.name, step.end)).collect();
        Some(format!("{} came {ROUNDS} times with the same result", names.join(", then ")))
    }

    fn same_error(&self) -> Option<String> {
        let last = self.steps.len().checked_sub(SAME_ERRORS)?;
        let error = self.steps.back()?.error.as_ref()?;
        let is_same = self.steps.iter().skip(last).all(|step| step.error.as_ref() == Some(error));
        is_same.then(|| format!("{SAME_ERRORS} steps in a row ended with the same error: {error}"))
    }
}

/// What waits for something is expected to find things as they were.
fn is_wait(call: &ToolCall) -> bool {
    let goes_on = || {
        let arguments: Option<serde_json::Value> = serde_json::from_str(&call.arguments).ok();
        arguments.is_some_and(|arguments| arguments.get("command").is_none_or(serde_json::Value::is_null))
    };
    matches!(call.name.as_str(), "wait" | "finish") || (call.name == "shell" && goes_on())
}

/// What of a result is the same when the same happens again: the first line tells of times and sizes, the one of the
/// failure how often it came, and those of the harness what it did.
fn lines_that_last(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter(|line| !line.starts_with(LABEL) && !line.starts_with(NOTE))
}

fn mark(call: &ToolCall, outcome: &Outcome) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&call.name, &call.arguments, outcome.status.word(), outcome.exit.map(|exit| exit.to_string())).hash(&mut hasher);
    lines_that_last(&outcome.text).for_each(|line| line.hash(&mut hasher));
    hasher.finish()
}

/// The last line that says something, without numbers: those of lines, processes and times differ each time.
fn last_words(text: &str) -> String {
    let line = lines_that_last(text).filter(|line| !line.trim().is_empty()).last().unwrap_or_default();
    let mut words = String::new();
    for c in line.trim().chars().take(NAMED) {
        match c.is_ascii_digit() {
            true if words.ends_with('#') => {}
            true => words.push('#'),
            false => words.push(c),
        }
    }
    words
}

fn named(call: &ToolCall) -> String {
    let arguments: Option<serde_json::Value> = serde_json::from_str(&call.arguments).ok();
    let text = |name: &str| Some(arguments.as_ref()?.get(name)?.as_str()?.to_owned());
    let words = match text("command") {
        Some(command) => command,
        None => format!("{} {}", call.name, text("path").unwrap_or_else(|| call.arguments.clone())),
    };
    let line = words.lines().next().unwrap_or_default();
    match line.char_indices().nth(NAMED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Exit;

    #[derive(Default)]
    struct Run {
        circles: Circles,
        seq: u64,
    }

    impl Run {
        fn note(&mut self, event: Event) {
            let time = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
            self.circles.apply(&Entry { seq: self.seq, time, event });
            self.seq += 1;
        }

        fn call(&mut self, name: &str, arguments: &str, code: i32, output: &str) {
            let id = format!("a{}", self.seq);
            let call = ToolCall { id: id.clone(), name: name.to_owned(), arguments: arguments.to_owned() };
            self.note(Event::ToolStarted { call });
            let text = format!("exit {code}, 0.{} s\n{output}", self.seq);
            let status = if code == 0 { Status::Ok } else { Status::Failed };
            let outcome = Outcome { exit: Some(Exit::Code(code)), ..Outcome::words(status, text) };
            self.note(Event::ToolEnded { call_id: id, outcome });
        }

        fn shell(&mut self, command: &str, code: i32, output: &str) {
            self.call("shell", &format!("{{\"command\":\"{command}\"}}"), code, output);
        }

        fn nudge(&mut self) {
            self.note(Event::HarnessSaid { text: "look".to_owned() });
        }
    }

    #[test]
    fn the_same_call_with_the_same_result_is_told_once_for_each_three() {
        let mut run = Run::default();
        for nth in 1..=3 {
            assert_eq!(run.circles.found(), None, "{nth}");
            run.shell("make", 2, "no rule");
        }
        let found = run.circles.found().unwrap();
        assert_eq!(found.what, "`make` (exit 2) came 3 times with the same result");
        assert_eq!(found.told, 0);
        run.nudge();
        assert_eq!(run.circles.found(), None);
        (0..3).for_each(|_| run.shell("make", 2, "no rule"));
        assert_eq!(run.circles.found().unwrap().told, 1);
        run.nudge();
        run.shell("ls", 0, "Makefile");
        (0..3).for_each(|_| run.shell("make", 2, "no rule"));
        assert_eq!(run.circles.found().unwrap().told, 2, "one step aside is no way out");
    }

    #[test]
    fn calls_that_take_turns_are_a_circle_too() {
        let mut run = Run::default();
        for _ in 0..3 {
            run.shell("git pull", 1, "conflict");
            run.shell("git stash", 0, "nothing to stash");
        }
        assert_eq!(
            run.circles.found().unwrap().what,
            "`git pull` (exit 1), then `git stash` (exit 0) came 3 times with the same result"
        );
    }

    #[test]
    fn one_error_that_no_call_gets_past_is_a_circle() {
        let mut run = Run::default();
        for nth in 0..5 {
            assert_eq!(run.circles.found(), None);
            run.shell(&format!("python train{nth}.py"), 1, &format!("line {nth}\nImportError: no torch (pid {nth}42)"));
        }
        let what = run.circles.found().unwrap().what;
        assert_eq!(what, "5 steps in a row ended with the same error: ImportError: no torch (pid #)");
    }

    #[test]
    fn progress_and_waits_are_no_circle() {
        let mut run = Run::default();
        for nth in 0..20 {
            run.shell("tail -1 log", 0, &format!("epoch {nth}"));
            run.call("wait", "{\"exit\":[\"j1\"]}", 0, "deadline");
            run.call("shell", "{\"command\":null,\"session\":\"train\"}", 0, "still");
            assert_eq!(run.circles.found(), None, "{nth}");
        }
    }

    #[test]
    fn five_new_steps_or_a_persons_word_make_good() {
        let mut run = Run::default();
        (0..3).for_each(|_| run.shell("make", 2, "no rule"));
        run.nudge();
        (0..5).for_each(|nth| run.shell(&format!("step {nth}"), 0, "fine"));
        (0..3).for_each(|_| run.shell("make", 2, "no rule"));
        assert_eq!(run.circles.found().unwrap().told, 0);
        run.note(Event::UserSaid { text: "go on".to_owned(), mail: None });
        assert_eq!(run.circles.found(), None);
    }
}
