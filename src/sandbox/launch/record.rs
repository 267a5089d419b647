//! What is on disk of a box: who its first process is, what has to be removed with it, what is to be kept.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::{self, Cgroups};
use super::wire::Layer;
use crate::domain::BoxFacts;
use crate::process::{Identity, kill_descendants};
use crate::sandbox::Removal;
use crate::sandbox::changes::{LIST, OPENED, SYSTEM, note_system};

/// The file below the box's directory.
const FILE: &str = "init.json";
/// Where the layers that were kept are listed, for whoever compares or applies them.
pub(in crate::sandbox) const KEPT: &str = "layers.json";

/// Everything that a later process needs to find a box again or to remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Record {
    /// The first process; None until it is born.
    pub(in crate::sandbox) process: Option<Identity>,
    /// Lets a client in.
    pub(in crate::sandbox) token: String,
    /// True where nothing ends with the first process but itself.
    pub(in crate::sandbox) uncontained: bool,
    /// True where the workspace's changes went to the host, so that no layer is worth keeping.
    pub(in crate::sandbox) written_through: bool,
    /// Control groups made for it.
    pub(in crate::sandbox) cgroups: Vec<PathBuf>,
    /// Directories elsewhere that were made for it.
    pub(in crate::sandbox) elsewhere: Vec<PathBuf>,
    /// The project directory.
    pub(in crate::sandbox) workspace: PathBuf,
    /// Its writable layers.
    pub(in crate::sandbox) layers: Vec<Layer>,
    /// Whether the machine's root made its overlays, and their marks are root's.
    #[serde(default)]
    pub(in crate::sandbox) rootful: bool,
    /// The layers of the store that it stands on, from the top down.
    #[serde(default)]
    pub(in crate::sandbox) from: Vec<String>,
    /// The layer of the store that its own are about to become.
    #[serde(default)]
    pub(in crate::sandbox) sealing: Option<String>,
    /// The layer that was taken of it last; it stands on none.
    #[serde(default)]
    pub(in crate::sandbox) taken: Option<String>,
    /// What it was found to be when it was made.
    #[serde(default)]
    pub(in crate::sandbox) facts: Option<BoxFacts>,
    /// What does what of its control groups.
    #[serde(default)]
    pub(in crate::sandbox) groups: Cgroups,
}

/// What is left of a box that has gone: its workspace's changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct KeptList {
    /// Its own layers that were kept.
    pub(in crate::sandbox) layers: Vec<Layer>,
    /// The layers of the store that it stood on.
    pub(in crate::sandbox) from: Vec<String>,
}

impl KeptList {
    /// Reads it from the box's directory; None where there is none. Boxes once had nothing to stand on, and kept a bare
    /// list.
    pub(in crate::sandbox) fn load(dir: &Path) -> Option<Self> {
        let json = fs::read(dir.join(KEPT)).ok()?;
        let bare = |json: &[u8]| Some(Self { layers: serde_json::from_slice(json).ok()?, from: Vec::new() });
        serde_json::from_slice(&json).ok().or_else(|| bare(&json))
    }
}

impl Record {
    /// Writes it to the box's directory, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(in crate::sandbox) fn save(&self, dir: &Path) -> io::Result<()> {
        write_whole(dir, FILE, &serde_json::to_vec(self)?)
    }

    /// Reads it back; None where there is no box.
    pub(in crate::sandbox) fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Ends what still runs and removes all but the workspace's changes.
    pub(in crate::sandbox) async fn clear(&self, dir: &Path) -> Removal {
        let mut left = Vec::new();
        if let Some(held) = self.process.as_ref().and_then(Identity::hold) {
            if self.uncontained {
                kill_descendants(held.pid());
            }
            held.kill();
            if tokio::time::timeout(Duration::from_secs(10), held.ended()).await.is_err() {
                left.push(format!("process {}: does not end", held.pid()));
            }
        }
        left.extend(cgroup::remove(&self.cgroups).await);
        let (record, dir) = (self.clone(), dir.to_owned());
        let removed = tokio::task::spawn_blocking(move || record.remove_files(&dir)).await;
        left.extend(removed.unwrap_or_else(|_| vec!["the box's files: their removal was given up".to_owned()]));
        Removal { left }
    }

    fn remove_files(&self, dir: &Path) -> Vec<String> {
        let kept: Vec<&Layer> = self.kept().collect();
        let mut left = Vec::new();
        if let Err(error) = note_system(dir, self) {
            left.push(format!("the list of what was changed outside the workspace: {error}"));
        }
        let mut remove = |path: &Path| {
            if let Err(error) = remove_tree(path) {
                left.push(format!("{}: {error}", path.display()));
            }
        };
        self.elsewhere.iter().for_each(|path| remove(path));
        let uppers = dir.join("u");
        let names = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_kept =
            |path: &Path| kept.iter().any(|layer| path.file_name().is_some_and(|name| name == layer.key.as_str()));
        names(&uppers).filter(|path| !is_kept(path)).for_each(|path| remove(&path));
        let notes = [FILE, OPENED, LIST, SYSTEM];
        let stays = |path: &Path| path == uppers || notes.iter().any(|name| path.ends_with(name));
        names(dir).filter(|path| !stays(path)).for_each(|path| remove(&path));
        if kept.is_empty() {
            remove(&uppers);
        }
        let stands = !self.from.is_empty() && !self.written_through;
        if (stands || !kept.is_empty())
            && let Err(error) = self.note_kept(dir, &kept)
        {
            left.push(format!("the list of layers: {error}"));
        }
        if left.is_empty() {
            // Last: as long as it is there, a later start knows that something is left to remove.
            if let Err(error) = fs::remove_file(dir.join(FILE)).or_else(unless_missing) {
                left.push(format!("{}: {error}", dir.join(FILE).display()));
            }
            if kept.is_empty() {
                // Not empty where the guest left a log: then it stays.
                let _ = fs::remove_dir(dir);
            }
        }
        left
    }

    fn note_kept(&self, dir: &Path, layers: &[&Layer]) -> io::Result<()> {
        let kept = KeptList { layers: layers.iter().copied().cloned().collect(), from: self.from.clone() };
        write_whole(dir, KEPT, &serde_json::to_vec(&kept)?)
    }

    /// The layers that hold changes of the workspace.
    pub(in crate::sandbox) fn kept(&self) -> impl Iterator<Item = &Layer> {
        let is_kept = |layer: &&Layer| holds_workspace(&self.layers, &self.workspace, self.written_through, layer);
        self.layers.iter().filter(is_kept)
    }
}

/// Whether one of those layers holds changes of the workspace.
pub(in crate::sandbox) fn holds_workspace(
    layers: &[Layer],
    workspace: &Path,
    written_through: bool,
    layer: &Layer,
) -> bool {
    let own = |layer: &Layer| layer.key.starts_with(super::wire::WORKSPACE_KEY);
    if layers.iter().any(own) {
        return own(layer);
    }
    // The deepest one above the workspace, and all below it.
    let above = layers.iter().filter(|layer| workspace.starts_with(&layer.at));
    let deepest = above.max_by_key(|layer| layer.at.as_os_str().len());
    !written_through && (deepest == Some(layer) || layer.at.starts_with(workspace)) && layer.key != "root"
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// When the disk does not take it.
pub(in crate::sandbox) fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, bytes)?;
    fs::rename(&new, dir.join(name))
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes a file or a whole tree, also directories that nobody may enter, as overlayfs leaves them.
///
/// # Errors
/// When something can't be removed; nothing there is no error.
pub(in crate::sandbox) fn remove_tree(path: &Path) -> io::Result<()> {
    let Ok(facts) = fs::symlink_metadata(path) else { return Ok(()) };
    if !facts.is_dir() {
        return fs::remove_file(path).or_else(unless_missing);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path).or_else(unless_missing)
        }
        other => other.or_else(unless_missing),
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(dir)?.mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(at: &str, key: &str) -> Layer {
        Layer { at: PathBuf::from(at), key: key.to_owned() }
    }

    fn record(layers: Vec<Layer>) -> Record {
        Record {
            process: None,
            token: "secret".to_owned(),
            uncontained: false,
            written_through: false,
            cgroups: Vec::new(),
            elsewhere: Vec::new(),
            workspace: PathBuf::from("/home/ada/project"),
            layers,
            rootful: true,
            from: Vec::new(),
            sealing: None,
            taken: None,
            facts: None,
            groups: Cgroups::default(),
        }
    }

    #[tokio::test]
    async fn only_the_workspaces_changes_outlive_a_box() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path();
        for sub in ["u/workspace/new", "u/root/etc", "w/root/work", "mnt"] {
            fs::create_dir_all(dir.join(sub)).expect("directories");
        }
        fs::set_permissions(dir.join("w/root/work"), fs::Permissions::from_mode(0o000)).expect("a mode");
        let record = record(vec![layer("/", "root"), layer("/home/ada/project", "workspace")]);
        record.save(dir).expect("saved");
        assert_eq!(Record::load(dir).as_ref(), Some(&record));
        assert_eq!(record.clear(dir).await, Removal::default());
        let mut names: Vec<_> = fs::read_dir(dir).expect("there").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["layers.json", "system.json", "u"]);
        assert!(dir.join("u/workspace/new").is_dir() && !dir.join("u/root").exists());
        assert!(Record::load(dir).is_none());
    }

    #[test]
    fn in_a_split_tree_the_layers_at_and_below_the_workspace_are_kept() {
        let layers =
            vec![layer("/", "root"), layer("/home", "m1"), layer("/home/ada/project/data", "m2"), layer("/usr", "m3")];
        let record = record(layers);
        let kept: Vec<_> = record.kept().map(|layer| layer.key.as_str()).collect();
        assert_eq!(kept, ["m1", "m2"]);
    }
}
