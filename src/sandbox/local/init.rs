//! The first process of a box: builds the walls around itself, then becomes the guest.
//!
//! Runs single-threaded in a fresh copy of the program. Two processes take part: the builder, which enters the
//! namespaces, and its sibling, born inside them as pid 1; both are children of the starter.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::process::{Resource, Rlimit};

use super::reroot::reroot;
use super::tree::Tree;
use super::{fresh, harden, mount};
use crate::domain::Capability;
use crate::guest::{self, Control, GuestSetup};
use crate::sandbox::launch::step::{During, StepError};
use crate::sandbox::launch::wire::{self, Go, GuestPart, Plan, Said, Setup, Standing, Walls};

/// Builds a box around this process and serves as its guest, until that is told to shut down. The starter's end of a
/// packet socket is standard input.
///
/// # Errors
/// When the starter is gone, or the guest could not begin. A step that fails is told to the starter.
pub fn serve() -> io::Result<()> {
    // SAFETY: standard input is open in a process that was started as the subcommand, and nothing else uses it.
    let starter = unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) };
    close_inherited()?;
    rustix::process::setsid()?;
    let (setup, listener): (Setup, _) = wire::receive(&starter)?;
    let listener = listener.ok_or(io::ErrorKind::InvalidData)?;
    let standing = match &setup.walls {
        Walls::None => stand_alone(),
        Walls::Box(plan) => match build(plan, &starter) {
            Ok(Some(standing)) => Ok(standing),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        },
    };
    let standing = match standing {
        Ok(standing) => standing,
        Err(StepError { step, source }) => {
            let errno = source.raw_os_error().unwrap_or(libc::EIO);
            return wire::send(&starter, &Said::Failed { step, errno }, None);
        }
    };
    wire::send(&starter, &Said::Standing(standing), None)?;
    let null = fs::File::open("/dev/null")?;
    // Takes the starter's socket from its place as standard input; what remains of it goes with `starter`.
    rustix::stdio::dup2_stdin(&null)?;
    std::mem::forget(starter);
    guest::serve(guest_setup(setup.guest, listener, matches!(setup.walls, Walls::Box(_))))
}

/// What the person's shell left open must not be open in a box.
fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above standard error yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn guest_setup(part: GuestPart, listener: OwnedFd, init: bool) -> GuestSetup {
    GuestSetup {
        token: part.token,
        control: Control::Listener(listener),
        runtime_dir: part.runtime_dir,
        program: vec![part.program.to_string_lossy().into_owned()],
        init,
        base_env: part.env,
        cwd: part.cwd,
        log_cap_bytes: part.log_cap_bytes,
    }
}

/// Without walls, orphans come to the guest all the same, so that none outlives it unseen.
fn stand_alone() -> Result<Standing, StepError> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during(|| "take in orphaned processes".to_owned())?;
    Ok(Standing::default())
}

/// Builds the box; returns in its first process, and with None in the builder, whose work is done.
fn build(plan: &Plan, starter: &OwnedFd) -> Result<Option<Standing>, StepError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    enter_cgroups(plan)?;
    let enter =
        |flags: CloneFlags, what: &str| nix::sched::unshare(flags).during(|| format!("enter a new {what} namespace"));
    let users = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    if plan.rootful {
        enter(CloneFlags::CLONE_NEWNS, "mount")?;
        reroot().during(|| "leave the chroot that it was started in".to_owned())?;
    } else {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        enter(users, "user")?;
        map_own_ids(uid, gid).during(|| "map its user and group".to_owned())?;
    }
    let (root, standing) = Tree::build(plan)?;
    if plan.rootful {
        enter(users, "user")?;
        ask_to_go_on(starter, &Said::NeedsIds)?;
    }
    let network = if plan.no_network { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() };
    enter(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | network, "process")?;
    if plan.no_network {
        raise_loopback().during(|| "bring the loopback up".to_owned())?;
    }
    match bear_sibling(plan.cgroup_v2.as_deref()).during(|| "start the box's first process".to_owned())? {
        Some(pid) => {
            wire::send(starter, &Said::Born { pid }, None).during(|| "tell the starter".to_owned())?;
            Ok(None)
        }
        None => finish_inside(plan, starter, &root, standing).map(Some),
    }
}

/// Cgroups of version 1 are entered thread by thread, which is at once; moving a process waits for the whole machine.
fn enter_cgroups(plan: &Plan) -> Result<(), StepError> {
    for tasks in &plan.cgroup_tasks {
        fs::write(tasks, "0").during(|| format!("enter the cgroup {}", tasks.display()))?;
    }
    Ok(())
}

fn map_own_ids(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn ask_to_go_on(starter: &OwnedFd, said: &Said) -> Result<(), StepError> {
    wire::send(starter, said, None)
        .and_then(|()| wire::receive::<Go>(starter))
        .during(|| "hear from the starter".to_owned())?;
    Ok(())
}

fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zeroes is a valid request without a name or flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request lives through the call and is what this ioctl takes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forks a child of the starter, so that whoever started the box can wait for its first process; it begins in `cgroup`.
///
/// Some(pid) in this process, None in the new one.
fn bear_sibling(cgroup: Option<&Path>) -> io::Result<Option<i32>> {
    // CLONE_INTO_CGROUP; wider than the constants of libc.
    const INTO_CGROUP: u64 = 1 << 33;
    let dir = cgroup.map(mount::name).transpose()?;
    // SAFETY: all zeroes is a valid request: no flags, no stack, no cgroup.
    let mut request: libc::clone_args = unsafe { std::mem::zeroed() };
    request.flags = u64::try_from(libc::CLONE_PARENT).expect("a flag is positive");
    if let Some(dir) = &dir {
        request.flags |= INTO_CGROUP;
        request.cgroup = u64::try_from(dir.as_raw_fd()).expect("a descriptor is positive");
    }
    // SAFETY: a plain fork by another door: there is one thread, no memory is shared, and the child goes on with a copy
    // of the stack. What libc caches of the thread's id is not used by what follows.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const request, size_of_val(&request)) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid @ 1..) => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What only the box's first process can do.
fn finish_inside(plan: &Plan, starter: &OwnedFd, root: &Path, mut standing: Standing) -> Result<Standing, StepError> {
    // The builder says that this process exists; the starter notes it down before it lets it go on.
    wire::receive::<Go>(starter).during(|| "hear from the starter".to_owned())?;
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).during(|| "enter a new cgroup namespace".to_owned())?;
    rustix::system::sethostname(b"longhaul").during(|| "name the box".to_owned())?;
    fresh::proc(root)?;
    mount::pivot(root).during(|| "change the root".to_owned())?;
    if let Some(most) = plan.nproc {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(Resource::Nproc, limit).during(|| "limit processes".to_owned())?;
    }
    harden::give_up_rights(plan.rootful, &mut standing.capabilities)?;
    standing.capabilities.push(installs(plan.rootful));
    name_process(c"longhaul-guest");
    Ok(standing)
}

fn installs(rootful: bool) -> Capability {
    let missing = "the box's only user can't own system files: run as root, or use `--sandbox docker`; \
                   pip, npm and cargo work in the home directory";
    Capability { name: "installing system packages".to_owned(), missing: (!rootful).then(|| missing.to_owned()) }
}

fn name_process(name: &CStr) {
    // Only for lists of processes; nothing rests on it.
    let _ = rustix::thread::set_name(name);
}
