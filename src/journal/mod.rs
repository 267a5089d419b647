//! Events on disk: chained by hash, in order, by run; blobs beside them; the store of runs.
//!
//! `journal.jsonl` is the truth of a run. One event is one line, written by [`Recorder`] alone and read by [`Reader`];
//! `docs/TRANSCRIPT.md` describes the bytes.

mod blobs;
mod checkpoints;
mod disk;
mod epoch;
mod fork;
mod head;
mod heartbeat;
mod inbox;
mod lessons;
mod line;
mod lock;
mod reader;
mod recorder;
mod requests;
mod steps;
mod store;
mod summary;
mod verify;

pub use blobs::{BlobError, Blobs};
pub use checkpoints::{CheckpointFile, CheckpointFileError, CheckpointFiles, References, snapshots_of};
pub use disk::{Disk, DiskFile, SystemDisk};
pub use epoch::{Holder, silent_for};
pub use fork::{ForkError, Prefix, fork};
pub use head::{Head, HeadError};
pub use heartbeat::{Heartbeat, LONGEST_SILENCE};
pub use inbox::{
    Inbox, LONGEST_MESSAGE, LeftAnswer, Mail, Order, PostError, left_answers, post, post_answer, post_order,
};
pub use lessons::{Lessons, LessonsError, OpenedLessons};
pub use lock::{LockError, RunLock};
pub use reader::{ReadError, ReadProblem, Reader, TornTail};
pub use recorder::{AppendError, Recorder, ReopenError, Reopened, Syncer, must_sync};
pub use requests::{RequestReader, Requests, StoredRequest};
pub use steps::{StepError, Steps};
pub use store::{RunDir, RunStore, StoreError, new_run_id};
pub use summary::{DiskUse, OpenQuestion, RunState, RunSummary};
pub use verify::{Problem, VerifyReport, verify};
