//! How far a job is, as it prints it itself where that is plain: percent, `epoch 3/10`, `[ 45/100]`, bars.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use crate::domain::duration_words;

/// A count with its name, such as `epoch 3/10` or `step 12 of 400`.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\b(epoch|step|iter|iteration|batch|round|episode|fold|trial|chunk|shard|stage|phase)s?\b[\s:#\[(=]*(\d{1,12})\s*(?:/|\bof\b)\s*(\d{1,12})\b",
    )
});

/// A count at the beginning of a line or in brackets there, as build tools print it: `[ 45/100] …`, `12/938 [===…`,
/// `3 of 10 START …` after a time.
static BARE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^\s*(?:\d\d:\d\d:\d\d\s+)?(?:\[\s*(\d{1,12})\s*/\s*(\d{1,12})\s*\]|(\d{1,12})/(\d{1,12})\s*[\[━╸]|(\d{1,12}) of (\d{1,12}) (?:START|OK|PASS)\b)",
    )
});

/// A bar with percent and count: `45%|████| 45/100 [00:10<00:12, 4.5it/s]`.
static BAR: LazyLock<Regex> = LazyLock::new(|| regex(r"(\d{1,3})%\|[^|]*\|\s*(\d{1,12})/(\d{1,12})\s*\["));

/// Percent where a line begins with them, or after a word or a bar that says that they are progress.
static PERCENT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\s*\[?\s*(\d{1,3}(?:\.\d+)?)\s?%\]?(?:\s|$|\[)|\b(?:progress|complete|completed|done|downloading|extracting|uploading|unpacking|receiving objects|resolving deltas|writing objects|counting objects|compressing objects|updating files)\b[\s:=\[(]*(\d{1,3}(?:\.\d+)?)\s?%|[#=>█-▏━]\s*\]?\s*(\d{1,3}(?:\.\d+)?)\s?%|\s(\d{1,3}(?:\.\d+)?)%\s*\[[=> .#-]*\]",
    )
});

/// The rate that is taken for the job's own needs progress over so much time.
const SHORTEST: Duration = Duration::from_secs(5);

/// Names of what contains the others.
const OUTER: [&str; 6] = ["epoch", "fold", "trial", "round", "stage", "phase"];

/// How far a job is.
#[derive(Debug, Clone, Default)]
pub(in crate::terminal) struct Progress {
    outer: Option<Count>,
    inner: Option<Count>,
    percent: Option<f64>,
    /// When the present count was first seen at which share, and when it last moved.
    began: Option<(Duration, f64)>,
    moved: Option<(Duration, f64)>,
}

/// A count that was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    name: String,
    at: u64,
    of: u64,
}

impl Count {
    fn share(&self) -> f64 {
        self.at as f64 / self.of as f64
    }

    fn words(&self) -> String {
        if self.name.is_empty() {
            format!("{}/{}", self.at, self.of)
        } else {
            format!("{} {}/{}", self.name, self.at, self.of)
        }
    }
}

impl Progress {
    /// Looks at a line.
    pub(super) fn look(&mut self, now: Duration, line: &str) {
        // Whatever is plain stands in the first screenful; longer lines are data.
        let line = line.get(..600).unwrap_or(line);
        let mut is_found = false;
        for caught in NAMED.captures_iter(line) {
            let name = caught[1].to_ascii_lowercase();
            if let Some(count) = count(&name, &caught[2], &caught[3]) {
                let is_outer = OUTER.contains(&name.as_str());
                if is_outer && self.outer.as_ref() != Some(&count) {
                    // The steps within begin anew.
                    self.inner = None;
                }
                *(if is_outer { &mut self.outer } else { &mut self.inner }) = Some(count);
                is_found = true;
            }
        }
        if let Some(caught) = BAR.captures(line) {
            self.inner = count("", &caught[2], &caught[3]).or(self.inner.take());
            is_found = true;
        } else if let Some(caught) = BARE.captures(line) {
            let numbers: Vec<&str> = caught.iter().skip(1).flatten().map(|number| number.as_str()).collect();
            if let [at, of] = numbers[..]
                && let Some(count) = count("", at, of)
            {
                self.inner = Some(count);
                is_found = true;
            }
        } else if !is_found && let Some(percent) = percent(line) {
            self.percent = Some(percent);
            is_found = true;
        }
        if is_found {
            self.moves(now);
        }
    }

    /// In words, such as `epoch 3/10, about 70 s left`; None if the job prints nothing of the kind.
    pub(super) fn words(&self) -> Option<String> {
        let mut parts: Vec<String> = self.outer.iter().chain(&self.inner).map(Count::words).collect();
        if parts.is_empty() {
            parts.extend(self.percent.map(|percent| format!("{percent:.0} %")));
        }
        parts.extend(self.left().map(|left| {
            let milliseconds = left.as_secs().max(1).saturating_mul(1000);
            format!("about {} left", duration_words(milliseconds))
        }));
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Time that is left if it goes on as it has; None while that is a guess.
    fn left(&self) -> Option<Duration> {
        let ((began, from), (moved, to)) = (self.began?, self.moved?);
        let (time, done) = (moved.saturating_sub(began), to - from);
        let is_known = time >= SHORTEST && done > 0.0 && to < 1.0;
        let left = is_known.then(|| time.as_secs_f64() * (1.0 - to) / done)?;
        Duration::try_from_secs_f64(left).ok().filter(|left| left.as_secs() < 365 * 86_400)
    }

    fn share(&self) -> Option<f64> {
        match (&self.outer, &self.inner) {
            // Some say `epoch 1` when it begins, others when it is done: with steps within it has begun.
            (Some(outer), Some(inner)) => {
                Some((outer.at.saturating_sub(1) as f64 + inner.share()) / outer.of.max(1) as f64)
            }
            (Some(count), None) | (None, Some(count)) => Some(count.share()),
            (None, None) => self.percent.map(|percent| percent / 100.0),
        }
    }

    fn moves(&mut self, now: Duration) {
        let Some(share) = self.share() else { return };
        // A share that falls is that of the next bar.
        let goes_on = self.moved.is_some_and(|(_, last)| share >= last);
        if !goes_on {
            self.began = Some((now, share));
        }
        if !goes_on || self.moved.is_none_or(|(_, last)| share > last) {
            self.moved = Some((now, share));
        }
    }
}

fn count(name: &str, at: &str, of: &str) -> Option<Count> {
    let (at, of) = (at.parse().ok()?, of.parse().ok()?);
    (of > 1 && at <= of).then(|| Count { name: name.to_owned(), at, of })
}

fn percent(line: &str) -> Option<f64> {
    let caught = PERCENT.captures(line)?;
    let number = caught.iter().skip(1).flatten().next()?;
    number.as_str().parse().ok().filter(|percent| *percent <= 100.0)
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is right")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Option<String> {
        let mut progress = Progress::default();
        for line in lines {
            progress.look(Duration::ZERO, line);
        }
        progress.words()
    }

    #[test]
    fn progress_is_read_where_it_is_plain() {
        for (line, words) in [
            ("Epoch 3/10", "epoch 3/10"),
            ("epoch: 3 of 10 loss 0.12", "epoch 3/10"),
            ("[Epoch 2/5] Step [100/938], Loss: 0.31", "epoch 2/5, step 100/938"),
            ("step 120/4000 | loss 3.21 | 45.1 ms/step", "step 120/4000"),
            (" 45%|████▌     | 45/100 [00:10<00:12,  4.50it/s]", "45/100"),
            ("Epoch 1/3:  10%|█         | 94/938 [00:03<00:28, 29.5it/s, loss=0.4]", "epoch 1/3, 94/938"),
            ("[ 45%] Building CXX object src/a.cpp.o", "45 %"),
            ("[12/345] Compiling C object a.o", "12/345"),
            ("938/938 [==============================] - 5s 5ms/step - loss: 0.2", "938/938"),
            (" 312/1875 ━━━━━━━━━━━━━━━━━━━━ 3s 2ms/step - loss: 0.9", "312/1875"),
            ("Receiving objects:  45% (450/1000), 1.2 MiB | 2.0 MiB/s", "45 %"),
            ("12:01:02  3 of 10 START sql table model dbt.orders", "3/10"),
            ("Progress: [ 62%] [####....]", "62 %"),
            ("model.bin      37%[======>             ]  1.21G  25.0MB/s", "37 %"),
        ] {
            assert_eq!(said(&[line]).as_deref(), Some(words), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_progress_is_none() {
        for line in [
            "accuracy: 98% after training",
            "CPU 45% MEM 12%",
            "TOTAL  1200  80  93%",
            "2026/11/22 10:00:00 started",
            "see page 3/4 of the manual",
            "/home/u/12/34/file",
            "epoch 12/10",
            "test result: ok. 3 passed",
            "ratio 3/10",
        ] {
            assert_eq!(said(&[line]), None, "{line}");
        }
    }

    #[test]
    fn the_time_left_comes_from_the_jobs_own_rate() {
        let mut progress = Progress::default();
        for epoch in 1..=4u64 {
            progress.look(Duration::from_secs(60 * epoch), &format!("epoch {epoch}/10 loss 0.5"));
        }
        assert_eq!(progress.words().as_deref(), Some("epoch 4/10, about 6 min 00 s left"));
        progress.look(Duration::from_secs(400), "epoch 10/10 loss 0.1");
        assert_eq!(progress.words().as_deref(), Some("epoch 10/10"));
    }

    #[test]
    fn a_new_bar_does_not_count_on_the_old_ones_rate() {
        let mut progress = Progress::default();
        for second in 0..=10u64 {
            progress.look(Duration::from_secs(second), &format!("Downloading {}%", second * 10));
        }
        progress.look(Duration::from_secs(11), "Downloading 1%");
        assert_eq!(progress.words().as_deref(), Some("1 %"));
    }
}
