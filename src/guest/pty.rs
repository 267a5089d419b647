//! A terminal that the guest holds: the master side of a PTY, read and written without blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::facts::TermSize;

/// Once the slave side is closed for good, reading gives this instead of an error.
pub(super) const HUNG_UP: usize = 0;

/// The master side.
pub(super) struct Pty {
    // Kept for resizing.
    master: Box<dyn MasterPty + Send>,
    io: AsyncFd<OwnedFd>,
}

/// What to run on a terminal.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    /// Its whole environment.
    pub(super) env: &'a [(String, String)],
    /// Where it starts.
    pub(super) cwd: &'a str,
}

impl Pty {
    /// Runs a program on a new terminal, as leader of a session of its own; its process id.
    ///
    /// # Errors
    /// What the system says. A program that is not there ends at once with a status like a shell's.
    pub(super) fn spawn(program: &Program<'_>, size: TermSize) -> io::Result<(Self, i32)> {
        let pair = native_pty_system().openpty(pty_size(size)).map_err(other)?;
        let mut command = CommandBuilder::from_argv(program.argv.iter().map(Into::into).collect());
        command.env_clear();
        for (name, value) in program.env {
            command.env(name, value);
        }
        command.cwd(program.cwd);
        let master = pair.master.as_raw_fd().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        // SAFETY: `pair.master` owns the descriptor and outlives this borrow.
        let master = unsafe { BorrowedFd::borrow_raw(master) }.try_clone_to_owned()?;
        let io = without_blocking(master, Interest::READABLE | Interest::WRITABLE)?;
        let child = pair.slave.spawn_command(command).map_err(other)?;
        // Reaped by process id with everything else, so the handle is of no use.
        let pid = child.process_id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("the new process has no id"))?;
        Ok((Self { master: pair.master, io }, pid))
    }

    /// Waits for output and reads some of it; [`HUNG_UP`] once nobody can write any more.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.io.readable().await?;
            match ready.try_io(|io| read_once(io.get_ref().as_fd(), buffer)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Reads what is there now, `None` when nothing is. The kernel flushes what is on its way first, so after the
    /// writer's death this gets its last byte.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match read_once(self.io.get_ref().as_fd(), buffer) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is output that was not read yet. Asking makes the kernel hand over what is on its way.
    pub(super) fn has_output(&self) -> bool {
        let mut wanted = [PollFd::new(self.io.get_ref(), PollFlags::IN)];
        poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Types bytes; waits while the terminal's buffer is full.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.io.async_io(Interest::WRITABLE, |io| Ok(rustix::io::write(io, bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Changes the size; programs in it get SIGWINCH.
    pub(super) fn resize(&self, size: TermSize) -> io::Result<()> {
        self.master.resize(pty_size(size)).map_err(other)
    }

    /// The foreground process group.
    pub(super) fn foreground(&self) -> Option<i32> {
        self.master.process_group_leader()
    }

    /// The terminal's modes.
    pub(super) fn modes(&self) -> Option<Termios> {
        tcgetattr(self.io.get_ref()).ok()
    }

    /// Sets the terminal's modes.
    pub(super) fn set_modes(&self, modes: &Termios) {
        // Fails only for a terminal that is gone.
        let _ = tcsetattr(self.io.get_ref(), OptionalActions::Now, modes);
    }

    /// Whether a line editor has the terminal: keys come one by one.
    pub(super) fn is_uncooked(&self) -> bool {
        self.modes().is_some_and(|modes| !modes.local_modes.contains(LocalModes::ICANON))
    }

    /// Whether Ctrl-C is a key like any other and not a signal.
    pub(super) fn takes_ctrl_c_as_key(&self) -> bool {
        self.modes().is_some_and(|modes| !modes.local_modes.contains(LocalModes::ISIG))
    }
}

/// A descriptor that is waited for by the runtime.
pub(super) fn without_blocking(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and it lives in the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Whether two sets of modes are the same in all that matters.
pub(super) fn same_modes(a: &Termios, b: &Termios) -> bool {
    a.input_modes == b.input_modes
        && a.output_modes == b.output_modes
        && a.control_modes == b.control_modes
        && a.local_modes == b.local_modes
}

fn read_once(io: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(io, buffer) {
        Ok(read) => Ok(read),
        Err(rustix::io::Errno::IO) => Ok(HUNG_UP),
        Err(error) => Err(error.into()),
    }
}

fn pty_size(size: TermSize) -> PtySize {
    // A terminal without room can't be drawn, a huge one costs a processor.
    let (rows, cols) = (size.rows.clamp(2, 500), size.cols.clamp(10, 1000));
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}
