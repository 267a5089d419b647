//! Reads the copy of a workspace that came back from a container as a tar. Nothing is unpacked: contents are read where
//! they lie in the file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::base::{Base, Mark};
use super::beneath::{Beneath, Meta, Node};
use super::upper::{compare, deletion};
use super::{Change, Content, Place, is_equal};

/// One entry of the tar.
#[derive(Debug, Clone)]
struct Item {
    meta: Meta,
    mtime_s: i64,
    place: Place,
    trouble: Option<String>,
}

/// What the tar holds, by path below the workspace.
#[derive(Debug)]
pub(super) struct Copied {
    items: BTreeMap<PathBuf, Item>,
}

impl Copied {
    /// Reads the headers.
    ///
    /// # Errors
    /// When it is no whole tar.
    pub(super) fn index(file: &File) -> io::Result<Self> {
        let mut items = BTreeMap::new();
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 16, file));
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
            let (path, mut trouble) = below(&name);
            if path.as_os_str().is_empty() && trouble.is_none() {
                continue;
            }
            let header = entry.header();
            let kind = header.entry_type();
            let node = node_of(kind);
            let mut meta = Meta { node, mode: header.mode()? & 0o7777, size_bytes: 0, target: None };
            let mut place = Place::None;
            match kind {
                EntryType::Regular | EntryType::Continuous => {
                    meta.size_bytes = entry.size();
                    place = Place::Tar(entry.raw_file_position());
                }
                EntryType::Symlink => meta.target = entry.link_name_bytes().map(|target| target.into_owned()),
                EntryType::Link => {
                    let first = entry.link_name_bytes().map(|name| PathBuf::from(OsStr::from_bytes(&name)));
                    match first.and_then(|first| items.get(&below(&first).0).cloned()) {
                        Some(Item { meta: linked, place: at, .. }) => (meta, place) = (linked, at),
                        None => trouble = Some("it is a hard link to something that was not copied".to_owned()),
                    }
                }
                EntryType::GNUSparse => trouble = Some("it is stored in a way that is not read".to_owned()),
                _ => {}
            }
            let mtime_s = i64::try_from(header.mtime()?).unwrap_or(i64::MAX);
            items.insert(path, Item { meta, mtime_s, place, trouble });
        }
        Ok(Self { items })
    }

    /// What differs from the host, but for what the host alone has changed since.
    pub(super) fn compare(&self, tar: &File, host: &Beneath, base: &Base) -> Vec<Change> {
        let mut out = Vec::new();
        for (path, item) in &self.items {
            let old = host.stat(path).ok().flatten();
            let mark = old.as_ref().map(Mark::of);
            let meanwhile = base.has_changed(path, mark.as_ref());
            if meanwhile && base.mark(path).is_some_and(|then| item.is_as_copied(then)) {
                continue;
            }
            let equal = |_: &Meta| {
                let Place::Tar(from) = item.place else { return Ok(false) };
                let new = Content { file: tar.try_clone()?, from, length: item.meta.size_bytes };
                let file = host.file(path)?;
                let length = file.metadata()?.size();
                is_equal(&new, &Content { file, from: 0, length })
            };
            let Some((kind, old)) = compare(host, path, &item.meta, old.as_ref(), equal) else { continue };
            let (new, content, trouble) = (Some(item.meta.clone()), item.place.clone(), item.trouble.clone());
            out.push(Change { path: path.clone(), kind, old, new, meanwhile, trouble, mark, content });
        }
        for (path, then) in base.paths().filter(|(path, then)| !self.items.contains_key(*path) && was_copied(then)) {
            let Ok(Some(stat)) = host.stat(path) else { continue };
            let Ok(Some(old)) = host.meta(path) else { continue };
            let mark = Mark::of(&stat);
            let mut change = deletion(path, old, Some(mark), None);
            change.meanwhile = base.has_changed(path, Some(&mark)) || !mark.is_same(then);
            out.push(change);
        }
        self.add_new_below_deleted(host, base, &mut out);
        out
    }

    /// What the host has got since below a directory that the box has removed: it stands in the way of the removal.
    fn add_new_below_deleted(&self, host: &Beneath, base: &Base, out: &mut Vec<Change>) {
        let is_gone = |change: &&Change| {
            change.old.as_ref().is_some_and(|old| old.node == Node::Directory)
                && change.new.as_ref().is_none_or(|new| new.node != Node::Directory)
        };
        let mut open: Vec<PathBuf> = out.iter().filter(is_gone).map(|change| change.path.clone()).collect();
        while let Some(at) = open.pop() {
            let Ok(dir) = host.dir(&at) else { continue };
            for name in dir.names().unwrap_or_default() {
                let path = at.join(&name);
                if base.mark(&path).is_some() || self.items.contains_key(&path) {
                    continue;
                }
                if let (Ok(Some(meta)), Ok(Some(stat))) = (host.meta(&path), dir.stat(&name)) {
                    if meta.node == Node::Directory {
                        open.push(path.clone());
                    }
                    let mut change = deletion(&path, meta, Some(Mark::of(&stat)), None);
                    change.meanwhile = true;
                    out.push(change);
                }
            }
        }
    }
}

impl Item {
    /// Whether the box seems to have left it as it was brought in.
    fn is_as_copied(&self, then: &Mark) -> bool {
        let same_time = then.mtime_ns.div_euclid(1_000_000_000) == self.mtime_s;
        let same_size = self.meta.node != Node::File || then.size == self.meta.size_bytes;
        let same_kind = Node::of(then.mode) == self.meta.node;
        let same_mode = self.meta.node == Node::Link || then.mode & 0o7777 == self.meta.mode;
        same_kind && same_mode && (self.meta.node == Node::Directory || (same_time && same_size))
    }
}

/// The path below the workspace, whose own name every path begins with; with a trouble where it is no such path.
fn below(name: &Path) -> (PathBuf, Option<String>) {
    let mut parts = name.components();
    parts.next();
    let rest = parts.as_path();
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    match name.components().all(is_plain) {
        true => (rest.to_owned(), None),
        false => (name.to_owned(), Some("its name leads elsewhere".to_owned())),
    }
}

fn node_of(kind: EntryType) -> Node {
    match kind {
        EntryType::Directory => Node::Directory,
        EntryType::Symlink => Node::Link,
        EntryType::Fifo => Node::Fifo,
        EntryType::Char | EntryType::Block => Node::Device,
        _ => Node::File,
    }
}

/// Special files are not brought into a container.
fn was_copied(then: &Mark) -> bool {
    matches!(Node::of(then.mode), Node::File | Node::Directory | Node::Link)
}
