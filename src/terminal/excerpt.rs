//! What is shown of an output: its head, its tail, the lines in between that look like errors.

use super::errors::ErrorLines;

/// How much of an output is shown, in bytes of rendered text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExcerptBudget {
    /// From its beginning.
    pub head_bytes: usize,
    /// From its end.
    pub tail_bytes: usize,
    /// Of lines from the middle that look like errors.
    pub error_bytes: usize,
}

impl Default for ExcerptBudget {
    fn default() -> Self {
        Self { head_bytes: 3 << 10, tail_bytes: 5 << 10, error_bytes: 2 << 10 }
    }
}

/// An output as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// Rendered text; where something is left out, it says so.
    pub text: String,
    /// Bytes of the rendered text that are left out; raw bytes where the output was too large to be rendered whole.
    pub omitted_bytes: u64,
    /// Lines of the rendered output; an estimate by line feeds where it was too large to be rendered whole.
    pub lines: u64,
}

/// What is left out between head and tail.
#[derive(Debug)]
pub(super) struct Omitted<'a> {
    /// How many bytes.
    pub(super) bytes: u64,
    /// How many lines.
    pub(super) lines: u64,
    /// Those that look like errors.
    pub(super) errors: &'a ErrorLines,
    /// Where the whole output can be read.
    pub(super) whole: &'a str,
}

/// The excerpt of an output that was rendered whole.
pub(super) fn of_lines(lines: &[String], budget: ExcerptBudget, whole: &str) -> Excerpt {
    let size: usize = lines.iter().map(|line| line.len() + 1).sum();
    let count = lines.len() as u64;
    if size <= budget.head_bytes + budget.tail_bytes + budget.error_bytes {
        return Excerpt { text: joined(lines), omitted_bytes: 0, lines: count };
    }
    if let [line] = lines {
        return of_long_line(line, budget, whole);
    }
    let head = head_of(lines, budget.head_bytes);
    let tail = tail_of(&lines[head.whole_lines..], budget.tail_bytes);
    let between = &lines[head.whole_lines..lines.len() - tail.whole_lines];
    let mut errors = ErrorLines::new();
    for (at, line) in between.iter().enumerate() {
        errors.look((head.whole_lines + at) as u64 + 1, line.as_bytes());
    }
    let omitted = Omitted {
        bytes: size.saturating_sub(head.text.len() + tail.text.len()) as u64,
        lines: between.len() as u64,
        errors: &errors,
        whole,
    };
    Excerpt { text: put_together(&head.text, &omitted, &tail.text, budget), omitted_bytes: omitted.bytes, lines: count }
}

fn of_long_line(line: &str, budget: ExcerptBudget, whole: &str) -> Excerpt {
    let head = &line[..floor(line, budget.head_bytes)];
    let tail = &line[ceil(line, line.len().saturating_sub(budget.tail_bytes))..];
    let bytes = line.len().saturating_sub(head.len() + tail.len()) as u64;
    let omitted = Omitted { bytes, lines: 0, errors: &ErrorLines::new(), whole };
    Excerpt { text: put_together(head, &omitted, &format!("{tail}\n"), budget), omitted_bytes: bytes, lines: 1 }
}

/// Head, the word about what is left out, tail.
pub(super) fn put_together(head: &str, omitted: &Omitted<'_>, tail: &str, budget: ExcerptBudget) -> String {
    let mut text = head.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let (lines, bytes) = (omitted.lines, omitted.bytes);
    text.push_str(&format!("[… {lines} lines, {bytes} bytes left out; all of it: {} …]\n", omitted.whole));
    let worst = omitted.errors.worst(budget.error_bytes);
    if !worst.is_empty() {
        text.push_str(&format!(
            "[lines among them that look like errors, {} of {}:]\n",
            worst.len(),
            omitted.errors.count
        ));
        for line in worst {
            text.push_str(&format!("{}: {}\n", line.number, line.text));
        }
        text.push_str("[end of these lines]\n");
    }
    text.push_str(tail);
    text
}

/// A part of the lines, as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The text; ends with a line feed unless a line had to be cut.
    pub(super) text: String,
    /// How many of the lines it shows at least in part.
    pub(super) whole_lines: usize,
}

/// The first lines that fit into `bytes`; a first line that doesn't is cut.
pub(super) fn head_of(lines: &[String], bytes: usize) -> Part {
    let mut text = String::new();
    let mut whole_lines = 0;
    for line in lines {
        if text.len() + line.len() < bytes {
            text.push_str(line);
            text.push('\n');
        } else if whole_lines == 0 {
            text.push_str(&line[..floor(line, bytes)]);
            text.push_str(" […]\n");
        } else {
            break;
        }
        whole_lines += 1;
    }
    Part { text, whole_lines }
}

/// The last lines that fit into `bytes`; a last line that doesn't is cut.
pub(super) fn tail_of(lines: &[String], bytes: usize) -> Part {
    let mut size = 0;
    let mut whole_lines = 0;
    for line in lines.iter().rev() {
        if size + line.len() + 1 > bytes {
            break;
        }
        size += line.len() + 1;
        whole_lines += 1;
    }
    if let (0, Some(line)) = (whole_lines, lines.last()) {
        let from = ceil(line, line.len().saturating_sub(bytes));
        return Part { text: format!("[…] {}\n", &line[from..]), whole_lines: 1 };
    }
    Part { text: joined(&lines[lines.len() - whole_lines..]), whole_lines }
}

fn joined(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: ExcerptBudget = ExcerptBudget { head_bytes: 30, tail_bytes: 30, error_bytes: 60 };

    fn numbered(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("line {n}")).collect()
    }

    #[test]
    fn what_fits_is_shown_whole() {
        let excerpt = of_lines(&numbered(3), SMALL, "LOG");
        assert_eq!(excerpt, Excerpt { text: "line 1\nline 2\nline 3\n".into(), omitted_bytes: 0, lines: 3 });
    }

    #[test]
    fn what_does_not_fit_is_head_errors_and_tail() {
        let mut lines = numbered(100);
        lines[49] = "error: it broke".into();
        let excerpt = of_lines(&lines, SMALL, "LOG");
        insta::assert_snapshot!(excerpt.text, @r"
        line 1
        line 2
        line 3
        line 4
        [… 93 lines, 747 bytes left out; all of it: LOG …]
        [lines among them that look like errors, 1 of 1:]
        50: error: it broke
        [end of these lines]
        line 98
        line 99
        line 100
        ");
        assert_eq!((excerpt.lines, excerpt.omitted_bytes), (100, 747));
    }

    #[test]
    fn one_long_line_is_cut_at_characters() {
        let excerpt = of_lines(&["é".repeat(500)], SMALL, "LOG");
        assert!(excerpt.text.len() < 150, "{}", excerpt.text);
        assert!(excerpt.text.starts_with("ééé") && excerpt.text.ends_with("ééé\n"), "{}", excerpt.text);
    }
}
