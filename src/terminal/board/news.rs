//! What happened in a box, in order, until somebody writes it down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

use super::{Shared, lock};
use crate::domain::{Event, NoticeKind};
use crate::guest::{Event as GuestEvent, Mended};

/// A queue of facts.
#[derive(Debug)]
pub(super) struct News {
    queue: Mutex<VecDeque<Event>>,
    arrived: watch::Sender<()>,
}

impl Default for News {
    fn default() -> Self {
        Self { queue: Mutex::default(), arrived: watch::Sender::new(()) }
    }
}

impl News {
    /// Adds a fact.
    pub(super) fn push(&self, event: Event) {
        lock(&self.queue).push_back(event);
        self.arrived.send_replace(());
    }

    /// The next fact; may be dropped and called again.
    pub(super) async fn next(&self) -> Event {
        let mut arrived = self.arrived.subscribe();
        loop {
            arrived.borrow_and_update();
            if let Some(event) = lock(&self.queue).pop_front() {
                return event;
            }
            arrived.changed().await.expect("the sender is `self`'s");
        }
    }

    /// All that is there.
    pub(super) fn drain(&self) -> Vec<Event> {
        lock(&self.queue).drain(..).collect()
    }
}

/// Takes in what the guest and the connection to it tell unasked, until both are gone.
pub(super) async fn listen(
    mut events: Receiver<(GuestEvent, Bytes)>,
    mut mended: Receiver<Mended>,
    shared: Arc<Shared>,
) {
    loop {
        let told = tokio::select! {
            event = events.recv() => event.map(|(event, _)| fact(event, &shared.options.logs)),
            mended = mended.recv() => mended.map(|mended| Some(reconnected(mended))),
        };
        match told {
            Ok(Some(fact)) => {
                if let Event::SessionClosed { session, .. } = &fact {
                    lock(&shared.open).remove(session);
                }
                shared.news.push(fact);
            }
            // What was missed is of the kind that people watch, not of the kind that decides.
            Ok(None) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn reconnected(mended: Mended) -> Event {
    Event::Noticed { kind: NoticeKind::Reconnected, text: mended.to_string() }
}

fn fact(event: GuestEvent, logs: &str) -> Option<Event> {
    match event {
        GuestEvent::PersonTyped { session } => Some(Event::PersonTyped { session }),
        GuestEvent::OutputLost { log, why } => {
            let text = format!("output is no longer kept in {logs}/{log}: {why}");
            Some(Event::Noticed { kind: NoticeKind::OutputLost, text })
        }
        GuestEvent::SessionExited { session, exit, respawned: false } => {
            Some(Event::SessionClosed { session, why: format!("its shell ended with {exit}") })
        }
        GuestEvent::SessionExited { respawned: true, .. }
        | GuestEvent::CommandEnded(_)
        | GuestEvent::PtyOutput { .. }
        | GuestEvent::PtyClosed { .. } => None,
    }
}
