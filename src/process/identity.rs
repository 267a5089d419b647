//! Which process it is, across restarts of ours: pids come round again, these don't.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process of this machine, told apart from later ones with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid, as this program sees it.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Which boot.
    pub boot_id: String,
}

impl Identity {
    /// Of a process that is alive.
    ///
    /// # Errors
    /// When there is no such process, or `/proc` can't be read.
    pub fn of(pid: i32) -> io::Result<Self> {
        let (_, start_ticks) = stat(pid)?;
        Ok(Self { pid, start_ticks, boot_id: boot_id()? })
    }

    /// Takes hold of the process; None if it has ended.
    pub fn hold(&self) -> Option<Held> {
        let pid = Pid::from_raw(self.pid)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only now, with the descriptor in hand, does the comparison hold for what the descriptor refers to.
        let (state, start_ticks) = stat(self.pid).ok()?;
        let same = start_ticks == self.start_ticks && boot_id().is_ok_and(|boot| boot == self.boot_id);
        if !same {
            return None;
        }
        let held = Held { fd, pid: self.pid };
        if state == b'Z' {
            held.reap();
            return None;
        }
        Some(held)
    }
}

/// A process held by descriptor: signals and waits reach it and no other.
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
    pid: i32,
}

impl Held {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGKILL; without effect on a process that has ended.
    pub fn kill(&self) {
        // The only failure left is that it has ended.
        let _ = rustix::process::pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Waits until it has ended, and reaps it if it is a child of this process. May be cancelled.
    pub async fn ended(&self) {
        // SAFETY: the descriptor is borrowed for as long as it is registered, so it stays open and the same.
        let registered = unsafe { AsyncFd::register_with_interest(self.fd.as_fd(), Interest::READABLE) };
        if let Ok(ready) = registered {
            // A failing poll means that the descriptor is of no more use: the same as ended.
            let _ = ready.readable().await;
        }
        self.reap();
    }

    /// Waits for a process that was killed and is a child of this one, blocking; returns at once for any other.
    pub fn reap_now(&self) {
        // Not our child: whoever owns it reaps it.
        let _ = rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED);
    }

    fn reap(&self) {
        // Not our child: whoever owns it reaps it.
        let _ = rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// State letter and start time of a process.
fn stat(pid: i32) -> io::Result<(u8, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable process status"))
}

/// Fields 3 and 22; the name in field 2 may hold anything, so count from its last parenthesis.
fn parse_stat(text: &[u8]) -> Option<(u8, u64)> {
    let after = text.iter().rposition(|&byte| byte == b')')? + 2;
    let rest = std::str::from_utf8(text.get(after..)?).ok()?;
    let state = *rest.as_bytes().first()?;
    Some((state, rest.split(' ').nth(19)?.parse().ok()?))
}

/// Tells this run of the machine from every other.
///
/// # Errors
/// When `/proc` can't be read.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_blanks_is_no_trouble() {
        let text = b"7 (a) b (c) Z 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";
        assert_eq!(parse_stat(text), Some((b'Z', 4242)));
        assert_eq!(parse_stat(b"7 (a"), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_held() {
        let me = Identity::of(std::process::id().cast_signed()).expect("this process is alive");
        assert!(me.hold().is_some());
        assert!(Identity { start_ticks: me.start_ticks + 1, ..me.clone() }.hold().is_none());
        assert!(Identity { boot_id: "another".to_owned(), ..me }.hold().is_none());
    }

    #[expect(clippy::zombie_processes, reason = "the code under test is what waits")]
    #[tokio::test]
    async fn a_child_that_was_killed_is_waited_for_and_reaped() {
        let child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let identity = Identity::of(child.id().cast_signed()).expect("it is alive");
        let held = identity.hold().expect("it is alive");
        held.kill();
        held.ended().await;
        assert!(Identity::of(identity.pid).is_err(), "no zombie is left");
        assert!(identity.hold().is_none());
    }
}
