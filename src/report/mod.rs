//! Events turned into what people and programs read. Pure folds over entries: nothing here can tell a run that goes on
//! from one that is replayed.

mod call;
mod cast;
mod cost;
mod live;
mod manifest;
mod markdown;
mod outcome;
mod page;
mod stats;
mod stream_json;
mod style;
mod timeline;
mod totals;
mod waiting;

pub use crate::domain::{duration_words, size_words, visible, visible_json, visible_line};
pub use call::call_line;
pub use cast::{CastHeader, cast};
pub use cost::{CostLine, Costs};
pub use live::{Live, LiveOptions};
pub use manifest::{ManifestItem, manifest};
pub use markdown::{Closing, Recording, markdown};
pub use page::{fitting, wrapped};
pub use stats::{Asked, LEAST_FOR_A_SHARE, Stats, Turns};
pub use stream_json::{JsonMode, JsonOutput, OUTPUT_SCHEMA_VERSION};
pub use timeline::{Detail, Timeline, TimelineOptions};
pub use totals::{End, Totals};
