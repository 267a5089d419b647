//! What may happen while the driver waits for something else: a person acts, a message comes, a job ends, time is over.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::person::{Grant, Heard, Limit, Person, Word};
use crate::clock::Clock;
use crate::domain::{Event, ExitReason, Question, QuestionId, RunSpec, duration_words};
pub(super) use crate::journal::Order;
use crate::journal::{Inbox, Mail};
use crate::tools::Workbench;

/// A machine that was suspended tells nobody: so often a limit is held against the time that has really passed.
const LOOK: Duration = Duration::from_secs(30);

/// Something that happened.
#[derive(Debug)]
pub(super) enum Happening {
    /// A person acted.
    Word(Word),
    /// A message has come from another terminal.
    Mail(Mail),
    /// A person has asked for something that is done between calls.
    Order,
    /// A fact about the box's jobs and sessions.
    News(Box<Event>),
    /// The run's time is over. Comes once.
    TimeOver,
}

/// What comes of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// What the person did, or that there is none.
    Heard(Heard),
    /// Nobody has answered in time.
    Late,
    /// Something else.
    Happened(Happening),
}

/// All that the driver listens to.
pub(super) struct Around {
    /// May interrupt, speak, end.
    person: Box<dyn Person>,
    inbox: Option<Inbox>,
    /// What was asked for and is not done yet.
    orders: VecDeque<(Mail, Order)>,
    bench: Option<Arc<Workbench>>,
    limit: TimeLimit,
}

impl Around {
    /// Listens to all this; `driven` of the run's time is over already.
    pub(super) fn new(
        person: Box<dyn Person>,
        inbox: Option<Inbox>,
        clock: Arc<dyn Clock>,
        spec: &RunSpec,
        driven: Duration,
    ) -> Self {
        let limit = TimeLimit { clock, until: None, deadline: None, told: false };
        let mut around = Self { person, inbox, orders: VecDeque::new(), bench: None, limit };
        around.limit_to(spec, driven);
        around
    }

    /// Listens to the box, too.
    pub(super) fn hear(&mut self, bench: Arc<Workbench>) {
        self.bench = Some(bench);
    }

    /// The next thing that happens. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Happening {
        let Self { person, inbox, orders, bench, limit } = self;
        tokio::select! {
            biased;
            word = person.interrupts() => Happening::Word(word),
            () = limit.over() => Happening::TimeOver,
            mail = next_mail(inbox) => sorted(mail, orders),
            event = news(bench) => Happening::News(Box::new(event)),
        }
    }

    /// As [`Around::next`], while it is the person's turn.
    pub(super) async fn next_turn(&mut self) -> Happening {
        let Self { person, inbox, orders, bench, limit } = self;
        tokio::select! {
            biased;
            word = person.speaks() => Happening::Word(word),
            () = limit.over() => Happening::TimeOver,
            mail = next_mail(inbox) => sorted(mail, orders),
            event = news(bench) => Happening::News(Box::new(event)),
        }
    }

    /// Asks the person, and listens to all else meanwhile. Where nobody is there, somebody may still answer from elsewhere
    /// up to `until`.
    pub(super) async fn next_answer(&mut self, question: &Question, until: Option<Timestamp>) -> Asked {
        let Self { person, inbox, orders, bench, limit } = self;
        let clock = Arc::clone(&limit.clock);
        let mut late = std::pin::pin!(passed(&*clock, until));
        tokio::select! {
            biased;
            heard = person.answers(question) => match heard {
                Heard::Nobody if until.is_some() => {}
                heard => return Asked::Heard(heard),
            },
            () = limit.over() => return Asked::Happened(Happening::TimeOver),
            mail = next_mail(inbox) => return Asked::Happened(sorted(mail, orders)),
            event = news(bench) => return Asked::Happened(Happening::News(Box::new(event))),
            () = &mut late => return Asked::Late,
        }
        tokio::select! {
            biased;
            happening = self.next() => Asked::Happened(happening),
            () = &mut late => Asked::Late,
        }
    }

    /// A question needs no answer from the person any more.
    pub(super) fn put_away(&mut self, question: QuestionId) {
        self.person.put_away(question);
    }

    /// Asks the person for more at a limit, as long as the run has time.
    pub(super) async fn grants(&mut self, reached: Limit, why: &str, spec: &RunSpec) -> Grant {
        let Self { person, limit, .. } = self;
        tokio::select! {
            biased;
            () = limit.over() => Grant::Word(out_of_time(spec)),
            grant = person.grants(reached, why) => grant,
        }
    }

    /// A message that has come already.
    pub(super) fn take_mail(&mut self) -> Option<Mail> {
        while let Some(mail) = self.inbox.as_mut()?.take() {
            match sorted(mail, &mut self.orders) {
                Happening::Mail(mail) => return Some(mail),
                Happening::Order | Happening::Word(_) | Happening::News(_) | Happening::TimeOver => {}
            }
        }
        None
    }

    /// Whether something was asked for that is not done yet.
    pub(super) fn has_order(&self) -> bool {
        !self.orders.is_empty()
    }

    /// The next thing that was asked for and can be done now: what changes the conversation belongs where no call is open.
    pub(super) fn take_order(&mut self, is_boundary: bool) -> Option<(Mail, Order)> {
        let may_be_done = |order: &Order| match order {
            Order::Checkpoint { .. } => true,
            Order::Compact => is_boundary,
        };
        let at = self.orders.iter().position(|(_, order)| may_be_done(order))?;
        self.orders.remove(at)
    }

    /// Sets the limit on the run's time anew; `driven` of it is over already.
    pub(super) fn limit_to(&mut self, spec: &RunSpec, driven: Duration) {
        let now = self.limit.clock.since_boot();
        self.limit.until = spec.max_time_s.map(|seconds| now + Duration::from_secs(seconds).saturating_sub(driven));
        self.limit.deadline = spec.budget.deadline;
    }

    /// Allows the run so much more time, and that until `deadline`, if it has one.
    pub(super) fn allow(&mut self, more: Duration, deadline: Option<Timestamp>) {
        let until = self.limit.clock.since_boot() + more;
        self.limit.until = self.limit.until.map(|_| until);
        self.limit.deadline = deadline;
        self.limit.told = false;
    }

    /// Removes the messages that an earlier driver has recorded and not removed.
    pub(super) fn forget(&mut self, recorded: &HashSet<String>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.forget(recorded);
        }
    }

    /// A message has been recorded.
    pub(super) fn recorded(&mut self, mail: &Mail) {
        if let Some(inbox) = &mut self.inbox {
            inbox.done(mail);
        }
    }

    /// Takes no more messages; those that were left and not taken.
    pub(super) fn close_inbox(&mut self) -> Vec<Mail> {
        let left = self.inbox.as_mut().map(Inbox::close).unwrap_or_default();
        left.into_iter().filter(|mail| mail.order.is_none()).collect()
    }

    /// Every message has been recorded, and nobody can leave another one.
    pub(super) fn remove_inbox(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.remove_all();
        }
    }

    /// What is left of the run's time, if that has a limit.
    pub(super) fn left(&self) -> Option<Duration> {
        self.limit.left()
    }
}

/// The end that follows when the run's time is over.
pub(super) fn out_of_time(spec: &RunSpec) -> Word {
    let limits = [
        spec.max_time_s.map(|seconds| format!("of {}", duration_words(seconds.saturating_mul(1000)))),
        spec.budget.deadline.map(|deadline| format!("at {deadline:.0}")),
    ];
    let limit = limits.into_iter().flatten().collect::<Vec<_>>().join(", or ");
    Word::End { reason: ExitReason::Budget, why: format!("the limit {limit} was reached") }
}

/// Words are for the model, orders for the driver.
fn sorted(mail: Mail, orders: &mut VecDeque<(Mail, Order)>) -> Happening {
    match mail.order.clone() {
        None => Happening::Mail(mail),
        Some(order) => {
            orders.push_back((mail, order));
            Happening::Order
        }
    }
}

async fn next_mail(inbox: &mut Option<Inbox>) -> Mail {
    match inbox {
        Some(inbox) => inbox.next().await,
        None => std::future::pending().await,
    }
}

async fn news(bench: &Option<Arc<Workbench>>) -> Event {
    match bench {
        Some(bench) => bench.news().await,
        None => std::future::pending().await,
    }
}

/// Resolves at this time by the wall clock; never where there is none.
async fn passed(clock: &dyn Clock, until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    loop {
        match Duration::try_from(until.duration_since(clock.now())) {
            Ok(left) if !left.is_zero() => clock.sleep(left.min(LOOK)).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// The limit on the run's time. It counts time during which the machine was suspended.
struct TimeLimit {
    clock: Arc<dyn Clock>,
    /// By [`Clock::since_boot`].
    until: Option<Duration>,
    /// By the wall clock.
    deadline: Option<Timestamp>,
    told: bool,
}

impl TimeLimit {
    fn left(&self) -> Option<Duration> {
        let by_time = self.until.map(|until| until.saturating_sub(self.clock.since_boot()));
        let by_date = self.deadline.map(|deadline| {
            let left = deadline.duration_since(self.clock.now());
            Duration::try_from(left).unwrap_or_default()
        });
        by_time.into_iter().chain(by_date).min()
    }

    async fn over(&mut self) {
        loop {
            match self.left().filter(|_| !self.told) {
                None => std::future::pending().await,
                Some(Duration::ZERO) => {
                    self.told = true;
                    return;
                }
                Some(left) => self.clock.sleep(left.min(LOOK)).await,
            }
        }
    }
}
