//! Files between the box and a sidecar. The box's side goes through its guest, so that nothing is read or written that
//! the box itself does not see; links are not followed and not copied.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::{Call, Done, Stop, failed, malformed, told};
use crate::guest::{Client, FileKind};
use crate::sandbox::{SidecarName, Sidecars};
use crate::tools::facts::size;
use crate::tools::path::resolve;

/// The largest file: what travels to a guest in one piece.
const LARGEST: u64 = 48 << 20;
/// Most bytes of one copy.
const MOST_BYTES: u64 = 1 << 30;
/// Most files of one copy.
const MOST_FILES: usize = 10_000;

/// What was copied.
#[derive(Debug, Default)]
struct Count {
    files: usize,
    bytes: u64,
    left: Vec<String>,
}

impl Count {
    fn add(&mut self, path: &str, bytes: u64) -> Result<(), Stop> {
        self.files += 1;
        self.bytes += bytes;
        if bytes > LARGEST {
            return Err(failed(format!("not copied: {path} has {}, more than {}", size(bytes), size(LARGEST))));
        }
        if self.files > MOST_FILES || self.bytes > MOST_BYTES {
            return Err(failed(format!("not copied: more than {MOST_FILES} files or {}", size(MOST_BYTES))));
        }
        Ok(())
    }

    fn words(&self, from: &str, to: &str) -> String {
        let mut text = format!("[copied {from} to {to}: {} files, {}]", self.files, size(self.bytes));
        const SHOWN: usize = 10;
        for path in self.left.iter().take(SHOWN) {
            text.push_str(&format!("\n[left out, for it is no regular file: {path}]"));
        }
        if self.left.len() > SHOWN {
            text.push_str(&format!("\n[and {} more]", self.left.len() - SHOWN));
        }
        text
    }
}

impl Call<'_> {
    /// Both ends of a copy; the sidecar's must be absolute.
    fn ends(&self) -> Result<(SidecarName, &str, &str), Stop> {
        let name = self.name()?;
        match (self.args.from.as_deref(), self.args.to.as_deref()) {
            (Some(from), Some(to)) if !from.is_empty() && !to.is_empty() => Ok((name, from, to)),
            _ => Err(malformed("from, to: both are needed")),
        }
    }

    pub(super) async fn copy_in(&self, beside: &dyn Sidecars) -> Done {
        let (name, from, to) = self.ends()?;
        let to = inside(to)?;
        let from = resolve(self.workspace, from);
        self.find(beside).await?;
        let mut count = Count::default();
        let tar = pack(self.terminal.guest(), &from, &to, &mut count).await?;
        beside.put(&name, spooled(tar).boxed()).await?;
        told(count.words(&from, &format!("{name}:/{}", to.display())))
    }

    pub(super) async fn copy_out(&self, beside: &dyn Sidecars) -> Done {
        let (name, from, to) = self.ends()?;
        let from = format!("/{}", inside(from)?.display());
        let to = resolve(self.workspace, to);
        self.find(beside).await?;
        let mut tar = beside.fetch(&name, &from).await?;
        let mut spool = tempfile::tempfile().map_err(no_room)?;
        let mut bytes = 0;
        while let Some(piece) = tar.try_next().await.map_err(|error| failed(format!("not copied: {error}")))? {
            bytes += piece.len() as u64;
            if bytes > MOST_BYTES + (MOST_BYTES >> 2) {
                return Err(failed(format!("not copied: more than {}", size(MOST_BYTES))));
            }
            spool.write_all(&piece).map_err(no_room)?;
        }
        spool.rewind().map_err(no_room)?;
        let mut count = Count::default();
        let mut files = unpacked(spool);
        while let Some(entry) = files.recv().await {
            let (below, mode, content) = entry.map_err(|error| failed(format!("not copied: {error}")))?;
            let path = if below.as_os_str().is_empty() { to.clone() } else { format!("{to}/{}", below.display()) };
            match content {
                None => count.left.push(path),
                Some(content) => {
                    count.add(&path, content.len() as u64)?;
                    self.terminal.guest().write_file(&path, &content, Some(mode & 0o777)).await?;
                }
            }
        }
        if count.files == 0 && count.left.is_empty() {
            return Err(failed(format!("nothing copied: {name}:{from} has no files")));
        }
        told(count.words(&format!("{name}:{from}"), &to))
    }
}

fn no_room(error: io::Error) -> Stop {
    failed(format!("not copied: no room for it on its way: {error}"))
}

/// A path in a sidecar without its first slash: nothing that leads up.
fn inside(path: &str) -> Result<PathBuf, Stop> {
    let plain = |part: Component<'_>| match part {
        Component::RootDir | Component::CurDir => Some(None),
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::ParentDir | Component::Prefix(_) => None,
    };
    let parts: Option<Vec<_>> = Path::new(path).components().map(plain).collect();
    match parts {
        Some(parts) if path.starts_with('/') && parts.iter().any(Option::is_some) => {
            Ok(parts.into_iter().flatten().collect())
        }
        _ => Err(malformed(format!("`{}` is no absolute path of a file or directory there", path.escape_debug()))),
    }
}

/// Packs a file or a directory of the box into a file without a name.
async fn pack(guest: &Client, from: &str, to: &Path, count: &mut Count) -> Result<std::fs::File, Stop> {
    let mut tar = tar::Builder::new(tempfile::tempfile().map_err(no_room)?);
    let info = guest.stat(from).await?;
    let mut open = vec![(from.to_owned(), to.to_owned(), info.kind)];
    while let Some((path, to, kind)) = open.pop() {
        match kind {
            FileKind::Dir => {
                let mut header = header(0o755, 0, tar::EntryType::Directory);
                tar.append_data(&mut header, &to, io::empty()).map_err(no_room)?;
                for entry in guest.list_dir(&path).await? {
                    let below = to.join(&entry.name);
                    open.push((format!("{}/{}", path.trim_end_matches('/'), entry.name), below, entry.kind));
                }
            }
            FileKind::File => {
                let (info, content) = read(guest, &path).await?;
                count.add(&path, content.len() as u64)?;
                let mut header = header(info & 0o777, content.len() as u64, tar::EntryType::Regular);
                tar.append_data(&mut header, &to, &content[..]).map_err(no_room)?;
            }
            _ => count.left.push(path),
        }
    }
    let mut spool = tar.into_inner().map_err(no_room)?;
    spool.rewind().map_err(no_room)?;
    Ok(spool)
}

fn header(mode: u32, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_entry_type(kind);
    header
}

/// A whole file and its mode.
async fn read(guest: &Client, path: &str) -> Result<(u32, Vec<u8>), Stop> {
    let mut content = Vec::new();
    loop {
        let (info, piece) = guest.read_file(path, content.len() as u64, LARGEST).await?;
        if piece.is_empty() {
            return Ok((info.mode, content));
        }
        content.extend_from_slice(&piece);
        if content.len() as u64 > LARGEST {
            return Err(failed(format!("not copied: {path} has more than {}", size(LARGEST))));
        }
    }
}

/// The pieces of a file, read on a thread of their own.
fn spooled(mut file: std::fs::File) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; 256 << 10];
            let read = file.read(&mut piece).map(|read| {
                piece.truncate(read);
                Bytes::from(piece)
            });
            let is_last = read.as_ref().map_or(true, Bytes::is_empty);
            let is_end = read.as_ref().is_ok_and(Bytes::is_empty);
            if (!is_end && sender.blocking_send(read).is_err()) || is_last {
                return;
            }
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

/// A path below the one that was asked for, its mode, and its content where it is a regular file.
type Unpacked = (PathBuf, u32, Option<Vec<u8>>);

/// The entries of a tar that are no directories, read on a thread of their own.
fn unpacked(file: std::fs::File) -> mpsc::Receiver<io::Result<Unpacked>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(file);
        let entries = match archive.entries() {
            Ok(entries) => entries,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        for entry in entries {
            let sent = match entry.and_then(entry_of) {
                Ok(None) => Ok(()),
                Ok(Some(entry)) => sender.blocking_send(Ok(entry)),
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    receiver
}

fn entry_of(entry: tar::Entry<'_, std::fs::File>) -> io::Result<Option<Unpacked>> {
    if entry.header().entry_type().is_dir() {
        return Ok(None);
    }
    // The first name is the last of the path that was asked for.
    let path = entry.path()?.into_owned();
    let mut below = PathBuf::new();
    for part in path.components().skip_while(|part| matches!(part, Component::CurDir | Component::RootDir)).skip(1) {
        let Component::Normal(name) = part else {
            return Err(io::Error::other(format!("`{}` leads elsewhere", path.display())));
        };
        below.push(name);
    }
    let mode = entry.header().mode().unwrap_or(0o644);
    if !entry.header().entry_type().is_file() {
        return Ok(Some((below, mode, None)));
    }
    if entry.size() > LARGEST {
        return Err(io::Error::other(format!("`{}` has more than {}", path.display(), size(LARGEST))));
    }
    let mut content = Vec::new();
    entry.take(LARGEST + 1).read_to_end(&mut content)?;
    Ok(Some((below, mode, Some(content))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_a_sidecar_lead_nowhere_else() {
        for (given, wanted) in [("/a/b", "a/b"), ("/a/./b/", "a/b"), ("//a", "a")] {
            assert_eq!(inside(given).ok(), Some(PathBuf::from(wanted)), "{given}");
        }
        for bad in ["", "a", "/", "/a/../b", "../a"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }
}
