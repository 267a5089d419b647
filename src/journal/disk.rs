//! What a transcript asks of the disk, so that tests can put in its place a disk that fails, or one that loses what was
//! not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory that a transcript is written to.
pub trait Disk: Send + Sync {
    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it is; what the system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Puts a file with this content in the place of `name`, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in the directory outlive a power failure when this returns.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;
}

/// A file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Writes at the end.
    ///
    /// # Errors
    /// What the system says; part may have been written.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes over what is there.
    ///
    /// # Errors
    /// What the system says; part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// What was written outlives a power failure when this returns.
    ///
    /// # Errors
    /// What the system says: then nobody knows what did.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of this machine.
#[derive(Debug, Clone)]
pub struct SystemDisk(pub PathBuf);

impl Disk for SystemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(self.0.join(name))?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SystemFile(OpenOptions::new().append(true).open(self.0.join(name))?)))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        let temporary = self.0.join(format!("{name}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        // Renamed first: the rename changes the inode, so that one sync puts content and name on disk.
        fs::rename(&temporary, self.0.join(name))?;
        file.sync_all()?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_data()
    }
}

struct SystemFile(File);

impl DiskFile for SystemFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
