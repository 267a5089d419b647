//! What `/proc` tells of a process of the box.

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

/// All descendants of this process.
pub(super) fn descendants() -> Vec<i32> {
    let children = |pid: i32| -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    };
    let Ok(own) = i32::try_from(std::process::id()) else { return Vec::new() };
    let mut all = children(own);
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
