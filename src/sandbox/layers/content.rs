//! Copies one regular file with all that belongs to it: holes, owner, mode, attributes, times.

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

/// Attributes of a file: name and value.
pub(super) type Attributes = Vec<(CString, Vec<u8>)>;

/// What overlayfs notes about one mount's own upper layer, and what would be wrong in another place.
const OF_ONE_MOUNT: [&[u8]; 5] = [b"origin", b"impure", b"nlink", b"uuid", b"upper"];
const PIECE: usize = 1 << 20;
/// Most bytes that the kernel copies at once: in between it is asked whether the copy is still wanted.
const LARGEST_STEP: usize = 64 << 20;
/// No attribute is longer.
const LONGEST: usize = 64 << 10;

/// Copies `from`, an open regular file, to the new file `to`.
///
/// # Errors
/// When one can't be read or the other not be written; then something may be at `to`.
pub(super) fn copy_file(from: &File, stat: &Stat, to: &Path, unwanted: &CancellationToken) -> io::Result<()> {
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    if rustix::fs::ioctl_ficlone(&new, from).is_err() {
        copy_content(from, &new, unwanted)?;
    }
    let attributes = attributes(from)?;
    rustix::fs::fchown(&new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    new.set_permissions(fs::Permissions::from_mode(stat.st_mode & 0o7777))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(&new, name, &value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(&new, &times(stat))?)
}

/// Fails once nobody wants the copy any more.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`].
pub(super) fn wanted(unwanted: &CancellationToken) -> io::Result<()> {
    match unwanted.is_cancelled() {
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "it was interrupted")),
        false => Ok(()),
    }
}

/// Copies what is there and leaves holes where nothing is.
fn copy_content(mut from: &File, mut to: &File, unwanted: &CancellationToken) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < length {
        let begin = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            // A file system that knows of no holes.
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(begin)).unwrap_or(length).max(begin + 1);
        let (mut read_at, mut write_at) = (begin, begin);
        // In the kernel where it can; a file that has become shorter meanwhile just ends.
        while read_at < end {
            wanted(unwanted)?;
            let most = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(LARGEST_STEP);
            match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), most) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                    buffer.resize(PIECE, 0);
                    from.seek(SeekFrom::Start(read_at))?;
                    to.seek(SeekFrom::Start(read_at))?;
                    let most = usize::try_from(end - read_at).unwrap_or(PIECE).min(PIECE);
                    let read = from.read(&mut buffer[..most])?;
                    if read == 0 {
                        return Ok(());
                    }
                    to.write_all(&buffer[..read])?;
                    read_at += read as u64;
                    write_at = read_at;
                }
                Err(error) => return Err(error.into()),
            }
        }
        at = end;
    }
    Ok(())
}

/// The attributes of an open file that mean something elsewhere too.
///
/// # Errors
/// When they can't be read; a file system without any has none.
pub(super) fn attributes(file: impl AsFd) -> io::Result<Attributes> {
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(&file, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < LONGEST => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_of_one_mount(name.to_bytes()) {
            continue;
        }
        let mut value = vec![0; LONGEST];
        match rustix::fs::fgetxattr(&file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_owned(), value));
            }
            // Gone since, or another's to see.
            Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn is_of_one_mount(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"trusted.overlay.").or_else(|| name.strip_prefix(b"user.overlay."));
    rest.is_some_and(|rest| OF_ONE_MOUNT.contains(&rest))
}

/// Gives what is at `to`, and no file that it may lead to, the owner, mode, attributes and times of `stat`.
///
/// # Errors
/// What the system says.
pub(super) fn dress(to: &Path, stat: &Stat, attributes: &Attributes) -> io::Result<()> {
    let (owner, group) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(CWD, to, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_link = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink;
    if !is_link {
        fs::set_permissions(to, fs::Permissions::from_mode(stat.st_mode & 0o7777))?;
    }
    for (name, value) in attributes {
        rustix::fs::lsetxattr(to, name.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(CWD, to, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
