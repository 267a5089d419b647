//! Makes the directory that is this process's root the root of its mount namespace as well.
//!
//! In a chroot the two differ, and the kernel then refuses user namespaces and `pivot_root`. A process that is root and
//! alone in its mount namespace can mend that for itself; nobody else sees anything of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

/// Any directory below the root; where it is does not matter.
const BELOW: &str = "proc";

/// Does nothing where the two are the same already. Needs a mount namespace of this process's own.
///
/// # Errors
/// When the system refuses; this process's root may then be anywhere, and it must not go on.
pub(super) fn reroot() -> io::Result<()> {
    chdir("/")?;
    let here = directory(".")?;
    climb()?;
    if identity(&directory(".")?)? == identity(&here)? {
        return Ok(());
    }
    rustix::mount::mount_change(".", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&here, "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", &here, "", flags)?;
    fchdir(&tree)?;
    pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}

/// Goes to the root of the mount namespace and makes it this process's root.
fn climb() -> io::Result<()> {
    // The working directory is outside the new root, and outside of a root `..` knows no end but the real one.
    chroot(BELOW)?;
    let mut at = identity(&directory(".")?)?;
    loop {
        chdir("..")?;
        let above = identity(&directory(".")?)?;
        if above == at {
            return Ok(chroot(".")?);
        }
        at = above;
    }
}

fn directory(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What tells a directory from every other: its mount, its device, its number there.
fn identity(dir: &OwnedFd) -> io::Result<(u64, u32, u32, u64)> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dir.as_fd(), "", AtFlags::EMPTY_PATH, wanted)?;
    Ok((stat.stx_mnt_id, stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}
