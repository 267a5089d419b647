//! What the box uses: by its control group where it has one of its own, else by its processes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::gpu;
use super::proc::{self, Stat};
use super::sight::{BoxVitals, DiskRoom};
use super::supervisor::Supervisor;

/// What version 1 says for "no limit", and more.
const NO_LIMIT: u64 = 1 << 60;

/// Looks at everything.
pub(super) async fn vitals(boss: &Supervisor) -> BoxVitals {
    let processes = processes();
    let memory = Group::of("memory", &processes).and_then(|group| group.memory());
    let (memory_bytes, memory_limit_bytes) =
        memory.unwrap_or_else(|| (processes.iter().map(|process| process.memory_bytes).sum(), None));
    BoxVitals {
        cpu_ms: cpu_of(&processes),
        memory_bytes,
        memory_limit_bytes,
        processes: u32::try_from(processes.iter().filter(|process| process.state != 'Z').count()).unwrap_or(u32::MAX),
        disks: rooms(boss),
        gpus: gpu::gpus(boss).await,
    }
}

/// The room on the disks of the workspace and of temporary files.
pub(super) fn rooms(boss: &Supervisor) -> Vec<DiskRoom> {
    let tmp = boss.setup.base_env.get("TMPDIR").map_or(Path::new("/tmp"), |dir| Path::new(dir));
    disks(&[&boss.setup.cwd, tmp])
}

/// Processor time of all processes of the box so far.
pub(super) fn cpu_ms() -> u64 {
    cpu_of(&processes())
}

fn cpu_of(processes: &[Stat]) -> u64 {
    let group = Group::of("cpuacct", processes).and_then(|group| group.cpu_ms());
    group.unwrap_or_else(|| processes.iter().map(|process| process.cpu_ms).sum())
}

/// The guest and everything below it.
fn processes() -> Vec<Stat> {
    let own = i32::try_from(std::process::id()).ok();
    own.into_iter().chain(proc::descendants()).filter_map(Stat::of).collect()
}

/// A control group in which there is nothing but the box.
struct Group {
    dir: PathBuf,
    unified: bool,
}

impl Group {
    /// The group that has this controller, unless others share it.
    fn of(controller: &str, processes: &[Stat]) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let found = find(controller, &groups, &mounts)?;
        let ours: HashSet<i32> = processes.iter().map(|process| process.pid).collect();
        let members = fs::read_to_string(found.dir.join("cgroup.procs")).ok()?;
        // Processes of other boxes have no number in this one and are listed as 0.
        let all_ours = members.lines().all(|pid| pid.parse().is_ok_and(|pid| ours.contains(&pid)));
        (all_ours && !members.is_empty()).then_some(found)
    }

    fn cpu_ms(&self) -> Option<u64> {
        if self.unified {
            return Some(self.entry("cpu.stat", "usage_usec")? / 1000);
        }
        Some(self.number("cpuacct.usage")? / 1_000_000)
    }

    /// What is in use, without what the kernel keeps of files until somebody needs the room; the limit.
    fn memory(&self) -> Option<(u64, Option<u64>)> {
        let [used, limit, cached] = match self.unified {
            true => ["memory.current", "memory.max", "inactive_file"],
            false => ["memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"],
        };
        let cached = self.entry("memory.stat", cached).unwrap_or(0);
        Some((self.number(used)?.saturating_sub(cached), self.number(limit).filter(|limit| *limit < NO_LIMIT)))
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    fn entry(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

/// Where the group of this process is that has a controller, by `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn find(controller: &str, groups: &str, mounts: &str) -> Option<Group> {
    let lines = || {
        groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
    };
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
    let (unified, path) = match first {
        Some((_, path)) => (false, path),
        None => (true, lines().find(|(controllers, _)| controllers.is_empty())?.1),
    };
    let mount = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let mut kind = kind.split(' ');
        let fits = match kind.next()? {
            "cgroup2" => unified,
            "cgroup" => !unified && kind.nth(1)?.split(',').any(|option| option == controller),
            _ => false,
        };
        fits.then_some((*fields.get(3)?, *fields.get(4)?))
    });
    let (root, point) = mount?;
    // A container sees its own group as the root of what is mounted, and may be told the path from outside.
    let below = path.strip_prefix(root).unwrap_or(if root == "/" { path } else { "" });
    Some(Group { dir: Path::new(point).join(below.trim_start_matches('/')), unified })
}

fn disks(paths: &[&Path]) -> Vec<DiskRoom> {
    let mut seen = HashSet::new();
    let mut disks = Vec::new();
    for path in paths {
        let (Ok(meta), Ok(room)) = (fs::metadata(path), rustix::fs::statvfs(*path)) else { continue };
        if seen.insert(meta.dev()) {
            disks.push(DiskRoom {
                path: path.to_string_lossy().into_owned(),
                free_bytes: room.f_bavail * room.f_frsize,
                size_bytes: room.f_blocks * room.f_frsize,
                free_inodes: room.f_favail,
                inodes: room.f_files,
            });
        }
    }
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(controller: &str, groups: &str, mounts: &str) -> Option<(String, bool)> {
        find(controller, groups, mounts).map(|group| (group.dir.to_string_lossy().into_owned(), group.unified))
    }

    #[test]
    fn the_group_is_found_in_both_versions_and_in_containers() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(dir("memory", "0::/user/x\n", unified), Some(("/sys/fs/cgroup/user/x".into(), true)));
        assert_eq!(dir("cpuacct", "0::/\n", unified), Some(("/sys/fs/cgroup/".into(), true)));
        let first = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let groups = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/\n";
        assert_eq!(dir("memory", groups, first), Some(("/sys/fs/cgroup/memory/a/b".into(), false)));
        assert_eq!(dir("cpuacct", groups, first), Some(("/sys/fs/cgroup/cpu,cpuacct/c".into(), false)));
        let inside = "31 23 0:27 /docker/12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(dir("memory", "4:memory:/docker/12\n", inside), Some(("/sys/fs/cgroup/memory/".into(), false)));
        assert_eq!(dir("memory", "4:memory:/docker/12/x\n", inside), Some(("/sys/fs/cgroup/memory/x".into(), false)));
        assert_eq!(dir("memory", groups, unified), None);
        assert_eq!(dir("memory", "", first), None);
    }
}
