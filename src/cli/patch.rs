//! One change as people read it: a line that says what, and the lines of text that differ.

use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

use super::changes::{difference, shown, shown_bytes};
use crate::report::size_words;
use crate::sandbox::changes::{Change, ChangeKind, Changes, Content, Node};

/// Files larger than this are told by their sizes.
const LARGEST: u64 = 1 << 20;
/// Most lines that are shown of one file.
const MOST_LINES: usize = 5_000;
/// How far a file is looked into to tell text from other content.
const SNIFF: usize = 8 << 10;
/// Lines shown around each difference.
const CONTEXT: usize = 3;
/// After this the comparison of a file is finished roughly: every line is still shown rightly, with more than is needed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The lines by which two texts differ.
pub(super) enum Text {
    /// They do, in these groups, of this many lines added and removed.
    Lines(Vec<Hunk>, usize, usize),
    /// At least one is no text.
    Binary,
    /// At least one is too large to show.
    Large,
    /// There is no content that could be compared.
    None,
    /// It can't be read.
    Unreadable(io::Error),
}

/// Differences that stand close together.
pub(super) struct Hunk {
    head: String,
    lines: Vec<(Tag, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Same,
    Added,
    Removed,
    Remark,
}

/// Compares the texts of a change.
pub(super) fn text(changes: &Changes, change: &Change) -> Text {
    let is_file =
        |meta: &Option<crate::sandbox::changes::Meta>| meta.as_ref().is_some_and(|meta| meta.node == Node::File);
    if change.kind == ChangeKind::Mode || !(is_file(&change.old) || is_file(&change.new)) {
        return Text::None;
    }
    let old = is_file(&change.old).then(|| changes.old_content(change));
    let new = is_file(&change.new).then(|| changes.new_content(change));
    match (read(old), read(new)) {
        (Err(error), _) | (_, Err(error)) => Text::Unreadable(error),
        (Ok(Side::Binary), _) | (_, Ok(Side::Binary)) => Text::Binary,
        (Ok(Side::Large), _) | (_, Ok(Side::Large)) => Text::Large,
        (Ok(Side::Text(old)), Ok(Side::Text(new))) => compare(&old, &new),
    }
}

enum Side {
    Text(Vec<u8>),
    Binary,
    Large,
}

fn read(content: Option<io::Result<Content>>) -> io::Result<Side> {
    let Some(content) = content else { return Ok(Side::Text(Vec::new())) };
    let content = content?;
    let mut bytes = Vec::new();
    let most = if content.size_bytes() > LARGEST { SNIFF as u64 } else { LARGEST };
    content.reader().take(most).read_to_end(&mut bytes)?;
    Ok(match bytes[..bytes.len().min(SNIFF)].contains(&0) {
        true => Side::Binary,
        false if content.size_bytes() > LARGEST => Side::Large,
        false => Side::Text(bytes),
    })
}

fn compare(old: &[u8], new: &[u8]) -> Text {
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = (lines(old), lines(new));
    let until = Instant::now() + PATIENCE;
    let operations = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(until));
    let (mut hunks, mut added, mut removed) = (Vec::new(), 0, 0);
    for operation in &operations {
        let (tag, from, to) = operation.as_tag_tuple();
        if tag != similar::DiffTag::Equal {
            removed += from.len();
            added += to.len();
        }
    }
    let mut room = MOST_LINES;
    for group in group_diff_ops(operations, CONTEXT) {
        if room == 0 {
            break;
        }
        let hunk = hunk(&group, &old, &new, room);
        room = room.saturating_sub(hunk.lines.len());
        hunks.push(hunk);
    }
    Text::Lines(hunks, added, removed)
}

/// The lines with their ends, as patches count them.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

fn hunk(group: &[DiffOp], old: &[&[u8]], new: &[&[u8]], room: usize) -> Hunk {
    let range = |side: fn(&DiffOp) -> std::ops::Range<usize>| {
        let (first, last) = (group.first().map(side), group.last().map(side));
        first.unwrap_or(0..0).start..last.unwrap_or(0..0).end
    };
    let numbers = |range: std::ops::Range<usize>| {
        let start = if range.is_empty() { range.start } else { range.start + 1 };
        format!("{start},{}", range.len())
    };
    let head = format!("@@ -{} +{} @@", numbers(range(DiffOp::old_range)), numbers(range(DiffOp::new_range)));
    let mut shown = Vec::new();
    for operation in group {
        let (tag, from, to) = operation.as_tag_tuple();
        if tag == similar::DiffTag::Equal {
            old[from].iter().for_each(|line| push(&mut shown, Tag::Same, line));
        } else {
            old[from].iter().for_each(|line| push(&mut shown, Tag::Removed, line));
            new[to].iter().for_each(|line| push(&mut shown, Tag::Added, line));
        }
    }
    if shown.len() > room {
        let left = shown.len() - room;
        shown.truncate(room);
        shown.push((Tag::Remark, format!("[... {left} lines]")));
    }
    Hunk { head, lines: shown }
}

fn push(to: &mut Vec<(Tag, String)>, tag: Tag, line: &[u8]) {
    match line.strip_suffix(b"\n") {
        Some(line) => to.push((tag, shown_bytes(line))),
        None => {
            to.push((tag, shown_bytes(line)));
            to.push((Tag::Remark, "\\ No newline at end of file".to_owned()));
        }
    }
}

/// One change in full: a line that says what, then what differs. With `colour` where a terminal takes it.
pub(super) fn full(changes: &Changes, change: &Change, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let words = difference(change);
    let separator = if words.is_empty() { "" } else { "  " };
    let head = format!("{} {}", change.kind.word(), shown(&change.path));
    let mut out = format!("{}{separator}{words}\n", paint("1", &head));
    match text(changes, change) {
        Text::None => {}
        Text::Binary => out.push_str("  binary\n"),
        Text::Large => out.push_str(&format!("  too large to show{}\n", sizes(change))),
        Text::Unreadable(error) => out.push_str(&format!("  can't be read: {error}\n")),
        Text::Lines(hunks, ..) => {
            let name = |there: bool, side: &str| match there {
                true => format!("{side}/{}", shown(&change.path)),
                false => "/dev/null".to_owned(),
            };
            if !hunks.is_empty() {
                out.push_str(&paint("1", &format!("--- {}", name(change.old.is_some(), "a"))));
                out.push('\n');
                out.push_str(&paint("1", &format!("+++ {}", name(change.new.is_some(), "b"))));
                out.push('\n');
            }
            for hunk in hunks {
                out.push_str(&paint("36", &hunk.head));
                out.push('\n');
                for (tag, line) in hunk.lines {
                    out.push_str(&match tag {
                        Tag::Same => format!(" {line}"),
                        Tag::Added => paint("32", &format!("+{line}")),
                        Tag::Removed => paint("31", &format!("-{line}")),
                        Tag::Remark => line,
                    });
                    out.push('\n');
                }
            }
        }
    }
    out
}

fn sizes(change: &Change) -> String {
    let size = |meta: &Option<crate::sandbox::changes::Meta>| meta.as_ref().map(|meta| size_words(meta.size_bytes));
    match (size(&change.old), size(&change.new)) {
        (Some(old), Some(new)) => format!(": {old} -> {new}"),
        (Some(one), None) | (None, Some(one)) => format!(": {one}"),
        (None, None) => String::new(),
    }
}

/// The figures of `--stat`: `+3 -1`, or what stands for them.
pub(super) fn figures(changes: &Changes, change: &Change) -> String {
    match text(changes, change) {
        Text::Lines(_, added, removed) => format!("+{added} -{removed}"),
        Text::Binary => format!("binary{}", sizes(change)),
        Text::Large => format!("large{}", sizes(change)),
        Text::Unreadable(error) => format!("can't be read: {error}"),
        Text::None => difference(change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(old: &[u8], new: &[u8]) -> String {
        let Text::Lines(hunks, ..) = compare(old, new) else { panic!("two texts") };
        let mark = |tag: &Tag| match tag {
            Tag::Same => " ",
            Tag::Added => "+",
            Tag::Removed => "-",
            Tag::Remark => "",
        };
        let shown = |hunk: &Hunk| {
            let lines: String = hunk.lines.iter().map(|(tag, line)| format!("{}{line}\n", mark(tag))).collect();
            format!("{}\n{lines}", hunk.head)
        };
        hunks.iter().map(shown).collect()
    }

    #[test]
    fn differences_stand_in_groups_as_in_patches() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n2\n", "\ntwo\n").replace("19\n", "");
        assert_eq!(
            plain(old.as_bytes(), new.as_bytes()),
            "@@ -1,5 +1,5 @@\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -16,5 +16,4 @@\n 16\n 17\n 18\n-19\n 20\n"
        );
        assert_eq!(plain(b"", b"a\nb"), "@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_tabs_stay() {
        assert_eq!(plain(b"", b"\x1b]52;c;eA==\x07\tx\xff\r\n"), "@@ -0,0 +1,1 @@\n+\\e]52;c;eA==\\x07\tx\\xff\\r\n");
    }

    #[test]
    fn two_large_texts_without_a_common_line_are_compared_in_bounded_time() {
        let text = |salt: u64| (0..100_000_u64).map(|n| format!("{}\n", n * 2 + salt)).collect::<String>();
        let begun = Instant::now();
        let Text::Lines(hunks, added, removed) = compare(text(0).as_bytes(), text(1).as_bytes()) else {
            panic!("two texts")
        };
        assert_eq!((added, removed), (100_000, 100_000));
        assert!(hunks.iter().map(|hunk| hunk.lines.len()).sum::<usize>() <= MOST_LINES + 1);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
}
