//! What `/proc` tells of a process of the box.
//!
//! Times and sizes of a process include those of its ended children, so that of a tree nothing is lost when one ends.

use std::fs;

use super::shell::Dialect;

/// The working directory of a process.
pub(super) fn cwd(pid: i32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let path = path.into_os_string().into_string().ok()?;
    // The kernel's way to say that the directory is no more.
    (!path.ends_with(" (deleted)")).then_some(path)
}

/// The arguments of a process, which change when it becomes another program.
pub(super) fn argv(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|argv| !argv.is_empty())
}

/// The first argument in `argv` without directories or the dash of a login shell.
pub(super) fn program(argv: &[u8]) -> String {
    let first = argv.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let name = first.rsplit('/').next().unwrap_or_default();
    name.trim_start_matches('-').chars().filter(|c| !c.is_control()).collect()
}

/// What a process waits for on its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// In `read` on descriptor 0 for at most so many bytes.
    Read(u64),
    /// In `poll` or `select`.
    Poll,
    /// For something else, or it runs.
    Other,
}

/// What a process waits for; `None` where the kernel doesn't say.
pub(super) fn waits(pid: i32) -> Option<Waits> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let Some(Ok(number)) = words.next().map(str::parse::<i64>) else { return Some(Waits::Other) };
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let args: Vec<u64> = words.filter_map(hex).collect();
    Some(match args.as_slice() {
        [0, _, count, ..] if number == libc::SYS_read => Waits::Read(*count),
        _ if is_poll(number) => Waits::Poll,
        _ => Waits::Other,
    })
}

/// Whether a shell that waits like this stands at its prompt, and not in a `read` of the command it runs.
///
/// Read in the shells' sources and seen in the kernel: bash takes 1024 bytes at a prompt and 1 or 4096 in `read`, dash
/// a whole buffer and 1; busybox polls in both, but its line editor takes the keys one by one (`uncooked`).
pub(super) fn at_prompt(dialect: Dialect, waits: Waits, uncooked: bool) -> bool {
    match (dialect, waits) {
        (Dialect::Bash, Waits::Read(count)) => count == 1024,
        (Dialect::Posix, Waits::Read(count)) => count > 1,
        (Dialect::Busybox, Waits::Poll) => uncooked,
        (_, Waits::Read(_) | Waits::Poll | Waits::Other) => false,
    }
}

/// A line of `/proc/PID/stat`, as far as it is of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// The process.
    pub(super) pid: i32,
    /// `R` runs, `S` sleeps, `T` is stopped, `Z` is dead and not yet reaped.
    pub(super) state: char,
    /// Who started it, or who has it since that one ended.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its terminal, as [`device`] gives it; 0 without one.
    pub(super) tty: u32,
    /// The foreground process group of that terminal.
    pub(super) foreground: i32,
    /// Its processor time and that of its children that were waited for.
    pub(super) cpu_ms: u64,
    /// Memory that it holds.
    pub(super) memory_bytes: u64,
}

impl Stat {
    /// Reads a line.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The name in brackets may contain anything, brackets too.
        let (pid, rest) = (text.split(' ').next()?.parse().ok()?, text.get(text.rfind(')')? + 1..)?);
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
        let unsigned = |at: usize| number(at).and_then(|value| u64::try_from(value).ok());
        let ticks = unsigned(11)? + unsigned(12)? + unsigned(13)? + unsigned(14)?;
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: i32::try_from(number(1)?).ok()?,
            group: i32::try_from(number(2)?).ok()?,
            tty: number(4)? as u32,
            foreground: i32::try_from(number(5)?).ok()?,
            cpu_ms: ticks * 1000 / ticks_per_second(),
            memory_bytes: unsigned(21)? * page_size(),
        })
    }

    /// Of a process.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }
}

fn ticks_per_second() -> u64 {
    // SAFETY: asks for a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

fn page_size() -> u64 {
    // SAFETY: asks for a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A device's number as `/proc/PID/stat` writes it.
pub(super) const fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Bytes that a process and its children that were waited for have read and written, where the kernel tells.
pub(super) fn io_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(value("rchar:")? + value("wchar:")?)
}

/// The name of a process's program; of busybox, the applet.
pub(super) fn name(pid: i32) -> String {
    let argv = argv(pid).unwrap_or_default();
    let first = program(&argv);
    let applet = argv.split(|byte| *byte == 0).nth(1).filter(|_| first == "busybox").unwrap_or_default();
    if applet.is_empty() { first } else { program(applet) }
}

/// All descendants of this process.
pub(super) fn descendants() -> Vec<i32> {
    i32::try_from(std::process::id()).map(descendants_of).unwrap_or_default()
}

/// All descendants of a process.
pub(super) fn descendants_of(root: i32) -> Vec<i32> {
    let children = |pid: i32| -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    };
    let mut all = children(root);
    let mut at = 0;
    while at < all.len() {
        let more = children(all[at]);
        all.extend(more);
        at += 1;
    }
    all
}

#[cfg(target_arch = "x86_64")]
fn is_poll(number: i64) -> bool {
    [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_select, libc::SYS_pselect6].contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_poll(number: i64) -> bool {
    [libc::SYS_ppoll, libc::SYS_pselect6].contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let rest = "S 7 1234 1234 34822 1300 4194304 1 2 3 4 100 50 20 30 20 0 1 0 99 1000 25 18446744073709551615";
        let stat = Stat::parse(&format!("1234 (a) b) R) {rest}")).expect("a stat");
        assert_eq!((stat.pid, stat.state, stat.group, stat.foreground), (1234, 'S', 1234, 1300));
        assert_eq!(stat.tty, device(136, 6));
        assert_eq!(stat.cpu_ms, 200 * 1000 / ticks_per_second());
        assert_eq!(stat.memory_bytes, 25 * page_size());
        assert_eq!(Stat::parse("1 (cut) S 2"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
