//! The mounts a box is made of: thin, each a system call or two.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Most safe for what only holds files of our own making.
pub(super) const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// Nothing there is ever run.
pub(super) const DATA: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// A descriptor that only names a file or directory; no right to read it is needed.
///
/// # Errors
/// When there is nothing there, or a directory above may not be searched.
pub(super) fn name(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes what happens to mounts here stay here.
pub(super) fn keep_private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// An empty file system in memory at `at`.
pub(super) fn tmpfs(at: &Path, flags: MountFlags, options: &CStr) -> io::Result<()> {
    Ok(rustix::mount::mount("tmpfs", at, "tmpfs", flags, options)?)
}

/// A file system of the kernel's at `at`, such as `proc`.
pub(super) fn kernel_fs(kind: &str, at: &Path, flags: MountFlags, options: &CStr) -> io::Result<()> {
    Ok(rustix::mount::mount(kind, at, kind, flags, options)?)
}

/// Shows `from`, a file or directory without what is mounted below it, at `at` as well.
pub(super) fn bind(from: &Path, at: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(from, at)?)
}

/// Shows `from` with all that is mounted below it at `at` as well.
pub(super) fn bind_all(from: &Path, at: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(from, at)?)
}

/// Which mounts a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The one at the path.
    One,
    /// That and all below it.
    Below,
}

/// Makes the mount at `at` read-only, and no gate to devices or other users' rights.
///
/// # Errors
/// On kernels older than 5.12, for [`Reach::Below`], when a mount below can't be changed.
pub(super) fn read_only(at: &Path, reach: Reach) -> io::Result<()> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    restrict(at, reach, attributes, MountFlags::RDONLY | DATA)
}

/// Shows a device of the host, or a directory of them, at `at`: they can be read and written, but their modes, owners
/// and times, which are the host's, can't be changed.
pub(super) fn device(from: &Path, at: &Path) -> io::Result<()> {
    bind(from, at)?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    restrict(at, Reach::One, attributes, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC)
}

/// Adds attributes to a mount; kernels older than 5.12 know them as `flags`.
fn restrict(at: &Path, reach: Reach, attributes: u64, flags: MountFlags) -> io::Result<()> {
    let path = name(at)?;
    let recursive = if reach == Reach::Below { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the descriptor is open, the path is a C string, the structure is of the size that is given with it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            path.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => {
                Ok(rustix::mount::mount_remount(at, MountFlags::BIND | flags, c"")?)
            }
            error => Err(error),
        },
    }
}

/// Whose extended attributes an overlay keeps its marks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// `trusted.`: only the machine's root can set them.
    Trusted,
    /// `user.`: what overlays in a user namespace have to use (kernel 5.11).
    User,
}

/// Whether an overlay's changes must be on disk when a program was told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// As on the host.
    Kept,
    /// No sync reaches the disk, nor does taking the overlay down, which costs tens of milliseconds each: for what goes
    /// with the box. Needs kernel 5.10, and is left out on older ones.
    Skipped,
}

/// What an overlay is made of, by descriptors, so that paths may be of any length and hold any character.
pub(super) struct Layers {
    /// What is shown, from the top down.
    pub(super) lowers: Vec<OwnedFd>,
    /// What takes all changes.
    pub(super) upper: OwnedFd,
    /// The kernel's own, on the same disk as the upper.
    pub(super) work: OwnedFd,
}

/// An overlay at `at`.
pub(super) fn overlay(layers: &Layers, at: &Path, marks: Marks, sync: Sync) -> io::Result<()> {
    let by_fd = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lowers = layers.lowers.iter().map(by_fd).collect::<Vec<_>>().join(":");
    let kind = match marks {
        // Redirects would make a layer mean something else than the same layer in a user namespace.
        Marks::Trusted => "redirect_dir=off",
        Marks::User => "userxattr",
    };
    let (upper, work) = (by_fd(&layers.upper), by_fd(&layers.work));
    let options = format!("lowerdir={lowers},upperdir={upper},workdir={work},{kind},index=off");
    let flags = match marks {
        Marks::Trusted => MountFlags::NODEV,
        Marks::User => PLAIN,
    };
    let mount = |options: String| {
        let options = CString::new(options).expect("numbers and fixed words hold no NUL");
        rustix::mount::mount("overlay", at, "overlay", flags, options.as_c_str())
    };
    match sync {
        Sync::Kept => Ok(mount(options)?),
        // A try that fails otherwise leaves a mark by which the next one fails too.
        Sync::Skipped => match mount(format!("{options},volatile")) {
            Err(rustix::io::Errno::INVAL) => Ok(mount(options)?),
            other => Ok(other?),
        },
    }
}

/// An overlay of at least two layers that nothing can be changed in, at `at`.
pub(super) fn read_only_overlay(lowers: &[OwnedFd], at: &Path, marks: Marks) -> io::Result<()> {
    let lowers = lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect::<Vec<_>>().join(":");
    let kind = match marks {
        Marks::Trusted => "redirect_dir=off",
        Marks::User => "userxattr",
    };
    let options = CString::new(format!("lowerdir={lowers},{kind},index=off")).expect("numbers and words hold no NUL");
    Ok(rustix::mount::mount("overlay", at, "overlay", PLAIN | MountFlags::RDONLY, options.as_c_str())?)
}

/// Makes `root` the root of this process's world and lets the old one go.
pub(super) fn pivot(root: &Path) -> io::Result<()> {
    // A mount made before the user namespace is locked and can't be a root; a bind of it made here can.
    bind_all(root, root)?;
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
