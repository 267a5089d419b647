//! Events turned into what people and programs read. Pure folds over entries: nothing here can tell a run that goes on
//! from one that is replayed.

mod live;
mod markdown;
mod stream_json;
mod timeline;
mod visible;

pub use live::{Live, LiveOptions};
pub use markdown::{Closing, markdown};
pub use stream_json::{JsonMode, JsonOutput};
pub use visible::{visible, visible_line};
