//! Whoever speaks OpenAI's Chat Completions or Responses over HTTP.
//!
//! async-openai makes the request and takes the stream apart; what servers really send is read by our own types, and
//! all trying again happens here, in one place, because it has to be told and a half-streamed answer has to be voided.

mod body;
mod chunk;
mod endpoint;
mod exchange;
mod fault;
#[cfg(test)]
mod fuzz;
mod overflow;
mod reset;
mod responses;
mod sse;
mod tools;
mod words;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder as _;
use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::body::Body;
use self::endpoint::Endpoint;
use self::exchange::{End, Exchange, Tap};
use self::fault::{Feature, Remedy};
use self::tools::Tools;
use super::assemble::{Assembled, Assembly};
use super::patience::Waits;
use super::{Answer, Delta, Model, ModelError, ModelErrorKind, Patience, Request, Sink};

pub(super) use endpoint::shown as shown_url;
pub(super) use fault::Fault;

/// What is told where something answers that is not the API.
const V1_HINT: &str = "OPENAI_BASE_URL probably lacks `/v1`: most servers want something like http://127.0.0.1:8000/v1";

type Chunks = Pin<Box<dyn Stream<Item = Result<Value, OpenAIError>> + Send>>;

/// Which of the two APIs is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wire {
    /// Responses for OpenAI's own newer models, Chat Completions for all others; the other one once a server says that it
    /// has only that.
    #[default]
    Auto,
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

/// An answer as it comes in, in either form.
enum Reading {
    Chat(chunk::Reading),
    Responses(responses::Reading),
}

impl Reading {
    fn take(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Fault> {
        match self {
            Self::Chat(reading) => reading.take(data, sink),
            Self::Responses(reading) => reading.take(data, sink),
        }
    }

    fn assembly(&self) -> &Assembly {
        match self {
            Self::Chat(reading) => &reading.assembly,
            Self::Responses(reading) => &reading.assembly,
        }
    }

    /// What came, and what has to go back to the server that is called `origin`.
    fn finish(self, origin: &str) -> (Assembled, Option<Value>) {
        match self {
            Self::Chat(reading) => {
                let done = reading.assembly.finish();
                let opaque = body::opaque(origin, &reading.fields, &done.extras);
                (done, opaque)
            }
            Self::Responses(reading) => (reading.assembly.finish(), responses::opaque(origin, &reading.items)),
        }
    }
}

/// A model behind a server that speaks one of the two APIs.
#[derive(Debug)]
pub struct OpenAi {
    endpoint: Endpoint,
    http: reqwest::Client,
    name: String,
    origin: String,
    patience: Patience,
    seed: u64,
    requests: AtomicU64,
    refused: AtomicU8,
    tools: Tools,
    wire: Wire,
    /// Whether the other API is spoken than was taken at first.
    switched: AtomicBool,
    was_reached: AtomicBool,
    /// For how long an earlier driver has waited for the answer to the next request, in milliseconds.
    waited_ms: AtomicU64,
}

impl OpenAi {
    /// Takes the server's base URL, its key where it needs one, the model's name there, which API to speak, how long to
    /// wait for it, and what spreads the waits. Connects to nothing.
    ///
    /// # Errors
    /// [`ModelErrorKind::Setup`] for a URL that is none or would send the key in clear, and for a key that is no header.
    pub fn new(
        base_url: &str,
        key: Option<&str>,
        name: &str,
        wire: Wire,
        patience: Patience,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(base_url, key)?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that another thread has just installed one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let http = reqwest::Client::builder()
            .connect_timeout(patience.connect)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")));
        // A proxy can't see this machine's own servers.
        let http = if endpoint.is_loopback { http.no_proxy() } else { http };
        let http = http.build().map_err(|error| ModelError {
            because: Some(error.to_string()),
            hint: Some("install the system's certificates: `apt-get install ca-certificates`".to_owned()),
            ..ModelError::new(ModelErrorKind::Setup, "the HTTP client can't be set up")
        })?;
        Ok(Self {
            origin: format!("{} {name}", endpoint.base()),
            endpoint,
            http,
            name: name.to_owned(),
            patience,
            seed,
            requests: AtomicU64::new(0),
            refused: AtomicU8::new(0),
            tools: Tools::default(),
            wire,
            switched: AtomicBool::new(false),
            was_reached: AtomicBool::new(false),
            waited_ms: AtomicU64::new(0),
        })
    }

    fn takes(&self, feature: Feature) -> bool {
        // Over Responses a schema is strict unless it is said not to be; over Chat Completions the word is an extra.
        let is_known = feature != Feature::Strict || self.endpoint.takes_strict || self.speaks_responses();
        is_known && self.refused.load(Ordering::Relaxed) & bit(feature) == 0
    }

    fn speaks_responses(&self) -> bool {
        let first = match self.wire {
            Wire::Auto => self.endpoint.is_openai && !is_older(&self.name),
            Wire::Chat => false,
            Wire::Responses => true,
        };
        first != self.switched.load(Ordering::Relaxed)
    }

    /// Takes the other API from now on, if the server says that it has only that and nobody has said which. Once.
    fn switches_for(&self, fault: &Fault) -> bool {
        let wants = if self.speaks_responses() { fault.is_without_responses() } else { fault.wants_responses };
        self.wire == Wire::Auto && wants && !self.switched.swap(true, Ordering::Relaxed)
    }

    fn body(&self, request: &Request) -> String {
        let features = |feature| self.takes(feature);
        let (model, origin, features, tools) = (&self.name, &self.origin, &features, &self.tools);
        match self.speaks_responses() {
            true => {
                let takes_strict = self.endpoint.takes_strict;
                responses::Body { model, origin, request, features, tools, takes_strict }.to_json()
            }
            false => Body { model, origin, request, features, tools }.to_json(),
        }
    }

    /// Asks once; the same again only in another form, where the server wants one. What was streamed of a try that failed
    /// is told to be void.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn attempt(&self, request: &Request, sink: Sink<'_>) -> Result<Answer, Fault> {
        loop {
            let mut is_shown = false;
            let mut show = |delta| {
                is_shown = true;
                sink(delta);
            };
            let tried = tokio::time::timeout(self.patience.answer, self.try_once(self.body(request), &mut show)).await;
            let fault = match tried.unwrap_or_else(|_| Err(endless(self.patience.answer))) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if is_shown {
                sink(Delta::Restarted);
            }
            if !matches!(fault.remedy, Remedy::Reach) {
                self.was_reached.store(true, Ordering::Relaxed);
            }
            if self.switches_for(&fault) {
                continue;
            }
            let Some(feature) = fault.refused_feature(|feature| self.takes(feature)) else { return Err(fault) };
            self.refused.fetch_or(bit(feature), Ordering::Relaxed);
        }
    }

    async fn try_once(&self, body: String, sink: Sink<'_>) -> Result<Answer, Fault> {
        let tap = Arc::new(Mutex::new(Tap::default()));
        let exchange = Exchange { http: self.http.clone(), stall: self.patience.stall, tap: Arc::clone(&tap) };
        let client = Client::build(self.http.clone(), self.endpoint.clone())
            .with_http_service(tower::service_fn(move |request| exchange.clone().send(request)));
        let body = RawValue::from_string(body).expect("a body is JSON");
        let (mut reading, path) = match self.speaks_responses() {
            true => (Reading::Responses(responses::Reading::default()), "/responses"),
            false => (Reading::Chat(chunk::Reading::default()), "/chat/completions"),
        };
        let begin = Instant::now();
        let chat = client.chat().path(path).map_err(fault_of)?;
        let opened = chat.create_stream_byot(body).await;
        let mut chunks: Chunks = opened.map_err(fault_of)?;
        self.was_reached.store(true, Ordering::Relaxed);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(fault_of);
            if let Err(fault) = chunk.and_then(|chunk| reading.take(&chunk, sink)) {
                // After the reason to end, whatever comes is only the end.
                if reading.assembly().has_finished() {
                    break;
                }
                return Err(fault);
            }
        }
        let duration = begin.elapsed();
        let tap = std::mem::take(&mut *tap.lock().expect("no one panics with the tap"));
        self.conclude(reading, tap, duration)
    }

    fn conclude(&self, reading: Reading, tap: Tap, duration: Duration) -> Result<Answer, Fault> {
        if !reading.assembly().has_finished() {
            match tap.end {
                Some(End::Done) if !reading.assembly().is_empty() => {}
                Some(End::Fault(fault)) => return Err(fault),
                Some(End::Done | End::Eof) | None if reading.assembly().is_empty() => return Err(nothing(&tap.raw)),
                Some(End::Done | End::Eof) | None => {
                    return Err(Fault::passing("the model's server broke off in the middle of the answer", ""));
                }
            }
        }
        let (done, opaque) = reading.finish(&self.origin);
        if done.finish_reason == "content_filter" && done.text.is_empty() && done.calls.is_empty() {
            let what = "the provider's filter refuses the answer";
            return Err(Fault::lasting(ModelErrorKind::ContentFilter, what, ""));
        }
        Ok(Answer {
            opaque,
            text: done.text,
            reasoning: done.reasoning,
            calls: done.calls,
            finish_reason: done.finish_reason,
            usage: done.usage,
            raw: tap.raw,
            duration,
        })
    }

    /// The wait until the next try.
    ///
    /// # Errors
    /// The error to report where there is none.
    fn wait(&self, fault: Fault, waits: &mut Waits, spent: Duration) -> Result<(Duration, String), ModelError> {
        let budget = match fault.remedy {
            Remedy::Again => self.patience.budget,
            Remedy::Reach if self.was_reached.load(Ordering::Relaxed) => self.patience.budget,
            Remedy::Reach => self.patience.first_contact.min(self.patience.budget),
            Remedy::Without(_) | Remedy::Never(_) => return Err(fault.into_error()),
        };
        let Some(wait) = waits.next(spent, fault.asked, budget) else {
            return Err(given_up(fault, waits.failed, spent, budget));
        };
        Ok((wait, fault.told()))
    }
}

#[async_trait]
impl Model for OpenAi {
    fn render(&self, request: &Request) -> Vec<u8> {
        self.body(request).into_bytes()
    }

    fn goes_on(&self, waited: Duration) {
        self.was_reached.store(true, Ordering::Relaxed);
        self.waited_ms.store(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn answer(&self, request: &Request, sink: Sink<'_>) -> Result<Answer, ModelError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let before = Duration::from_millis(self.waited_ms.swap(0, Ordering::Relaxed));
        let mut waits = Waits::new(self.patience, self.seed.wrapping_add(number));
        let mut first_failure = None;
        loop {
            let fault = match self.attempt(request, sink).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let spent = before + first_failure.get_or_insert_with(Instant::now).elapsed();
            let (wait, why) = self.wait(fault, &mut waits, spent)?;
            sink(Delta::Delayed { why, wait });
            tokio::time::sleep(wait).await;
        }
    }
}

/// The conversation in the same form, for a model that is not sent anything.
pub(super) fn plain_body(model: &str, request: &Request) -> Vec<u8> {
    Body { model, origin: model, request, features: &|_| false, tools: &Tools::default() }.to_json().into_bytes()
}

/// OpenAI's models that call tools over Chat Completions, and know nothing of encrypted reasoning.
fn is_older(model: &str) -> bool {
    ["gpt-3.5", "gpt-4", "chatgpt-4o"].iter().any(|family| model.starts_with(family))
}

fn bit(feature: Feature) -> u8 {
    match feature {
        Feature::StreamOptions => 1,
        Feature::Strict => 2,
        Feature::Reasoning => 4,
    }
}

fn fault_of(error: OpenAIError) -> Fault {
    match error {
        OpenAIError::Boxed(error) => match error.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::passing("the exchange with the model's server failed", error.to_string()),
        },
        error => Fault::passing("the exchange with the model's server failed", words::one_line(&error.to_string())),
    }
}

fn endless(after: Duration) -> Fault {
    Fault::passing(format!("the model's server has not ended its answer after {} s", after.as_secs_f32()), "")
}

fn nothing(raw: &[u8]) -> Fault {
    let words = words::Words::of_body(raw);
    Fault::passing("the model's server sent an empty answer", words.message)
}

fn given_up(fault: Fault, tries: u32, spent: Duration, budget: Duration) -> ModelError {
    let asked = fault.asked.filter(|asked| *asked > budget);
    let because = match (asked, tries) {
        (Some(asked), _) => {
            format!("it asks to wait {} s, longer than the {} s allowed", asked.as_secs(), budget.as_secs())
        }
        (None, 1) => String::new(),
        (None, _) => format!("{tries} tries in {} s", spent.as_secs()),
    };
    let mut error = fault.into_error();
    let parts = [error.because.take().unwrap_or_default(), because];
    let because = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    error.because = Some(because).filter(|because| !because.is_empty());
    error.hint = error.hint.or_else(|| Some("try again later, or name another model or server".to_owned()));
    error
}
