//! Single effects on the host's workspace, each of which is whole or not at all. Directories are reached without following
//! a link, and what is replaced is looked at once more just before.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::base::Mark;
use super::beneath::Beneath;
use super::{Content, PIECE};

/// How the names of files begin that are not yet in their place.
pub(super) const TEMPORARY: &str = ".longhaul-apply-";
/// No digest is made of files with holes beyond this: it would take longer than anybody waits.
const LARGEST_SPARSE: u64 = 1 << 30;

/// Why an effect did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The host has changed it at the last moment.
    #[error("the host has changed it just now")]
    ChangedNow,
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for WriteError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// One name of a directory of the host.
pub(super) struct Spot {
    /// The directory, open for reading.
    pub(super) dir: OwnedFd,
    name: OsString,
    temporary: OsString,
}

/// How what is at a spot now gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing is there.
    Nothing,
    /// Something that one rename replaces.
    Replaced,
    /// A directory, where another kind comes, or the other way round: both change places, then the old one goes.
    Exchanged,
}

impl Spot {
    /// Opens the directory that `path` is in.
    pub(super) fn open(host: &Beneath, path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let dir = host.at(path.parent().unwrap_or(Path::new("")), OFlags::RDONLY | OFlags::DIRECTORY)?;
        // The same for the same name, so that one that was left is found again; of a length that file systems take.
        let digest: String = Sha256::digest(name.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { dir, temporary: OsString::from(format!("{TEMPORARY}{digest}")), name })
    }

    /// Removes what an attempt that was cut short has left under the temporary name.
    pub(super) fn clear(&self) -> io::Result<()> {
        for flags in [AtFlags::empty(), AtFlags::REMOVEDIR] {
            match rustix::fs::unlinkat(&self.dir, &self.temporary, flags) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR) if flags.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Fails unless what is there is what was there when it was compared.
    pub(super) fn check(&self, expected: Option<&Mark>) -> Result<(), WriteError> {
        let is_same = match (self.stat(&self.name)?, expected) {
            (None, None) => true,
            (Some(now), Some(then)) => then.is_same(&now),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if is_same { Ok(()) } else { Err(WriteError::ChangedNow) }
    }

    fn stat(&self, name: &OsStr) -> io::Result<Option<Mark>> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Mark::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file under the temporary name; it is not synced. Returns its content's SHA-256.
    pub(super) fn write_file(&self, content: &Content, mode: u32) -> io::Result<Option<String>> {
        self.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.dir, &self.temporary, flags, Mode::from_raw_mode(0o600))?);
        let sha256 = copy(content, &file)?;
        self.keep_of_old(&file)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok(sha256)
    }

    /// Makes the file with the temporary name last.
    pub(super) fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, &self.temporary, flags, Mode::empty()) {
            Ok(fd) => Ok(rustix::fs::fdatasync(fd)?),
            // Its mode lets nobody read it.
            Err(Errno::ACCESS) => sync_all(&self.dir),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the new file what else the old one has: its owner, where that may be given, and attributes that users set.
    fn keep_of_old(&self, new: &File) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let is_file = |stat: rustix::fs::Stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_file(stat) => {}
            _ => return Ok(()),
        }
        let Ok(old) = rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()) else { return Ok(()) };
        let stat = rustix::fs::fstat(&old)?;
        let own = rustix::fs::fstat(new)?;
        if (stat.st_uid, stat.st_gid) != (own.st_uid, own.st_gid) {
            // Only root may give files away; for others what they write is theirs.
            let _ = std::os::unix::fs::fchown(new, Some(stat.st_uid), Some(stat.st_gid));
        }
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::flistxattr(&old, &mut names[..]).unwrap_or(0);
        for name in names[..length].split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")) {
            let mut value = vec![0; 64 << 10];
            let name = OsStr::from_bytes(name);
            if let Ok(length) = rustix::fs::fgetxattr(&old, name, &mut value[..]) {
                rustix::fs::fsetxattr(new, name, &value[..length], rustix::fs::XattrFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Makes a link under the temporary name.
    pub(super) fn write_link(&self, target: &[u8]) -> io::Result<()> {
        self.clear()?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), &self.dir, &self.temporary)?)
    }

    /// Makes a directory under the temporary name, with its mode but so that its owner can fill it.
    pub(super) fn write_directory(&self, mode: u32) -> io::Result<()> {
        self.clear()?;
        rustix::fs::mkdirat(&self.dir, &self.temporary, Mode::from_raw_mode(0o700))?;
        self.mode_of(&self.temporary, mode | 0o700)
    }

    /// Puts what has the temporary name into its place, at once.
    pub(super) fn commit(&self, before: Before) -> Result<(), WriteError> {
        let rename = |flags| rustix::fs::renameat_with(&self.dir, &self.temporary, &self.dir, &self.name, flags);
        match before {
            Before::Nothing => match rename(RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => Err(WriteError::ChangedNow),
                // A file system that does not know how: it was looked at just before.
                Err(Errno::INVAL) => Ok(rename(RenameFlags::empty())?),
                other => Ok(other?),
            },
            Before::Replaced => Ok(rename(RenameFlags::empty())?),
            Before::Exchanged => {
                rename(RenameFlags::EXCHANGE)?;
                Ok(self.clear()?)
            }
        }
    }

    /// Removes what is there.
    pub(super) fn remove(&self, is_directory: bool) -> io::Result<()> {
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(&self.dir, &self.name, flags)?)
    }

    /// Sets the permissions of the file or directory that is there, which is no link. Of a directory the set-id and sticky
    /// bits that the host gave it stay.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.mode_of(&self.name, mode)
    }

    fn mode_of(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        let now = rustix::fs::fstat(&fd)?.st_mode;
        let kept = match now & libc::S_IFMT {
            libc::S_IFDIR => now & 0o7000,
            libc::S_IFREG => 0,
            _ => return Err(io::Error::other("it is neither a file nor a directory any more")),
        };
        // By its descriptor, so that what is changed is what was looked at.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(kept | (mode & 0o777)))?)
    }
}

/// Makes what was written to the file system of `fd` last.
pub(super) fn sync_all(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Copies what is data and leaves holes as holes; returns the SHA-256 of the whole.
fn copy(content: &Content, to: &File) -> io::Result<Option<String>> {
    let (mut at, mut digest, mut piece) = (0, Sha256::new(), vec![0; PIECE]);
    let mut has_large_holes = false;
    while at < content.length {
        let data = content.next_data(at)?;
        has_large_holes |= data - at > LARGEST_SPARSE;
        if !has_large_holes {
            digest_zeros(&mut digest, data - at);
        }
        at = data;
        let end = if at < content.length { content.next_hole(at)?.max(at + 1).min(content.length) } else { at };
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let read = content.fill(at, &mut piece[..most])?;
            if read == 0 {
                return Err(io::Error::other("it became shorter while it was read"));
            }
            to.write_all_at(&piece[..read], at)?;
            digest.update(&piece[..read]);
            at += read as u64;
        }
    }
    (&*to).flush()?;
    to.set_len(content.length)?;
    let hex = |digest: Sha256| digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((!has_large_holes).then(|| hex(digest)))
}

fn digest_zeros(digest: &mut Sha256, mut many: u64) {
    let zeros = [0; 4096];
    while many > 0 {
        let now = usize::try_from(many).unwrap_or(zeros.len()).min(zeros.len());
        digest.update(&zeros[..now]);
        many -= now as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn content(path: &Path) -> Content {
        let file = File::open(path).expect("readable");
        let length = file.metadata().expect("there").len();
        Content { file, from: 0, length }
    }

    #[test]
    fn holes_stay_holes_and_the_digest_is_of_the_whole() {
        let place = tempfile::tempdir_in("/var/tmp").expect("a place");
        let from = place.path().join("from");
        let sparse = File::create(&from).expect("a file");
        sparse.set_len(8 << 20).expect("a length");
        sparse.write_all_at(b"data", 4 << 20).expect("written");
        let host = Beneath::open(place.path()).expect("there");
        let spot = Spot::open(&host, Path::new("to")).expect("there");
        let sha256 = spot.write_file(&content(&from), 0o6755).expect("written");
        spot.commit(Before::Nothing).expect("in its place");
        let to = fs::metadata(place.path().join("to")).expect("there");
        assert_eq!((to.len(), to.mode() & 0o7777), (8 << 20, 0o755));
        assert!(to.blocks() * 512 < 1 << 20, "{} blocks", to.blocks());
        let whole = fs::read(&from).expect("readable");
        assert_eq!(fs::read(place.path().join("to")).expect("readable"), whole);
        let digest: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256, Some(digest));
    }

    #[test]
    fn a_terabyte_of_nothing_is_applied_at_once() {
        let place = tempfile::tempdir_in("/var/tmp").expect("a place");
        let from = place.path().join("from");
        File::create(&from).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        let host = Beneath::open(place.path()).expect("there");
        let spot = Spot::open(&host, Path::new("to")).expect("there");
        assert_eq!(spot.write_file(&content(&from), 0o644).expect("written"), None);
        spot.commit(Before::Nothing).expect("in its place");
        assert!(super::super::is_equal(&content(&from), &content(&place.path().join("to"))).expect("readable"));
    }

    #[test]
    fn what_came_meanwhile_is_not_overwritten_and_no_link_is_followed() {
        let place = tempfile::tempdir().expect("a place");
        fs::write(place.path().join("new"), "new").expect("a file");
        fs::write(place.path().join("there"), "the host's").expect("a file");
        fs::create_dir(place.path().join("real")).expect("a directory");
        symlink("real", place.path().join("link")).expect("a link");
        let host = Beneath::open(place.path()).expect("there");
        let spot = Spot::open(&host, Path::new("there")).expect("there");
        assert!(matches!(spot.check(None), Err(WriteError::ChangedNow)));
        spot.write_file(&content(&place.path().join("new")), 0o644).expect("written");
        assert!(matches!(spot.commit(Before::Nothing), Err(WriteError::ChangedNow)));
        spot.clear().expect("removed");
        assert_eq!(fs::read(place.path().join("there")).expect("readable"), b"the host's");
        assert!(Spot::open(&host, Path::new("link/file")).is_err());
        assert!(Spot::open(&host, Path::new("../file")).is_err());
    }

    #[test]
    fn a_directory_and_a_file_change_places_at_once() {
        let place = tempfile::tempdir().expect("a place");
        fs::write(place.path().join("new"), "new").expect("a file");
        fs::create_dir(place.path().join("spot")).expect("a directory");
        let host = Beneath::open(place.path()).expect("there");
        let spot = Spot::open(&host, Path::new("spot")).expect("there");
        spot.write_file(&content(&place.path().join("new")), 0o644).expect("written");
        spot.commit(Before::Exchanged).expect("in its place");
        assert_eq!(fs::read(place.path().join("spot")).expect("a file now"), b"new");
        spot.write_directory(0o755).expect("written");
        spot.commit(Before::Exchanged).expect("in its place");
        assert!(place.path().join("spot").is_dir());
        assert_eq!(fs::read_dir(place.path()).expect("there").count(), 2, "nothing else is left");
    }
}
