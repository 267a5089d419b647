//! The host's end of the channel to a guest.

/// A handle on a guest; clones share one channel.
#[derive(Debug, Clone)]
pub struct Client {}
