//! Lines that a person types at the terminal, waited for without a thread: a wait can be given up, and takes nothing
//! with it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::QueueSelector;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest line that is taken; the rest of one that is longer is the next.
const LONGEST: usize = 64 << 10;

/// The lines of standard input, which is a terminal.
pub(super) struct Lines {
    input: Option<AsyncFd<OwnedFd>>,
    /// What has come of the next line.
    begun: Vec<u8>,
}

impl Lines {
    /// Those of this process. Must be called within a tokio runtime.
    pub(super) fn of_stdin() -> Self {
        let fd = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).ok();
        // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
        let input = fd.and_then(|fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok());
        Self { input, begun: Vec::new() }
    }

    /// The next line, without its end; None where no more comes. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let input = self.input.as_ref()?;
            let mut ready = input.readable().await.ok()?;
            if !has_something(input.get_ref()) {
                ready.clear_ready();
                continue;
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(input.get_ref(), &mut buffer) {
                Ok(read @ 1..) => self.begun.extend_from_slice(&buffer[..read]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Ok(0) | Err(_) => return None,
            }
            if self.begun.len() > LONGEST {
                self.begun.push(b'\n');
            }
        }
    }

    /// Drops what was typed so far: it was meant for something else.
    pub(super) fn forget(&mut self) {
        self.begun.clear();
        if let Some(input) = &self.input {
            // A terminal that is gone has nothing.
            let _ = rustix::termios::tcflush(input.get_ref(), QueueSelector::IFlush);
        }
    }
}

/// Whether a read returns at once.
fn has_something(input: &OwnedFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}
