//! The program in a window of the tmux view: shows one session, passes keys through.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use super::frame::encode;
use super::view::Look;
use crate::domain::SessionName;
use crate::process::RawMode;

/// Shows a session of the guest behind `socket` on standard input and output until either is closed.
///
/// # Errors
/// When there is no such guest.
pub fn view(socket: &Path, session: SessionName) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    (&stream).write_all(&encode(&Look { session }, b"")?)?;
    let raw = RawMode::enter();
    let keys = stream.try_clone()?;
    // Ends with the process: a thread that reads a terminal can't be told to stop.
    thread::spawn(move || pass_keys(&keys));
    let shown = pass_output(&stream);
    drop(raw);
    shown
}

fn pass_keys(stream: &UnixStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = io::stdin().read(&mut buffer)?;
        if read == 0 {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        (&mut &*stream).write_all(&encode(&(), &buffer[..read])?)?;
    }
}

fn pass_output(stream: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    let mut stdout = io::stdout();
    loop {
        let read = (&mut &*stream).read(&mut buffer)?;
        if read == 0 {
            return stdout.write_all(b"\r\n[session closed]\r\n");
        }
        stdout.write_all(&buffer[..read])?;
        stdout.flush()?;
    }
}
