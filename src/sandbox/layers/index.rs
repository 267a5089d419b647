//! The index of a layer: as which state of a box's files its own were taken, so that the next layer of the same box may
//! share those that have not changed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::sandbox::changes::base::Mark;

/// In the layer's directory.
pub(super) const FILE: &str = "index";

/// Which state of a file was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    /// The file in the box's own layer, as it was.
    pub(super) mark: Mark,
    /// Whether any later change must show in its change time.
    pub(super) settled: bool,
}

/// By part and path.
pub(super) type Index = HashMap<String, HashMap<PathBuf, Taken>>;

/// Writes an index.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write(path: &Path, index: &Index) -> io::Result<()> {
    let mut to = BufWriter::new(File::create_new(path)?);
    for (part, files) in index {
        let count = u64::try_from(files.len()).unwrap_or(u64::MAX);
        to.write_all(&[u8::try_from(part.len()).map_err(io::Error::other)?])?;
        to.write_all(part.as_bytes())?;
        to.write_all(&count.to_le_bytes())?;
        for (path, taken) in files {
            taken.mark.write(path, &mut to)?;
            to.write_all(&[u8::from(taken.settled)])?;
        }
    }
    to.flush()
}

/// Reads an index.
///
/// # Errors
/// When there is none, or it is no index.
pub(super) fn read(path: &Path) -> io::Result<Index> {
    let mut from = BufReader::new(File::open(path)?);
    let mut index = Index::new();
    let mut length = [0];
    while from.read(&mut length)? == 1 {
        let mut part = vec![0; usize::from(length[0])];
        from.read_exact(&mut part)?;
        let mut count = [0; 8];
        from.read_exact(&mut count)?;
        let mut files = HashMap::new();
        for _ in 0..u64::from_le_bytes(count) {
            let (path, mark) = Mark::read(&mut from)?.ok_or(io::ErrorKind::InvalidData)?;
            let mut settled = [0];
            from.read_exact(&mut settled)?;
            files.insert(path, Taken { mark, settled: settled[0] == 1 });
        }
        index.insert(String::from_utf8(part).map_err(io::Error::other)?, files);
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_reads_as_it_was_written() {
        let place = tempfile::tempdir().expect("a place");
        let path = place.path().join(FILE);
        let mark = Mark { mode: 0o100_644, size: 3, mtime_ns: -5, ctime_ns: 7, inode: 9 };
        let files = HashMap::from([(PathBuf::from("a/b"), Taken { mark, settled: true })]);
        let index = Index::from([("root".to_owned(), files), ("tmp".to_owned(), HashMap::new())]);
        write(&path, &index).expect("written");
        assert_eq!(read(&path).expect("read"), index);
    }
}
