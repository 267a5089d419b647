//! Decides of each change whether it may be applied to the host. Pure but for looking: nothing is changed here.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::beneath::Node;
use super::runs_itself::{in_bare_repository, runs_itself};
use super::write::TEMPORARY;
use super::{Change, ChangeKind, Changes};

/// The longest name that file systems take.
const LONGEST_NAME: usize = 255;
/// The longest path that the kernel takes, without its end.
const LONGEST_PATH: usize = 4095;

/// What a person has agreed to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent<'a> {
    /// Overwrite what the host has changed since.
    pub force: bool,
    /// Bring files that run by themselves on the host.
    pub include_active: bool,
    /// Paths below the workspace that were named; one that names a file that runs by itself is consent to it.
    pub named: &'a [PathBuf],
}

/// How a change stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It can be applied.
    Clear,
    /// It was not asked for.
    NotAsked,
    /// The host has changed the file since the box was opened.
    Conflict,
    /// It is never applied, and why.
    Refused(String),
    /// It runs by itself on the host, and who would run it.
    Held(&'static str),
    /// What it rests on is not applied.
    Waits(&'static str),
    /// Nothing of it can be applied, and nothing is lost by that.
    Idle,
}

/// What is to become of each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each change, in their order.
    pub standings: Vec<Standing>,
}

impl Plan {
    /// The numbers of the changes that stand like this.
    pub fn of<'a>(&'a self, wanted: impl Fn(&Standing) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
        self.standings.iter().enumerate().filter(move |(_, standing)| wanted(standing)).map(|(index, _)| index)
    }

    /// The numbers of the changes to apply.
    pub fn clear(&self) -> Vec<usize> {
        self.of(|standing| *standing == Standing::Clear).collect()
    }
}

/// Checks the changes that `is_asked` for, and those that they can't be without.
pub fn plan(changes: &Changes, is_asked: impl Fn(&Change) -> bool, consent: &Consent<'_>) -> Plan {
    let list = &changes.list;
    let mut asked: Vec<bool> = list.iter().map(is_asked).collect();
    let makes_directory = |change: &Change| {
        change.kind != ChangeKind::Mode && change.new.as_ref().is_some_and(|new| new.node == Node::Directory)
    };
    let directories: BTreeMap<&Path, usize> = list
        .iter()
        .enumerate()
        .filter(|(_, change)| makes_directory(change))
        .map(|(index, change)| (change.path.as_path(), index))
        .collect();
    for index in 0..list.len() {
        if asked[index] {
            let above = list[index].path.ancestors().skip(1);
            above.filter_map(|path| directories.get(path)).for_each(|&above| asked[above] = true);
        }
    }
    let paths: HashSet<&Path> =
        list.iter().filter(|change| change.new.is_some()).map(|change| change.path.as_path()).collect();
    let is_there = |path: &Path| paths.contains(path) || changes.host.stat(path).is_ok_and(|stat| stat.is_some());
    let judge = |(change, asked): (&Change, bool)| match asked {
        true => judged(changes, change, consent, &is_there),
        false => Standing::NotAsked,
    };
    let mut standings: Vec<Standing> = list.iter().zip(asked).map(judge).collect();
    wait_for_children(list, &mut standings);
    wait_for_parents(list, &mut standings);
    Plan { standings }
}

fn judged(changes: &Changes, change: &Change, consent: &Consent<'_>, is_there: &dyn Fn(&Path) -> bool) -> Standing {
    if let Some(why) = refusal(changes, change) {
        return Standing::Refused(why);
    }
    if is_idle(change) {
        return Standing::Idle;
    }
    if change.meanwhile && !consent.force {
        return Standing::Conflict;
    }
    let bare = || in_bare_repository(&change.path, is_there).then_some("git obeys it");
    let is_directory = change.new.as_ref().is_some_and(|new| new.node == Node::Directory);
    // Empty directories run nothing, and a deletion takes something away that would.
    let can_run = change.new.is_some() && !is_directory;
    match runs_itself(&change.path).or_else(bare).filter(|_| can_run && !consent.include_active) {
        Some(who) if !is_named(&change.path, consent.named) => Standing::Held(who),
        _ => Standing::Clear,
    }
}

/// Whether the path, or a directory above it that runs by itself as a whole, was named.
fn is_named(path: &Path, named: &[PathBuf]) -> bool {
    named.iter().any(|named| path == named || (path.starts_with(named) && runs_itself(named).is_some()))
}

fn refusal(changes: &Changes, change: &Change) -> Option<String> {
    if let Some(trouble) = &change.trouble {
        return Some(trouble.clone());
    }
    if let Some(why) = bad_name(&change.path) {
        return Some(why.to_owned());
    }
    let new = change.new.as_ref()?;
    match new.node {
        Node::Fifo | Node::Socket | Node::Device => Some(format!("it is a {}", new.node.word())),
        Node::Link => match leads_outside(&change.path, new.target.as_deref()?, &changes.workspace) {
            true => Some("the link leads out of the workspace, or can't be shown to stay in it".to_owned()),
            false => None,
        },
        Node::File if change.kind != ChangeKind::Mode => {
            changes.new_content(change).err().map(|error| format!("it can't be read: {error}"))
        }
        Node::File | Node::Directory => None,
    }
}

fn bad_name(path: &Path) -> Option<&'static str> {
    if path.as_os_str().is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Some("its name leads elsewhere");
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > LONGEST_PATH || path.iter().any(|part| part.len() > LONGEST_NAME) {
        return Some("its name is too long");
    }
    path.iter()
        .any(|part| part.as_bytes().starts_with(TEMPORARY.as_bytes()))
        .then_some("its name is one that applying uses for itself")
}

/// Whether a link at `path` could lead out of `workspace`.
///
/// A `..` counts only before everything else, where what is above is known to be real directories: after a name that may
/// itself be a link, nobody can tell from the words where it leads.
fn leads_outside(path: &Path, target: &[u8], workspace: &Path) -> bool {
    let target = Path::new(std::ffi::OsStr::from_bytes(target));
    let (mut depth, inside) = match target.strip_prefix("/") {
        Ok(_) => match target.strip_prefix(workspace) {
            Ok(inside) => (0, inside),
            Err(_) => return true,
        },
        Err(_) => (path.components().count() - 1, target),
    };
    let mut named = false;
    for part in inside.components() {
        match part {
            Component::ParentDir if named || depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

/// Set-id and sticky bits are never applied; where nothing else differs, there is nothing to do.
fn is_idle(change: &Change) -> bool {
    let bits = |meta: &Option<super::Meta>| meta.as_ref().map(|meta| meta.mode & 0o777);
    change.kind == ChangeKind::Mode && bits(&change.old) == bits(&change.new)
}

fn is_removed_directory(change: &Change) -> bool {
    change.old.as_ref().is_some_and(|old| old.node == Node::Directory)
        && change.new.as_ref().is_none_or(|new| new.node != Node::Directory)
}

/// A directory stays where something in it stays.
fn wait_for_children(list: &[Change], standings: &mut [Standing]) {
    let mut kept: HashSet<&Path> = HashSet::new();
    for (change, standing) in list.iter().zip(standings.iter_mut()).rev() {
        if *standing == Standing::Clear && is_removed_directory(change) && kept.contains(change.path.as_path()) {
            *standing = Standing::Waits("something in it is not removed");
        }
        if *standing != Standing::Clear && change.new.is_none() {
            kept.extend(change.path.ancestors().skip(1));
        }
    }
}

/// Nothing is made in a directory that is not made, or removed from one that was to become something else.
fn wait_for_parents(list: &[Change], standings: &mut [Standing]) {
    let mut missing: HashSet<&Path> = HashSet::new();
    for (change, standing) in list.iter().zip(standings.iter_mut()) {
        let waits = change.path.ancestors().skip(1).any(|above| missing.contains(above));
        if *standing == Standing::Clear && waits {
            *standing = Standing::Waits("the directory that it is in is not applied");
        }
        let decides = matches!(change.kind, ChangeKind::Type | ChangeKind::Added);
        if *standing != Standing::Clear && decides {
            missing.insert(&change.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(path: &str, target: &str) -> bool {
        leads_outside(Path::new(path), target.as_bytes(), Path::new("/srv/project"))
    }

    #[test]
    fn links_that_stay_in_the_workspace_are_told_from_those_that_may_not() {
        for (path, target) in [
            ("link", "file"),
            ("link", "./a/b"),
            ("a/link", "../file"),
            ("a/b/link", "../../c/d"),
            ("link", "/srv/project/a"),
            ("link", "/srv/project"),
        ] {
            assert!(!outside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("link", "/etc/passwd"),
            ("link", "../secret"),
            ("a/link", "../../secret"),
            ("link", "a/../b"),
            ("a/link", "x/../../y"),
            ("link", "/srv/project/../other"),
            ("link", "/srv/project2"),
            ("link", "/"),
            ("link", ".."),
        ] {
            assert!(outside(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_too_long_are_bad() {
        let long = "x".repeat(256);
        let deep = vec!["y"; 2100].join("/");
        for path in ["", "..", "../x", "/etc/passwd", "a/../b", &long, &deep, "a/.longhaul-apply-x"] {
            assert!(bad_name(Path::new(path)).is_some(), "{path}");
        }
        for path in ["-rf", "a b", "new\nline", "\u{1b}[2J", &"x".repeat(255), "..."] {
            assert_eq!(bad_name(Path::new(path)), None, "{path}");
        }
    }
}
