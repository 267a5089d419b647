//! One turn: the model is asked, what streams by is shown, its answer is taken.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::driver::{Cut, Driver, SYNC_EVERY};
use super::trouble::Trouble;
use crate::domain::{Event, NoticeKind, Progress, ToolCall};
use crate::model::{Answer, Delta, ModelError, ModelErrorKind, Purpose, Request, Switch};

impl Driver {
    fn take_cut(&mut self, cut: Cut) -> Result<(), Trouble> {
        match cut {
            Cut::Word(word) => self.take(word),
            Cut::NoBox(error) => self.stop_for(error),
        }
    }

    pub(super) async fn ask(&mut self, turn: u32) -> Result<(), Trouble> {
        if let Some(cut) = self.wait_on().await? {
            return self.take_cut(cut);
        }
        if let Some(text) = self.state.warning() {
            self.note(Event::Noticed { kind: NoticeKind::BudgetNear, text })?;
        }
        self.choose_model()?;
        let Some(request) = self.make_room(turn).await? else { return Ok(()) };
        self.note_request(turn, &request)?;
        self.commit_meanwhile().await?;
        match self.answer(turn, &request, None).await? {
            Ok(Ok(answer)) => {
                self.take_report(&answer, &request)?;
                self.take_answer(turn, answer)
            }
            Ok(Err(error)) if self.make_room_after_all(&error).await? => Ok(()),
            Ok(Err(error)) => self.fail(turn, Trouble::from(error)),
            Err(cut) => self.take_cut(cut),
        }
    }

    /// Nobody answers, and nobody will without a change.
    pub(super) fn fail(&mut self, turn: u32, trouble: Trouble) -> Result<(), Trouble> {
        self.note(Event::ModelFailed { turn, why: trouble.line(), reason: trouble.reason })?;
        self.trouble = Some(trouble);
        Ok(())
    }

    /// Decides who is asked next: belongs before a request is noted.
    pub(super) fn choose_model(&mut self) -> Result<(), Trouble> {
        self.model.choose().map_or(Ok(()), |switch| self.note_switch(switch))
    }

    fn note_switch(&mut self, switch: Switch) -> Result<(), Trouble> {
        let Switch { from, to, why } = switch;
        self.note(Event::ModelSwitched { from, to, why }).map(drop)
    }

    /// Notes a request as it is about to be sent.
    pub(super) fn note_request(&mut self, turn: u32, request: &Request) -> Result<(), Trouble> {
        let stored = self.requests.put(&self.model.render(request))?;
        let (sha256, kept_bytes, rest) = (stored.sha256, stored.kept_bytes, stored.rest);
        let event = match request.purpose {
            Purpose::Turn => Event::ModelRequested { turn, sha256, kept_bytes, rest },
            Purpose::Summary => Event::SummaryRequested { sha256, kept_bytes, rest },
        };
        self.note(event).map(drop)
    }

    /// Waits for the answer; meanwhile shows what streams by and lets the box come up. Does not listen to more than
    /// `most_bytes`, if that is said.
    pub(super) async fn answer(
        &mut self,
        turn: u32,
        request: &Request,
        most_bytes: Option<u64>,
    ) -> Result<Result<Result<Answer, ModelError>, Cut>, Trouble> {
        let (deltas, mut streamed) = mpsc::unbounded_channel();
        let model = Arc::clone(&self.model);
        let mut sink = move |delta| drop(deltas.send(delta));
        let mut answer = std::pin::pin!(model.answer(request, &mut sink));
        let mut due = tokio::time::interval_at(tokio::time::Instant::now() + SYNC_EVERY, SYNC_EVERY);
        let mut heard = 0;
        let answered = loop {
            let opening = self.bench.is_opening();
            tokio::select! {
                biased;
                Some(delta) = streamed.recv() => {
                    heard += delta.size();
                    self.show(turn, request, delta)?;
                    if most_bytes.is_some_and(|most| heard > most) {
                        break Ok(Err(ModelError::new(ModelErrorKind::Protocol, "it came to no end")));
                    }
                }
                answered = &mut answer => break Ok(answered),
                happening = self.around.next() => if let Some(cut) = self.meanwhile(happening)? {
                    break Err(cut);
                },
                _ = due.tick(), if self.sync_owed => self.commit_meanwhile().await?,
                opened = self.bench.opened(), if opening => if let Err(cut) = self.take_box(opened)? {
                    break Err(cut);
                },
            }
        };
        while let Ok(delta) = streamed.try_recv() {
            self.show(turn, request, delta)?;
        }
        Ok(answered)
    }

    fn show(&mut self, turn: u32, request: &Request, delta: Delta) -> Result<(), Trouble> {
        match delta {
            // It is no part of the conversation.
            Delta::Text(_) | Delta::Reasoning(_) if request.purpose == Purpose::Summary => {}
            Delta::Text(text) => self.observer.progress(&Progress::Text(text)),
            Delta::Reasoning(text) => self.observer.progress(&Progress::Reasoning(text)),
            Delta::Restarted => {
                let why = "the answer broke off; asking again".to_owned();
                self.observer.progress(&Progress::Patience { why, wait_ms: 0 });
            }
            Delta::Switched(switch) => {
                self.note_switch(switch)?;
                // It goes to the other one in that one's own form.
                self.note_request(turn, request)?;
            }
            Delta::Delayed { why, wait } => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                self.note(Event::ModelDelayed { turn, why, wait_ms })?;
            }
        }
        Ok(())
    }

    /// Keeps the server's id unless an earlier call has it.
    fn with_unique_id(&mut self, call: ToolCall) -> ToolCall {
        let wanted = call.id.clone();
        let free = (2..).map(|nth| format!("{wanted}-{nth}"));
        let id = std::iter::once(wanted.clone()).chain(free).find(|id| !self.call_ids.contains(id));
        let id = id.expect("there are more numbers than calls");
        self.call_ids.insert(id.clone());
        ToolCall { id, ..call }
    }

    fn take_answer(&mut self, turn: u32, answer: Answer) -> Result<(), Trouble> {
        let response = self.blobs.put(&answer.raw)?;
        let calls = answer.calls.into_iter().map(|call| self.with_unique_id(call)).collect();
        let event = Event::ModelAnswered {
            turn,
            text: answer.text,
            reasoning: answer.reasoning,
            calls,
            finish_reason: answer.finish_reason,
            usage: answer.usage,
            response,
            duration_ms: u64::try_from(answer.duration.as_millis()).unwrap_or(u64::MAX),
            opaque: answer.opaque,
        };
        self.note(event).map(drop)
    }
}
