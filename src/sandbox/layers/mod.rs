//! The store of layers: what boxes changed, kept as it was at one instant, shared by all runs.
//!
//! A layer is a directory that is never changed again once it has its name. It holds one part for each directory of the
//! box that has an overlay, marked as overlayfs marks its own; a file that two layers have in common is one file. What
//! nobody refers to any more may go.

mod adopt;
mod content;
mod index;
mod merge;
mod refs;
mod spread;
mod taking;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(in crate::sandbox) use self::refs::{images, referenced, stood_on};
pub(in crate::sandbox) use self::spread::spread;
pub(in crate::sandbox) use self::taking::{Kept, Parts, Taking, now_ns};
use super::launch::record::{remove_tree, write_whole};
use super::launch::wire::{Layer, WORKSPACE_KEY};
use crate::process::boot_id;

/// Below the state directory.
const STORE: &str = "layers";
/// What a layer that is being made is called until it is whole.
const TMP: &str = ".tmp-";
/// What is known of a layer, in it.
const META: &str = "meta.json";
/// The parts, in it.
const FILES: &str = "files";
/// There once everything is on disk.
const SYNCED: &str = "synced";

/// Where layers are kept.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Store {
    dir: PathBuf,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Meta {
    /// Its parts: what changed below which directory.
    pub(in crate::sandbox) parts: Vec<Layer>,
    /// Whether its marks are those of the machine's root; else those of an ordinary user.
    pub(in crate::sandbox) rootful: bool,
    /// The boot in which it was made.
    pub(in crate::sandbox) boot_id: String,
}

impl Store {
    /// The store of all runs below a state directory.
    pub(in crate::sandbox) fn of(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(STORE) }
    }

    /// The same, from the directory of one of those runs.
    pub(in crate::sandbox) fn beside(run_dir: &Path) -> Self {
        Self::of(run_dir.ancestors().nth(2).unwrap_or(run_dir))
    }

    /// Where a layer of that name is, or would be.
    ///
    /// # Errors
    /// For a name that is none of a layer's, such as one that leads elsewhere.
    pub(in crate::sandbox) fn path(&self, name: &str) -> io::Result<PathBuf> {
        let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name of a layer"));
        fits.then(|| self.dir.join(name)).ok_or_else(unfit)
    }

    /// What is known of a layer.
    ///
    /// # Errors
    /// When it is not there, or not whole.
    pub(in crate::sandbox) fn meta(&self, name: &str) -> io::Result<Meta> {
        meta_in(&self.path(name)?)
    }

    /// The directory of one part of a layer.
    pub(in crate::sandbox) fn part(&self, name: &str, key: &str) -> io::Result<PathBuf> {
        Ok(part_in(&self.path(name)?, key))
    }

    /// Whether a layer may be short of what the machine had not written when it went down.
    pub(in crate::sandbox) fn may_be_cut(&self, name: &str) -> bool {
        let Ok(path) = self.path(name) else { return false };
        let here = boot_id().ok();
        !path.join(SYNCED).exists() && self.meta(name).is_ok_and(|meta| Some(meta.boot_id) != here)
    }

    /// When a layer was taken, as seconds of the wall clock; None where that can't be told.
    pub(in crate::sandbox) fn taken_at(&self, name: &str) -> Option<i64> {
        Some(fs::metadata(self.path(name).ok()?.join(META)).ok()?.mtime())
    }

    /// Begins a layer; what an earlier beginning left is removed.
    ///
    /// # Errors
    /// When there is one of that name, or the disk does not take it.
    pub(in crate::sandbox) fn begin(&self, name: &str) -> io::Result<New> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a layer {name}")));
        }
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.dir)?;
        let tmp = self.dir.join(format!("{TMP}{name}"));
        remove_tree(&tmp)?;
        for dir in [tmp.clone(), tmp.join(FILES)] {
            fs::DirBuilder::new().mode(0o700).create(dir)?;
        }
        Ok(New { store: self.clone(), name: name.to_owned(), tmp })
    }

    /// Removes a layer; one that is not there is no error.
    ///
    /// # Errors
    /// When something of it stays.
    pub(in crate::sandbox) fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        if !path.exists() {
            return Ok(());
        }
        // Under its old name no half of it is ever seen.
        let tmp = self.dir.join(format!("{TMP}{name}"));
        remove_tree(&tmp)?;
        fs::rename(path, &tmp)?;
        remove_tree(&tmp)
    }

    /// The names of all layers, those that are being made included, with their mark.
    pub(in crate::sandbox) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Removes those of a snapshot's layers that nobody refers to; what could not be removed, in words.
    pub(in crate::sandbox) fn discard(&self, state_dir: &Path, layers: &[String]) -> Vec<String> {
        let referenced = match referenced(state_dir) {
            Ok(referenced) => referenced,
            Err(error) => return vec![format!("layers, since it can't be told who needs them: {error}")],
        };
        let unneeded = layers.iter().filter(|name| !referenced.contains(*name));
        unneeded.filter_map(|name| Some(format!("layer {name}: {}", self.remove(name).err()?))).collect()
    }

    /// Removes what has been left in the store: half-made layers of runs that are not `busy`, and layers of the `idle` ones
    /// that nobody refers to. Runs are named by their short ids. Returns the names.
    pub(in crate::sandbox) fn sweep(
        &self,
        state_dir: &Path,
        busy: &BTreeSet<String>,
        idle: &BTreeSet<String>,
    ) -> Vec<String> {
        let is_left =
            |name: &String| !busy.contains(owner(name)) && (name.starts_with(TMP) || idle.contains(owner(name)));
        let left: Vec<String> = self.names().into_iter().filter(is_left).collect();
        // What can't be read may refer to anything.
        let referenced = if left.is_empty() { None } else { referenced(state_dir).ok() };
        let Some(referenced) = referenced else { return Vec::new() };
        let removed = |name: &String| match name.starts_with(TMP) {
            true => remove_tree(&self.dir.join(name)).is_ok(),
            false => !referenced.contains(name) && self.remove(name).is_ok(),
        };
        left.into_iter().filter(removed).collect()
    }

    fn sync_name(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }
}

/// Regular files below a directory that may have changed since that second, or all, and what they take on the disk. What
/// can't be read is not counted.
pub(in crate::sandbox) fn changed_since(dir: &Path, second: Option<i64>) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => open.push(entry.path()),
                Ok(facts) if facts.is_file() && second.is_none_or(|second| facts.ctime() >= second) => {
                    files += 1;
                    bytes += facts.blocks() * 512;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    (files, bytes)
}

fn meta_in(dir: &Path) -> io::Result<Meta> {
    Ok(serde_json::from_slice(&fs::read(dir.join(META))?)?)
}

/// The parts of the layer in a directory.
///
/// # Errors
/// When there is none, or it is not whole.
pub(in crate::sandbox) fn parts_of(dir: &Path) -> io::Result<Vec<Layer>> {
    Ok(meta_in(dir)?.parts)
}

/// The directory of one part of the layer in a directory.
pub(in crate::sandbox) fn part_in(dir: &Path, key: &str) -> PathBuf {
    dir.join(FILES).join(key)
}

/// The run that a layer was made for, by its short id.
fn owner(name: &str) -> &str {
    let name = name.strip_prefix(TMP).unwrap_or(name);
    name.rsplit_once('-').map_or(name, |(run, _)| run)
}

/// Whether a part is the workspace's own: the same directory may have another one, which it hides.
pub(in crate::sandbox) fn is_workspace(key: &str) -> bool {
    key.starts_with(WORKSPACE_KEY)
}

/// A layer that is being made. Dropped before it is whole, it is removed.
pub(in crate::sandbox) struct New {
    store: Store,
    name: String,
    tmp: PathBuf,
}

impl New {
    /// The directory of a part.
    pub(in crate::sandbox) fn part(&self, key: &str) -> PathBuf {
        self.tmp.join(FILES).join(key)
    }

    /// A file beside the parts.
    pub(in crate::sandbox) fn beside(&self, file: &str) -> PathBuf {
        self.tmp.join(file)
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// When the disk does not take it; then it is removed.
    pub(in crate::sandbox) fn finish(self, parts: Vec<Layer>, rootful: bool) -> io::Result<()> {
        let meta = Meta { parts, rootful, boot_id: boot_id()? };
        write_whole(&self.tmp, META, &serde_json::to_vec(&meta)?)?;
        sync_file_system(&self.tmp)?;
        fs::write(self.tmp.join(SYNCED), "")?;
        fs::rename(&self.tmp, self.store.path(&self.name)?)?;
        self.store.sync_name()
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Once it has its name there is nothing here any more.
        let _ = remove_tree(&self.tmp);
    }
}

fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_store() {
        let store = Store::of(Path::new("/state"));
        assert_eq!(store.path("01abc-k3").expect("a name"), Path::new("/state/layers/01abc-k3"));
        for bad in ["", "..", ".tmp-a", "a/b", "a b", "k\u{e9}"] {
            assert!(store.path(bad).is_err(), "{bad}");
        }
        assert_eq!((owner(".tmp-01abc-k3"), owner("01abc-x1"), owner("odd")), ("01abc", "01abc", "odd"));
    }

    #[test]
    fn a_layer_that_is_given_up_leaves_nothing() {
        let place = tempfile::tempdir().expect("a place");
        let store = Store::of(place.path());
        let new = store.begin("run-k1").expect("begun");
        fs::create_dir(new.part("root")).expect("a part");
        drop(new);
        assert_eq!(store.names(), Vec::<String>::new());
        let new = store.begin("run-k1").expect("begun");
        new.finish(Vec::new(), true).expect("finished");
        assert_eq!(store.names(), ["run-k1"]);
        assert!(store.begin("run-k1").is_err(), "a layer is never made twice");
        assert!(!store.may_be_cut("run-k1"));
        let run = BTreeSet::from(["run".to_owned()]);
        assert_eq!(store.sweep(place.path(), &run, &BTreeSet::new()), Vec::<String>::new());
        let swept = store.sweep(place.path(), &BTreeSet::new(), &run);
        assert_eq!((swept, store.names()), (vec!["run-k1".to_owned()], Vec::new()));
    }
}
