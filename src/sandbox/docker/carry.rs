//! Carrying a workspace into a container that can't mount it, as an uncompressed tar, and out again.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

/// Most that is copied in: beyond this a person should decide what the box needs.
const MOST_BYTES: u64 = 4 << 30;
/// How much travels in one piece.
const PIECE: usize = 256 << 10;
/// How many pieces may wait for the engine.
const QUEUE: usize = 8;

/// Why a workspace is not carried.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarryError {
    /// Too large.
    #[error("{dir} holds more than {} GiB", MOST_BYTES >> 30)]
    Large {
        /// The workspace.
        dir: PathBuf,
    },
    /// A file could not be read.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Adds up what [`pack`] would send, without reading it.
///
/// # Errors
/// [`CarryError::Large`] as soon as it is too much.
pub(super) fn measure(dir: &Path, leave_out: &[PathBuf]) -> Result<u64, CarryError> {
    let mut bytes = 0;
    walk(dir, leave_out, &mut |_, meta| {
        bytes += if meta.is_file() { meta.len() } else { 0 };
        if bytes > MOST_BYTES { Err(CarryError::Large { dir: dir.to_owned() }) } else { Ok(()) }
    })?;
    Ok(bytes)
}

/// Streams `dir` as a tar with paths from the root, links as links, without sockets, FIFOs and devices and without what
/// is to be left out. Must be called within a runtime; reads on a thread of its own.
pub(super) fn pack(dir: &Path, leave_out: &[PathBuf]) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (dir, leave_out) = (dir.to_owned(), leave_out.to_vec());
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { sender: sender.clone(), piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write_tar(&dir, &leave_out, &mut pieces) {
            // A receiver that is gone wants no error either.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

fn write_tar(dir: &Path, leave_out: &[PathBuf], to: &mut Pieces) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let packed = walk(dir, leave_out, &mut |path, meta| {
        append(&mut tar, path, meta).map_err(|source| CarryError::File { path: path.to_owned(), source })
    });
    packed.map_err(io::Error::other)?;
    tar.into_inner()?.flush()
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, meta: &Metadata) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(meta);
    let kind = meta.file_type();
    if kind.is_symlink() {
        header.set_size(0);
        tar.append_link(&mut header, inside(path), fs::read_link(path)?)
    } else if kind.is_dir() {
        header.set_size(0);
        tar.append_data(&mut header, inside(path), io::empty())
    } else {
        // A file that grows or shrinks meanwhile still takes exactly as much as its header says.
        let file = File::open(path)?;
        tar.append_data(&mut header, inside(path), file.chain(io::repeat(0)).take(meta.len()))
    }
}

/// Visits `dir` and all below it, parents first, without following links.
fn walk(
    dir: &Path,
    leave_out: &[PathBuf],
    visit: &mut dyn FnMut(&Path, &Metadata) -> Result<(), CarryError>,
) -> Result<(), CarryError> {
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        if leave_out.contains(&path) {
            continue;
        }
        let file_error = |source| CarryError::File { path: path.clone(), source };
        let meta = match fs::symlink_metadata(&path) {
            // Gone since its directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != dir => continue,
            other => other.map_err(file_error)?,
        };
        let kind = meta.file_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            continue;
        }
        visit(&path, &meta)?;
        if kind.is_dir() {
            for entry in fs::read_dir(&path).map_err(file_error)? {
                open.push(entry.map_err(file_error)?.path());
            }
        }
    }
    Ok(())
}

/// Hands on what is written in pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_tree_arrives_as_it_was_without_sockets_and_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/deep")).unwrap();
        fs::write(root.join("a/deep/file"), "content").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("a/link")).unwrap();
        let _socket = UnixListener::bind(root.join("a/socket")).unwrap();
        fs::create_dir(root.join("secret")).unwrap();
        fs::write(root.join("secret/key"), "key").unwrap();
        let leave_out = [root.join("secret")];
        assert_eq!(measure(root, &leave_out).unwrap(), 7);
        let pieces: Vec<Bytes> = pack(root, &leave_out).try_collect().await.unwrap();
        let out = tempfile::tempdir().unwrap();
        tar::Archive::new(&pieces.concat()[..]).unpack(out.path()).unwrap();
        let copy = out.path().join(inside(root));
        assert_eq!(fs::read_to_string(copy.join("a/deep/file")).unwrap(), "content");
        assert_eq!(fs::read_link(copy.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!copy.join("a/socket").exists() && !copy.join("secret").exists());
    }

    #[tokio::test]
    async fn a_workspace_that_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("sparse")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(matches!(measure(dir.path(), &[]), Err(CarryError::Large { .. })));
    }
}
