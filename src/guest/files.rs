//! Files of the box, read and written for the host. Whatever is not a regular file is refused without being waited for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::facts::{DirEntry, FileInfo, FileKind, Refusal, RefusalKind};
use super::protocol::MAX_READ;
use super::supervisor::{refusal_of, refuse};

/// Most entries of a directory that are listed.
const MAX_ENTRIES: usize = 50_000;

/// What a path is; links are followed.
pub(super) fn stat(path: &str) -> Result<FileInfo, Refusal> {
    let real = resolve(path)?;
    let meta = fs::metadata(&real).map_err(|error| refusal_of(&error, path))?;
    Ok(info(&real, &meta))
}

/// Part of a regular file.
pub(super) fn read(path: &str, offset: u64, len: u64) -> Result<(FileInfo, Vec<u8>), Refusal> {
    let real = resolve(path)?;
    let (mut file, meta) = open_regular(&real, path, OpenOptions::new().read(true))?;
    let len = len.min(MAX_READ);
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| (&mut file).take(len).read_to_end(&mut bytes));
    read.map_err(|error| refusal_of(&error, path))?;
    Ok((info(&real, &meta), bytes))
}

/// Replaces a file, all or nothing. The old one's owner is kept, and its mode unless another is given; a link to it
/// stays a link.
pub(super) fn write(path: &str, content: &[u8], mode: Option<u32>) -> Result<FileInfo, Refusal> {
    let target = match resolve(path) {
        Ok(real) => real,
        Err(Refusal { kind: RefusalKind::NotFound, .. }) => new_target(path)?,
        Err(other) => return Err(other),
    };
    let old = match open_regular(&target, path, OpenOptions::new().write(true)) {
        Ok((_, meta)) => Some(meta),
        Err(Refusal { kind: RefusalKind::NotFound, .. }) => None,
        Err(other) => return Err(other),
    };
    replace(&target, content, mode, old.as_ref()).map_err(|error| refusal_of(&error, path))?;
    stat(path)
}

/// The entries of a directory, by name.
pub(super) fn list(path: &str) -> Result<Vec<DirEntry>, Refusal> {
    let failed = |error: io::Error| refusal_of(&error, path);
    let mut entries = Vec::new();
    for entry in fs::read_dir(resolve(path)?).map_err(failed)?.take(MAX_ENTRIES) {
        let entry = entry.map_err(failed)?;
        // Gone since it was listed.
        let Ok(meta) = entry.metadata() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry { name, kind: kind(&meta), size: meta.len() });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn resolve(path: &str) -> Result<PathBuf, Refusal> {
    if !path.starts_with('/') {
        return Err(refuse(RefusalKind::Invalid, format!("{path}: not an absolute path")));
    }
    fs::canonicalize(path).map_err(|error| refusal_of(&error, path))
}

/// Where a file that is not there yet is to be: directories above it are made, a dangling link is followed once.
fn new_target(path: &str) -> Result<PathBuf, Refusal> {
    let mut path_here = PathBuf::from(path);
    if let Ok(link) = fs::read_link(&path_here) {
        path_here = path_here.parent().unwrap_or(Path::new("/")).join(link);
    }
    let invalid = || refuse(RefusalKind::Invalid, format!("{path}: does not name a file"));
    let (Some(parent), Some(name)) = (path_here.parent(), path_here.file_name()) else { return Err(invalid()) };
    if path.ends_with('/') {
        return Err(invalid());
    }
    let made = fs::create_dir_all(parent).and_then(|()| parent.canonicalize());
    Ok(made.map_err(|error| refusal_of(&error, path))?.join(name))
}

fn open_regular(real: &Path, path: &str, how: &OpenOptions) -> Result<(File, fs::Metadata), Refusal> {
    let failed = |error: io::Error| refusal_of(&error, path);
    // A FIFO or a device is not opened to find out what it is: that alone can have effects.
    let wrong = |meta: &fs::Metadata| {
        let what = match kind(meta) {
            FileKind::Dir => "is a directory",
            FileKind::File | FileKind::Link | FileKind::Special => "is not a regular file",
        };
        refuse(RefusalKind::WrongKind, format!("{path}: {what}"))
    };
    let before = fs::symlink_metadata(real).map_err(failed)?;
    if !before.is_file() {
        return Err(wrong(&before));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let file = how.clone().custom_flags(flags).open(real).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() { Ok((file, meta)) } else { Err(wrong(&meta)) }
}

fn replace(target: &Path, content: &[u8], mode: Option<u32>, old: Option<&fs::Metadata>) -> io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".longhaul-").tempfile_in(parent)?;
    file.write_all(content)?;
    let mode = match (old, mode) {
        (_, Some(mode)) => mode & 0o777,
        (Some(old), None) => old.mode() & 0o7777,
        (None, None) => 0o666 & !umask(),
    };
    if let Some(old) = old {
        // Without the right to give files away the new one is the writer's, as with any editor.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
    }
    file.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    file.persist(target)?;
    Ok(())
}

fn umask() -> u32 {
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::umask(old);
    old.as_raw_mode()
}

fn info(real: &Path, meta: &fs::Metadata) -> FileInfo {
    FileInfo {
        path: real.to_string_lossy().into_owned(),
        kind: kind(meta),
        size: meta.len(),
        mode: meta.mode() & 0o7777,
        mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
    }
}

fn kind(meta: &fs::Metadata) -> FileKind {
    let kind = meta.file_type();
    match () {
        () if kind.is_file() => FileKind::File,
        () if kind.is_dir() => FileKind::Dir,
        () if kind.is_symlink() => FileKind::Link,
        () => FileKind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalKind {
        result.unwrap_err().kind
    }

    #[test]
    fn a_write_keeps_mode_and_links_and_makes_directories() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let made = write(&at("a/b/script"), b"one", Some(0o755)).unwrap();
        assert_eq!((made.mode, made.size, made.kind), (0o755, 3, FileKind::File));
        std::os::unix::fs::symlink("a/b/script", at("link")).unwrap();
        assert_eq!(write(&at("link"), b"three", None).unwrap().mode, 0o755);
        assert_eq!(write(&at("link"), b"three", Some(0o640)).unwrap().mode, 0o640);
        assert_eq!(write(&at("link"), b"three", Some(0o755)).unwrap().mode, 0o755);
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(read(&at("a/b/script"), 1, 3).unwrap().1, b"hre");
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo").to_str().unwrap().to_owned();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [fifo.as_str(), "/dev/null", "/dev/tty", dir.path().to_str().unwrap()] {
            assert_eq!(refused(read(path, 0, 1)), RefusalKind::WrongKind, "{path}");
            assert_eq!(refused(write(path, b"", None)), RefusalKind::WrongKind, "{path}");
        }
        assert_eq!(refused(read("relative", 0, 1)), RefusalKind::Invalid);
        assert_eq!(refused(read("/no/such/file", 0, 1)), RefusalKind::NotFound);
        assert_eq!(refused(write("/proc/no/such", b"", None)), RefusalKind::NotFound);
    }
}
