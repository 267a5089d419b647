//! Which directories of the host get an overlay of their own: decided from what is mounted where.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::launch::mountinfo::{Mount, holds_files};

/// Places that every box has fresh: nothing of the host's shows there.
pub(super) const FRESH: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// True for what is one of `places` or below one.
pub(super) fn is_within<'a>(path: &Path, places: impl IntoIterator<Item = &'a Path>) -> bool {
    places.into_iter().any(|place| path.starts_with(place))
}

/// Where overlays go when root builds: at the root, and at every further file system that shows files, parents first.
///
/// `hidden` are directories that are masked: what is mounted below them is left out.
pub(super) fn whole(visible: &[Mount], hidden: &[&Path]) -> Vec<PathBuf> {
    // Such as the `/sys` of a tree that somebody has mounted for chroot.
    let kernel = || visible.iter().filter(|mount| !holds_files(&mount.fs)).map(|mount| mount.at.as_path());
    let left_out = || FRESH.iter().map(Path::new).chain(hidden.iter().copied()).chain(kernel());
    let shown = |mount: &&Mount| holds_files(&mount.fs) && !is_within(&mount.at, left_out());
    visible.iter().filter(shown).map(|mount| mount.at.clone()).collect()
}

/// A tree around the places where something is mounted. Overlayfs in a user namespace refuses a directory with mounts
/// below it, so the directories above mounts are made anew and everything beside them gets an overlay.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// Directories to make, parents first; the root is not among them.
    pub(super) directories: Vec<PathBuf>,
    /// Links to make, each with what it says.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Plain files to show as they are.
    pub(super) files: Vec<PathBuf>,
    /// Directories that get an overlay, in no overlay of another.
    pub(super) overlays: Vec<PathBuf>,
}

/// Splits the tree below `root` around `mounted`, which names every mount point there is, seen or not.
///
/// `empty` are directories of which nothing is to be shown, such as masked ones; `kernel` are mount points of file
/// systems that hold no files.
pub(super) fn split(root: &Path, mounted: &[PathBuf], empty: &[&Path], kernel: &[&Path]) -> Split {
    let mut out = Split::default();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        // A directory that can't be read shows as an empty one.
        let mut entries: Vec<_> = fs::read_dir(&dir).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let has_mounts_below = || mounted.iter().any(|at| at != &path && at.starts_with(&path));
            if kind.is_symlink() {
                out.links.extend(fs::read_link(&path).map(|to| (path, to)));
            } else if kind.is_file() {
                out.files.push(path);
            } else if kind.is_dir() {
                out.directories.push(path.clone());
                let is_fresh = FRESH.iter().any(|fresh| path == Path::new(fresh));
                let is_empty = empty.contains(&path.as_path()) && has_mounts_below();
                if is_fresh || is_empty || kernel.contains(&path.as_path()) {
                    continue;
                }
                if has_mounts_below() {
                    open.push(path);
                } else {
                    out.overlays.push(path);
                }
            }
        }
    }
    out.directories.sort();
    out.overlays.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::launch::mountinfo::visible;

    #[test]
    fn root_gets_one_overlay_for_each_file_system_that_shows_files() {
        let text = "1 0 8:1 / / rw - ext4 a rw\n\
                    2 1 8:2 / /home rw - xfs b rw\n\
                    3 1 0:3 / /proc rw - proc c rw\n\
                    4 1 0:4 / /run rw - tmpfs d rw\n\
                    5 4 0:5 / /run/user/0 rw - tmpfs e rw\n\
                    6 1 0:6 / /var/lib/docker/overlay2/x rw - overlay f rw\n\
                    7 1 0:7 / /running rw - tmpfs g rw\n\
                    8 1 0:8 / /srv/tree/sys rw - sysfs h rw\n\
                    9 8 0:9 / /srv/tree/sys/fs/cgroup rw - tmpfs i rw\n";
        let places = whole(&visible(text.as_bytes()), &[Path::new("/var/lib/docker")]);
        assert_eq!(places, ["/", "/home", "/running"].map(PathBuf::from));
    }

    #[test]
    fn a_tree_is_split_around_its_mounts_and_nowhere_else() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = place.path();
        for dir in ["etc/ssl", "srv/data/a", "srv/www", "var/lib/docker/x", "var/log"] {
            fs::create_dir_all(root.join(dir)).expect("directories");
        }
        fs::write(root.join("srv/note"), "").expect("a file");
        std::os::unix::fs::symlink("etc/ssl", root.join("ssl")).expect("a link");
        let mounted = ["srv/data", "var/lib/docker/x"].map(|at| root.join(at));
        let store = root.join("var/lib/docker");
        let split = split(root, &mounted, &[&store], &[]);
        let names = |paths: &[PathBuf]| -> Vec<String> {
            let name = |path: &PathBuf| path.strip_prefix(root).expect("below the root").display().to_string();
            paths.iter().map(name).collect()
        };
        assert_eq!(names(&split.overlays), ["etc", "srv/data", "srv/www", "var/log"]);
        assert_eq!(
            names(&split.directories),
            ["etc", "srv", "srv/data", "srv/www", "var", "var/lib", "var/lib/docker", "var/log"]
        );
        assert_eq!(names(&split.files), ["srv/note"]);
        assert_eq!(split.links, [(root.join("ssl"), PathBuf::from("etc/ssl"))]);
    }
}
