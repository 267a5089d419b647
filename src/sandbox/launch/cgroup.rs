//! A box's control groups, version 1, 2 or both: limits, counters, freezing; each had where the machine allows it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mountinfo::Mount;
use crate::domain::Capability;
use crate::sandbox::{Counters, Limits};

/// Directories made for one box, and which file of them does what.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Cgroups {
    /// Every directory that was made.
    pub(in crate::sandbox) dirs: Vec<PathBuf>,
    /// Files of version 1 that a thread writes `0` to.
    pub(in crate::sandbox) tasks: Vec<PathBuf>,
    /// The directory of version 2 to be born into.
    pub(in crate::sandbox) v2: Option<PathBuf>,
    /// Where the kernel counts out-of-memory kills.
    oom_events: Option<PathBuf>,
    memory_usage: Option<PathBuf>,
    pids_current: Option<PathBuf>,
    /// What was had, and why not what was not.
    pub(in crate::sandbox) capabilities: Vec<Capability>,
    /// True where processes are counted and limited.
    pub(in crate::sandbox) counts_pids: bool,
}

/// What a box may need of the control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Memory,
    Pids,
    Cpu,
    Freezer,
}

impl Need {
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Freezer];

    fn controller(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Freezer => "freezer",
        }
    }

    fn capability(self) -> &'static str {
        match self {
            Self::Memory => "memory limit",
            Self::Pids => "process limit",
            Self::Cpu => "processor limit",
            Self::Freezer => "freezing",
        }
    }
}

/// Where this process stands in the hierarchies: the text of `/proc/self/cgroup`, and whether it is the machine's root.
pub(in crate::sandbox) struct Standpoint<'a> {
    pub(in crate::sandbox) visible: &'a [Mount],
    pub(in crate::sandbox) own: &'a str,
    pub(in crate::sandbox) rootful: bool,
}

impl Cgroups {
    /// Makes the groups of a box called `name`. What can't be had is said in the capabilities, never an error.
    pub(in crate::sandbox) fn make(name: &str, limits: &Limits, standpoint: &Standpoint<'_>) -> Self {
        let mut made = Self::default();
        for need in Need::ALL {
            if need == Need::Cpu && limits.cpus.is_none() {
                continue;
            }
            let had = made.have(need, name, limits, standpoint);
            if need == Need::Pids {
                made.counts_pids = had.is_ok();
            }
            made.capabilities.push(Capability { name: need.capability().to_owned(), missing: had.err() });
        }
        made
    }

    fn have(&mut self, need: Need, name: &str, limits: &Limits, at: &Standpoint<'_>) -> Result<(), String> {
        if let Some((mount, path)) = version_1(at, need.controller()) {
            let base = if at.rootful { mount } else { join(&mount, &path) };
            let dir = self.dir(&base.join(name))?;
            self.enter_by(dir.join("tasks"));
            return self.limit(need, &dir, limits, Version::One);
        }
        let base = version_2(at).ok_or_else(|| format!("no `{}` control group is mounted", need.controller()))?;
        if need != Need::Freezer {
            enable(&base, need.controller())?;
        }
        let dir = self.dir(&base.join(name))?;
        self.v2 = Some(dir.clone());
        self.limit(need, &dir, limits, Version::Two)
    }

    fn dir(&mut self, dir: &Path) -> Result<PathBuf, String> {
        if !self.dirs.iter().any(|made| made == dir) {
            match fs::create_dir(dir) {
                // Left by an earlier box of the same run, whose record is gone.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_empty(dir) => {}
                made => made.map_err(|error| format!("cannot make {}: {error}{}", dir.display(), advice(&error)))?,
            }
            self.dirs.push(dir.to_owned());
        }
        Ok(dir.to_owned())
    }

    fn enter_by(&mut self, tasks: PathBuf) {
        if !self.tasks.contains(&tasks) {
            self.tasks.push(tasks);
        }
    }

    fn limit(&mut self, need: Need, dir: &Path, limits: &Limits, version: Version) -> Result<(), String> {
        let set = |file: &str, value: String| {
            let path = dir.join(file);
            fs::write(&path, value).map_err(|error| format!("cannot set {}: {error}", path.display()))
        };
        match (need, version) {
            (Need::Memory, Version::One) => {
                self.oom_events = Some(dir.join("memory.oom_control"));
                self.memory_usage = Some(dir.join("memory.usage_in_bytes"));
                let Some(most) = limits.memory_bytes else { return Ok(()) };
                set("memory.limit_in_bytes", most.to_string())?;
                // Only where swap is accounted for.
                let _ = set("memory.memsw.limit_in_bytes", most.to_string());
            }
            (Need::Memory, Version::Two) => {
                self.oom_events = Some(dir.join("memory.events"));
                self.memory_usage = Some(dir.join("memory.current"));
                let Some(most) = limits.memory_bytes else { return Ok(()) };
                set("memory.max", most.to_string())?;
                let _ = set("memory.swap.max", "0".to_owned());
            }
            (Need::Pids, _) => {
                self.pids_current = Some(dir.join("pids.current"));
                if let Some(most) = limits.pids {
                    set("pids.max", most.to_string())?;
                }
            }
            (Need::Cpu, version) => {
                let Some(quota) = limits.cpus.map(quota_us) else { return Ok(()) };
                match version {
                    Version::One => set("cpu.cfs_quota_us", quota.to_string())?,
                    Version::Two => set("cpu.max", format!("{quota} {PERIOD_US}"))?,
                }
            }
            (Need::Freezer, _) => {}
        }
        Ok(())
    }

    /// Raises the limit of memory.
    ///
    /// # Errors
    /// Why it is what it was, in words.
    pub(in crate::sandbox) fn grow_memory(&self, bytes: u64) -> Result<(), String> {
        let dir = self.oom_events.as_ref().and_then(|events| events.parent());
        let dir = dir.ok_or_else(|| "the box has no control group for memory".to_owned())?;
        let set = |file: &str| {
            let path = dir.join(file);
            fs::write(&path, bytes.to_string()).map_err(|error| format!("cannot set {}: {error}", path.display()))
        };
        match dir.join("memory.limit_in_bytes").exists() {
            true => {
                // Memory and swap together may never be less than memory. Only where swap is accounted for.
                let _ = set("memory.memsw.limit_in_bytes");
                set("memory.limit_in_bytes")
            }
            false => set("memory.max"),
        }
    }

    /// The counters as they are now.
    pub(in crate::sandbox) fn counters(&self) -> Counters {
        let number = |path: &Option<PathBuf>| fs::read_to_string(path.as_ref()?).ok()?.trim().parse().ok();
        let kills = |text: String| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
        };
        let denied = |path: &PathBuf| {
            let text = fs::read_to_string(path.with_file_name("pids.events")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok())
        };
        Counters {
            forks_denied: self.pids_current.as_ref().and_then(denied),
            oom_kills: self.oom_events.as_ref().and_then(|path| fs::read_to_string(path).ok()).and_then(kills),
            memory_bytes: number(&self.memory_usage),
            pids: number(&self.pids_current),
        }
    }
}

const PERIOD_US: u64 = 100_000;

/// Processor time per period; at least what the kernel accepts.
fn quota_us(cpus: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few processors, rounded")]
    let quota = (cpus * PERIOD_US as f64) as u64;
    quota.max(1_000)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The mount point of a controller's own hierarchy, and this process's path in it.
fn version_1(at: &Standpoint<'_>, controller: &str) -> Option<(PathBuf, String)> {
    let names = |list: &str| list.split(',').any(|name| name == controller);
    let mount = at.visible.iter().find(|mount| mount.fs == "cgroup" && names(&mount.options))?;
    let path = at.own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        names(fields.next()?).then(|| fields.next().unwrap_or("/"))
    });
    Some((mount.at.clone(), path.unwrap_or("/").to_owned()))
}

/// The directory of the unified hierarchy below which a box's group may be made: its root for root, for others the
/// nearest above this process that is theirs.
fn version_2(at: &Standpoint<'_>) -> Option<PathBuf> {
    let mount = at.visible.iter().find(|mount| mount.fs == "cgroup2")?;
    if at.rootful {
        return Some(mount.at.clone());
    }
    let own = at.own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let here = join(&mount.at, own);
    let is_ours = |dir: &Path| {
        let may = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        may(dir) && may(&dir.join("cgroup.procs")) && may(&dir.join("cgroup.subtree_control"))
    };
    // Its own group holds this process, and a group with processes can't hand controllers down.
    let above = here.ancestors().skip(1).take_while(|dir| dir.starts_with(&mount.at));
    let nearest = above.take_while(|dir| is_ours(dir)).last().map(Path::to_owned);
    Some(nearest.unwrap_or(here))
}

fn is_empty(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|procs| procs.trim().is_empty())
}

fn join(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn enable(base: &Path, controller: &str) -> Result<(), String> {
    let has = |file: &str| {
        fs::read_to_string(base.join(file)).is_ok_and(|list| list.split_whitespace().any(|name| name == controller))
    };
    if has("cgroup.subtree_control") {
        return Ok(());
    }
    if !has("cgroup.controllers") {
        return Err(format!("the `{controller}` controller is not handed down to {}", base.display()));
    }
    fs::write(base.join("cgroup.subtree_control"), format!("+{controller}")).map_err(|error| {
        format!("cannot hand the `{controller}` controller down from {}: {error}{}", base.display(), advice(&error))
    })
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; start it with `systemd-run --user --scope -p Delegate=yes` to have it",
        _ => "",
    }
}

/// Removes groups whose processes are gone; returns those that could not be, in words.
pub(in crate::sandbox) async fn remove(dirs: &[PathBuf]) -> Vec<String> {
    let mut left = Vec::new();
    for dir in dirs {
        if let Err(error) = remove_one(dir).await {
            left.push(format!("control group {}: {error}", dir.display()));
        }
    }
    left
}

async fn remove_one(dir: &Path) -> io::Result<()> {
    // The last process may still be on its way out when it is another's to reap; version 1 has no event for that.
    const TRIES: u32 = 100;
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::visible;
    use super::*;

    const OWN: &str = "4:pids:/user\n3:cpu,cpuacct:/\n0::/user.slice/session.scope\n";

    fn mounts(text: &str) -> Vec<Mount> {
        visible(format!("1 0 8:1 / / rw - ext4 a rw\n{text}").as_bytes())
    }

    #[test]
    fn each_controller_is_found_where_it_is_mounted() {
        let text = "2 1 0:2 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n3 1 0:3 / /c/pids rw - cgroup cgroup rw,pids\n";
        let visible = mounts(text);
        let at = Standpoint { visible: &visible, own: OWN, rootful: true };
        assert_eq!(version_1(&at, "cpu"), Some((PathBuf::from("/c/cpu"), "/".to_owned())));
        assert_eq!(version_1(&at, "pids"), Some((PathBuf::from("/c/pids"), "/user".to_owned())));
        assert_eq!(version_1(&at, "memory"), None);
        assert_eq!(version_2(&at), None);
    }

    #[test]
    fn what_can_not_be_had_is_said_and_is_no_error() {
        let visible = mounts("");
        let made = Cgroups::make("box", &Limits::default(), &Standpoint { visible: &visible, own: OWN, rootful: true });
        assert_eq!(made.dirs, Vec::<PathBuf>::new());
        assert_eq!(made.capabilities[0].missing.as_deref(), Some("no `memory` control group is mounted"));
        assert_eq!(made.counters(), Counters::default());
    }

    #[test]
    fn a_processor_and_a_half_is_that_much_of_each_period() {
        assert_eq!(quota_us(1.5), 150_000);
        assert_eq!(quota_us(0.0), 1_000);
    }
}
