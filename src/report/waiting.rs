//! How a wait stands, in one line.

use super::page::fitting;
use super::style::{duration, one_line};
use crate::domain::WaitProgress;

/// Separates the parts.
const BETWEEN: &str = " · ";
/// A last line with less room says nothing.
const LEAST: usize = 12;
/// Characters of what is waited for, and of a last line, where nothing limits the line.
const WIDEST: usize = 120;

/// What is waited for, for how long, and how its job stands, within `width` columns: the least important goes first.
pub(super) fn standing(wait: &WaitProgress, width: Option<usize>) -> String {
    let room = width.unwrap_or(usize::MAX);
    let subject = if wait.job.is_empty() { &wait.what } else { &wait.job };
    let elapsed = duration(wait.elapsed_ms);
    // The time is worth more than the end of a long name.
    let name_room = room.saturating_sub(elapsed.len() + BETWEEN.len()).max(LEAST);
    let subject = one_line(subject, WIDEST);
    let mut line = format!("{}{BETWEEN}{elapsed}", fitting(&subject, name_room).trim_end());
    let add = |line: &mut String, part: String| {
        if !part.is_empty() && line.chars().count() + BETWEEN.len() + part.chars().count() <= room {
            line.push_str(BETWEEN);
            line.push_str(&part);
        }
    };
    add(&mut line, one_line(&wait.progress, WIDEST).into_owned());
    add(&mut line, lines_words(wait.lines));
    add(&mut line, wait.wakes_in_ms.map(|left| format!("wakes in {} at most", duration(left))).unwrap_or_default());
    if !wait.job.is_empty() && room > 100 {
        add(&mut line, format!("for {}", one_line(&wait.what, WIDEST)));
    }
    let left = room.saturating_sub(line.chars().count() + BETWEEN.len() + 1);
    let last = one_line(wait.last_line.trim(), WIDEST);
    if !last.is_empty() && left >= LEAST {
        line.push_str(BETWEEN);
        line.push_str(fitting(&last, left).trim_end());
    }
    fitting(&line, room).to_owned()
}

fn lines_words(lines: u64) -> String {
    match lines {
        0 => String::new(),
        1 => "1 line".to_owned(),
        lines => format!("{lines} lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() -> WaitProgress {
        WaitProgress {
            what: "the end of j1".to_owned(),
            job: "j1 train".to_owned(),
            waited_ms: 60_000,
            elapsed_ms: 3_723_000,
            lines: 1_234,
            last_line: "step 45/100 loss 0.123 \u{1b}[2Jlearning rate 0.001".to_owned(),
            progress: "epoch 3/10, 2 h left".to_owned(),
            wakes_in_ms: Some(14_400_000),
        }
    }

    #[test]
    fn what_matters_most_is_said_where_there_is_little_room() {
        assert_eq!(standing(&wait(), Some(28)), "j1 train · 1 h 02 min");
        assert_eq!(standing(&wait(), Some(68)), "j1 train · 1 h 02 min · epoch 3/10, 2 h left · 1234 lines");
        assert_eq!(
            standing(&wait(), Some(100)),
            "j1 train · 1 h 02 min · epoch 3/10, 2 h left · 1234 lines · wakes in 4 h 00 min at most"
        );
        assert_eq!(
            standing(&wait(), None),
            "j1 train · 1 h 02 min · epoch 3/10, 2 h left · 1234 lines · wakes in 4 h 00 min at most · for the end of j1 · \
             step 45/100 loss 0.123 \\e[2Jlearning rate 0.001"
        );
    }

    #[test]
    fn a_line_never_outgrows_its_room() {
        let long = WaitProgress { job: "j1 ".to_owned() + &"x".repeat(64), ..wait() };
        for room in 16..200 {
            for wait in [wait(), long.clone(), WaitProgress { progress: String::new(), ..wait() }] {
                let line = standing(&wait, Some(room));
                assert!(line.chars().count() <= room, "{room}: {line}");
            }
        }
    }

    #[test]
    fn without_a_job_it_says_what_is_waited_for() {
        let wait = WaitProgress { what: "port 127.0.0.1:80".to_owned(), elapsed_ms: 5_000, ..WaitProgress::default() };
        assert_eq!(standing(&wait, Some(80)), "port 127.0.0.1:80 · 5.0 s");
    }
}
