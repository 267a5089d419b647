//! A pattern looked for in what steps did and in what was told of it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use regex::{Regex, RegexBuilder};

use super::{Memory, clipped, line_of, what};
use crate::domain::PastStep;

/// Longest pattern.
const LONGEST_PATTERN: usize = 4 << 10;
/// Most memory of a compiled pattern.
const LARGEST_PROGRAM: usize = 2 << 20;
/// Steps that are shown: the latest.
const MOST_STEPS: usize = 30;
/// Lines of a step that are shown.
const MOST_LINES: usize = 3;
/// Most bytes of a line.
const LINE_BYTES: usize = 240;

/// Understands a pattern.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err("search: is empty".to_owned());
    }
    if text.len() > LONGEST_PATTERN {
        return Err(format!("search: is {} bytes long; at most {LONGEST_PATTERN} are taken", text.len()));
    }
    let built = RegexBuilder::new(text).size_limit(LARGEST_PROGRAM).dfa_size_limit(LARGEST_PROGRAM).build();
    built.map_err(|error| format!("search: {error}"))
}

/// The steps in which a line fits, the latest of them, each with its first such lines.
pub(super) fn search(pattern: &Regex, steps: RangeInclusive<u64>, memory: &mut dyn Memory) -> Result<String, String> {
    let range = format!("steps {} to {}", steps.start(), steps.end());
    let mut found = VecDeque::new();
    let mut fitting = 0_u64;
    for number in steps {
        let step = memory.step(number)?;
        // The one that asks has the pattern in it.
        if step.outcome.is_none() {
            continue;
        }
        let lines = fitting_lines(&step, pattern);
        if lines.is_empty() {
            continue;
        }
        fitting += 1;
        found.push_back(format!("{}\n{}", line_of(&step), lines.join("\n")));
        if found.len() > MOST_STEPS {
            found.pop_front();
        }
    }
    if fitting == 0 {
        let hint = "results were searched as they were told; from_line shows the whole output of a step";
        return Ok(format!("[{range}: nothing fits; {hint}]"));
    }
    let shown = match found.len() as u64 {
        all if all == fitting => String::new(),
        some => format!(", the last {some} of them shown; step and until narrow it"),
    };
    let noun = if fitting == 1 { "step" } else { "steps" };
    Ok(format!("[{range}: {fitting} {noun}{shown}]\n{}", Vec::from(found).join("\n")))
}

fn fitting_lines(step: &PastStep, pattern: &Regex) -> Vec<String> {
    let call = what(step);
    let asked = call.lines().filter(|line| pattern.is_match(line)).map(|line| ("asked", line));
    let outcome = step.outcome.as_ref().map_or("", |outcome| outcome.text.as_str());
    let told = outcome.lines().filter(|line| pattern.is_match(line)).map(|line| ("told", line));
    let all: Vec<(&str, &str)> = asked.chain(told).collect();
    let mut lines: Vec<String> = all
        .iter()
        .take(MOST_LINES)
        .map(|(where_, line)| format!("  {where_}: {}", clipped(line, LINE_BYTES)))
        .collect();
    if all.len() > MOST_LINES {
        lines.push(format!("  … {} more lines", all.len() - MOST_LINES));
    }
    lines
}
