//! Boxes from Linux namespaces and overlayfs over the host's own root, as root and as an ordinary user.
//!
//! They contain accidents and ordinary malice; they are no virtual machine.

mod again;
mod backend;

mod fresh;
mod harden;
mod init;
mod masks;
mod mount;

mod plan;
mod probe;
mod reroot;
mod stack;

mod tree;

pub use backend::Local;
pub use init::serve;
