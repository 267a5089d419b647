//! `edit_file`: one exact piece of text replaced.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Outcome, Status};
use crate::guest::Client;
use crate::terminal::TerminalError;

use super::facts::size;
use super::path::resolve;

/// Arguments of `edit_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// The text as it stands in the file.
    pub old: String,
    /// What to put there.
    pub new: String,
    /// Replace every occurrence; null for exactly one.
    #[serde(default)]
    pub all: Option<bool>,
}

/// The largest file that is edited.
const LARGEST: u64 = 32 << 20;
/// Lines shown before and after the first change.
const AROUND: usize = 3;

/// Makes the change.
pub(super) async fn run(args: &Args, workspace: &str, guest: &Client) -> Result<Outcome, TerminalError> {
    let path = resolve(workspace, &args.path);
    let failed = |text: String| Ok(Outcome::words(Status::Failed, text));
    let mut content = Vec::new();
    loop {
        let (info, block) = guest.read_file(&path, content.len() as u64, LARGEST).await?;
        if info.size > LARGEST {
            return failed(format!("{path} is {}; files up to {} can be edited", size(info.size), size(LARGEST)));
        }
        if block.is_empty() {
            break;
        }
        content.extend_from_slice(&block);
    }
    let Ok(content) = String::from_utf8(content) else {
        return failed(format!("{path} is not UTF-8 text; nothing was changed"));
    };
    match edit(&content, args) {
        Err(why) => failed(format!("{path}: {why}; nothing was changed")),
        Ok(edited) => {
            guest.write_file(&path, edited.content.as_bytes(), None).await?;
            let noun = if edited.places == 1 { "place" } else { "places" };
            let facts = format!("[{path} · {} {noun} · from line {}]", edited.places, edited.line);
            Ok(Outcome::words(Status::Ok, format!("{facts}\n{}", edited.around)))
        }
    }
}

#[derive(Debug)]
struct Edited {
    content: String,
    places: usize,
    line: usize,
    around: String,
}

fn edit(content: &str, args: &Args) -> Result<Edited, String> {
    if args.old.is_empty() {
        return Err("`old` is empty".to_owned());
    }
    if args.old == args.new {
        return Err("`old` and `new` are the same".to_owned());
    }
    let lines: Vec<usize> = content.match_indices(&args.old).map(|(at, _)| line_of(content, at)).collect();
    let Some(&line) = lines.first() else { return Err(not_found(content, &args.old)) };
    if lines.len() > 1 && args.all != Some(true) {
        let places: Vec<_> = lines.iter().take(10).map(usize::to_string).collect();
        return Err(format!(
            "`old` occurs {} times (lines {}); take in more around it, or set `all`",
            lines.len(),
            places.join(", ")
        ));
    }
    let edited = content.replace(&args.old, &args.new);
    let shown = AROUND * 2 + args.new.lines().count().clamp(1, 40);
    let from = line.saturating_sub(AROUND + 1);
    let around = edited.lines().skip(from).take(shown).collect::<Vec<_>>().join("\n");
    Ok(Edited { content: edited, places: lines.len(), line, around })
}

/// Says what comes closest, since most misses are white space.
fn not_found(content: &str, old: &str) -> String {
    let wanted = old.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let near = content.lines().position(|line| !wanted.is_empty() && line.trim() == wanted);
    match near {
        Some(at) => format!("`old` does not occur; line {} is like its first line but for white space", at + 1),
        None => "`old` does not occur".to_owned(),
    }
}

fn line_of(content: &str, at: usize) -> usize {
    content[..at].bytes().filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(old: &str, new: &str, all: bool) -> Args {
        Args { path: "f".to_owned(), old: old.to_owned(), new: new.to_owned(), all: Some(all) }
    }

    #[test]
    fn one_place_is_replaced_and_shown_with_its_surroundings() {
        let edited = edit("a\nb\nlr = 1\nc\nd\ne\nf\n", &args("lr = 1", "lr = 0.1", false)).expect("one place");
        assert_eq!(edited.content, "a\nb\nlr = 0.1\nc\nd\ne\nf\n");
        assert_eq!((edited.line, edited.around.as_str()), (3, "a\nb\nlr = 0.1\nc\nd\ne\nf"));
    }

    #[test]
    fn several_places_are_changed_only_when_that_was_asked_for() {
        let refused = edit("x\ny\nx\n", &args("x", "z", false)).expect_err("two places");
        assert!(refused.contains("2 times (lines 1, 3)"), "{refused}");
        assert_eq!(edit("x\ny\nx\n", &args("x", "z", true)).expect("all").content, "z\ny\nz\n");
    }

    #[test]
    fn a_miss_says_what_comes_closest() {
        let refused = edit("    lr = 1\n", &args("\tlr = 1\n", "", false)).expect_err("white space");
        assert!(refused.contains("line 1"), "{refused}");
        assert_eq!(edit("a", &args("b", "c", false)).expect_err("nothing like it"), "`old` does not occur");
    }

    #[test]
    fn nothing_is_written_when_nothing_would_change() {
        assert!(edit("a", &args("a", "a", false)).is_err());
        assert!(edit("a", &args("", "b", false)).is_err());
    }
}
