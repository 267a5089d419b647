//! Events turned into what people and programs read. Pure folds over entries: nothing here can tell a run that goes on
//! from one that is replayed.

mod account;
mod call;
mod cast;
mod cost;
mod live;
mod manifest;
mod markdown;
mod outcome;
mod page;
mod runbook;
mod stats;
mod stream_json;
mod style;
mod timeline;
mod totals;
mod waiting;

pub use crate::domain::{duration_words, size_words, visible, visible_json, visible_line};
pub use account::{
    Account, ArtifactRow, AttemptRow, CheckRow, DecisionRow, FailureRow, HeadRow, PredictionRow, ProtectedRow,
    QuestionRow, REPORT_SCHEMA_VERSION, RequirementRow, Standing, TimeRow, account,
};
pub use call::call_line;
pub use cast::{CastHeader, cast};
pub use cost::{CostLine, Costs};
pub use live::{Live, LiveOptions};
pub use manifest::{ManifestItem, manifest};
pub use markdown::{Closing, Recording, markdown};
pub use page::{fitting, wrapped};
pub use runbook::{learned, news, runbook_patch};
pub use stats::{Asked, LEAST_FOR_A_SHARE, Stats, Turns};
pub use stream_json::{JsonMode, JsonOutput, OUTPUT_SCHEMA_VERSION};
pub use timeline::{Detail, Timeline, TimelineOptions};
pub use totals::{End, Totals};
