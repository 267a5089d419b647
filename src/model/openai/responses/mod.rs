//! The Responses API: the same conversation and the same answers in another form.
//!
//! OpenAI's own reasoning models call tools nowhere else. Nothing is kept at the server (`store: false`): reasoning comes
//! back encrypted and is sent again as it came, in its place among the items.

mod body;
mod reading;

pub(super) use body::{Body, opaque};
pub(super) use reading::Reading;
