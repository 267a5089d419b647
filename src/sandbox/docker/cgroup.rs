//! The counters of a container as the kernel keeps them, read on this machine without asking the engine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::Counters;

/// Where the counters of one container are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    memory: Controller,
    pids: Controller,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Controller {
    /// Of cgroup version 1.
    V1(PathBuf),
    /// Of cgroup version 2.
    V2(PathBuf),
}

impl Cgroup {
    /// Finds the group of a process by its id on this machine.
    pub(super) fn of(pid: i64) -> Option<Self> {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Self::parse(&lines, Path::new("/sys/fs/cgroup"))
    }

    /// Reads lines such as `4:memory:/docker/ID` (version 1) and `0::/system.slice/x.scope` (version 2).
    fn parse(lines: &str, root: &Path) -> Option<Self> {
        let below = |dir: PathBuf, path: &str| dir.join(path.trim_start_matches('/'));
        let find = |controller: &str| {
            let fields = || lines.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            let v1 = fields().find(|(names, _)| names.split(',').any(|name| name == controller));
            let v1 = v1.map(|(_, path)| Controller::V1(below(root.join(controller), path)));
            let v2 = || fields().find(|(names, _)| names.is_empty());
            v1.or_else(|| v2().map(|(_, path)| Controller::V2(below(root.to_owned(), path))))
        };
        Some(Self { memory: find("memory")?, pids: find("pids")? })
    }

    /// The counters as they are now; what can't be read is left out.
    pub(super) fn counters(&self) -> Counters {
        let number = |dir: &Path, name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
        let keyed = |dir: &Path, name: &str, key: &str| {
            let text = fs::read_to_string(dir.join(name)).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
        };
        let kills = |dir: &Path, name: &str| keyed(dir, name, "oom_kill ");
        let (oom_kills, memory_bytes) = match &self.memory {
            Controller::V1(dir) => (kills(dir, "memory.oom_control"), number(dir, "memory.usage_in_bytes")),
            Controller::V2(dir) => (kills(dir, "memory.events"), number(dir, "memory.current")),
        };
        let (Controller::V1(pids) | Controller::V2(pids)) = &self.pids;
        let forks_denied = keyed(pids, "pids.events", "max ");
        Counters { oom_kills, forks_denied, memory_bytes, pids: number(pids, "pids.current") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let root = Path::new("/cg");
        let v1 = Cgroup::parse("9:name=systemd:/\n8:pids:/docker/a\n4:memory:/docker/a\n0::/\n", root).unwrap();
        assert_eq!(v1.memory, Controller::V1("/cg/memory/docker/a".into()));
        assert_eq!(v1.pids, Controller::V1("/cg/pids/docker/a".into()));
        let v2 = Cgroup::parse("0::/system.slice/docker-a.scope\n", root).unwrap();
        assert_eq!(v2.memory, Controller::V2("/cg/system.slice/docker-a.scope".into()));
        assert_eq!(Cgroup::parse("1:name=systemd:/\n", root), None);
    }

    #[test]
    fn kills_and_use_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.events", "low 0\noom 1\noom_kill 2\n");
        write("memory.current", "4096\n");
        write("pids.events", "max 3\n");
        let at = Controller::V2(dir.path().to_owned());
        let counters = Cgroup { memory: at.clone(), pids: at }.counters();
        assert_eq!(
            counters,
            Counters { oom_kills: Some(2), forks_denied: Some(3), memory_bytes: Some(4096), pids: None }
        );
    }
}
