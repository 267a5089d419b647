//! What the starter and the first process of a box say to each other while the box is made: one packet per message.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::Capability;

/// No message is longer.
const LONGEST: usize = 128 << 10;

/// Everything the first process has to know; comes with the listening control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Setup {
    /// What is to be put around the guest.
    pub(in crate::sandbox) walls: Walls,
    /// What the guest is told.
    pub(in crate::sandbox) guest: GuestPart,
}

/// What is put around the guest.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) enum Walls {
    /// Namespaces, an overlay over the host's files, masks, fewer rights.
    Box(Plan),
    /// Nothing.
    None,
}

/// What the guest is told, but for the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct GuestPart {
    /// See [`crate::sandbox::BoxSpec::token`].
    pub(in crate::sandbox) token: String,
    /// The guest's private directory, as it sees it.
    pub(in crate::sandbox) runtime_dir: PathBuf,
    /// This program, as the guest sees it.
    pub(in crate::sandbox) program: PathBuf,
    /// The whole environment of what it starts.
    pub(in crate::sandbox) env: BTreeMap<String, String>,
    /// Where sessions start.
    pub(in crate::sandbox) cwd: PathBuf,
    /// See [`crate::sandbox::Limits::log_bytes`].
    pub(in crate::sandbox) log_cap_bytes: Option<u64>,
}

/// How a box is to be built.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Plan {
    /// True where the starter is the machine's root and may mount.
    pub(in crate::sandbox) rootful: bool,
    /// The box's directory on the host: layers go below it.
    pub(in crate::sandbox) dir: PathBuf,
    /// The project directory; None while only probing.
    pub(in crate::sandbox) workspace: Option<PathBuf>,
    /// Write through to the host.
    pub(in crate::sandbox) bind_workspace: bool,
    /// The user's home.
    pub(in crate::sandbox) home: Option<PathBuf>,
    /// Hidden from the box.
    pub(in crate::sandbox) state_dir: PathBuf,
    /// Own network without a way out.
    pub(in crate::sandbox) no_network: bool,
    /// `tasks` files of cgroup v1 to enter.
    pub(in crate::sandbox) cgroup_tasks: Vec<PathBuf>,
    /// The cgroup v2 to be born into.
    pub(in crate::sandbox) cgroup_v2: Option<PathBuf>,
    /// Most processes by resource limit, where no cgroup counts them.
    pub(in crate::sandbox) nproc: Option<u64>,
    /// The layers of the store that it stands on, as directories, from the top down.
    pub(in crate::sandbox) stack: Vec<PathBuf>,
}

/// What the first process says.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) enum Said {
    /// It is in a new user namespace and waits for its ids to be mapped and for [`Go`].
    NeedsIds,
    /// The box's first process exists, and waits for [`Go`].
    Born {
        /// Its pid on the host.
        pid: i32,
    },
    /// The walls stand; the guest takes over.
    Standing(Standing),
    /// It could not go on.
    Failed {
        /// What it was doing: a lower-case fragment.
        step: String,
        /// What the system said.
        errno: i32,
    },
}

/// What was built.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Standing {
    /// Where each writable layer lies.
    pub(in crate::sandbox) layers: Vec<Layer>,
    /// Paths of the host that the box does not show.
    pub(in crate::sandbox) masked: Vec<PathBuf>,
    /// What was had and what not.
    pub(in crate::sandbox) capabilities: Vec<Capability>,
}

/// The key of the layer that holds the workspace's changes.
pub(in crate::sandbox) const WORKSPACE_KEY: &str = "workspace";

/// A writable layer: `u/<key>` below the box's directory holds what changed below `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Layer {
    /// The directory that it changes, the same on host and in the box.
    pub(in crate::sandbox) at: PathBuf,
    /// Its name.
    pub(in crate::sandbox) key: String,
}

/// The starter's answer to [`Said::NeedsIds`] and [`Said::Born`].
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Go;

/// Sends one message, with a descriptor where there is one.
///
/// # Errors
/// When the peer is gone or the message is too long.
pub(in crate::sandbox) fn send(socket: &impl AsFd, message: &impl Serialize, with: Option<&OwnedFd>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the box's set-up is too long"));
    }
    let fds: Vec<_> = with.map(AsRawFd::as_raw_fd).into_iter().collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let raw = socket.as_fd().as_raw_fd();
    loop {
        match sendmsg::<()>(raw, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Waits for one message, and takes the descriptor that came with it.
///
/// # Errors
/// When the peer is gone ([`io::ErrorKind::UnexpectedEof`]) or speaks another language.
pub(in crate::sandbox) fn receive<T: DeserializeOwned>(socket: &impl AsFd) -> io::Result<(T, Option<OwnedFd>)> {
    let mut bytes = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let raw = socket.as_fd().as_raw_fd();
    let (length, fd) = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let message = match recvmsg::<()>(raw, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => continue,
            received => received?,
        };
        let fd = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        break (message.bytes, fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    };
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&bytes[..length])?, fd))
}
