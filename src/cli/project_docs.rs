//! What a project says of itself to whoever works on it: read once when a run begins, bounded, and never in the run's way.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::launch::hex;
use crate::domain::ProjectDoc;

/// The files, in the order in which the model is shown them.
const NAMES: [&str; 2] = ["AGENTS.md", "RUNBOOK.md"];
const SHOWN: usize = ProjectDoc::MOST_SHOWN;
/// The largest file that is read at all: its hash takes a moment.
const LARGEST: u64 = 64 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct ProjectDocs {
    /// The documents.
    pub(super) docs: Vec<ProjectDoc>,
    /// What was left out and why, a sentence each.
    pub(super) left_out: Vec<String>,
}

/// Why a file is not shown.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("it leads out of the project")]
    Outside,
    #[error("it is no file")]
    NoFile,
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    TooLarge,
    #[error("it is no text")]
    NoText,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads the documents at the root of `workspace`. What is missing or blank is none; whatever else can't be shown is said.
pub(super) fn read(workspace: &Path) -> ProjectDocs {
    let mut found = ProjectDocs::default();
    for name in NAMES {
        match one(workspace, name) {
            Ok(doc) if doc.text.trim().is_empty() => {}
            Ok(doc) => {
                if doc.is_cut() {
                    let (shown, size) = (doc.text.len(), doc.size_bytes);
                    found.left_out.push(format!("{name} has {size} bytes; the model is shown the first {shown}"));
                }
                found.docs.push(doc);
            }
            Err(Unfit::Io(error)) if error.kind() == io::ErrorKind::NotFound && !is_link(workspace, name) => {}
            Err(why) => found.left_out.push(format!("{name} is not shown to the model: {why}")),
        }
    }
    found
}

/// The whole runbook of a project; None where it has none.
///
/// # Errors
/// When it is there and can't be had whole, or is no text.
pub(super) fn runbook(workspace: &Path) -> io::Result<Option<String>> {
    let name = NAMES[1];
    match one(workspace, name) {
        Ok(doc) if !doc.is_cut() => Ok(Some(doc.text)),
        Err(Unfit::Io(error)) if error.kind() == io::ErrorKind::NotFound && !is_link(workspace, name) => Ok(None),
        Ok(doc) => Err(io::Error::other(format!("it has {} bytes", doc.size_bytes))),
        Err(why) => Err(io::Error::other(why)),
    }
}

fn is_link(workspace: &Path, name: &str) -> bool {
    workspace.join(name).is_symlink()
}

fn one(workspace: &Path, name: &str) -> Result<ProjectDoc, Unfit> {
    let path = workspace.join(name).canonicalize()?;
    if !path.starts_with(workspace.canonicalize()?) {
        return Err(Unfit::Outside);
    }
    // A pipe would be waited for, a link put here meanwhile followed.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    #[expect(clippy::cast_possible_wrap, reason = "a few low bits")]
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(Unfit::NoFile);
    }
    if facts.len() > LARGEST {
        return Err(Unfit::TooLarge);
    }
    let (head, sha256, size_bytes) = digest(&mut file)?;
    Ok(ProjectDoc { path: name.to_owned(), sha256, size_bytes, text: text(head, size_bytes)? })
}

/// The beginning of the file, its SHA-256, its size.
fn digest(file: &mut File) -> Result<(Vec<u8>, String, u64), Unfit> {
    let (mut head, mut hash, mut size) = (Vec::new(), Sha256::new(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((head, hex(&hash.finalize()), size));
        }
        hash.update(&piece[..read]);
        size += read as u64;
        if size > LARGEST {
            return Err(Unfit::TooLarge);
        }
        let missing = SHOWN.saturating_sub(head.len());
        head.extend_from_slice(&piece[..read.min(missing)]);
    }
}

/// What is shown: all of it, or as many whole lines as there is room for.
fn text(mut head: Vec<u8>, size_bytes: u64) -> Result<String, Unfit> {
    if (head.len() as u64) < size_bytes {
        let line = memchr::memrchr(b'\n', &head).map_or(0, |at| at + 1);
        // One line that is longer than all there is room for is cut between characters.
        let character =
            || (head.len().saturating_sub(3)..=head.len()).rev().find(|&at| std::str::from_utf8(&head[..at]).is_ok());
        let end = if line > 0 { Some(line) } else { character() };
        head.truncate(end.ok_or(Unfit::NoText)?);
    }
    let text = String::from_utf8(head).map_err(|_| Unfit::NoText)?;
    if text.contains('\0') { Err(Unfit::NoText) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn project() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn both_documents_are_read_in_their_order_and_a_blank_one_is_none() {
        let dir = project();
        fs::write(dir.path().join("RUNBOOK.md"), "run it\n").expect("written");
        fs::write(dir.path().join("AGENTS.md"), "build it\n").expect("written");
        let found = read(dir.path());
        let texts: Vec<_> = found.docs.iter().map(|doc| (doc.path.as_str(), doc.text.as_str())).collect();
        assert_eq!(texts, [("AGENTS.md", "build it\n"), ("RUNBOOK.md", "run it\n")]);
        assert_eq!(found.docs[0].sha256, "5c7033d2bc69a09953be03eb4b49cab37a706a6914673c7b67e2c6de11e9bd3e");
        assert!(found.left_out.is_empty());

        fs::write(dir.path().join("AGENTS.md"), " \n\n").expect("written");
        fs::remove_file(dir.path().join("RUNBOOK.md")).expect("removed");
        let found = read(dir.path());
        assert!(found.docs.is_empty() && found.left_out.is_empty(), "{found:?}");
    }

    #[test]
    fn a_large_one_is_cut_between_lines_and_a_long_line_between_characters() {
        let dir = project();
        fs::write(dir.path().join("AGENTS.md"), "0123456789abcde\n".repeat(1 << 16)).expect("written");
        fs::write(dir.path().join("RUNBOOK.md"), "é".repeat(20_000) + "x").expect("written");
        let found = read(dir.path());
        assert_eq!((found.docs[0].text.len(), found.docs[0].size_bytes), (SHOWN, 1 << 20));
        assert!(found.docs[0].text.ends_with("e\n"));
        assert_eq!((found.docs[1].text.len(), found.docs[1].size_bytes), (SHOWN, 40_001));
        assert_eq!(
            found.left_out,
            [
                "AGENTS.md has 1048576 bytes; the model is shown the first 32768",
                "RUNBOOK.md has 40001 bytes; the model is shown the first 32768"
            ]
        );
    }

    #[test]
    fn what_can_not_be_shown_is_said_and_waited_for_by_nobody() {
        let (dir, other) = (project(), project());
        let agents = dir.path().join("AGENTS.md");
        let told = || {
            let found = read(dir.path());
            assert!(found.docs.is_empty());
            found.left_out.join("\n")
        };
        fs::write(&agents, b"\xff\xfe\x00binary".repeat(9_000)).expect("written");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it is no text");
        fs::write(&agents, "half\0text").expect("written");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it is no text");
        fs::remove_file(&agents).expect("removed");
        fs::create_dir(&agents).expect("made");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it is no file");
        fs::remove_dir(&agents).expect("removed");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &agents,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a pipe");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it is no file");
        fs::remove_file(&agents).expect("removed");
        fs::write(other.path().join("key"), "of another").expect("written");
        std::os::unix::fs::symlink(other.path().join("key"), &agents).expect("linked");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it leads out of the project");
        fs::remove_file(&agents).expect("removed");
        std::os::unix::fs::symlink("nowhere", &agents).expect("linked");
        assert!(told().starts_with("AGENTS.md is not shown to the model: No such file"), "{}", told());
        fs::remove_file(&agents).expect("removed");
        File::create(&agents).expect("made").set_len(LARGEST + 1).expect("sparse");
        assert_eq!(told(), "AGENTS.md is not shown to the model: it is larger than 64 MiB");
    }

    #[test]
    fn a_link_within_the_project_is_followed() {
        let dir = project();
        fs::create_dir(dir.path().join("docs")).expect("made");
        fs::write(dir.path().join("docs/agents.md"), "build it\n").expect("written");
        std::os::unix::fs::symlink("docs/agents.md", dir.path().join("AGENTS.md")).expect("linked");
        assert_eq!(read(dir.path()).docs[0].text, "build it\n");
    }
}
