//! Who waits for a terminal's input, by the kernel's view: the system call that a thread is in, and its descriptors.
//!
//! A program that hands a terminal on to one of its own making (sudo, script, apt with dpkg) is looked through: what
//! counts is who waits for that one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};

use super::proc::{Stat, device};

/// A program in line mode that looks for input more often than this does so beside its work.
const GLANCE_MS: u64 = 1000;

/// Terminals within terminals that are looked through.
const DEEPEST: u32 = 4;

/// Descriptors that are looked at in one call; a program that waits for more is a server.
const MOST: u64 = 1024;

/// The device that is every process's own terminal.
const OWN_TERMINAL: u32 = device(5, 0);

/// The device that makes terminals.
const MASTERS: u32 = device(5, 2);

/// The major number of terminals that programs make.
const MADE: u32 = 136;

/// What is known of the wish for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// This process waits for the terminal.
    Waits(i32),
    /// The kernel does not say of this one.
    Unknown(i32),
    /// Nobody waits.
    Nobody,
}

/// Who of `processes` waits for the terminal `tty` (as in [`Stat::tty`]) in its foreground group. `lines` says whether
/// the terminal takes whole lines, `hidden` whether it does so without showing them.
pub(super) fn wish(processes: &[Stat], tty: u32, group: i32, lines: bool, hidden: bool) -> Wish {
    Look { processes, lines, hidden }.at(tty, group, 0)
}

struct Look<'a> {
    processes: &'a [Stat],
    lines: bool,
    hidden: bool,
}

/// What one thread does.
#[derive(Debug, PartialEq, Eq)]
enum Does {
    Waits,
    Relays(Vec<u32>),
    /// It waits for the terminal and for other things, and it is not known which of them it is about.
    Both,
    Else,
}

impl Look<'_> {
    fn at(&self, tty: u32, group: i32, depth: u32) -> Wish {
        let mut found = Wish::Nobody;
        for process in self.processes.iter().filter(|process| process.tty == tty && process.group == group) {
            match self.of(process, tty, depth) {
                waits @ Wish::Waits(_) => return waits,
                unknown @ Wish::Unknown(_) => found = unknown,
                Wish::Nobody => {}
            }
        }
        found
    }

    fn of(&self, process: &Stat, tty: u32, depth: u32) -> Wish {
        let pid = process.pid;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut found = Wish::Nobody;
        for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()) {
            let Ok(call) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")) else {
                // Another user's, such as sudo before it knows who asks. One that sleeps while the terminal hides the
                // lines that it takes is asking: nothing else is done with a terminal like that.
                let asks = depth == 0 && self.hidden && process.state == 'S';
                found = if asks { Wish::Waits(pid) } else { Wish::Unknown(pid) };
                continue;
            };
            let Some(call) = Call::parse(&call) else { continue };
            match (Eyes { pid, tty, own: process.tty }).on(&call, self.lines) {
                Does::Waits if sleeps(pid, thread) => return Wish::Waits(pid),
                Does::Waits | Does::Else => {}
                Does::Both => found = Wish::Unknown(pid),
                Does::Relays(inner) => match self.behind(&inner, depth) {
                    waits @ Wish::Waits(_) => return waits,
                    Wish::Unknown(pid) => found = Wish::Unknown(pid),
                    Wish::Nobody => {}
                },
            }
        }
        found
    }

    fn behind(&self, inner: &[u32], depth: u32) -> Wish {
        let mut found = Wish::Nobody;
        for tty in inner.iter().filter(|_| depth < DEEPEST) {
            let Some(any) = self.processes.iter().find(|process| process.tty == *tty) else { continue };
            match self.at(*tty, any.foreground, depth + 1) {
                waits @ Wish::Waits(_) => return waits,
                unknown @ Wish::Unknown(_) => found = unknown,
                Wish::Nobody => {}
            }
        }
        found
    }
}

/// A system call that may be a wait for input, with its arguments.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Read { fd: u64 },
    Poll { list: u64, count: u64, timeout: Timeout },
    Select { sets: u64, count: u64, timeout: Timeout },
    Epoll { fd: u64, timeout: Timeout },
}

/// How a call says how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timeout {
    /// In milliseconds; negative for ever.
    Millis(i32),
    /// Seconds and a smaller unit of which so many are a millisecond, at an address; 0 for ever.
    At(u64, u64),
}

impl Call {
    /// Reads what `/proc` says of a thread: the number of the call and its arguments, or that it runs.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number: i64 = words.next()?.parse().ok()?;
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        let args: Vec<u64> = words.map_while(hex).collect();
        let [a, b, c, d, e, ..] = args[..] else { return None };
        // A C `int` in a register: its upper half means nothing.
        let millis = |word: u64| Timeout::Millis(word as u32 as i32);
        let fd = u64::from(a as u32);
        Some(match number {
            libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv | libc::SYS_preadv2 => {
                Self::Read { fd }
            }
            libc::SYS_ppoll => Self::Poll { list: a, count: b, timeout: Timeout::At(c, 1_000_000) },
            libc::SYS_pselect6 => Self::Select { sets: b, count: fd, timeout: Timeout::At(e, 1_000_000) },
            libc::SYS_epoll_pwait => Self::Epoll { fd, timeout: millis(d) },
            libc::SYS_epoll_pwait2 => Self::Epoll { fd, timeout: Timeout::At(d, 1_000_000) },
            // poll after the process was stopped or frozen; nothing else that is restarted has such arguments.
            libc::SYS_restart_syscall => Self::Poll { list: a, count: b, timeout: millis(c) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => Self::Poll { list: a, count: b, timeout: millis(c) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => Self::Select { sets: b, count: fd, timeout: Timeout::At(e, 1000) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => Self::Epoll { fd, timeout: millis(d) },
            _ => return None,
        })
    }
}

/// One process's memory and descriptors.
struct Eyes {
    pid: i32,
    tty: u32,
    own: u32,
}

impl Eyes {
    fn on(&self, call: &Call, lines: bool) -> Does {
        let (watched, timeout) = match *call {
            Call::Read { fd } => return if self.is_terminal(fd) { Does::Waits } else { Does::Else },
            Call::Poll { list, count, timeout } => (self.polled(list, count), timeout),
            Call::Select { sets, count, timeout } => (self.selected(sets, count), timeout),
            Call::Epoll { fd, timeout } => (self.registered(fd), timeout),
        };
        if !watched.iter().any(|fd| self.is_terminal(*fd)) {
            return Does::Else;
        }
        let inner: Vec<u32> = watched.iter().filter_map(|fd| self.made_by(*fd)).collect();
        if !inner.is_empty() {
            return Does::Relays(inner);
        }
        let glances = lines && self.millis(timeout).is_some_and(|millis| millis < GLANCE_MS);
        if glances || self.any_from_network(&watched) { Does::Both } else { Does::Waits }
    }

    fn polled(&self, list: u64, count: u64) -> Vec<u64> {
        const SIZE: u64 = size_of::<libc::pollfd>() as u64;
        let Some(bytes) = (count <= MOST).then(|| self.memory(list, count * SIZE)).flatten() else { return Vec::new() };
        let entries = bytes.as_chunks::<{ size_of::<libc::pollfd>() }>().0.iter();
        let entries =
            entries.map(|[a, b, c, d, e, f, ..]| (i32::from_ne_bytes([*a, *b, *c, *d]), i16::from_ne_bytes([*e, *f])));
        let wanted = entries.filter(|(_, events)| events & (libc::POLLIN | libc::POLLRDNORM) != 0);
        wanted.filter_map(|(fd, _)| u64::try_from(fd).ok()).collect()
    }

    fn selected(&self, set: u64, count: u64) -> Vec<u64> {
        let count = count.min(MOST);
        let bytes = (set != 0).then(|| self.memory(set, count.div_ceil(64) * 8)).flatten().unwrap_or_default();
        let has = |fd: &u64| bytes.get(*fd as usize / 8).is_some_and(|byte| byte >> (fd % 8) & 1 == 1);
        (0..count).filter(has).collect()
    }

    fn registered(&self, epoll: u64) -> Vec<u64> {
        let text = self.info(epoll);
        let entries = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
        let entry = |line: &str| {
            let mut words = line.split_whitespace();
            let fd: u64 = words.next()?.parse().ok()?;
            let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
            (events & libc::EPOLLIN as u32 != 0).then_some(fd)
        };
        entries.filter_map(entry).collect()
    }

    fn millis(&self, timeout: Timeout) -> Option<u64> {
        match timeout {
            Timeout::Millis(millis) => u64::try_from(millis).ok(),
            Timeout::At(0, _) => None,
            Timeout::At(address, unit) => {
                let bytes = self.memory(address, 16)?;
                let [seconds, rest] = bytes.as_chunks::<8>().0 else { return None };
                Some(u64::from_ne_bytes(*seconds).saturating_mul(1000).saturating_add(u64::from_ne_bytes(*rest) / unit))
            }
        }
    }

    fn is_terminal(&self, fd: u64) -> bool {
        self.device(fd).is_some_and(|device| device == self.tty || (device == OWN_TERMINAL && self.own == self.tty))
    }

    /// The terminal whose maker's end this descriptor is.
    fn made_by(&self, fd: u64) -> Option<u32> {
        if self.device(fd)? != MASTERS {
            return None;
        }
        let text = self.info(fd);
        let index = text.lines().find_map(|line| line.strip_prefix("tty-index:"))?;
        Some(device(MADE, index.trim().parse().ok()?))
    }

    fn any_from_network(&self, watched: &[u64]) -> bool {
        let socket = |fd: &u64| {
            let link = fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        };
        let sockets: HashSet<String> = watched.iter().filter_map(socket).collect();
        let has_any = |table: &&str| {
            let text = fs::read_to_string(format!("/proc/{}/net/{table}", self.pid)).unwrap_or_default();
            text.lines().filter_map(|line| line.split_whitespace().nth(9)).any(|inode| sockets.contains(inode))
        };
        !sockets.is_empty() && ["tcp", "tcp6", "udp", "udp6"].iter().any(has_any)
    }

    fn device(&self, fd: u64) -> Option<u32> {
        let meta = fs::metadata(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
        let number = meta.rdev();
        meta.file_type().is_char_device().then(|| device(rustix::fs::major(number), rustix::fs::minor(number)))
    }

    fn info(&self, fd: u64) -> String {
        fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.pid)).unwrap_or_default()
    }

    fn memory(&self, address: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }
}

/// Whether a thread sleeps: one that was stopped in a call is not waiting for its end.
fn sleeps(pid: i32, thread: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    Stat::parse(&text).is_some_and(|stat| stat.state == 'S')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_may_wait_for_input_are_read() {
        let line = |number: i64, args: &str| Call::parse(&format!("{number} {args} 0x7ffe 0x7f00\n"));
        assert_eq!(line(libc::SYS_read, "0x3 0x7f 0x400 0x0 0x0 0x0"), Some(Call::Read { fd: 3 }));
        let poll = Call::Poll { list: 0x10, count: 2, timeout: Timeout::At(0, 1_000_000) };
        assert_eq!(line(libc::SYS_ppoll, "0x10 0x2 0x0 0x0 0x8 0x0"), Some(poll));
        let epoll = Call::Epoll { fd: 13, timeout: Timeout::Millis(-1) };
        assert_eq!(line(libc::SYS_epoll_pwait, "0xd 0x7ffd 0x400 0xffffffff 0x0 0x8"), Some(epoll));
        assert_eq!(line(libc::SYS_nanosleep, "0x1 0x2 0x0 0x0 0x0 0x0"), None);
        for other in ["running\n", "-1 0x7ffe 0x7f00\n", "0 0x0\n", "", "x y"] {
            assert_eq!(Call::parse(other), None, "{other:?}");
        }
    }
}
