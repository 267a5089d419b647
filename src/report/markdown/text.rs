//! Markdown from recorded words: they can't end what they stand in.

use std::fmt::Write as _;

use textwrap::core::display_width;

use super::super::style::one_line;
use super::super::visible;

/// Longest line quoted, in characters.
const WIDEST: usize = 200;

/// Adds a block, a blank line before it.
pub(super) fn add(out: &mut String, block: &str) {
    let separator = if out.is_empty() { "" } else { "\n" };
    writeln!(out, "{separator}{block}").expect("a string takes all that is written");
}

/// A list with bullets.
pub(super) fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n")
}

/// Recorded words as plain Markdown text on one line.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text, WIDEST).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Recorded words as a code span that can stand in a table.
pub(super) fn code(text: &str) -> String {
    let line = one_line(text, WIDEST).replace('|', "\\|");
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') || line.is_empty() { " " } else { "" };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// Recorded words as a code block of at most `most` lines, the middle left out.
pub(super) fn block(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let cut = lines.len() > most;
    let (head, from) = if cut { (most / 3, lines.len() - (most - most / 3)) } else { (lines.len(), lines.len()) };
    let mut shown: Vec<String> = lines[..head].iter().map(|line| one_line(line, WIDEST).into_owned()).collect();
    if cut {
        shown.push(format!("[... {} lines]", from - head));
    }
    shown.extend(lines[from..].iter().map(|line| one_line(line, WIDEST).into_owned()));
    let longest = shown.iter().flat_map(|line| line.split(|c| c != '`').map(str::len)).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", shown.join("\n"))
}

/// Recorded words as a quotation.
pub(super) fn quoted(text: &str) -> String {
    visible(text.trim())
        .lines()
        .map(|line| format!("> {}", plain(line)).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A table whose columns are as wide in the file as on the page, but for the last.
pub(super) fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(String::from);
    let widest = |column: usize| {
        let cells = rows.iter().chain([&head]).map(|row| display_width(&row[column]));
        if column + 1 == N { 0 } else { cells.max().unwrap_or(0) }
    };
    let widths: [usize; N] = std::array::from_fn(widest);
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| {
            let blanks = width.saturating_sub(display_width(cell));
            format!(" {cell}{:blanks$} |", "")
        });
        format!("|{}", padded.collect::<String>())
    };
    let rule = widths.iter().map(|width| format!("{}|", "-".repeat(width.max(&1) + 2))).collect::<String>();
    let mut lines = vec![line(&head), format!("|{rule}")];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}
