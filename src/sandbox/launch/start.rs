//! The starter's side: spawns the box's first process, answers it while it builds, and reaches its guest.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::record::Record;
use super::step::{During, StepError};
use super::wire::{self, Go, Said, Setup, Standing, Walls};
use crate::process::Identity;

/// The control socket below the box's directory.
const SOCKET: &str = "ctl.sock";
/// What the guest says when it must not go on.
const LOG: &str = "guest.log";
/// Longest that building may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the box's directory with all that building expects there.
///
/// # Errors
/// When the disk does not take it, or a box is there already.
pub(in crate::sandbox) fn make_dir(dir: &Path) -> Result<(), StepError> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(dir);
    made.during(|| format!("make the box's directory {}", dir.display()))?;
    let is_unrecorded = Record::load(dir).is_none();
    for name in ["u", "w", "mnt"] {
        if is_unrecorded {
            // An empty one was left by a driver that went before there was a box; one with something in it stays.
            let _ = fs::remove_dir(dir.join(name));
        }
        let made = fs::DirBuilder::new().mode(0o700).create(dir.join(name));
        made.during(|| format!("make the box's directory {}", dir.join(name).display()))?;
    }
    Ok(())
}

/// Starts `program` as the first process of a box and stays with it until the walls stand. Blocks, at most half a minute.
///
/// `record` gets the process's identity before that may begin.
///
/// # Errors
/// The step that failed, here or inside. Nothing runs then.
pub(in crate::sandbox) fn start(
    program: &Path,
    setup: &Setup,
    dir: &Path,
    record: &mut Record,
) -> Result<Standing, StepError> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .during(|| "make a socket".to_owned())?;
    let patience = nix::sys::time::TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
    nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::ReceiveTimeout, &patience)
        .during(|| "make a socket".to_owned())?;
    let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(LOG));
    let log = log.during(|| "make the guest's log".to_owned())?;
    let listener = listen(dir).during(|| "make the control socket".to_owned())?;
    let mut child = Command::new(program)
        .arg(super::SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .during(|| format!("start {}", program.display()))?;
    let is_bare = matches!(setup.walls, Walls::None);
    let built = wire::send(&ours, setup, Some(&listener))
        .during(|| "hand over the set-up".to_owned())
        .and_then(|()| accompany(&ours, &child, is_bare, dir, record));
    if built.is_err() {
        abandon(&mut child, record);
    } else if !is_bare {
        // The builder has done its work; its sibling is the box.
        let _ = child.wait();
    }
    built
}

fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let listener = UnixListener::bind(short(&directory(dir)?))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// The socket's path through a descriptor: the real one may be longer than a socket's address holds.
fn short(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Connects to the guest of the box in `dir`.
///
/// # Errors
/// When nobody listens there.
pub(in crate::sandbox) fn connect(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(short(&directory(dir)?))
}

fn accompany(
    socket: &OwnedFd,
    child: &Child,
    is_bare: bool,
    dir: &Path,
    record: &mut Record,
) -> Result<Standing, StepError> {
    let mut note = |pid: i32| {
        record.process = Some(Identity::of(pid)?);
        record.save(dir)
    };
    if is_bare {
        note(child.id().cast_signed()).during(|| "note the process down".to_owned())?;
    }
    loop {
        let said = wire::receive::<Said>(socket).map_err(|error| ended_early(error, dir))?.0;
        match said {
            Said::NeedsIds => map_all_ids(child.id()).during(|| "map the box's users and groups".to_owned())?,
            Said::Born { pid } => note(pid).during(|| "note the process down".to_owned())?,
            Said::Standing(standing) => return Ok(standing),
            Said::Failed { step, errno } => {
                return Err(StepError { step, source: io::Error::from_raw_os_error(errno) });
            }
        }
        wire::send(socket, &Go, None).during(|| "let the box's first process go on".to_owned())?;
    }
}

/// The first process is gone, or silent: what it wrote last says more than the socket.
fn ended_early(error: io::Error, dir: &Path) -> StepError {
    let mut last = String::new();
    let read = fs::File::open(dir.join(LOG)).and_then(|log| log.take(2_000).read_to_string(&mut last));
    let source = match (read, last.trim(), error.kind()) {
        (Ok(1..), text, _) if !text.is_empty() => io::Error::other(text.to_owned()),
        (_, _, io::ErrorKind::UnexpectedEof) => io::Error::other("it ended without a word"),
        (_, _, io::ErrorKind::WouldBlock) => io::Error::other("it did not answer in time"),
        _ => error,
    };
    StepError { step: "build the box's walls".to_owned(), source }
}

/// Every id that this process has is the same inside.
fn map_all_ids(pid: u32) -> io::Result<()> {
    for file in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{file}"))?;
        let lines = own.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (inside, count) = (fields.next()?, fields.nth(1)?);
            Some(format!("{inside} {inside} {count}\n"))
        });
        fs::write(format!("/proc/{pid}/{file}"), lines.collect::<String>())?;
    }
    Ok(())
}

/// Ends both processes of a start that failed.
fn abandon(child: &mut Child, record: &Record) {
    // Each may have ended by itself; then there is only something to reap.
    let _ = child.kill();
    let _ = child.wait();
    if let Some(held) = record.process.as_ref().and_then(Identity::hold) {
        held.kill();
        held.reap_now();
    }
}
