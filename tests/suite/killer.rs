//! Kills a program just before its nth system call that changes something: on a disk, in a box, or among processes.
//!
//! What it only reads is not counted: between two calls that change something, all that can differ is how far others
//! have come, and the next of them is a point as well. All threads of the program are counted together, so that there is
//! no call between two numbers. What the program starts is let go as soon as it is another program.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libc::{c_int, c_long, c_void, pid_t};

const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const SYSCALL_ENTERED: u8 = 1;
/// Added to the signal of a stop that a system call made.
const BY_SYSCALL: c_int = 0x80;

/// How a program ended that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed where it was about to do this.
    Killed(&'static str),
    /// It exited before with this code.
    Exited(i32),
    /// A signal of somebody else's ended it.
    Signalled(i32),
}

/// What is known of one thread that is watched.
#[derive(Debug, Default, Clone, Copy)]
struct Thread {
    /// Whether it is the program's; else it belongs to what it is about to start.
    is_own: bool,
    /// Whether it has stopped for the first time.
    is_known: bool,
}

/// Runs a program up to its nth call that counts; how it ended, and how many of them it came to.
///
/// # Errors
/// What the system says, such as that nothing may be watched here.
pub(crate) fn kill_at(mut program: Command, nth: usize) -> io::Result<(End, usize)> {
    let watched = || match ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: what runs between fork and exec makes one system call.
    let child = unsafe { program.pre_exec(watched) }.spawn()?;
    let main = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut watch = Watch { main, nth, count: 0, killed: None, threads: HashMap::new(), ended: None };
    watch.until_it_ends()?;
    Ok((watch.ended.unwrap_or(End::Signalled(0)), watch.count))
}

struct Watch {
    main: pid_t,
    nth: usize,
    count: usize,
    killed: Option<&'static str>,
    threads: HashMap<pid_t, Thread>,
    ended: Option<End>,
}

impl Watch {
    fn until_it_ends(&mut self) -> io::Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: the status is written to a place of its own.
            let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if thread == -1 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::ECHILD) => return Ok(()),
                    _ => return Err(error),
                }
            }
            if libc::WIFSTOPPED(status) {
                self.stopped(thread, status);
                continue;
            }
            self.threads.remove(&thread);
            if thread == self.main {
                self.ended = Some(match self.killed {
                    Some(call) => End::Killed(call),
                    None if libc::WIFEXITED(status) => End::Exited(libc::WEXITSTATUS(status)),
                    None => End::Signalled(libc::WTERMSIG(status)),
                });
            }
        }
    }

    fn stopped(&mut self, thread: pid_t, status: c_int) {
        let signal = libc::WSTOPSIG(status);
        let known = *self.threads.entry(thread).or_insert_with(|| Thread {
            is_own: thread == self.main || belongs_to(thread, self.main),
            is_known: false,
        });
        if !known.is_known {
            self.threads.insert(thread, Thread { is_known: true, ..known });
            let options = libc::PTRACE_O_TRACESYSGOOD
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACEFORK
                | libc::PTRACE_O_TRACEVFORK
                | libc::PTRACE_O_TRACEEXEC;
            if thread == self.main {
                ptrace(libc::PTRACE_SETOPTIONS, thread, 0, c_long::from(options));
            }
            // The first stop of whatever is new is no signal that anybody sent.
            self.go_on(thread, 0);
            return;
        }
        if signal == libc::SIGTRAP | BY_SYSCALL {
            self.called(thread, known);
            self.go_on(thread, 0);
        } else if status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_EXEC << 8) {
            ptrace(libc::PTRACE_DETACH, thread, 0, 0);
            self.threads.remove(&thread);
        } else if status >> 16 != 0 {
            self.go_on(thread, 0);
        } else {
            self.go_on(thread, signal);
        }
    }

    fn called(&mut self, thread: pid_t, known: Thread) {
        if !known.is_own || self.killed.is_some() {
            return;
        }
        let Some(name) = entered(thread).and_then(|(call, args)| counted(thread, call, &args)) else { return };
        self.count += 1;
        if self.count == self.nth {
            self.killed = Some(name);
            // SAFETY: a child of this process that has not been waited for.
            unsafe { libc::kill(self.main, libc::SIGKILL) };
        }
    }

    fn go_on(&self, thread: pid_t, signal: c_int) {
        // It may have been killed meanwhile: then its end is told next.
        ptrace(libc::PTRACE_SYSCALL, thread, 0, c_long::from(signal));
    }
}

fn ptrace(request: libc::c_uint, thread: pid_t, address: usize, data: c_long) -> c_long {
    // SAFETY: none of the requests made here writes to memory of this process but the one that is given a place for it.
    unsafe { libc::ptrace(request, thread, address as *mut c_void, data as *mut c_void) }
}

fn belongs_to(thread: pid_t, process: pid_t) -> bool {
    fs::metadata(format!("/proc/{process}/task/{thread}")).is_ok()
}

/// The system call that a thread is about to make.
fn entered(thread: pid_t) -> Option<(c_long, [u64; 6])> {
    // SAFETY: plain numbers, of which zero is one.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    let read = ptrace(PTRACE_GET_SYSCALL_INFO, thread, size, (&raw mut info).addr() as c_long);
    if read <= 0 || info.op != SYSCALL_ENTERED {
        return None;
    }
    // SAFETY: what it says of itself is that this part was filled in.
    let entry = unsafe { info.u.entry };
    Some((c_long::try_from(entry.nr).ok()?, entry.args))
}

/// The name of a call that changes something; None for all others.
fn counted(thread: pid_t, call: c_long, args: &[u64; 6]) -> Option<&'static str> {
    let on_disk = |fd: u64| match target(thread, fd) {
        Some(target) => target.starts_with('/') && !target.starts_with("/dev/"),
        None => false,
    };
    let to_box = |fd: u64| target(thread, fd).is_some_and(|target| target.starts_with("socket:"));
    let makes = |flags: u64| flags & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0;
    match call {
        libc::SYS_write => on_disk(args[0]).then_some("write"),
        libc::SYS_writev => on_disk(args[0]).then_some("writev"),
        libc::SYS_pwrite64 => on_disk(args[0]).then_some("pwrite64"),
        libc::SYS_fsync => Some("fsync"),
        libc::SYS_fdatasync => Some("fdatasync"),
        libc::SYS_syncfs => Some("syncfs"),
        libc::SYS_ftruncate => Some("ftruncate"),
        libc::SYS_fallocate => Some("fallocate"),
        libc::SYS_copy_file_range => Some("copy_file_range"),
        libc::SYS_flock => Some("flock"),
        libc::SYS_fcntl => matches!(args[1] as c_int, libc::F_OFD_SETLK | libc::F_SETLK).then_some("fcntl"),
        libc::SYS_ioctl => on_disk(args[0]).then_some("ioctl"),
        libc::SYS_sendto => to_box(args[0]).then_some("sendto"),
        libc::SYS_sendmsg => to_box(args[0]).then_some("sendmsg"),
        libc::SYS_connect => Some("connect"),
        libc::SYS_bind => Some("bind"),
        libc::SYS_openat => makes(args[2]).then_some("openat"),
        libc::SYS_openat2 => makes(word(thread, args[2])?).then_some("openat2"),
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => Some("rename"),
        libc::SYS_unlink | libc::SYS_unlinkat => Some("unlink"),
        libc::SYS_mkdir | libc::SYS_mkdirat => Some("mkdir"),
        libc::SYS_rmdir => Some("rmdir"),
        libc::SYS_link | libc::SYS_linkat => Some("link"),
        libc::SYS_symlink | libc::SYS_symlinkat => Some("symlink"),
        libc::SYS_mknod | libc::SYS_mknodat => Some("mknod"),
        libc::SYS_chmod | libc::SYS_fchmod | libc::SYS_fchmodat => Some("chmod"),
        libc::SYS_chown | libc::SYS_lchown | libc::SYS_fchown | libc::SYS_fchownat => Some("chown"),
        libc::SYS_utimensat => Some("utimensat"),
        libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => Some("setxattr"),
        libc::SYS_mount | libc::SYS_umount2 | libc::SYS_move_mount => Some("mount"),
        libc::SYS_kill | libc::SYS_pidfd_send_signal => (args[1] != 0).then_some("kill"),
        libc::SYS_fork | libc::SYS_vfork => Some("fork"),
        libc::SYS_clone => (args[0] & libc::CLONE_THREAD as u64 == 0).then_some("fork"),
        libc::SYS_clone3 => (word(thread, args[0])? & libc::CLONE_THREAD as u64 == 0).then_some("fork"),
        _ => None,
    }
}

fn target(thread: pid_t, fd: u64) -> Option<String> {
    let link = fs::read_link(format!("/proc/{thread}/fd/{}", fd as c_int)).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// A number in the thread's memory.
fn word(thread: pid_t, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    File::open(format!("/proc/{thread}/mem")).ok()?.read_exact_at(&mut bytes, at).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
