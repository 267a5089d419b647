//! Reads the layers that overlays wrote to, one on top of the other, the way the kernel marks it: a character device 0:0 hides what is below, a
//! directory marked opaque hides all that is below it, and everything else is there in full.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::base::Mark;
use super::beneath::{Beneath, Meta, Node, OpenDir, join};
use super::{Change, ChangeKind, Content, Place, is_equal};

/// Which of the overlay's own attributes are to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// Only those that the machine's root can set.
    Trusted,
    /// Also those that overlays of ordinary users keep.
    User,
}

impl Marks {
    /// From who made the box's layers: what root's overlays keep, nobody else can set.
    pub(super) fn of(dir: &Path) -> Self {
        let owner = fs::metadata(dir.join("u")).map_or(0, |meta| meta.uid());
        if owner == 0 { Self::Trusted } else { Self::User }
    }
}

/// Where in a layer the workspace's changes begin, and which part of the workspace they are.
pub(super) struct Start;

impl Start {
    /// The path in the layer and the path in the workspace; None where the layer is about something else.
    pub(super) fn of(layer_at: &Path, workspace: &Path) -> Option<(PathBuf, PathBuf)> {
        match (workspace.strip_prefix(layer_at), layer_at.strip_prefix(workspace)) {
            (Ok(inside), _) => Some((inside.to_owned(), PathBuf::new())),
            (_, Ok(below)) => Some((PathBuf::new(), below.to_owned())),
            _ => None,
        }
    }
}

/// A walk through the layers of one directory, beside the host.
pub(super) struct Walk<'a> {
    /// The layers, from the top down.
    pub(super) uppers: &'a [Beneath],
    /// The host's workspace.
    pub(super) host: &'a Beneath,
    /// Which attributes count.
    pub(super) marks: Marks,
    /// The number of the topmost layer.
    pub(super) first: usize,
}

/// A directory of the layers and of the host that is to be compared.
struct Pair {
    upper: PathBuf,
    host: PathBuf,
    sight: Sight,
}

/// Which layers can be seen at a path, as the kernel sees them.
#[derive(Debug, Clone, Default)]
struct Sight {
    /// Their numbers among the layers, from the top down.
    layers: Vec<usize>,
    /// Whether one of them hides the host's: by a mark, or by something that is no directory.
    opaque: bool,
}

impl Walk<'_> {
    /// Compares the layers from `upper` on with the host from `below` on.
    ///
    /// # Errors
    /// When the layers' own directory can't be read.
    pub(super) fn run(&self, upper: &Path, below: &Path, out: &mut Vec<Change>) -> io::Result<()> {
        let above = Sight { layers: (0..self.uppers.len()).collect(), opaque: false };
        let mut sight = self.sight(&above, Path::new(""))?;
        let mut at = PathBuf::new();
        for step in upper.components() {
            at.push(step);
            sight = self.sight(&sight, &at)?;
        }
        let Some(top) = sight.layers.first() else { return Ok(()) };
        self.uppers[*top].dir(upper)?;
        let mut open = vec![Pair { upper: upper.to_owned(), host: below.to_owned(), sight }];
        while let Some(pair) = open.pop() {
            if let Err(error) = self.directory(&pair, &mut open, out) {
                out.push(unreadable(&pair.host, &error));
            }
        }
        Ok(())
    }

    /// Which of the layers that can be seen above `path` can be seen at it.
    fn sight(&self, above: &Sight, path: &Path) -> io::Result<Sight> {
        let mut sight = Sight { layers: Vec::new(), opaque: above.opaque };
        for layer in &above.layers {
            let Some(stat) = self.uppers[*layer].stat(path)? else { continue };
            if Meta::of(&stat).node != Node::Directory {
                sight.opaque = true;
                break;
            }
            sight.layers.push(*layer);
            if self.uppers[*layer].dir(path).is_ok_and(|dir| self.is_opaque(&dir)) {
                sight.opaque = true;
                break;
            }
        }
        Ok(sight)
    }

    fn directory(&self, pair: &Pair, open: &mut Vec<Pair>, out: &mut Vec<Change>) -> io::Result<()> {
        // None where the host has no such directory, or may not be read: then there is nothing to hide either.
        let host = self.host.dir(&pair.host).ok();
        let mut found = BTreeMap::new();
        for layer in &pair.sight.layers {
            let dir = self.uppers[*layer].dir(&pair.upper)?;
            for name in dir.names()? {
                if let Entry::Vacant(place) = found.entry(name) {
                    let Some(stat) = dir.stat(place.key())? else { continue };
                    place.insert((*layer, stat));
                }
            }
        }
        for (name, (layer, stat)) in &found {
            let path = join(&pair.host, name);
            let old = host.as_ref().and_then(|host| host.stat(name).ok().flatten());
            if is_whiteout(stat) {
                self.deleted(&path, old.as_ref(), out);
                continue;
            }
            let inside = join(&pair.upper, name);
            self.entry(&path, (*layer, &inside), stat, old.as_ref(), out);
            if Meta::of(stat).node == Node::Directory {
                let sight = self.sight(&pair.sight, &inside)?;
                open.push(Pair { upper: inside, host: path, sight });
            }
        }
        if let Some(host) = host.filter(|_| pair.sight.opaque) {
            for name in host.names()?.iter().filter(|name| !found.contains_key(*name)) {
                let old = host.stat(name)?;
                self.deleted(&join(&pair.host, name), old.as_ref(), out);
            }
        }
        Ok(())
    }

    fn is_opaque(&self, dir: &OpenDir) -> bool {
        let says = |name| dir.attribute(name).is_some_and(|value| value == b"y");
        says(c"trusted.overlay.opaque") || (self.marks == Marks::User && says(c"user.overlay.opaque"))
    }

    /// Notes one entry, unless it is as on the host.
    fn entry(
        &self,
        path: &Path,
        (layer, inside): (usize, &Path),
        stat: &Stat,
        old: Option<&Stat>,
        out: &mut Vec<Change>,
    ) {
        let upper = &self.uppers[layer];
        let mut new = Meta::of(stat);
        let mut trouble = misplaced(upper, inside, &new);
        if new.node == Node::Link {
            match upper.target(inside) {
                Ok(target) => new.target = Some(target),
                Err(error) => trouble = Some(format!("its target can't be read: {error}")),
            }
        }
        let content = match new.node {
            Node::File => Place::Layer(self.first + layer, inside.to_owned()),
            _ => Place::None,
        };
        let contents = |_: &Meta| {
            let of = |file: fs::File| file.metadata().map(|meta| Content { file, from: 0, length: meta.size() });
            is_equal(&upper.file(inside).and_then(of)?, &self.host.file(path).and_then(of)?)
        };
        let compared = compare(self.host, path, &new, old, contents);
        let Some((kind, old_meta)) = compared else { return };
        if kind == ChangeKind::Type && old_meta.as_ref().is_some_and(|old| old.node == Node::Directory) {
            self.children_deleted(path, out);
        }
        out.push(Change {
            path: path.to_owned(),
            kind,
            old: old_meta,
            new: Some(new),
            meanwhile: false,
            trouble,
            mark: old.map(Mark::of),
            content,
        });
    }

    /// Notes that the box has removed what the host has at `path`, and all below it.
    fn deleted(&self, path: &Path, old: Option<&Stat>, out: &mut Vec<Change>) {
        let Some(stat) = old else { return };
        let mut meta = Meta::of(stat);
        match meta.node {
            Node::Directory => self.children_deleted(path, out),
            Node::Link => meta.target = self.host.target(path).ok(),
            Node::File | Node::Fifo | Node::Socket | Node::Device => {}
        }
        out.push(deletion(path, meta, Some(Mark::of(stat)), None));
    }

    fn children_deleted(&self, path: &Path, out: &mut Vec<Change>) {
        let listed = self.host.dir(path).and_then(|dir| Ok((dir.names()?, dir)));
        let (names, dir) = match listed {
            Ok(listed) => listed,
            Err(error) => return out.push(unreadable(&join(path, OsStr::new("*")), &error)),
        };
        for name in names {
            let old = dir.stat(&name).ok().flatten();
            self.deleted(&join(path, &name), old.as_ref(), out);
        }
    }
}

/// What this program's own overlays never hold, since it switches it off, but an engine's might.
fn misplaced(upper: &Beneath, inside: &Path, new: &Meta) -> Option<String> {
    let says = |name| upper.dir(inside).ok().and_then(|dir| dir.attribute(name)).is_some();
    (new.node == Node::Directory && says(c"trusted.overlay.redirect"))
        .then(|| "it was renamed in the box in a way that only the kernel can follow".to_owned())
}

/// A path that is gone.
pub(super) fn deletion(path: &Path, old: Meta, mark: Option<Mark>, trouble: Option<String>) -> Change {
    Change {
        path: path.to_owned(),
        kind: ChangeKind::Deleted,
        old: Some(old),
        new: None,
        meanwhile: false,
        trouble,
        mark,
        content: Place::None,
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Change {
    Change {
        path: path.to_owned(),
        kind: ChangeKind::Changed,
        old: None,
        new: None,
        meanwhile: false,
        trouble: Some(format!("it can't be read: {error}")),
        mark: None,
        content: Place::None,
    }
}

/// How `new` differs from what the host has at `path`; None where it does not. `equal` compares contents where kinds and
/// sizes agree.
pub(super) fn compare(
    host: &Beneath,
    path: &Path,
    new: &Meta,
    old: Option<&Stat>,
    equal: impl FnOnce(&Meta) -> io::Result<bool>,
) -> Option<(ChangeKind, Option<Meta>)> {
    let Some(stat) = old else { return Some((ChangeKind::Added, None)) };
    let mut old = Meta::of(stat);
    if old.node == Node::Link {
        old.target = host.target(path).ok();
    }
    let kind = if old.node != new.node {
        ChangeKind::Type
    } else {
        let same = match new.node {
            Node::File => new.size_bytes == old.size_bytes && equal(&old).unwrap_or(false),
            Node::Link => new.target == old.target,
            Node::Directory | Node::Fifo | Node::Socket | Node::Device => true,
        };
        match same {
            false => ChangeKind::Changed,
            // A link's permissions mean nothing.
            true if new.mode == old.mode || new.node == Node::Link => return None,
            true => ChangeKind::Mode,
        }
    };
    Some((kind, Some(old)))
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
