//! Calls, checks and claims in the timeline.

use super::super::call_line;
use super::super::outcome::{Room, cut, in_words, is_job, printed};
use super::super::style::one_line;
use super::super::totals::has_failed;
use super::super::visible;
use super::{Detail, GUTTER, Timeline};
use crate::domain::{CheckResult, FinishClaim, Outcome, Status, ToolCall};

/// Of a command that went well, a live view shows so much.
const WENT_WELL: Room = (0, 4);
/// What takes less is not worth a word in a live view, if it went well.
const AT_ONCE_MS: u64 = 1_000;
/// The tool by which the model claims to be done: the claim has an event of its own.
const FINISH: &str = "finish";

impl Timeline {
    pub(super) fn started(&mut self, call: &ToolCall) -> String {
        self.open.insert(call.id.clone(), call.clone());
        if call.name == FINISH && self.detail != Detail::Full {
            return String::new();
        }
        let words = call_line(call);
        let (first, rest) = words.split_once('\n').unwrap_or((&words, ""));
        // A command's own lines begin below its first word.
        let under = GUTTER + if first.starts_with("$ ") { 2 } else { 0 };
        let bold = |text: &str| self.style.bold(text);
        let mut out = match first.split_at_checked(2).filter(|_| under > GUTTER) {
            Some((dollar, command)) => {
                self.page.line(&format!("{}{}", self.gutter(), bold(dollar)), under, command, bold)
            }
            None => self.page.line(&self.gutter(), under, first, bold),
        };
        for line in rest.split('\n').filter(|_| !rest.is_empty()) {
            out.push_str(&self.page.line(&format!("{:GUTTER$}> ", ""), GUTTER + 2, line, str::to_owned));
        }
        out
    }

    pub(super) fn ended(&mut self, call_id: &str, outcome: &Outcome) -> String {
        let call = self.open.remove(call_id);
        let claim = call.as_ref().is_some_and(|call| call.name == FINISH);
        if claim && self.detail != Detail::Full && outcome.status != Status::Malformed {
            // What the checks said stands above.
            return if outcome.status == Status::Failed {
                self.note("not accepted; the model is told why")
            } else {
                String::new()
            };
        }
        if let Some(place) = self.waited.iter().position(|waited| waited == call_id) {
            self.waited.swap_remove(place);
            return self.woken(outcome);
        }
        if is_job(outcome) && self.detail != Detail::Full {
            // The job has a line of its own.
            return self.output(outcome);
        }
        let at_once = outcome.status == Status::Ok && outcome.output.is_none() && outcome.duration_ms < AT_ONCE_MS;
        if at_once && self.detail == Detail::Live {
            return String::new();
        }
        let follows = self.last_started.as_deref() == Some(call_id);
        let whose = call.filter(|_| !follows).map(|call| {
            let line = call_line(&call);
            format!("  <- {}", one_line(line.lines().next().unwrap_or_default(), 60))
        });
        let words = in_words(outcome, self.style);
        self.output(outcome) + &self.note(&format!("{words}{}", whose.unwrap_or_default()))
    }

    /// The output that a wait brought: what happened, and when, has been said.
    fn woken(&self, outcome: &Outcome) -> String {
        if self.detail == Detail::Full {
            return self.output(outcome);
        }
        let lines: Vec<&str> =
            outcome.text.lines().filter(|line| !(line.starts_with('[') && line.ends_with(']'))).collect();
        let room = if self.detail == Detail::Live && !has_failed(outcome) { Some(WENT_WELL) } else { self.room() };
        self.quoted(&cut(&lines.join("\n"), room))
    }

    /// A claim, which need not be true: in a live view its summary is shown only where nobody else will print it.
    pub(super) fn claimed(&mut self, claim: &FinishClaim) -> String {
        self.claimed.clone_from(&claim.summary);
        let mut words = match claim.gave_up {
            true => "that it can't go on without a person".to_owned(),
            false => "to be done".to_owned(),
        };
        if !claim.artifacts.is_empty() {
            words.push_str(", with ");
            words.push_str(&one_line(&claim.artifacts.join(", "), 200));
        }
        let shown = match self.detail {
            Detail::Live => !self.answer_follows,
            Detail::Normal => false,
            Detail::Full => true,
        };
        if shown && !claim.summary.trim().is_empty() {
            words.push('\n');
            words.push_str(&visible(claim.summary.trim()));
        }
        self.line("claims", &words)
    }

    pub(super) fn check_words(&self, check: usize, round: u32) -> String {
        let command = self.totals.spec.as_ref().and_then(|spec| spec.checks.get(check));
        let round = match round {
            0 => "(before any work) ".to_owned(),
            1 => String::new(),
            round => format!("(round {round}) "),
        };
        format!("{round}{}", visible(&command.map(ToString::to_string).unwrap_or_default()))
    }

    pub(super) fn checked(&self, result: &CheckResult) -> String {
        let words = in_words(&result.outcome, self.style);
        let words = match has_failed(&result.outcome) {
            true => format!("{}, {words}", self.style.bad("failed")),
            // Nothing but exit 0 passes.
            false => format!("{}, {}", self.style.good("passed"), words.trim_start_matches("exit 0, ")),
        };
        self.output(&result.outcome) + &self.note(&words)
    }

    /// How a check went before any work: it is news only where it shows that the check proves nothing.
    pub(super) fn checked_before(&self, result: &CheckResult) -> String {
        let nth = result.check + 1;
        match (result.outcome.status, self.detail) {
            (_, Detail::Full) => self.checked(result),
            (Status::Ok, _) => {
                self.trouble("before", &format!("check {nth} passes before any work: it proves nothing"))
            }
            (Status::Unknown, Detail::Normal) => {
                self.line("before", &format!("whether check {nth} passes before any work is not known"))
            }
            (_, Detail::Normal) => self.line("before", &format!("check {nth} fails, so it can prove something")),
            (_, Detail::Live) => String::new(),
        }
    }

    fn output(&self, outcome: &Outcome) -> String {
        let room = match self.detail {
            Detail::Live if has_failed(outcome) => self.room(),
            // What a tool without output of its own says of its success is for the model.
            Detail::Live if outcome.output.is_none() => return String::new(),
            Detail::Live => Some(WENT_WELL),
            Detail::Normal | Detail::Full => self.room(),
        };
        let text = match self.detail {
            Detail::Live | Detail::Normal => printed(outcome),
            Detail::Full => outcome.text.trim_end(),
        };
        self.quoted(&cut(text, room))
    }

    fn quoted(&self, text: &str) -> String {
        let lead = format!("{:GUTTER$}{}", "", self.style.dim("| "));
        let lines = text.split('\n').filter(|_| !text.is_empty());
        lines.map(|line| self.page.line(&lead, GUTTER + 2, line, |piece| self.style.dim(piece))).collect()
    }
}
