//! Reading a directory tree that somebody else may write to: no link is followed, and only regular files are opened.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl Node {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }

    pub(in crate::sandbox) fn of(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::RegularFile | FileType::Unknown => Self::File,
        }
    }
}

/// What an entry is, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What kind.
    pub node: Node,
    /// Permission bits, with set-id and sticky ones.
    pub mode: u32,
    /// Bytes of a regular file; 0 for all else.
    pub size_bytes: u64,
    /// Where a link leads.
    pub target: Option<Vec<u8>>,
}

impl Meta {
    /// From what the system says; a link's target is read apart.
    pub(in crate::sandbox) fn of(stat: &Stat) -> Self {
        let node = Node::of(stat.st_mode);
        let size_bytes = if node == Node::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Self { node, mode: stat.st_mode & 0o7777, size_bytes, target: None }
    }
}

/// A directory, and everything below it by paths that hold no links.
#[derive(Debug)]
pub(in crate::sandbox) struct Beneath {
    root: OwnedFd,
}

/// One directory that is open.
pub(in crate::sandbox) struct OpenDir {
    fd: OwnedFd,
}

impl Beneath {
    /// Opens the directory at `path`, which is trusted and may be a link.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::sandbox) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens what is at `path` below, whose last part may be a link itself.
    pub(in crate::sandbox) fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Opens a directory for reading.
    pub(in crate::sandbox) fn dir(&self, path: &Path) -> io::Result<OpenDir> {
        Ok(OpenDir { fd: self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)? })
    }

    /// What is at `path`; None where nothing is, or a directory above is none or a link.
    pub(in crate::sandbox) fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.at(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(rustix::fs::fstat(fd)?)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same with a link's target.
    pub(in crate::sandbox) fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        let Some(stat) = self.stat(path)? else { return Ok(None) };
        let mut meta = Meta::of(&stat);
        if meta.node == Node::Link {
            meta.target = Some(self.target(path)?);
        }
        Ok(Some(meta))
    }

    /// Where the link at `path` leads.
    pub(in crate::sandbox) fn target(&self, path: &Path) -> io::Result<Vec<u8>> {
        let link = self.at(path, OFlags::PATH)?;
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    /// Opens a regular file for reading; anything else is an error, and opening it has no effect.
    pub(in crate::sandbox) fn file(&self, path: &Path) -> io::Result<File> {
        let named = self.at(path, OFlags::PATH)?;
        if Node::of(rustix::fs::fstat(&named)?.st_mode) != Node::File {
            return Err(io::Error::other("it is no regular file"));
        }
        // By its descriptor, so that what is opened is what was looked at.
        File::open(format!("/proc/self/fd/{}", named.as_raw_fd()))
    }
}

impl OpenDir {
    /// The names in it, in order.
    pub(in crate::sandbox) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(os(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What a name in it is.
    pub(in crate::sandbox) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the directory itself is.
    pub(in crate::sandbox) fn own_stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?)
    }

    /// The value of an extended attribute of the directory itself; None where it has none that can be read.
    pub(in crate::sandbox) fn attribute(&self, name: &CStr) -> Option<Vec<u8>> {
        let mut value = [0; 64];
        let length = rustix::fs::fgetxattr(self.fd.as_fd(), name, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    }
}

impl AsFd for OpenDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn os(name: &CStr) -> OsString {
    OsStr::from_bytes(name.to_bytes()).to_owned()
}

/// `path` below `dir`, where `dir` may be empty.
pub(in crate::sandbox) fn join(dir: &Path, name: &OsStr) -> PathBuf {
    if dir.as_os_str().is_empty() { PathBuf::from(name) } else { dir.join(name) }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}
