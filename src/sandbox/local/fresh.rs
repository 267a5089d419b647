//! The parts of a box's tree that are never the host's: `/dev`, `/run`, `/sys`, and later `/proc`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::mount::{self, Reach};
use crate::sandbox::launch::step::{During, StepError};
use crate::sandbox::launch::wire::Plan;

/// This program, as the box sees it.
pub(super) const PROGRAM: &str = "/run/longhaul-bin/agent";

/// Devices that every program may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of `/sys` that tell of the host or act on it more than a box needs.
const SYS_HIDDEN: [&str; 9] = [
    "fs/cgroup",
    "fs/bpf",
    "fs/pstore",
    "kernel/debug",
    "kernel/tracing",
    "kernel/security",
    "kernel/config",
    "firmware",
    "fs/fuse",
];

/// Parts of `/proc` that act on the host.
const PROC_READ_ONLY: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];

/// Parts of `/proc` that tell of the host.
const PROC_HIDDEN: [&str; 6] = ["kcore", "keys", "key-users", "timer_list", "sched_debug", "kmsg"];

/// Builds `/dev`, `/run` and `/sys` below `root`.
///
/// # Errors
/// The first step that the system refused.
pub(super) fn build(root: &Path, plan: &Plan) -> Result<(), StepError> {
    for name in ["dev", "run", "sys", "proc", "tmp"] {
        let at = root.join(name);
        if !at.is_dir() {
            fs::create_dir(&at).during(|| format!("make /{name}"))?;
        }
    }
    devices(&root.join("dev"), plan.rootful).during(|| "build /dev".to_owned())?;
    run(root).during(|| "build /run".to_owned())?;
    sys(&root.join("sys")).during(|| "build /sys".to_owned())
}

fn devices(dev: &Path, rootful: bool) -> io::Result<()> {
    mount::tmpfs(dev, mount::DATA, c"mode=0755,size=64k")?;
    for name in DEVICES {
        let at = dev.join(name);
        fs::write(&at, "")?;
        mount::device(&Path::new("/dev").join(name), &at)?;
    }
    for host in processors() {
        let at = dev.join(host.strip_prefix("/dev").unwrap_or(&host));
        if host.is_dir() {
            fs::create_dir(&at)?;
        } else {
            fs::write(&at, "")?;
        }
        mount::device(&host, &at)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, dev.join(name))?;
    }
    fs::create_dir(dev.join("shm"))?;
    mount::tmpfs(&dev.join("shm"), mount::PLAIN, c"mode=1777")?;
    fs::create_dir(dev.join("pts"))?;
    // The group of terminals can only be named where it is mapped.
    let options =
        if rootful { c"newinstance,ptmxmode=0666,mode=0620,gid=5" } else { c"newinstance,ptmxmode=0666,mode=0620" };
    mount::kernel_fs("devpts", &dev.join("pts"), MountFlags::NOSUID | MountFlags::NOEXEC, options)
}

/// Devices that compute: graphics and accelerator cards of the usual makers.
fn processors() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let computes = |name: &str| name.starts_with("nvidia") || ["kfd", "dri", "dxg", "accel"].contains(&name);
    let named = entries.filter(|entry| computes(&entry.file_name().to_string_lossy()));
    named.map(|entry| entry.path()).collect()
}

fn run(root: &Path) -> io::Result<()> {
    let run = root.join("run");
    mount::tmpfs(&run, mount::PLAIN, c"mode=0755,size=256m")?;
    fs::create_dir(run.join("lock"))?;
    fs::set_permissions(run.join("lock"), fs::Permissions::from_mode(0o1777))?;
    let user = run.join("user").join(rustix::process::geteuid().as_raw().to_string());
    fs::DirBuilder::new().recursive(true).create(run.join("user"))?;
    fs::DirBuilder::new().mode(0o700).create(user)?;
    program(root)?;
    names(root)
}

/// Shows this program, read-only; a file that was replaced since it was started is copied from memory.
fn program(root: &Path) -> io::Result<()> {
    let at = root.join(PROGRAM.trim_start_matches('/'));
    fs::create_dir(at.parent().expect("the program has a directory"))?;
    fs::write(&at, "")?;
    let path = fs::read_link("/proc/self/exe")?;
    let same = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        let id = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
        id(path).ok().is_some_and(|found| id(Path::new("/proc/self/exe")).is_ok_and(|own| own == found))
    };
    if same(&path) {
        mount::bind(&path, &at)?;
        return mount::read_only(&at, Reach::One);
    }
    fs::copy("/proc/self/exe", &at)?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o555))
}

/// The list of name servers often lives in `/run`.
fn names(root: &Path) -> io::Result<()> {
    let Ok(target) = Path::new("/etc/resolv.conf").canonicalize() else { return Ok(()) };
    let Ok(below) = target.strip_prefix("/run") else { return Ok(()) };
    let at = root.join("run").join(below);
    fs::create_dir_all(at.parent().expect("a file has a directory"))?;
    fs::copy(&target, &at)?;
    Ok(())
}

fn sys(at: &Path) -> io::Result<()> {
    mount::bind_all(Path::new("/sys"), at)?;
    if mount::read_only(at, Reach::Below).is_err() {
        // Kernels before 5.12 can't change all mounts at once: show only the one.
        rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH)?;
        mount::bind(Path::new("/sys"), at)?;
        mount::read_only(at, Reach::One)?;
    }
    for name in SYS_HIDDEN {
        let hidden = at.join(name);
        if hidden.is_dir() {
            mount::tmpfs(&hidden, mount::DATA | MountFlags::RDONLY, c"mode=0755,size=4k")?;
        }
    }
    Ok(())
}

/// Mounts the box's own `/proc` below `root`; only its first process can.
///
/// # Errors
/// The first step that the system refused.
pub(super) fn proc(root: &Path) -> Result<(), StepError> {
    let at = root.join("proc");
    mount::kernel_fs("proc", &at, mount::DATA, c"").during(|| "mount /proc".to_owned())?;
    let harden = || {
        for name in PROC_READ_ONLY {
            let part = at.join(name);
            if part.exists() {
                mount::bind(&part, &part)?;
                mount::read_only(&part, Reach::One)?;
            }
        }
        for name in PROC_HIDDEN {
            let part = at.join(name);
            if part.exists() {
                mount::bind(&root.join("dev/null"), &part)?;
            }
        }
        Ok::<_, io::Error>(())
    };
    harden().during(|| "harden /proc".to_owned())
}
