//! Telling a person who looks elsewhere that a run needs them, or is over. `docs/NOTIFY.md` is the contract.
//!
//! A notification helps and is never needed: whatever a channel does, the run neither waits for it nor fails by it.

mod channel;
mod deliver;
mod message;
mod news;
mod notifier;

pub use channel::{Channel, ChannelError};
pub use deliver::{Ground, deliver};
pub use message::{Message, What};
pub use notifier::{Notifier, NotifyPlan, Say};
