//! What of the host a box must not show: secrets, container stores, our own state.
//!
//! A mask is an entry in a lower layer that hides what lies below it: nothing is mounted over a path, so programs may
//! replace a masked file (`useradd` does) and nothing can be taken off.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::mount::Marks;
use crate::sandbox::secrets;

/// Below the root.
const IN_ROOT: [&str; 19] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/krb5.keytab",
    "/etc/wireguard",
    "/etc/NetworkManager/system-connections",
    "/etc/ppp/chap-secrets",
    "/etc/kubernetes",
    "/etc/docker",
    "/etc/rancher",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/lib/longhaul",
];

/// Something hidden.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mask {
    /// Its path on the host, without links above it.
    pub(super) path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Shown as an empty directory where the layer can say so, else not at all.
    Directory,
    /// Not shown.
    Entry,
    /// Shown with every name of this list and no password.
    Passwords(&'static str),
}

/// What there is to hide on this machine: the fixed list for `homes` and the root, host keys, and `state_dir`.
///
/// What this process can't read itself needs no mask.
pub(super) fn present(homes: &[PathBuf], state_dir: &Path) -> Vec<Mask> {
    let in_homes = homes.iter().flat_map(|home| secrets::IN_HOME.iter().map(|name| home.join(name)));
    let in_root = IN_ROOT.iter().map(PathBuf::from);
    let candidates = in_homes.chain(in_root).chain(host_keys()).chain([state_dir.to_owned()]);
    let mut masks: Vec<Mask> = candidates.flat_map(|path| masks_for(&path)).collect();
    masks.sort();
    masks.dedup();
    // What lies below a hidden directory is hidden with it.
    let hidden = masks.clone();
    masks.retain(|mask| !hidden.iter().any(|other| other.path != mask.path && mask.path.starts_with(&other.path)));
    masks
}

/// The home directories on this machine that its root could read.
pub(super) fn all_homes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/home").into_iter().flatten().flatten();
    let homes = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    homes.chain([PathBuf::from("/root")]).collect()
}

fn host_keys() -> impl Iterator<Item = PathBuf> {
    let is_key = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with("_key")
    };
    fs::read_dir("/etc/ssh").into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_key)
}

/// The path with links above it resolved, and, where it is a link itself, what it leads to.
fn masks_for(path: &Path) -> Vec<Mask> {
    let Some((parent, name)) = path.parent().and_then(|parent| Some((parent.canonicalize().ok()?, path.file_name()?)))
    else {
        return Vec::new();
    };
    let path = parent.join(name);
    let Ok(facts) = fs::symlink_metadata(&path) else { return Vec::new() };
    let readable = rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_ok();
    let kind = match path.to_str() {
        _ if !readable => return Vec::new(),
        Some("/etc/shadow") => Kind::Passwords("/etc/passwd"),
        Some("/etc/gshadow") => Kind::Passwords("/etc/group"),
        _ if facts.is_dir() => Kind::Directory,
        _ => Kind::Entry,
    };
    let target = facts.is_symlink().then(|| path.canonicalize().ok()).flatten();
    let target = target.map(|path| Mask { kind: if path.is_dir() { Kind::Directory } else { Kind::Entry }, path });
    [Mask { path, kind }].into_iter().chain(target).collect()
}

/// Writes those of `masks` that lie below `at` into `layer`, a fresh directory; true if there were any.
///
/// # Errors
/// When the layer can't be written.
pub(super) fn write_layer(layer: &Path, at: &Path, masks: &[&Mask], marks: Marks) -> io::Result<()> {
    copy_attributes(at, layer, marks)?;
    for mask in masks {
        let below = mask.path.strip_prefix(at).expect("only masks below the layer's place are given");
        let (mut from, mut to) = (at.to_owned(), layer.to_owned());
        for step in below.parent().into_iter().flat_map(Path::components) {
            from.push(step);
            to.push(step);
            if !to.is_dir() {
                fs::create_dir(&to)?;
                copy_attributes(&from, &to, marks)?;
            }
        }
        to.push(below.file_name().expect("a mask is no root"));
        write_mask(mask, &to, marks)?;
    }
    Ok(())
}

fn write_mask(mask: &Mask, to: &Path, marks: Marks) -> io::Result<()> {
    match mask.kind {
        Kind::Directory => {
            fs::DirBuilder::new().mode(0o700).create(to)?;
            copy_owner(&mask.path, to, marks)?;
            let name = match marks {
                Marks::Trusted => "trusted.overlay.opaque",
                Marks::User => "user.overlay.opaque",
            };
            if rustix::fs::setxattr(to, name, b"y", XattrFlags::empty()).is_err() {
                // Memory file systems have no user attributes before kernel 6.6.
                fs::remove_dir(to)?;
                whiteout(to)?;
            }
            Ok(())
        }
        Kind::Entry => whiteout(to),
        Kind::Passwords(list) => {
            fs::write(to, without_passwords(&fs::read_to_string(list)?, list))?;
            copy_attributes(&mask.path, to, marks)
        }
    }
}

fn whiteout(at: &Path) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, at, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// The locked entries for every name in `/etc/passwd` or `/etc/group`.
fn without_passwords(names: &str, list: &str) -> String {
    let fields = if list == "/etc/group" { ":*::" } else { ":*:19000:0:99999:7:::" };
    names.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| format!("{name}{fields}\n")).collect()
}

/// Gives `to` the mode and, as root, the owner of `from`: a layer's directory stands for the one below it.
pub(super) fn copy_attributes(from: &Path, to: &Path, marks: Marks) -> io::Result<()> {
    copy_owner(from, to, marks)?;
    let mode = fs::metadata(from)?.mode() & 0o7777;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

fn copy_owner(from: &Path, to: &Path, marks: Marks) -> io::Result<()> {
    if marks == Marks::Trusted {
        let facts = fs::metadata(from)?;
        std::os::unix::fs::chown(to, Some(facts.uid()), Some(facts.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_masked_and_links_with_what_they_lead_to() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = place.path().canonicalize().expect("it is there");
        let (home, state) = (root.join("home"), root.join("state"));
        for dir in [home.join(".aws"), root.join("keys"), state.join("runs")] {
            fs::create_dir_all(dir).expect("directories");
        }
        fs::write(home.join(".netrc"), "password").expect("a file");
        std::os::unix::fs::symlink(root.join("keys"), home.join(".ssh")).expect("a link");
        let masks = present(std::slice::from_ref(&home), &state);
        let found: Vec<_> = masks.iter().filter(|mask| mask.path.starts_with(&root)).collect();
        let paths: Vec<_> = found.iter().map(|mask| mask.path.clone()).collect();
        assert_eq!(paths, [home.join(".aws"), home.join(".netrc"), home.join(".ssh"), root.join("keys"), state]);
        assert_eq!(found[2].kind, Kind::Entry);
        assert_eq!(found[3].kind, Kind::Directory);
    }

    #[test]
    fn what_lies_below_a_mask_needs_none_of_its_own() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let home = place.path().canonicalize().expect("it is there");
        fs::create_dir_all(home.join(".config/gh")).expect("directories");
        fs::write(home.join(".npmrc"), "token").expect("a file");
        let masks = present(std::slice::from_ref(&home), &home);
        let paths: Vec<_> = masks.iter().filter(|mask| mask.path.starts_with(&home)).map(|mask| &mask.path).collect();
        assert_eq!(paths, [&home]);
    }

    #[test]
    fn password_files_keep_the_names_and_lose_the_hashes() {
        let list = without_passwords("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n", "/etc/passwd");
        assert_eq!(list, "root:*:19000:0:99999:7:::\nada:*:19000:0:99999:7:::\n");
    }
}
