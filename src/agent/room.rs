//! Room in the model's window: looked at before every request, and made where there is not enough.

use std::sync::Arc;

use super::driver::{Cut, Driver};
use super::trouble::Trouble;
use crate::context::{Begin, MOST_ASKED, Meter, NoRoom, Prompt, Reducer, Unit, Window};
use crate::domain::{Entry, Event, ExitReason, NoticeKind, Reduction, ReductionCause, Summary, SummaryBy};
use crate::model::{Answer, Gauge, Message, ModelError, ModelErrorKind, Purpose, Request, Size, Tokens, ToolSpec};

/// What is left of a refused request's size as the window, in percent, where the server does not tell its own.
const REFUSED_PERCENT: u64 = 90;
/// Words that a summary is asked to have at most, for so many tokens that it may take.
const TOKENS_A_WORD: u64 = 3;
/// Bytes that a token of a summary has at most: one that streams on beyond that comes to no end.
const BYTES_A_TOKEN: u64 = 16;
/// Bytes of reasoning before a summary that are listened to.
const MOST_REASONING: u64 = 1 << 20;

/// What is known of the window and of what requests come to.
#[derive(Debug)]
pub(super) struct Room {
    meter: Meter,
    gauge: Gauge,
    /// Whose window and counting that is.
    model: String,
    /// What the tools come to, which are the same in every request. Counted where it is needed.
    tools: Size,
    /// The last request.
    sent: Option<Size>,
    /// The last request was refused as too long.
    refused: bool,
    /// The server's tokens for one of ours as the last reduction took them to be, until the server has said how many they
    /// were.
    taken: Option<f64>,
    /// The number of the request before which a reduction last asked the model for a summary.
    summed_up_for: Option<u32>,
}

/// What became of a reduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reduced {
    /// It is recorded.
    Done(Reduction),
    /// There was nothing to make smaller.
    Nothing,
    /// Something else came first: a person's word, or the end.
    Interrupted,
    /// Nothing makes it small enough.
    NoRoom(NoRoom),
}

/// What became of the question for a summary.
enum Asked {
    Summary(Summary),
    Nothing,
    Interrupted,
}

impl Room {
    pub(super) fn new(model: &str, tools: &[ToolSpec]) -> Self {
        let tokens = Tokens::of_model(model);
        let meter = Meter::new(move |text| tokens.count(text));
        let of_tool = |tool: &ToolSpec| tool.name.len() + tool.description.len() + tool.parameters.to_string().len();
        let bytes = tools.iter().map(of_tool).sum::<usize>() as u64;
        Self {
            meter,
            gauge: Gauge::new(tokens),
            model: model.to_owned(),
            tools: Size { bytes, tokens: None },
            sent: None,
            refused: false,
            taken: None,
            summed_up_for: None,
        }
    }

    /// What a request is for the server.
    fn estimate(&self, size: Size) -> u64 {
        let tokens = size.tokens.unwrap_or(0);
        self.taken.map_or_else(|| self.gauge.estimate(size.bytes, tokens), |ratio| scaled(tokens, ratio))
    }

    /// How many of the server's tokens one of ours is in a request.
    fn ratio(&self, size: Size) -> f64 {
        real(self.estimate(size).max(1)) / real(size.tokens.unwrap_or(0).max(1))
    }

    /// Bytes of all that is in a request, marks of its form left aside.
    fn bytes(&self, request: &Request) -> u64 {
        self.tools.bytes + request.messages.iter().map(bytes_of).sum::<usize>() as u64
    }

    fn size(&mut self, request: &Request) -> Size {
        let tools = *self.tools.tokens.get_or_insert_with(|| self.meter.tools(&request.tools));
        Size { bytes: self.bytes(request), tokens: Some(self.meter.messages(&request.messages) + tools) }
    }
}

impl Driver {
    /// The window of the model that answers.
    fn window(&self) -> Option<Window> {
        Window::of(self.state.model(), self.state.spec().window_tokens, &self.history)
    }

    /// The next request, which fits. None where something else comes first.
    pub(super) async fn make_room(&mut self, turn: u32) -> Result<Option<Request>, Trouble> {
        if self.room.model != self.state.model() {
            let summed_up_for = self.room.summed_up_for;
            self.room = Room { summed_up_for, ..Room::new(self.state.model(), &self.tools) };
        }
        let request = self.request(Purpose::Turn);
        let Some(window) = self.window() else { return Ok(Some(request)) };
        let trigger = window.trigger(self.history.reduced_to());
        let (bytes, messages) = (self.room.bytes(&request), request.messages.len() as u64);
        // Counting takes time and memory: not as long as it can be told without.
        if self.room.gauge.at_most(bytes, messages) <= trigger {
            return Ok(Some(request));
        }
        let size = self.room.size(&request);
        if self.room.estimate(size) <= trigger {
            self.room.sent = Some(size);
            return Ok(Some(request));
        }
        let summed_up_for = self.room.summed_up_for;
        match self.reduce(ReductionCause::Full).await? {
            // A summary has its price, and maybe another model answers by now: both are looked at before the request.
            Reduced::Done(_) if self.room.summed_up_for != summed_up_for => Ok(None),
            Reduced::NoRoom(_) if self.room.model != self.state.model() => Ok(None),
            Reduced::Done(_) | Reduced::Nothing => Ok(Some(self.request(Purpose::Turn))),
            Reduced::Interrupted => Ok(None),
            Reduced::NoRoom(no_room) => {
                let trouble = self.no_room(no_room);
                self.fail(turn, trouble)?;
                Ok(None)
            }
        }
    }

    /// Learns from the entries of earlier drivers what requests come to for the server.
    pub(super) fn learn_room(&mut self, entries: &[Entry]) {
        let (mut requested, mut model) = (0, None);
        let (mut reported, mut reduced) = (None, None);
        for entry in entries {
            match &entry.event {
                Event::RunStarted { spec, .. } | Event::RunForked { spec } if model != Some(&spec.model) => {
                    (reported, reduced, model) = (None, None, Some(&spec.model));
                }
                Event::ModelSwitched { .. } => (reported, reduced) = (None, None),
                Event::RunResumed { asked, .. } if asked.model.is_some() || asked.base_url.is_some() => {
                    (reported, reduced) = (None, None);
                }
                Event::ModelRequested { .. } => requested = entry.seq,
                Event::ModelAnswered { usage: Some(usage), .. } => {
                    (reported, reduced) = (Some((requested, usage.input_tokens)), None);
                }
                Event::ConversationReduced { reduction } => {
                    (reported, reduced) = (None, Some((entry.seq, reduction.after_tokens)));
                }
                _ => {}
            }
        }
        let until = |seq: u64| {
            let units = self.history.units().iter().filter(|unit| unit.seq < seq);
            let messages = units.flat_map(|unit| unit.messages.iter().cloned()).collect();
            Request { messages, tools: Arc::clone(&self.tools), purpose: Purpose::Turn }
        };
        if let Some((seq, tokens)) = reported {
            let size = Size { bytes: self.room.bytes(&until(seq)), tokens: None };
            self.room.gauge.report(size, tokens);
        } else if let Some((seq, after)) = reduced {
            let request = until(seq);
            let size = self.room.size(&request);
            self.room.taken = Some(real(after) / real(size.tokens.unwrap_or(0).max(1)));
        }
    }

    /// The request was refused as too long. False where that can't be helped.
    pub(super) async fn make_room_after_all(&mut self, error: &ModelError) -> Result<bool, Trouble> {
        if error.kind != ModelErrorKind::ContextLength || std::mem::replace(&mut self.room.refused, true) {
            return Ok(false);
        }
        let request = self.request(Purpose::Turn);
        let size = self.room.size(&request);
        let tried = self.room.estimate(size).saturating_mul(REFUSED_PERCENT) / 100;
        // A server that tells a larger one counts otherwise than we do.
        let window = Window { tokens: error.window.unwrap_or(u64::MAX).min(tried).max(1) };
        match self.reduce_to(ReductionCause::Refused, window).await? {
            Reduced::Done(_) | Reduced::Interrupted => Ok(true),
            Reduced::Nothing | Reduced::NoRoom(_) => Ok(false),
        }
    }

    /// Makes the conversation smaller. Belongs where no call is open.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be recorded.
    pub(super) async fn reduce(&mut self, cause: ReductionCause) -> Result<Reduced, Trouble> {
        let window = self.window().unwrap_or(Window::USUAL);
        self.reduce_to(cause, window).await
    }

    async fn reduce_to(&mut self, cause: ReductionCause, window: Window) -> Result<Reduced, Trouble> {
        if !self.state.open_calls().is_empty() || self.state.claim().is_some() {
            return Ok(Reduced::Nothing);
        }
        let mut has_asked = false;
        let finished = match self.reducing(cause, window, |reducer| reducer.begin()) {
            Begin::Stubs(reduction) => Ok(reduction),
            Begin::Cut if cause == ReductionCause::Asked => return Ok(Reduced::Nothing),
            Begin::Cut => self.reducing(cause, window, |reducer| reducer.finish(None)),
            Begin::SumUp { worth_asking } => {
                has_asked = self.model.sums_up()
                    && match cause {
                        // Once before each request: then that is made, with what the harness can do.
                        ReductionCause::Full => worth_asking && self.room.summed_up_for != Some(self.state.turn() + 1),
                        ReductionCause::Refused => worth_asking,
                        ReductionCause::Asked => true,
                    };
                let asked = match has_asked {
                    true => self.ask_for_summary(cause, window).await?,
                    false => Asked::Nothing,
                };
                let summary = match asked {
                    Asked::Interrupted => return Ok(Reduced::Interrupted),
                    Asked::Summary(summary) => summary,
                    Asked::Nothing => self.reducing(cause, window, |reducer| reducer.digest()),
                };
                self.reducing(cause, window, |reducer| reducer.finish(Some(&summary)))
            }
        };
        if has_asked {
            self.room.summed_up_for = Some(self.state.turn() + 1);
        }
        let reduction = match finished {
            Ok(reduction) => reduction,
            Err(_) if cause == ReductionCause::Asked => return Ok(Reduced::Nothing),
            Err(no_room) => return Ok(Reduced::NoRoom(no_room)),
        };
        let request = self.request(Purpose::Turn);
        let size = self.room.size(&request);
        let ratio = self.room.ratio(size);
        self.note(Event::ConversationReduced { reduction: reduction.clone() })?;
        self.room.taken = Some(ratio);
        self.room.gauge.rewritten();
        self.room.meter.forget();
        self.room.sent = None;
        Ok(Reduced::Done(reduction))
    }

    /// Works on the conversation as it is now.
    fn reducing<T>(&mut self, cause: ReductionCause, window: Window, work: impl FnOnce(&mut Reducer<'_>) -> T) -> T {
        let request = self.request(Purpose::Turn);
        let size = self.room.size(&request);
        let ratio = self.room.ratio(size);
        let Self { history, room, .. } = self;
        let own = room.meter.history(history);
        let fixed = scaled(size.tokens.unwrap_or(0).saturating_sub(own), ratio);
        let mut of_unit = |unit: &Unit| scaled(room.meter.unit(unit), ratio);
        work(&mut Reducer { history, window, cause, fixed, size: &mut of_unit })
    }

    /// Asks the model for a summary, in the conversation itself: what the server knows already it need not read again.
    async fn ask_for_summary(&mut self, cause: ReductionCause, window: Window) -> Result<Asked, Trouble> {
        let most = window.tail();
        let words = (most / TOKENS_A_WORD).to_string();
        let instruction = Prompt::Summary.render(&[("words", &words)]).expect("the template is fixed and tested");
        for nth in 0..MOST_ASKED {
            if self.state.spec().budget.exhausted(self.state.spent()).is_some() {
                break;
            }
            let Some(messages) = self.reducing(cause, window, |reducer| reducer.asked(nth, &instruction)) else {
                continue;
            };
            self.choose_model()?;
            let request = Request { messages, tools: Arc::clone(&self.tools), purpose: Purpose::Summary };
            self.note_request(self.state.turn(), &request)?;
            self.commit_meanwhile().await?;
            let listen = most.saturating_mul(BYTES_A_TOKEN).saturating_add(MOST_REASONING);
            let why = match self.answer(self.state.turn(), &request, Some(listen)).await? {
                Ok(Ok(answer)) => match self.take_summary(answer, window)? {
                    Ok(summary) => return Ok(Asked::Summary(summary)),
                    Err(why) => why,
                },
                Ok(Err(error)) if error.kind == ModelErrorKind::ContextLength => {
                    self.note(Event::SummaryFailed { why: Trouble::from(error).line() })?;
                    continue;
                }
                Ok(Err(error)) => Trouble::from(error).line(),
                Err(Cut::Word(word)) => {
                    self.note(Event::SummaryFailed { why: "interrupted".to_owned() })?;
                    self.take(word)?;
                    return Ok(Asked::Interrupted);
                }
                Err(Cut::NoBox(error)) => {
                    self.note(Event::SummaryFailed { why: "interrupted".to_owned() })?;
                    self.stop_for(error)?;
                    return Ok(Asked::Interrupted);
                }
            };
            self.note(Event::SummaryFailed { why })?;
            break;
        }
        Ok(Asked::Nothing)
    }

    /// The summary, or why it is none.
    fn take_summary(&mut self, answer: Answer, window: Window) -> Result<Result<Summary, String>, Trouble> {
        let response = self.blobs.put(&answer.raw)?;
        let duration_ms = u64::try_from(answer.duration.as_millis()).unwrap_or(u64::MAX);
        self.note(Event::SummaryAnswered { usage: answer.usage, response, duration_ms })?;
        let text = answer.text.trim().to_owned();
        let tokens = self.room.meter.text(&text);
        Ok(if answer.finish_reason == "length" {
            Err("it broke off in the middle".to_owned())
        } else if text.is_empty() && !answer.calls.is_empty() {
            Err("the model called tools instead of writing it".to_owned())
        } else if text.is_empty() {
            Err("it is empty".to_owned())
        } else if tokens > window.tail() {
            Err(format!("it is too long: {tokens} tokens"))
        } else {
            Ok(Summary { by: SummaryBy::Model, text })
        })
    }

    /// Takes in what the server says that the last request was.
    pub(super) fn take_report(&mut self, answer: &Answer, request: &Request) -> Result<(), Trouble> {
        self.room.refused = false;
        let sent = self.room.sent.take();
        let Some(usage) = answer.usage else { return Ok(()) };
        self.room.taken = None;
        let size = sent.unwrap_or_else(|| Size { bytes: self.room.bytes(request), tokens: None });
        match self.room.gauge.report(size, usage.input_tokens) {
            None => Ok(()),
            Some(shortfall) => {
                let text = shortfall.words();
                self.note(Event::Noticed { kind: NoticeKind::TokensMissing, text }).map(drop)
            }
        }
    }

    fn no_room(&self, NoRoom { needed, window }: NoRoom) -> Trouble {
        let run = &self.state.spec().run;
        Trouble {
            reason: ExitReason::Budget,
            what: "the conversation can't be made to fit the model's window".to_owned(),
            because: vec![format!(
                "instructions, tools, goal and room to work in take {needed} tokens, and the window of {} has {window}",
                self.state.model()
            )],
            hints: vec![
                format!("go on with a model that has a larger one: `agent resume {run} --model NAME`"),
                format!("say how large it is, if that is wrong: `agent resume {run} --window TOKENS`"),
            ],
        }
    }
}

/// Bytes of a message.
fn bytes_of(message: &Message) -> usize {
    match message {
        Message::System(text) | Message::User(text) => text.len(),
        Message::Tool { call_id, text } => call_id.len() + text.len(),
        Message::Assistant { text, calls, opaque } => {
            let calls = calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
            text.len() + calls.sum::<usize>() + opaque.as_ref().map_or(0, |opaque| opaque.to_string().len())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "tokens of a request are far below 2^52")]
fn real(tokens: u64) -> f64 {
    tokens as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is never negative")]
fn scaled(tokens: u64, ratio: f64) -> u64 {
    (real(tokens) * ratio).ceil() as u64
}
