//! Copies a part of a layer over another: where a mount can't have as many layers, or none but one, below it.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use tokio_util::sync::CancellationToken;

use super::content::{self, Attributes};
use crate::sandbox::launch::record::remove_tree;

/// Lays the part at `from` over what is at `to`, a directory, so that it is there what it would be above it: what it
/// hides is marked as hidden, since there may be more below.
///
/// # Errors
/// When something can't be copied; `to` is then good for nothing.
pub(in crate::sandbox) fn spread(from: &Path, to: &Path) -> io::Result<()> {
    let mut links = HashMap::new();
    let mut dirs = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let (source, target) = (join(from, &below), join(to, &below));
        let stat = rustix::fs::lstat(&source)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let attributes = attributes(&source)?;
            let hides = attributes.iter().any(|(name, _)| name.to_bytes().ends_with(b"overlay.opaque"));
            if hides || !fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
                remove_tree(&target)?;
                fs::create_dir(&target)?;
            }
            for entry in fs::read_dir(&source)? {
                open.push(below.join(entry?.file_name()));
            }
            dirs.push((target, stat, attributes));
        } else {
            remove_tree(&target)?;
            copy(&source, &target, &stat, &mut links)?;
        }
    }
    // From below, since what is made in a directory changes its time.
    for (target, stat, attributes) in dirs.into_iter().rev() {
        content::dress(&target, &stat, &attributes)?;
    }
    Ok(())
}

fn join(dir: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { dir.to_owned() } else { dir.join(below) }
}

fn attributes(path: &Path) -> io::Result<Attributes> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    content::attributes(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn copy(source: &Path, target: &Path, stat: &Stat, links: &mut HashMap<u64, PathBuf>) -> io::Result<()> {
    let kind = fs::symlink_metadata(source)?.file_type();
    if stat.st_nlink > 1
        && let Some(first) = links.get(&stat.st_ino)
    {
        return fs::hard_link(first, target);
    }
    if kind.is_file() {
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(nofollow).open(source)?;
        content::copy_file(&file, stat, target, &CancellationToken::new())?;
        links.insert(stat.st_ino, target.to_owned());
        return Ok(());
    }
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
    } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::mknodat(CWD, target, FileType::from_raw_mode(stat.st_mode), mode, fs::metadata(source)?.rdev())?;
    } else {
        return Ok(());
    }
    content::dress(target, stat, &Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_laid_over_hides_what_it_hid() {
        let place = tempfile::tempdir().expect("a place");
        let (below, above, to) = (place.path().join("a"), place.path().join("b"), place.path().join("to"));
        for dir in [&below.join("dir"), &above.join("dir"), &to] {
            fs::create_dir_all(dir).expect("a directory");
        }
        fs::write(below.join("dir/old"), "old").expect("a file");
        fs::write(below.join("gone"), "gone").expect("a file");
        fs::write(below.join("both"), "below").expect("a file");
        fs::write(above.join("both"), "above").expect("a file");
        fs::hard_link(above.join("both"), above.join("dir/linked")).expect("a link");
        fs::set_permissions(above.join("both"), fs::Permissions::from_mode(0o751)).expect("a mode");
        std::os::unix::fs::symlink("/etc/passwd", above.join("dir/link")).expect("a link");
        // Anybody may make the mark of what is gone.
        rustix::fs::mknodat(CWD, above.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).expect("a mark");
        spread(&below, &to).expect("laid");
        spread(&above, &to).expect("laid over");
        assert_eq!(fs::read_to_string(to.join("dir/old")).expect("there"), "old");
        assert_eq!(fs::read_to_string(to.join("both")).expect("there"), "above");
        assert_eq!(fs::metadata(to.join("both")).expect("there").mode() & 0o777, 0o751);
        assert_eq!(fs::metadata(to.join("both")).expect("there").nlink(), 2);
        assert!(fs::symlink_metadata(to.join("dir/link")).expect("there").is_symlink());
        assert!(fs::symlink_metadata(to.join("gone")).expect("marked").file_type().is_char_device());
    }
}
