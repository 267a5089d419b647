//! Losses that a job prints: that they are no number any more, or run away.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::domain::Finding;

/// A loss by name and value; what stands before it must not say that it is the best one or a bound.
static LOSS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)(?:^|[\s,;|(\[{'\x22])((?:[a-z0-9]+[_/.-])*(?:loss|nll|perplexity|ppl))['\x22]?\s*(?:[:=]\s*|\s+(?:is\s+)?)([+-]?(?:nan|inf(?:inity)?|\d+(?:\.\d*)?(?:e[+-]?\d+)?))(?:[\s,;|)\]}%]|$)";
    Regex::new(pattern).expect("the pattern is right")
});

/// Words before a loss that make it one that is remembered or a limit, not the present one.
const NOT_NOW: [&str; 10] =
    ["best", "min", "max", "lowest", "initial", "initially", "previous", "target", "from", "init"];

/// Metrics that are remembered.
const MOST: usize = 32;

/// Readings that say what is usual.
const USUAL: u32 = 10;

/// Readings in a row that must be far beyond it.
const FAR: u32 = 5;

/// What is far: so many times the largest of the usual ones, and larger than [`LARGE`].
const TIMES: f64 = 100.0;

/// See [`TIMES`].
const LARGE: f64 = 1e4;

/// The losses of one job.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    known: BTreeMap<String, Metric>,
}

#[derive(Debug, Default)]
struct Metric {
    readings: u32,
    largest_usual: f64,
    far: u32,
    infinite: u32,
    told: bool,
}

impl Metrics {
    /// Looks at a line; a finding for the first metric that it shows to diverge.
    pub(super) fn look(&mut self, line: &str) -> Option<Finding> {
        let lower = line.get(..1000).unwrap_or(line);
        for caught in LOSS.captures_iter(lower) {
            let (name, value) = (caught[1].to_ascii_lowercase(), &caught[2]);
            let before = &lower[..caught.get(1).map_or(0, |name| name.start())];
            if is_not_now(before, &name) {
                continue;
            }
            let Some(value) = number(value) else { continue };
            if self.known.len() >= MOST && !self.known.contains_key(&name) {
                continue;
            }
            if self.known.entry(name.clone()).or_default().diverges(value) {
                let line = line.chars().take(300).collect();
                return Some(Finding::Diverged { metric: name, line });
            }
        }
        None
    }
}

impl Metric {
    /// Takes in a reading; true when it is the first that shows a divergence.
    fn diverges(&mut self, value: f64) -> bool {
        let is_bad = if value.is_nan() {
            true
        } else if value.is_infinite() {
            // Some print an infinite start; after numbers, or again and again, it is none.
            self.infinite += 1;
            self.readings > 0 || self.infinite >= 3
        } else {
            self.finite(value.abs())
        };
        if !is_bad {
            // Recovered for good: what comes later is told again.
            if value.is_finite() && self.far == 0 && self.told && self.readings.is_multiple_of(100) {
                self.told = false;
            }
            return false;
        }
        !std::mem::replace(&mut self.told, true)
    }

    fn finite(&mut self, value: f64) -> bool {
        self.readings = self.readings.saturating_add(1);
        if self.readings <= USUAL {
            self.largest_usual = self.largest_usual.max(value);
            return false;
        }
        let is_far = value > LARGE && value > TIMES * self.largest_usual;
        self.far = if is_far { self.far + 1 } else { 0 };
        self.far >= FAR
    }
}

fn is_not_now(before: &str, name: &str) -> bool {
    let last = before.trim_end_matches(['\'', '"', '_', '-', ' ', ':', '(']).rsplit([' ', '(', ',', '_', '-']).next();
    let in_name = name.split(['_', '/', '.', '-']).any(|part| NOT_NOW.contains(&part));
    in_name || last.is_some_and(|word| NOT_NOW.contains(&word.to_ascii_lowercase().as_str()))
}

fn number(text: &str) -> Option<f64> {
    let text = text.to_ascii_lowercase();
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Vec<String> {
        let mut metrics = Metrics::default();
        let findings = lines.iter().filter_map(|line| metrics.look(line));
        findings
            .map(|finding| match finding {
                Finding::Diverged { metric, .. } => metric,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_loss_that_is_no_number_is_told_at_once_and_once() {
        for line in [
            "loss nan",
            "epoch 3/10 loss=nan acc=0.1",
            "{'loss': nan, 'learning_rate': 5e-05, 'epoch': 0.1}",
            "step 12 | train_loss: NaN | 3 ms",
            "938/938 [====] - 5s - loss: nan - accuracy: 0.09",
            "45%|████| 45/100 [00:10<00:12, 4.5it/s, loss=nan]",
            "train/loss nan",
        ] {
            assert_eq!(found(&[line, line]).len(), 1, "{line}");
        }
    }

    #[test]
    fn an_infinite_loss_after_numbers_is_told() {
        assert_eq!(found(&["loss 2.3", "loss inf"]), ["loss"]);
        assert_eq!(found(&["loss: inf", "loss: 2.3"]), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_present_loss_is_left_alone() {
        for line in [
            "Epoch 00001: val_loss improved from inf to 0.32512, saving model to best.h5",
            "best loss: inf",
            "best_val_loss=inf",
            "min val_loss nan",
            "Nan Loss is a person",
            "loss nanometer 12",
            "dropping rows with nan: 12, loss of 3 rows",
            "test_nan_loss PASSED",
            "lossless nan",
            "mean    NaN     0.5",
        ] {
            assert_eq!(found(&[line, line, line]), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn only_a_loss_that_goes_far_beyond_all_it_was_runs_away() {
        let usual: Vec<String> = (0..10).map(|step| format!("loss {}", 2.3 - 0.1 * f64::from(step))).collect();
        let with = |more: &[f64]| {
            let mut lines = usual.clone();
            lines.extend(more.iter().map(|value| format!("loss {value:e}")));
            found(&lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(with(&[1e5, 1e6, 1e7, 1e8, 1e9]), ["loss"]);
        assert!(with(&[1e5, 1e6, 1e7, 1.0, 1e8, 1e9]).is_empty(), "spikes are not a divergence");
        assert!(with(&[20.0, 40.0, 80.0, 160.0, 320.0, 640.0]).is_empty());
    }
}
