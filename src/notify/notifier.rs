//! Tells persons of a run while it goes on, on a thread of its own: what hangs, floods or fails there is felt nowhere else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::channel::Channel;
use super::deliver::{Ground, deliver};
use super::message::Message;
use super::news::{Item, News};
use crate::domain::{Entry, ExitReason, Observer, Progress, QuestionId, Verdict, duration_words};

/// Most messages that wait for one channel; more are dropped.
const QUEUE: usize = 64;
/// The time that what is on its way has when the run is over.
const PARTING: Duration = Duration::from_secs(5);
/// The longest time between two reminders.
const LONGEST_GAP: Duration = Duration::from_secs(4 * 3600);

/// Who is told, and how often.
#[derive(Debug, Clone)]
pub struct NotifyPlan {
    /// The ways to reach them.
    pub channels: Vec<Channel>,
    /// How long a question is open before it is reminded of; then after twice that, and so on up to four hours.
    pub remind_after: Duration,
    /// Where commands run.
    pub ground: Ground,
}

/// Says that a channel does not work, in words.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Tells persons of one run.
pub struct Notifier {
    items: mpsc::Sender<Item>,
    news: Arc<Mutex<News>>,
    has_begun: Arc<AtomicBool>,
    done: oneshot::Receiver<()>,
}

/// What a [`Notifier`] sees the run with.
struct Watch {
    items: mpsc::Sender<Item>,
    news: Arc<Mutex<News>>,
    has_begun: Arc<AtomicBool>,
}

impl Notifier {
    /// Begins to tell of a run of which `past` is known already: of that nothing is told again, but open questions are
    /// reminded of. None where nobody is to be told, or no thread can be had.
    pub fn start(plan: NotifyPlan, past: &[Entry], say: Say) -> Option<Self> {
        if plan.channels.is_empty() {
            return None;
        }
        let mut news = News::default();
        let mut open = BTreeMap::new();
        for entry in past {
            match news.apply(entry) {
                Some(Item::Ask(id, message)) => drop(open.insert(id, Pending::new(*message, plan.remind_after))),
                Some(Item::Settled(id)) => drop(open.remove(&id)),
                Some(Item::Tell(_)) | None => {}
            }
        }
        let (items, incoming) = mpsc::channel(QUEUE);
        let (finished, done) = oneshot::channel();
        let work = move || {
            // Without a runtime nobody is told; the run is as good.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(serve(plan, open, incoming, say));
            let _ = finished.send(());
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("notify".to_owned()).spawn(work).ok()?;
        Some(Self { items, news: Arc::new(Mutex::new(news)), has_begun: Arc::default(), done })
    }

    /// What sees the run.
    pub fn observer(&self) -> Box<dyn Observer> {
        Box::new(Watch {
            items: self.items.clone(),
            news: Arc::clone(&self.news),
            has_begun: Arc::clone(&self.has_begun),
        })
    }

    /// The run is over: what is on its way has a few more seconds. `trouble` is what kept the end from being recorded.
    pub async fn finish(self, trouble: Option<(ExitReason, String)>, now: Timestamp) {
        let Self { items, news, has_begun, done } = self;
        if let Some((reason, why)) = trouble.filter(|_| has_begun.load(Ordering::Relaxed)) {
            let news = news.lock().unwrap_or_else(PoisonError::into_inner);
            let message = news.subject().end((Verdict::Error, reason), &why, "", now);
            let _ = items.try_send(Item::Tell(Box::new(message)));
        }
        drop(items);
        // A thread that is stuck in a write to a terminal is left behind.
        let _ = tokio::time::timeout(PARTING + Duration::from_secs(1), done).await;
    }
}

impl Observer for Watch {
    fn entry(&mut self, entry: &Entry) {
        self.has_begun.store(true, Ordering::Relaxed);
        let item = self.news.lock().unwrap_or_else(PoisonError::into_inner).apply(entry);
        if let Some(item) = item
            && self.items.try_send(item).is_err()
        {
            tracing::warn!("a notification was dropped: too many wait");
        }
    }

    fn progress(&mut self, _progress: &Progress) {}
}

/// A question that waits for its answer.
struct Pending {
    message: Message,
    since: Instant,
    next: Instant,
    gap: Duration,
    reminders: u32,
}

impl Pending {
    fn new(message: Message, after: Duration) -> Self {
        let since = Instant::now();
        Self { message, since, next: since + after, gap: after, reminders: 0 }
    }

    /// The reminder that is due.
    fn remind(&mut self) -> Message {
        self.reminders += 1;
        self.gap = (self.gap * 2).min(LONGEST_GAP.max(self.gap));
        self.next = Instant::now() + self.gap;
        let open_for = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.message.again(self.reminders, &duration_words(open_for))
    }
}

/// Hands out messages until the run is over.
async fn serve(plan: NotifyPlan, mut open: BTreeMap<QuestionId, Pending>, mut items: mpsc::Receiver<Item>, say: Say) {
    let NotifyPlan { channels, remind_after, ground } = plan;
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for channel in channels {
        let (queue, messages) = mpsc::channel(QUEUE);
        queues.push(queue);
        workers.spawn(work(channel, messages, ground.clone(), Arc::clone(&say)));
    }
    let tell = |message: Message| {
        let message = Arc::new(message);
        for queue in &queues {
            if queue.try_send(Arc::clone(&message)).is_err() {
                tracing::warn!(id = message.id, "a notification was dropped: too many wait for its channel");
            }
        }
    };
    loop {
        let due = open.iter().map(|(id, pending)| (pending.next, *id)).min();
        let until_due = async {
            match due {
                Some((next, _)) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            item = items.recv() => match item {
                Some(Item::Tell(message)) => tell(*message),
                Some(Item::Ask(id, message)) => {
                    open.insert(id, Pending::new((*message).clone(), remind_after));
                    tell(*message);
                }
                Some(Item::Settled(id)) => drop(open.remove(&id)),
                None => break,
            },
            () = until_due => {
                let pending = due.and_then(|(_, id)| open.get_mut(&id));
                if let Some(pending) = pending {
                    tell(pending.remind());
                }
            }
        }
    }
    drop(queues);
    let all = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(PARTING, all).await.is_err() {
        say("some notifications had not arrived when the run was over");
        tracing::warn!("notifications had not arrived when the run was over");
        // Dropped, each kills what it has started.
        workers.shutdown().await;
    }
}

/// Brings messages over one channel, one after the other. What does not work is said once.
async fn work(channel: Channel, mut messages: mpsc::Receiver<Arc<Message>>, ground: Ground, say: Say) {
    let mut was_said = false;
    while let Some(message) = messages.recv().await {
        let Err(why) = deliver(&channel, &message, &ground).await else { continue };
        tracing::warn!(channel = channel.name(), id = message.id, why, "a notification did not arrive");
        if !std::mem::replace(&mut was_said, true) {
            say(&format!("a notification did not arrive by {}: {why}", channel.name()));
        }
    }
}
