//! What `diff` and `apply` share: finding a run's changes, which of them are meant, and how they are shown.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use serde_json::{Value, json};

use super::target::{of_store, store};
use super::{Failure, Place};
use crate::domain::{Event, ExitReason};
use crate::journal::{Reader, RunDir, RunSummary};
use crate::report::{size_words, visible, visible_line};
use crate::sandbox::changes::{Change, ChangeKind, Changes, ChangesError, Meta, Node, Wanted};

/// A run's changes, and which of them are asked for.
pub(super) struct Asked {
    /// The run.
    pub(super) run: RunDir,
    /// All changes of the workspace.
    pub(super) changes: Changes,
    /// Paths below the workspace; none for all.
    pub(super) named: Vec<PathBuf>,
}

/// What there is to show of a run.
pub(super) enum Found {
    /// Changes.
    Changes(Box<Asked>),
    /// None, and why.
    Nothing(String),
}

impl Asked {
    /// Whether a change is among what was asked for.
    pub(super) fn is_asked(&self, change: &Change) -> bool {
        self.named.is_empty() || self.named.iter().any(|named| change.path.starts_with(named))
    }

    /// Says on standard error what a reader has to know.
    pub(super) fn print_notes(&self) {
        let mut stderr = io::stderr();
        for note in &self.changes.notes {
            let _ = writeln!(stderr, "note: {}", visible_line(note));
        }
        for named in &self.named {
            if !self.changes.list.iter().any(|change| change.path.starts_with(named)) {
                let _ = writeln!(stderr, "note: nothing is changed at {}", shown(named));
            }
        }
    }
}

/// Finds the changes of the run that `name` means, and what of them `paths` ask for.
pub(super) fn find(name: &str, paths: &[PathBuf], place: &Place) -> Result<Found, Failure> {
    let run = store(place)?.find(name).map_err(|error| of_store(&error))?;
    let mode = workspace_mode(&run);
    if mode.as_deref() == Some("bind") {
        return Ok(Found::Nothing("nothing to bring: this run wrote to the workspace itself".to_owned()));
    }
    let summary = RunSummary::read(&run);
    let wanted = Wanted {
        run_dir: run.path().to_owned(),
        workspace: PathBuf::from(&summary.workspace),
        started_ns: summary.started.and_then(|time| i64::try_from(time.as_nanosecond()).ok()),
    };
    let changes = match Changes::read(&wanted) {
        Ok(changes) => changes,
        Err(ChangesError::NotHere) if mode.is_none() => {
            return Ok(Found::Nothing("nothing to bring: this run has had no box".to_owned()));
        }
        Err(error) => return Err(unreadable(&run, &error, mode.as_deref())),
    };
    let named = paths.iter().map(|path| below(path, &changes.workspace, place)).collect::<Result<_, _>>()?;
    Ok(Found::Changes(Box::new(Asked { run, changes, named })))
}

/// How the run's box kept the workspace; None where it never had one, or its transcript does not say.
fn workspace_mode(run: &RunDir) -> Option<String> {
    let entries = Reader::open(run.path()).ok()?.map_while(Result::ok);
    let opened = entries.filter_map(|entry| match entry.event {
        Event::BoxOpened { facts, .. } => Some(facts.workspace_mode),
        _ => None,
    });
    opened.last()
}

fn unreadable(run: &RunDir, error: &ChangesError, mode: Option<&str>) -> Failure {
    let failure = Failure::new(ExitReason::Usage, format!("cannot tell what run {} has changed", run.id()));
    let failure = failure.because_of(error);
    match error {
        ChangesError::NotHere if mode == Some("copy") => {
            failure.hint("a copied workspace comes out of its container when the run ends: wait for that")
        }
        ChangesError::NotHere => failure.hint("what the run collected is still there: see `agent runs show`"),
        ChangesError::Workspace { .. } => failure.hint("put the directory back to where it was when the run began"),
        ChangesError::Box { .. } => failure.hint("run it as the user who ran the run, or as root"),
    }
}

/// A path as typed, below the workspace.
fn below(typed: &Path, workspace: &Path, place: &Place) -> Result<PathBuf, Failure> {
    let here = place.cwd.canonicalize().unwrap_or_else(|_| place.cwd.clone());
    // From elsewhere, paths are meant from the workspace on.
    let base = if here.starts_with(workspace) { here.as_path() } else { workspace };
    let mut path = PathBuf::new();
    for part in base.join(typed).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.strip_prefix(workspace).map(Path::to_owned).map_err(|_| {
        Failure::new(ExitReason::Usage, format!("{} is not in the workspace", typed.display()))
            .because(format!("the workspace is {}", workspace.display()))
            .hint("name paths as `agent diff --stat` shows them")
    })
}

/// A path, safe to print on one line.
pub(super) fn shown(path: &Path) -> String {
    shown_bytes(path.as_os_str().as_bytes())
}

/// One line of anything, safe to print: what is no text is shown as `\xNN`. Tabs stay.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for (nth, part) in chunk.valid().split('\t').enumerate() {
            if nth > 0 {
                out.push('\t');
            }
            out.push_str(&visible_line(part));
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

/// What differs, in words: `mode 0644 -> 0755, 12 B -> 15 B`.
pub(super) fn difference(change: &Change) -> String {
    let mut parts = Vec::new();
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            if old.node != new.node {
                parts.push(format!("{} -> {}", old.node.word(), new.node.word()));
            }
            if old.mode != new.mode && old.node != Node::Link && new.node != Node::Link {
                parts.push(format!("mode {:04o} -> {:04o}", old.mode, new.mode));
            }
            if change.kind == ChangeKind::Changed && new.node == Node::File {
                parts.push(format!("{} -> {}", size_words(old.size_bytes), size_words(new.size_bytes)));
            }
        }
        (None, Some(meta)) | (Some(meta), None) => parts.push(described(meta)),
        (None, None) => {}
    }
    if let Some(target) = change.new.as_ref().and_then(|new| new.target.as_ref()) {
        parts.push(format!("to {}", shown_bytes(target)));
    }
    if change.meanwhile {
        parts.push("the host has changed it since".to_owned());
    }
    if let Some(trouble) = &change.trouble {
        parts.push(visible(trouble).into_owned());
    }
    parts.join(", ")
}

fn described(meta: &Meta) -> String {
    match meta.node {
        Node::File => format!("file {:04o}, {}", meta.mode, size_words(meta.size_bytes)),
        Node::Link => "link".to_owned(),
        node => format!("{} {:04o}", node.word(), meta.mode),
    }
}

/// A change for programs.
pub(super) fn as_json(change: &Change) -> Value {
    let meta = |meta: &Option<Meta>| {
        meta.as_ref().map(|meta| {
            let target = meta.target.as_ref().map(|target| String::from_utf8_lossy(target).into_owned());
            let size = (meta.node == Node::File).then_some(meta.size_bytes);
            json!({"type": meta.node.word(), "mode": format!("{:04o}", meta.mode), "size_bytes": size, "target": target})
        })
    };
    let bytes = change.path.as_os_str().as_bytes();
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    json!({
        "path": change.path.to_string_lossy(),
        "path_base64": change.path.to_str().is_none().then_some(encoded),
        "kind": change.kind.word(),
        "old": meta(&change.old),
        "new": meta(&change.new),
        "changed_on_host": change.meanwhile,
        "trouble": change.trouble,
        "outside": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_shown_and_nothing_controls_the_terminal() {
        assert_eq!(shown_bytes(b"a\xff\x1b[2J\tb\r\n"), "a\\xff\\e[2J\tb\\r\\n");
        assert_eq!(shown(Path::new("new\nline")), "new\\nline");
    }

    #[test]
    fn typed_paths_are_meant_from_where_one_stands_in_the_workspace() {
        let workspace = tempfile::tempdir().unwrap();
        let work = workspace.path().canonicalize().unwrap();
        std::fs::create_dir(work.join("sub")).unwrap();
        let from = |cwd: &Path| Place {
            vars: std::collections::BTreeMap::new(),
            cwd: cwd.to_owned(),
            stdin_tty: false,
            stdout_tty: false,
            stderr_tty: false,
        };
        let path = |typed: &str, cwd: &Path| below(Path::new(typed), &work, &from(cwd)).ok();
        assert_eq!(path("a", &work.join("sub")), Some(PathBuf::from("sub/a")));
        assert_eq!(path("../a", &work.join("sub")), Some(PathBuf::from("a")));
        assert_eq!(path("a/./b", Path::new("/")), Some(PathBuf::from("a/b")));
        assert_eq!(path(&work.join("x").display().to_string(), Path::new("/")), Some(PathBuf::from("x")));
        assert_eq!(path(".", &work), Some(PathBuf::new()));
        assert_eq!(path("../outside", &work), None);
        assert_eq!(path("/etc/passwd", &work), None);
    }
}
