//! A disk too small for much, for tests of what happens when it is full or may only be read.

use std::ffi::CString;
use std::io::Write as _;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A tmpfs of its own; unmounted when dropped. Needs root.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    pub(crate) const SIZE: usize = 512 << 10;

    /// None, told on standard error, where the tests don't run as root.
    pub(crate) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Self::options().as_c_str());
        if mounted.is_err() {
            assert!(!nix::unistd::geteuid().is_root(), "root can mount a tmpfs: {mounted:?}");
            writeln!(std::io::stderr(), "not run: mounting a small disk takes root").expect("standard error is there");
            return None;
        }
        Some(Self { path: dir.path().to_owned(), _dir: dir })
    }

    /// From now on nothing on it can be changed.
    pub(crate) fn make_read_only(&self) {
        mount_remount(&self.path, MountFlags::RDONLY, Self::options().as_c_str()).expect("root can remount");
    }

    fn options() -> CString {
        CString::new(format!("size={}", Self::SIZE)).expect("no NUL")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path, UnmountFlags::DETACH).expect("what was mounted can be unmounted");
    }
}
