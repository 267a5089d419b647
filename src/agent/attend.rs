//! Work that a person may cut short.

use std::future::Future;
use std::pin::pin;

use tokio::sync::mpsc;

use super::person::{Person, Word};
use crate::domain::{Observer, Progress};
use crate::tools::Attention;

/// Waits for `work` and shows its progress. A word of the person cancels it: work that is cancelled still has a result.
/// A mere notice cancels nothing. What was said is returned beside the result.
pub(super) async fn attended<T>(
    work: impl Future<Output = T>,
    mut progress: mpsc::UnboundedReceiver<Progress>,
    attention: &Attention,
    person: &mut dyn Person,
    observer: &mut dyn Observer,
) -> (T, Vec<Word>) {
    let mut work = pin!(work);
    let mut words = Vec::new();
    loop {
        tokio::select! {
            biased;
            result = &mut work => return (result, words),
            Some(passing) = progress.recv() => observer.progress(&passing),
            word = person.interrupts(), if !attention.is_cancelled() => {
                if !matches!(word, Word::Notice { .. }) {
                    attention.cancel();
                }
                words.push(word);
            }
        }
    }
}
