//! What `nvidia-smi` tells of the box's GPUs.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::sight::Gpu;
use super::supervisor::{Supervisor, signal_group};

/// How long it may take: a driver in trouble hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer is good.
const FRESH: Duration = Duration::from_secs(5);

/// More than it says of any machine's GPUs.
const LARGEST: u64 = 64 << 10;

/// The last answer; the lock is held while it is asked anew, so that it runs once for all who wait.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    asking: Mutex<()>,
    last: RefCell<Option<(Instant, Vec<Gpu>)>>,
}

/// The GPUs, as they were some seconds ago at most; none where `nvidia-smi` is missing or says nothing.
pub(super) async fn gpus(boss: &Supervisor) -> Vec<Gpu> {
    let _asking = boss.gpus.asking.lock().await;
    let fresh = |(at, _): &&(Instant, Vec<Gpu>)| at.elapsed() < FRESH;
    if let Some((_, known)) = boss.gpus.last.borrow().as_ref().filter(fresh) {
        return known.clone();
    }
    let text = ask(boss).await.unwrap_or_default();
    let gpus: Vec<Gpu> = text.lines().filter_map(parse).collect();
    *boss.gpus.last.borrow_mut() = Some((Instant::now(), gpus.clone()));
    gpus
}

async fn ask(boss: &Supervisor) -> io::Result<String> {
    let path = boss.setup.base_env.get("PATH").map_or("", String::as_str);
    let mut programs = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join("nvidia-smi"));
    let program = programs.find(|program| program.is_file()).ok_or(io::ErrorKind::NotFound)?;
    let mut said: File = tempfile::tempfile_in(&boss.setup.runtime_dir)?;
    let mut command = Command::new(program);
    command.args(["--query-gpu=name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]);
    command.env_clear().envs(&boss.setup.base_env).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(Stdio::null());
    let pid = i32::try_from(command.spawn()?.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    // Reaped with everything else, also when nobody waits for it any more.
    let mut guard = Killed(Some(pid));
    if timeout(PATIENCE, boss.watch_child(pid)).await.is_err() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    guard.0 = None;
    let mut text = String::new();
    said.seek(SeekFrom::Start(0))?;
    said.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Kills a process group unless it is told that it has ended.
struct Killed(Option<i32>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            signal_group(group, Signal::KILL);
        }
    }
}

/// Reads `name, percent, MiB, MiB`. A GPU that does not tell its utilisation can't be told to be idle and is left out.
fn parse(line: &str) -> Option<Gpu> {
    let fields: Vec<&str> = line.rsplitn(4, ',').map(str::trim).collect();
    let [size, used, busy, name] = fields[..] else { return None };
    let mebibytes = |text: &str| text.parse::<u64>().ok()?.checked_mul(1 << 20);
    let busy_percent = busy.parse().ok().filter(|busy: &f64| (0.0..=100.0).contains(busy))?;
    Some(Gpu {
        name: name.chars().filter(|c| !c.is_control()).take(100).collect(),
        busy_percent,
        memory_bytes: mebibytes(used)?,
        memory_size_bytes: mebibytes(size)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_is_read() {
        let gpu = parse("NVIDIA A100, 80GB PCIe, 37, 512, 81920").expect("a GPU");
        assert_eq!((gpu.name.as_str(), gpu.busy_percent), ("NVIDIA A100, 80GB PCIe", 37.0));
        assert_eq!((gpu.memory_bytes, gpu.memory_size_bytes), (512 << 20, 80 << 30));
        for bad in ["", "No devices were found", "a, [N/A], 1, 2", "a, 5, [N/A], 2", "a, NaN, 1, 2", "a, 101, 1, 2"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
