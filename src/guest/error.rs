//! Why the guest could not be asked, or did not do it.

use super::facts::Refusal;

/// What can go wrong between host and guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The channel is closed: the guest, its box or the connection is gone.
    #[error("the box's supervisor is gone")]
    Gone,
    /// The connection broke and there is none any more, in words why; what has become of the guest is not known.
    #[error("the box's supervisor can't be reached any more: {why}")]
    Lost {
        /// A fragment.
        why: String,
    },
    /// The connection broke before the answer came. It is there again, but what was asked is not safe to repeat.
    #[error("the connection to the box broke before it answered: it is not known whether this took effect")]
    Unanswered,
    /// The guest closed the channel instead of greeting: wrong token, or a guest that is going down.
    #[error("the box's supervisor refused the connection")]
    NotWelcome,
    /// The guest speaks another version.
    #[error("the box's supervisor speaks protocol version {guest}, this program speaks {host}")]
    Version {
        /// The guest's version.
        guest: u32,
        /// Ours.
        host: u32,
    },
    /// The guest did not do what was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What came over the channel makes no sense.
    #[error("the box's supervisor sent something unexpected")]
    Protocol(#[source] std::io::Error),
}
