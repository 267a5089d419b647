//! Runs a program to its end: own process group, capped output, bounded time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::domain::Exit;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; the program is looked up in the search path of `env`.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory; None is that of this process.
    pub cwd: Option<PathBuf>,
    /// What it reads from its standard input.
    pub stdin: Vec<u8>,
    /// Most bytes to keep of each output; what comes after is read and dropped.
    pub cap_bytes: usize,
    /// Time after which its whole process group is killed.
    pub limit: Duration,
}

/// How a program went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended; None where it ran into its time limit and was killed.
    pub exit: Option<Exit>,
    /// What it wrote to standard output, up to the cap.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the cap.
    pub stderr: Vec<u8>,
    /// Bytes that the cap dropped, of both.
    pub dropped_bytes: u64,
}

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No program was named.
    #[error("no program was named")]
    Empty,
    /// It could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// The program as it was named.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It was lost sight of.
    #[error("lost sight of `{program}`")]
    Lost {
        /// The program as it was named.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Program {
    /// A program without input, with 64 KiB kept of each output and ten seconds of time.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>, env: BTreeMap<OsString, OsString>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env,
            cwd: None,
            stdin: Vec::new(),
            cap_bytes: 64 << 10,
            limit: Duration::from_secs(10),
        }
    }

    /// Runs it to its end. When the future is dropped, its process group is killed.
    ///
    /// Returns when the program itself has ended and what it wrote until then is read; descendants that keep its output
    /// open are killed with the group.
    ///
    /// # Errors
    /// [`ProgramError`] when it can't be started; what it does after that is an outcome.
    pub async fn run(&self) -> Result<Finished, ProgramError> {
        let (program, arguments) = self.argv.split_first().ok_or(ProgramError::Empty)?;
        let name = || program.to_string_lossy().into_owned();
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear().envs(&self.env).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn().map_err(|source| ProgramError::Start { program: name(), source })?;
        let group = Group(child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let mut out = Capped::new(child.stdout.take().expect("stdout is piped"), self.cap_bytes);
        let mut err = Capped::new(child.stderr.take().expect("stderr is piped"), self.cap_bytes);
        let feed = async move {
            // A program that does not read its input is no failure: what it does instead is its exit.
            let _ = stdin.write_all(&self.stdin).await;
        };
        let work = async {
            let status = async {
                let status = child.wait().await;
                group.kill();
                status
            };
            tokio::join!(status, out.drain(), err.drain(), feed).0
        };
        let exit = match tokio::time::timeout(self.limit, work).await {
            Ok(status) => Some(exit_of(status.map_err(|source| ProgramError::Lost { program: name(), source })?)),
            Err(_) => {
                group.kill();
                child.wait().await.map_err(|source| ProgramError::Lost { program: name(), source })?;
                None
            }
        };
        let dropped_bytes = out.dropped + err.dropped;
        Ok(Finished { exit, stdout: out.kept, stderr: err.kept, dropped_bytes })
    }
}

/// A process group that is killed when this goes.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // The group is gone already: nothing is left to kill.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A stream of which the first bytes are kept and the rest is read and dropped, so that the writer never blocks.
struct Capped<R> {
    from: R,
    cap: usize,
    kept: Vec<u8>,
    dropped: u64,
}

impl<R: AsyncRead + Unpin> Capped<R> {
    fn new(from: R, cap: usize) -> Self {
        Self { from, cap, kept: Vec::new(), dropped: 0 }
    }

    async fn drain(&mut self) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = self.from.read(&mut buffer).await {
            let room = self.cap.saturating_sub(self.kept.len()).min(read);
            self.kept.extend_from_slice(&buffer[..room]);
            self.dropped += (read - room) as u64;
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => unreachable!("a process that was waited for has exited or was killed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        Program::new(["sh", "-c", script], BTreeMap::from([path]))
    }

    #[tokio::test]
    async fn a_program_ends_with_its_exit_and_both_outputs() {
        let finished = shell("echo out; echo err >&2; exit 3").run().await.expect("sh starts");
        assert_eq!(finished.exit, Some(Exit::Code(3)));
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        let finished = shell("kill -9 $$").run().await.expect("sh starts");
        assert_eq!(finished.exit, Some(Exit::Signal(9)));
    }

    #[tokio::test]
    async fn what_a_program_reads_is_what_it_was_given() {
        let mut program = shell("cat");
        program.stdin = vec![b'x'; 300_000];
        program.cap_bytes = 1 << 20;
        assert_eq!(program.run().await.expect("cat starts").stdout.len(), 300_000);
    }

    #[tokio::test]
    async fn output_over_the_cap_is_counted_and_does_not_block_the_program() {
        let mut program = shell("head -c 1000000 /dev/zero");
        program.cap_bytes = 10;
        let finished = program.run().await.expect("sh starts");
        assert_eq!(finished.exit, Some(Exit::Code(0)));
        assert_eq!((finished.stdout.len(), finished.dropped_bytes), (10, 999_990));
    }

    #[tokio::test]
    async fn the_time_limit_ends_the_whole_group() {
        let mut program = shell("sleep 1000 & echo $!; wait");
        program.limit = Duration::from_millis(300);
        let finished = program.run().await.expect("sh starts");
        assert_eq!(finished.exit, None);
        let pid: i32 = String::from_utf8_lossy(&finished.stdout).trim().parse().expect("the pid of sleep");
        let gone = tokio::time::timeout(Duration::from_secs(5), async {
            if let Some(held) = super::super::Identity::of(pid).ok().and_then(|identity| identity.hold()) {
                held.ended().await;
            }
        });
        gone.await.expect("sleep was killed with its parent");
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_output_open_does_not_hold_up_the_end() {
        let finished = shell("sleep 1000 & echo done").run().await.expect("sh starts");
        assert_eq!(finished.exit, Some(Exit::Code(0)));
        assert_eq!(finished.stdout, b"done\n");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let error = Program::new(["/no/such/program"], BTreeMap::new()).run().await.expect_err("nothing to start");
        assert_eq!(error.to_string(), "cannot start `/no/such/program`");
    }
}
