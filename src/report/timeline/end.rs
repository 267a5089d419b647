//! How a timeline ends: the verdict and the numbers.

use super::super::outcome::cut;
use super::super::style::{count, duration};
use super::super::visible;
use super::{Detail, Timeline, tokens};
use crate::domain::{Usage, Verdict};

impl Timeline {
    /// What comes after the last entry: a word on a run that has not ended.
    pub fn end(&self) -> String {
        match self.totals.end {
            Some(_) => String::new(),
            None => format!("\n{}\n{}", self.style.warn("The run has not ended."), self.numbers()),
        }
    }

    pub(super) fn banner(&self) -> String {
        let Some(end) = &self.totals.end else { return String::new() };
        let word = match end.verdict {
            Verdict::Verified => self.style.good(end.verdict.word()),
            Verdict::Unverified | Verdict::Blocked | Verdict::Stopped => self.style.warn(end.verdict.word()),
            Verdict::Failed | Verdict::Error => self.style.bad(end.verdict.word()),
        };
        let lead = format!("{}: ", self.style.bold(&word));
        let mut out = "\n".to_owned() + &self.page.paragraph(&lead, 2, &visible(&end.why));
        out.push_str(&self.numbers());
        let answer = end.answer.trim();
        let shown = match self.detail {
            Detail::Live => false,
            Detail::Normal => true,
            Detail::Full => answer != self.claimed.trim(),
        };
        if shown && !answer.is_empty() {
            out.push('\n');
            out.push_str(&self.page.paragraph("  ", 2, &cut(answer, self.room())));
        }
        out
    }

    fn numbers(&self) -> String {
        let t = &self.totals;
        let failed = |failed: u64| if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
        let mut times =
            format!("{} in all: model {}, tools {}", duration(t.wall_ms), duration(t.model_ms), duration(t.tool_ms));
        if t.waiting_ms > 0 {
            times.push_str(&format!(", waiting for its server {}", duration(t.waiting_ms)));
        }
        let mut counts =
            format!("{}, {}{}", count(t.turns, "turn"), count(t.calls, "tool call"), failed(t.failed_calls));
        if t.checks > 0 {
            counts.push_str(&format!(", {}{}", count(t.checks, "check"), failed(t.failed_checks)));
        }
        // A server that counts none says nothing; it has not worked for nothing.
        if t.usage != Usage::default() {
            counts.push_str(&format!(", {}", tokens(t.usage)));
        }
        [times, counts].iter().map(|line| self.page.line("  ", 2, line, |piece| self.style.dim(piece))).collect()
    }
}
