//! What may make a call return before it is done: a person who interrupts, and what only ends waits.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::WakeCause;

/// The driver's hand on calls that are under way. Clones share it; one is for one batch of calls.
#[derive(Debug, Clone, Default)]
pub struct Attention {
    cancelled: CancellationToken,
    woken: watch::Sender<Option<(WakeCause, String)>>,
}

impl Attention {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call return: a person interrupts. What runs in the box goes on.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Makes waits return and lets other calls go on; `what` happened, in words. The first one counts.
    pub fn wake(&self, cause: WakeCause, what: impl Into<String>) {
        self.woken.send_if_modified(|woken| {
            let is_first = woken.is_none();
            if is_first {
                *woken = Some((cause, what.into()));
            }
            is_first
        });
    }

    /// Whether a person has interrupted.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Resolves when a person has interrupted. May be dropped and called again.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Resolves when waits are to return, now or earlier. May be dropped and called again.
    pub async fn woken(&self) -> (WakeCause, String) {
        let mut woken = self.woken.subscribe();
        let news = woken.wait_for(Option::is_some).await.expect("the sender is `self`'s");
        news.clone().expect("it was waited for")
    }

    /// What calls that know only of an interrupt are given.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.cancelled
    }
}
