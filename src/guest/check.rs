//! Commands in a fresh shell: no terminal, no session, nothing left of earlier commands; killed when time is up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::command::Command;
use super::facts::{CheckCommand, Refusal, RefusalKind, Start};
use super::log::{RawLog, file_name_of};
use super::pty::without_blocking;
use super::shell::title;
use super::supervisor::{Known, Supervisor, refusal_of, refuse, require_dir, signal_group};
use crate::domain::Exit;

const PIECE: usize = 64 << 10;

/// Starts a command in a fresh shell, or finds it started.
///
/// # Errors
/// For a command with NUL, a directory that is not there, a box without a shell, a full disk.
pub(super) fn start(boss: &Rc<Supervisor>, ask: CheckCommand, text: &[u8]) -> Result<Start, Refusal> {
    let now = Instant::now();
    if let Some(known) = boss.command(&ask.id) {
        return Ok(Start::Known(match known {
            Known::Live(command) => command.state(now),
            Known::Recorded(state) => state,
        }));
    }
    if text.contains(&0) {
        return Err(refuse(RefusalKind::Invalid, "a command can't contain NUL, no shell can read it"));
    }
    let missing = || refuse(RefusalKind::Missing, "the box does not have a shell (bash, dash, ash or sh)");
    let shell = boss.shell.as_ref().ok_or_else(missing)?;
    let cwd = boss.setup.cwd.join(ask.cwd.as_deref().unwrap_or(""));
    require_dir(&cwd)?;
    let name = format!("check-{}", file_name_of(&ask.id));
    let log = boss.store().open_log(&name, now).map_err(|error| refusal_of(&error, "the check's log"))?;
    let script = boss.runtime_path(&name);
    std::fs::write(&script, text).map_err(|error| refusal_of(&error, "the check's script"))?;
    let command = Rc::new(Command::new(ask.id.clone(), None, title(text), log.clone(), now));
    boss.command_starts(&ask.id, &command)?;
    command.begins_at(log.end());
    let argv = shell.batch(&script.to_string_lossy());
    let spawned = spawn(&argv, boss, &ask, &cwd);
    let (pid, output) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            log.append(format!("{}: {error}\n", argv[0]).as_bytes(), now);
            boss.command_ended(&command, command.end(Some(Exit::Code(126)), log.end(), now));
            return Ok(Start::Started(command.state(now)));
        }
    };
    let run = Run { boss: boss.clone(), command: command.clone(), log, pid, output, script };
    let exit = boss.watch_child(pid);
    tokio::task::spawn_local(run.follow(exit, Duration::from_millis(ask.timeout_ms)));
    Ok(Start::Started(command.state(now)))
}

struct Run {
    boss: Rc<Supervisor>,
    command: Rc<Command>,
    log: Rc<RawLog>,
    pid: i32,
    output: AsyncFd<OwnedFd>,
    script: std::path::PathBuf,
}

impl Run {
    async fn follow(self, mut exit: oneshot::Receiver<Exit>, timeout: Duration) {
        let mut buffer = vec![0; PIECE];
        let mut deadline = std::pin::pin!(sleep(timeout));
        let (mut timed_out, mut closed) = (false, false);
        let exit = loop {
            tokio::select! {
                biased;
                ended = &mut exit => break ended.unwrap_or(Exit::Code(-1)),
                read = self.read(&mut buffer), if !closed => match read {
                    Ok(0) | Err(_) => closed = true,
                    Ok(read) => {
                        self.log.append(&buffer[..read], Instant::now());
                        tokio::task::yield_now().await;
                    }
                },
                () = &mut deadline, if !timed_out => {
                    timed_out = true;
                    signal_group(self.pid, Signal::KILL);
                }
            }
        };
        // What its children still hold open is not waited for, but what they wrote until now is kept.
        while let Ok(read @ 1..) = rustix::io::read(self.output.get_ref(), &mut buffer) {
            self.log.ready().await;
            self.log.append(&buffer[..read], Instant::now());
        }
        signal_group(self.pid, Signal::KILL);
        // Gone already if the runtime directory is.
        let _ = std::fs::remove_file(&self.script);
        let end = self.command.end(Some(exit), self.log.end(), Instant::now());
        self.boss.command_ended(&self.command, super::facts::CommandEnd { timed_out, ..end });
    }

    /// Reads output as soon as there is room for it on its way to the disk.
    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.log.ready().await;
        self.output.async_io(Interest::READABLE, |output| Ok(rustix::io::read(output, &mut *buffer)?)).await
    }
}

fn spawn(argv: &[String], boss: &Supervisor, ask: &CheckCommand, cwd: &Path) -> io::Result<(i32, AsyncFd<OwnedFd>)> {
    let (reader, writer) = io::pipe()?;
    let mut process = Process::new(&argv[0]);
    process.args(&argv[1..]).env_clear().envs(&boss.setup.base_env).envs(&ask.env).current_dir(cwd);
    process.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // SAFETY: `setsid` is async-signal-safe and touches no memory of the parent.
    unsafe {
        process.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    let child = process.spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((pid, without_blocking(reader.into(), Interest::READABLE)?))
}

/// The bytes of a command's output if they are few enough to travel with the news of its end.
pub(super) fn small_output(log: &RawLog, offset: u64, end: u64) -> Bytes {
    let len = end.saturating_sub(offset);
    if len > super::protocol::INLINE_OUTPUT {
        return Bytes::new();
    }
    // The host reads it by itself if it does not come along.
    log.read(offset, len).map_or(Bytes::new(), Bytes::from)
}
