//! Brings files out of the box: copied byte by byte into the run's directory, never linked, hostile names refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::guest::{Client, DirEntry, FileKind, GuestError};

use super::path::resolve;
use super::workbench::Collected;

/// The list of what was brought out, which is written beside it.
const MANIFEST: &str = "manifest.json";
/// Most files that one directory brings.
const MOST_FILES: usize = 1_000;
/// The largest file that is brought out.
const LARGEST: u64 = 1 << 30;

/// What became of each file: collected, or its path and why not.
type Results = Vec<Result<Collected, (String, String)>>;

/// Brings `path`, or all regular files below it, to `artifacts`.
pub(super) async fn collect(
    path: &str,
    workspace: &str,
    artifacts: &Path,
    guest: &Client,
) -> Result<Results, GuestError> {
    let mut results = Results::new();
    let mut waiting = vec![resolve(workspace, path)];
    while let Some(path) = waiting.pop() {
        if results.len() >= MOST_FILES {
            results.push(Err((path, format!("more than {MOST_FILES} files"))));
            break;
        }
        match guest.stat(&path).await {
            Ok(info) if info.kind == FileKind::Dir => match guest.list_dir(&path).await {
                Ok(entries) => {
                    waiting.extend(entries.iter().rev().filter_map(|entry| below(&path, entry, &mut results)));
                }
                Err(error) => results.push(Err((path, refused(error)?))),
            },
            Ok(info) if info.kind != FileKind::File => results.push(Err((path, "is not a regular file".to_owned()))),
            Ok(info) if info.size > LARGEST => results.push(Err((path, "is larger than 1 GiB".to_owned()))),
            Ok(_) => results.push(copy(&path, workspace, artifacts, guest).await?),
            Err(error) => results.push(Err((path, refused(error)?))),
        }
    }
    Ok(results)
}

fn below(dir: &str, entry: &DirEntry, results: &mut Results) -> Option<String> {
    let path = format!("{dir}/{}", entry.name);
    match entry.kind {
        FileKind::File | FileKind::Dir => Some(path),
        FileKind::Link => {
            results.push(Err((path, "is a symbolic link".to_owned())));
            None
        }
        FileKind::Special => {
            results.push(Err((path, "is not a regular file".to_owned())));
            None
        }
    }
}

fn refused(error: GuestError) -> Result<String, GuestError> {
    match error {
        GuestError::Refused(refusal) => Ok(refusal.what),
        other => Err(other),
    }
}

async fn copy(
    path: &str,
    workspace: &str,
    artifacts: &Path,
    guest: &Client,
) -> Result<Result<Collected, (String, String)>, GuestError> {
    let stored = match place(path, workspace) {
        Ok(stored) => stored,
        Err(why) => return Ok(Err((path.to_owned(), why))),
    };
    let target = artifacts.join(&stored);
    let mut file = match create(&target) {
        Ok(file) => file,
        Err(error) => return Ok(Err((path.to_owned(), error.to_string()))),
    };
    let (mut hash, mut size_bytes) = (Sha256::new(), 0);
    loop {
        let block = match guest.read_file(path, size_bytes, u64::MAX).await {
            Ok((_, block)) => block,
            Err(error) => return Ok(Err((path.to_owned(), refused(error)?))),
        };
        if block.is_empty() || size_bytes > LARGEST {
            break;
        }
        hash.update(&block);
        size_bytes += block.len() as u64;
        if let Err(error) = file.write_all(&block) {
            return Ok(Err((path.to_owned(), error.to_string())));
        }
    }
    if let Err(error) = file.sync_data() {
        return Ok(Err((path.to_owned(), error.to_string())));
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Ok(Collected { path: path.to_owned(), stored, size_bytes, sha256 }))
}

/// Removes what lies below the directory for artefacts and is not among those that were recorded: a driver was killed while
/// it brought them out.
pub(super) fn drop_unrecorded(dir: &Path, artifacts: &Path, recorded: &BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            drop_unrecorded(&path, artifacts, recorded);
            continue;
        }
        let stored = path.strip_prefix(artifacts).ok().and_then(Path::to_str);
        if stored.is_some_and(|stored| stored != MANIFEST && !recorded.contains(stored)) {
            // What can't be removed is refused when it is brought out once more, and that is told.
            drop(fs::remove_file(&path));
        }
    }
}

fn create(target: &Path) -> io::Result<File> {
    fs::create_dir_all(target.parent().unwrap_or(target))?;
    File::create_new(target)
}

/// Where a file goes below the directory for artefacts: its path in the workspace, or `root/…` for one outside.
fn place(path: &str, workspace: &str) -> Result<String, String> {
    let hostile = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if path.chars().any(hostile) || path.contains('\u{fffd}') {
        return Err("its name is not plain text".to_owned());
    }
    let (base, rest) = match Path::new(path).strip_prefix(workspace) {
        Ok(rest) => (PathBuf::new(), rest),
        Err(_) => (PathBuf::from("root"), Path::new(path.trim_start_matches('/'))),
    };
    let mut stored = base;
    for component in rest.components() {
        match component {
            Component::Normal(name) => stored.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("its path leads upwards".to_owned());
            }
        }
    }
    match stored.to_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("it has no name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_file_is_stored_under_its_path_in_the_workspace() {
        assert_eq!(place("/p/runs/./best.bin", "/p").as_deref(), Ok("runs/best.bin"));
        assert_eq!(place("/var/log/x", "/p").as_deref(), Ok("root/var/log/x"));
        assert_eq!(place("/px/y", "/p").as_deref(), Ok("root/px/y"));
    }

    #[test]
    fn hostile_names_are_refused() {
        for path in ["/p/../../etc/passwd", "/p/a\nb", "/p/a\u{1b}[2J", "/p/a\u{202e}b", "/p", "/p/\u{fffd}"] {
            assert!(place(path, "/p").is_err(), "{path:?}");
        }
    }
}
