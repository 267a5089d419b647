//! How a timeline ends: the verdict and the numbers.

use super::super::outcome::cut;
use super::super::style::duration;
use super::super::visible;
use super::{Detail, Timeline, first_line};
use crate::domain::Verdict;

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
        let why = match self.detail {
            Detail::Live if self.told_below => "what stopped the run is said below".to_owned(),
            Detail::Live | Detail::Normal => first_line(&end.why),
            Detail::Full => visible(&end.why).into_owned(),
        };
        let mut out = "\n".to_owned() + &self.page.paragraph(&lead, 2, &why);
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
        let mut times =
            format!("{} in all: model {}, tools {}", duration(t.wall_ms), duration(t.model_ms), duration(t.tool_ms));
        if t.waited_ms > 0 {
            times.push_str(&format!(", waits {}", duration(t.waited_ms)));
        }
        if t.waiting_ms > 0 {
            times.push_str(&format!(", waiting for its server {}", duration(t.waiting_ms)));
        }
        [times, t.counts()].iter().map(|line| self.page.line("  ", 2, line, |piece| self.style.dim(piece))).collect()
    }
}
