//! Takes the layers of a box that has ended as they are, by their names alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::taking::{Kept, Parts};
use super::{FILES, META, Meta, SYNCED, Store, remove_tree, sync_file_system, write_whole};
use crate::process::boot_id;

impl Store {
    /// Makes a layer of those parts, which are no box's any more; `beside` are files that belong to it. What an earlier
    /// try has moved already stays moved.
    ///
    /// That all of it is on disk is seen to by a thread, since nothing is written that was not written before.
    ///
    /// # Errors
    /// When the disk does not take it. Called again, it goes on.
    pub(in crate::sandbox) fn adopt(
        &self,
        name: &str,
        parts: &Parts,
        rootful: bool,
        beside: &[PathBuf],
    ) -> io::Result<Kept> {
        let path = self.path(name)?;
        let files = path.join(FILES);
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&files)?;
        let mut kept = Kept::default();
        let mut layers = Vec::new();
        for layer in &parts.layers {
            let (from, to) = (parts.dir.join(&layer.key), files.join(&layer.key));
            if !to.exists() {
                match fs::rename(&from, &to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                }
            }
            if is_as_begun(&to, &layer.at) {
                remove_tree(&to)?;
                continue;
            }
            count(&to, &mut kept);
            layers.push(layer.clone());
        }
        for file in beside.iter().filter(|file| file.exists()) {
            let to = path.join(file.file_name().unwrap_or_default());
            remove_tree(&to)?;
            fs::hard_link(file, &to).or_else(|_| fs::copy(file, &to).map(drop))?;
        }
        let meta = Meta { parts: layers, rootful, boot_id: boot_id()? };
        write_whole(&path, META, &serde_json::to_vec(&meta)?)?;
        // What it could not do is known by the mark that is missing.
        std::thread::Builder::new().name("longhaul-sync".to_owned()).spawn(move || {
            if sync_file_system(&path).is_ok() {
                let _ = fs::write(path.join(SYNCED), "");
            }
        })?;
        Ok(kept)
    }
}

/// Whether nothing was written, and the directory itself is as the host's.
fn is_as_begun(dir: &Path, host: &Path) -> bool {
    let is_empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    let of = |path: &Path| fs::metadata(path).map(|facts| (facts.mode(), facts.uid(), facts.gid()));
    is_empty && of(dir).ok().is_some_and(|own| of(host).is_ok_and(|hosts| hosts == own))
}

/// Counts files and bytes; what can't be read is not counted.
fn count(dir: &Path, kept: &mut Kept) {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => open.push(entry.path()),
                Ok(facts) if facts.is_file() => {
                    kept.new_files += 1;
                    kept.new_bytes += facts.len();
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
