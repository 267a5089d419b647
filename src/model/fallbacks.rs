//! Several models, of which the first that can answer does; one that fails is left alone for a while.
//!
//! A switch is told before anything is sent to the model that it leads to. What a server wants back goes to that server
//! only: the pieces of a conversation carry the name of who made them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::openai::{Fault, OpenAi};
use super::patience::Waits;
use super::{Answer, Delta, Model, ModelError, ModelErrorKind, Patience, Request, Sink, Switch};

const UNPOISONED: &str = "no one panics with the standing";

/// One of the models.
#[derive(Debug)]
pub(super) struct Member {
    /// What it is called in the record: `MODEL`, or `MODEL@URL`.
    pub(super) name: String,
    /// Who answers.
    pub(super) model: OpenAi,
}

/// All of them, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Fallbacks {
    members: Vec<Member>,
    patience: Patience,
    seed: u64,
    requests: AtomicU64,
    began: Instant,
    standing: Mutex<Standing>,
}

/// Who answers now, and what is known against each.
#[derive(Debug)]
struct Standing {
    current: usize,
    breakers: Vec<Breaker>,
    /// The last failure of each, and whether it may pass.
    failures: Vec<Option<(ModelError, bool)>>,
    waited: Duration,
}

/// What follows a failure.
#[derive(Debug, PartialEq)]
enum Next {
    /// The same again, after a wait.
    Same,
    /// Another one, at once.
    Other(usize),
    /// Another one or the same, once its pause is over.
    After(usize, Duration),
    /// Nobody.
    Nobody,
}

impl Fallbacks {
    /// Takes the models in their order; there is one at least.
    pub(super) fn new(members: Vec<Member>, patience: Patience, seed: u64) -> Self {
        let count = members.len();
        let standing = Standing {
            current: 0,
            breakers: vec![Breaker::new(patience.pause); count],
            failures: vec![None; count],
            waited: Duration::ZERO,
        };
        let (began, requests) = (Instant::now(), AtomicU64::new(0));
        Self { members, patience, seed, requests, began, standing: Mutex::new(standing) }
    }

    fn current(&self) -> &Member {
        &self.members[self.standing.lock().expect(UNPOISONED).current]
    }

    /// Whoever is asked from now on, if that is another one than before.
    fn switch_to(&self, to: usize, why: String) -> Option<Switch> {
        let mut standing = self.standing.lock().expect(UNPOISONED);
        let from = std::mem::replace(&mut standing.current, to);
        let name = |at: usize| self.members[at].name.clone();
        (from != to).then(|| Switch { from: name(from), to: name(to), why })
    }

    /// Takes a failure of the current one in.
    fn take(&self, fault: &Fault, error: &ModelError) -> Next {
        let now = self.began.elapsed();
        let mut standing = self.standing.lock().expect(UNPOISONED);
        let at = standing.current;
        match fault.may_pass() {
            true => standing.breakers[at].failed(now, fault.asked()),
            false => standing.breakers[at].refused(now),
        }
        standing.failures[at] = Some((error.clone(), fault.may_pass()));
        standing.next(now)
    }

    /// The error where none of them answers.
    fn none_answers(&self, last: ModelError) -> ModelError {
        let standing = self.standing.lock().expect(UNPOISONED);
        let told = |(member, failure): (&Member, &Option<(ModelError, bool)>)| {
            let (error, _) = failure.as_ref()?;
            let because = error.because.as_ref().map(|because| format!(" ({because})")).unwrap_or_default();
            Some(format!("{}: {}{because}", member.name, error.what))
        };
        let each: Vec<String> = self.members.iter().zip(&standing.failures).filter_map(told).collect();
        let may_pass = standing.failures.iter().flatten().any(|(_, may_pass)| *may_pass);
        let first = standing.failures.iter().flatten().map(|(error, _)| error).next().unwrap_or(&last);
        ModelError {
            kind: if may_pass { ModelErrorKind::Unavailable } else { first.kind },
            what: format!("none of the {} models answers", self.members.len()),
            because: Some(each.join("; ")),
            hint: first.hint.clone(),
            window: None,
            again_after: last.again_after,
        }
    }
}

impl Standing {
    fn next(&self, now: Duration) -> Next {
        if self.breakers[self.current].lets_through(now) {
            return Next::Same;
        }
        let open = self.breakers.iter().position(|breaker| breaker.lets_through(now));
        let may_come_back = |at: &usize| self.failures[*at].as_ref().is_none_or(|(_, may_pass)| *may_pass);
        let soonest = (0..self.breakers.len()).filter(may_come_back).min_by_key(|at| self.breakers[*at].opens_at());
        match (open, soonest) {
            (Some(at), _) => Next::Other(at),
            (None, Some(at)) => Next::After(at, self.breakers[at].opens_at().saturating_sub(now)),
            (None, None) => Next::Nobody,
        }
    }
}

#[async_trait]
impl Model for Fallbacks {
    fn render(&self, request: &Request) -> Vec<u8> {
        self.current().model.render(request)
    }

    fn choose(&self) -> Option<Switch> {
        let now = self.began.elapsed();
        let best = {
            let standing = self.standing.lock().expect(UNPOISONED);
            standing.breakers.iter().position(|breaker| breaker.lets_through(now))
        };
        self.switch_to(best?, "it has been left alone for long enough to be asked again".to_owned())
    }

    fn goes_on(&self, waited: Duration) {
        self.standing.lock().expect(UNPOISONED).waited = waited;
        self.current().model.goes_on(Duration::ZERO);
    }

    async fn answer(&self, request: &Request, sink: Sink<'_>) -> Result<Answer, ModelError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_add(number);
        let before = std::mem::take(&mut self.standing.lock().expect(UNPOISONED).waited);
        let mut waits = Waits::new(self.patience, seed);
        let mut first_failure = None;
        loop {
            let fault = match self.current().model.attempt(request, sink).await {
                Ok(answer) => {
                    let mut standing = self.standing.lock().expect(UNPOISONED);
                    let at = standing.current;
                    standing.breakers[at].answered();
                    standing.failures[at] = None;
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            let (told, asked, ends) = (fault.told(), fault.asked(), fault.is_about_the_conversation());
            let next_of = |error: &ModelError| self.take(&fault, error);
            let error = fault.clone().into_error();
            if ends {
                return Err(error);
            }
            let spent = before + first_failure.get_or_insert_with(Instant::now).elapsed();
            let (to, wait) = match next_of(&error) {
                Next::Nobody => return Err(self.none_answers(error)),
                Next::Other(to) => (Some(to), None),
                Next::Same => match waits.next(spent, asked, self.patience.budget) {
                    Some(wait) => (None, Some(wait)),
                    None => return Err(self.none_answers(error)),
                },
                Next::After(to, pause) => match spent.checked_add(pause).filter(|end| *end <= self.patience.budget) {
                    Some(_) => (Some(to), Some(pause)),
                    None => return Err(self.none_answers(error)),
                },
            };
            if let Some(wait) = wait {
                sink(Delta::Delayed { why: told.clone(), wait });
                tokio::time::sleep(wait).await;
            }
            if let Some(switch) = to.and_then(|to| self.switch_to(to, told)) {
                waits = Waits::new(self.patience, seed);
                sink(Delta::Switched(switch));
                // Whoever listens writes it down before anything is sent.
                tokio::task::yield_now().await;
            }
        }
    }
}
