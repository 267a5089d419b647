//! Work that a person may cut short.

use std::future::Future;
use std::pin::pin;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::person::{Person, Word};
use crate::domain::{Observer, Progress};

/// Waits for `work` and shows its progress. A word of the person cancels it and is returned beside the result: work
/// that is cancelled still has one.
pub(super) async fn attended<T>(
    work: impl Future<Output = T>,
    mut progress: mpsc::UnboundedReceiver<Progress>,
    cancel: &CancellationToken,
    person: &mut dyn Person,
    observer: &mut dyn Observer,
) -> (T, Option<Word>) {
    let mut work = pin!(work);
    let mut word = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => return (result, word),
            Some(passing) = progress.recv() => observer.progress(&passing),
            said = person.interrupts(), if word.is_none() => {
                word = Some(said);
                cancel.cancel();
            }
        }
    }
}
