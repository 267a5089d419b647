//! Processes below a process.

use rustix::process::{Pid, Signal};

/// Kills every process below `root`, itself not included. Orphans are found where `root` takes them in.
///
/// Bounded: what keeps forking faster than it can be killed survives.
pub fn kill_descendants(root: i32) {
    const ROUNDS: u32 = 32;
    for _ in 0..ROUNDS {
        let found = descendants(root);
        if found.is_empty() {
            return;
        }
        for pid in found.into_iter().filter_map(Pid::from_raw) {
            // Gone meanwhile: what we want.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Every process below `root` that is not yet dead.
pub fn descendants(root: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, living_parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

fn living_parent(pid: i32) -> Option<i32> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = text.iter().rposition(|&byte| byte == b')')? + 2;
    let mut fields = std::str::from_utf8(text.get(after..)?).ok()?.split(' ');
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_is_killed_and_the_root_is_not() {
        // The `:` keeps the inner shell: it would make way for its last command otherwise.
        let script = "sleep 1000 & (sleep 1000 & sleep 1000; :) & wait; wait; read line";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let pid = shell.id().cast_signed();
        while descendants(pid).len() < 4 {
            std::thread::yield_now();
        }
        kill_descendants(pid);
        assert_eq!(descendants(pid), Vec::<i32>::new());
        assert_eq!(shell.try_wait().expect("it can be asked"), None, "the shell itself still reads");
        drop(shell.stdin.take());
        shell.wait().expect("it ends");
    }
}
