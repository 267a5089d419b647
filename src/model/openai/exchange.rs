//! One request and its response: the service under async-openai, which sees what that crate does not pass on.
//!
//! It tries once and never again; refusals become a [`Fault`], and a stream is rewritten into plain events, one per
//! piece of body, so that nothing in it can trip the parser above. How the stream ended is told through the [`Tap`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Response;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout, timeout_at};

use super::fault::{Fault, Remedy};
use super::sse::{Decoder, Event};
use super::words::{Words, one_line};
use crate::model::ModelErrorKind;

/// The longest response that is read.
const MAX_RESPONSE: usize = 64 << 20;
/// The longest refusal that is read.
const MAX_REFUSAL: usize = 256 << 10;
/// How long a connection is kept for its proper end after `[DONE]`, so that it can be used again.
const DRAIN: Duration = Duration::from_millis(20);

/// What is known of a response besides its events.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// The bytes so far.
    pub(super) raw: Vec<u8>,
    /// How the stream ended; None while it has not.
    pub(super) end: Option<End>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With `[DONE]`, or as a whole completion.
    Done,
    /// Properly, but without `[DONE]`.
    Eof,
    /// Otherwise.
    Fault(Fault),
}

/// What a try is made with.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// Sends it.
    pub(super) http: reqwest::Client,
    /// Longest time without data.
    pub(super) stall: Duration,
    /// Where the response's bytes and end are noted.
    pub(super) tap: Arc<Mutex<Tap>>,
}

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

impl Exchange {
    /// Sends the request; a response that is an answer comes back as a stream of events.
    pub(super) async fn send(self, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
        self.try_once(request).await.map_err(|fault| OpenAIError::Boxed(Box::new(fault)))
    }

    async fn try_once(self, request: HttpRequestFactory) -> Result<Response, Fault> {
        let request = request.build().await.map_err(|error| {
            Fault::lasting(ModelErrorKind::Setup, "the request can't be made", one_line(&error.to_string()))
        })?;
        let sent = timeout(self.stall, self.http.execute(request)).await;
        let response = sent.map_err(|_| stalled(self.stall))?.map_err(|error| broken(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        if !status.is_success() {
            let body = read(response, self.stall, MAX_REFUSAL).await.unwrap_or_else(|(_, part)| part);
            return Err(Fault::of_response(status, &headers, &body));
        }
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.to_ascii_lowercase().contains("event-stream") {
            return Ok(self.guarded(response.bytes_stream().boxed()));
        }
        let body = read(response, self.stall, MAX_RESPONSE).await.map_err(|(fault, _)| fault)?;
        self.whole(body)
    }

    /// An answer that did not come as a stream of events, at least not by its name.
    pub(super) fn whole(self, body: Vec<u8>) -> Result<Response, Fault> {
        let text = String::from_utf8_lossy(&body);
        let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if ["data:", "event:", "id:", "retry:", ":"].iter().any(|field| start.starts_with(field)) {
            return Ok(self.guarded(stream::iter([Ok(Bytes::from(body))]).boxed()));
        }
        match serde_json::from_str::<serde_json::Value>(start.trim_end()) {
            Ok(json) if is_answer(&json) => {
                let mut tap = self.tap.lock().expect("no one panics with the tap");
                tap.raw = body;
                tap.end = Some(End::Done);
                Ok(respond(stream::iter([Ok::<_, std::io::Error>(encode(&json.to_string()))])))
            }
            Ok(json) => Err(Words::of_json(&json)
                .map_or_else(|| no_completion(&one_line(&json.to_string())), |words| Fault::of_error_object(&words))),
            Err(_) => Err(no_completion(&Words::of_body(&body).message)),
        }
    }

    pub(super) fn guarded(self, chunks: Chunks) -> Response {
        let guard = Guard {
            chunks,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            deadline: Instant::now() + self.stall,
            stall: self.stall,
            tap: self.tap,
        };
        respond(stream::unfold(guard, |mut guard| async move {
            let bytes = guard.next().await?;
            Some((Ok::<_, std::io::Error>(bytes), guard))
        }))
    }
}

/// Turns the server's bytes into plain events and notes how they ended.
struct Guard {
    chunks: Chunks,
    decoder: Decoder,
    ready: VecDeque<Event>,
    deadline: Instant,
    stall: Duration,
    tap: Arc<Mutex<Tap>>,
}

impl Guard {
    /// The next event as bytes; None at the end, which is then in the tap.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                let data = event.data.trim();
                if data == "[DONE]" {
                    let rest = async { while let Some(Ok(_)) = self.chunks.next().await {} };
                    let _ = timeout(DRAIN, rest).await;
                    return self.end(End::Done);
                }
                if is_data(&event.name, data) {
                    self.deadline = Instant::now() + self.stall;
                    return Some(encode(data));
                }
            }
            if self.tap.lock().expect("no one panics with the tap").end.is_some() {
                return None;
            }
            self.receive().await;
        }
    }

    async fn receive(&mut self) {
        let mut events = Vec::new();
        let end = match timeout_at(self.deadline, self.chunks.next()).await {
            Err(_) => Some(End::Fault(stalled(self.stall))),
            Ok(Some(Err(error))) => Some(End::Fault(broken(&error))),
            Ok(None) => {
                self.decoder.finish(&mut events);
                // What was cut within an event is no event.
                events.retain(|event| event.data.trim() == "[DONE]" || is_json(&event.data));
                Some(End::Eof)
            }
            Ok(Some(Ok(bytes))) => {
                self.decoder.push(&bytes, &mut events);
                self.note(&bytes)
            }
        };
        self.ready.extend(events);
        if let Some(end) = end {
            self.end(end);
        }
    }

    fn note(&self, bytes: &[u8]) -> Option<End> {
        let mut tap = self.tap.lock().expect("no one panics with the tap");
        tap.raw.extend_from_slice(bytes);
        let is_too_long = tap.raw.len() > MAX_RESPONSE;
        is_too_long.then(|| End::Fault(too_long()))
    }

    fn end(&self, end: End) -> Option<Bytes> {
        self.tap.lock().expect("no one panics with the tap").end = Some(end);
        None
    }
}

/// Whether it is a whole completion, or a whole response.
fn is_answer(json: &serde_json::Value) -> bool {
    let has = |name: &str| json[name].as_array().is_some_and(|list| !list.is_empty());
    has("choices") || (has("output") && json.get("error").is_none_or(serde_json::Value::is_null))
}

/// Whether an event brings something: signs of life alone must not keep a dead answer alive.
fn is_data(name: &str, data: &str) -> bool {
    !matches!(name, "ping" | "keepalive" | "heartbeat") && !matches!(data, "" | "{}")
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// One plain event; what is no JSON becomes a JSON string, for the reader to judge.
fn encode(data: &str) -> Bytes {
    // Outside of strings, where no raw line break can be, a line break in JSON is as good as a blank.
    let line = if is_json(data) { data.replace(['\n', '\r'], " ") } else { serde_json::Value::from(data).to_string() };
    Bytes::from(format!("data: {line}\n\n"))
}

fn respond(events: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Response {
    Response::from(http::Response::new(reqwest::Body::wrap_stream(events)))
}

/// Reads a body up to a size; on failure there is what came of it, too.
async fn read(response: Response, stall: Duration, most: usize) -> Result<Vec<u8>, (Fault, Vec<u8>)> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    loop {
        match timeout(stall, chunks.next()).await {
            Err(_) => return Err((stalled(stall), body)),
            Ok(None) => return Ok(body),
            Ok(Some(Err(error))) => return Err((broken(&error), body)),
            Ok(Some(Ok(bytes))) => body.extend_from_slice(&bytes),
        }
        if body.len() > most {
            body.truncate(most);
            return Err((too_long(), body));
        }
    }
}

fn stalled(stall: Duration) -> Fault {
    Fault::passing(format!("the model's server sent nothing for {} s", stall.as_secs_f32()), "")
}

fn too_long() -> Fault {
    let what = format!("the model's server sent more than {} MB", MAX_RESPONSE >> 20);
    Fault::lasting(ModelErrorKind::Protocol, what, "")
}

fn no_completion(because: &str) -> Fault {
    let what = "the model's server sent something else than a completion";
    Fault::lasting(ModelErrorKind::Protocol, what, because).hint(super::V1_HINT)
}

fn broken(error: &reqwest::Error) -> Fault {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.raw_os_error().is_some()) {
            // What the system says needs no account of the layers that it came through.
            causes.clear();
        }
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    let because = one_line(&causes.join(": "));
    if !error.is_connect() {
        return Fault::passing("the connection to the model's server broke", because);
    }
    let origin = error.url().map(|url| format!("{}: ", url.origin().ascii_serialization())).unwrap_or_default();
    let because = format!("{origin}{because}");
    let hint = "check OPENAI_BASE_URL, and that the server runs and can be reached from here";
    Fault { remedy: Remedy::Reach, ..Fault::passing("the model's server can't be reached", because) }.hint(hint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunk::Reading;
    use super::*;
    use crate::model::assemble::Assembled;

    /// What comes out for bytes that come in these parts.
    fn read(parts: Vec<Vec<u8>>) -> (Result<Assembled, Fault>, Option<End>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let tap = Arc::new(Mutex::new(Tap::default()));
        let stall = Duration::from_secs(5);
        let exchange = Exchange { http: client(), stall, tap: Arc::clone(&tap) };
        let chunks = stream::iter(parts.into_iter().map(|part| Ok(Bytes::from(part)))).boxed();
        let plain = runtime.block_on(exchange.guarded(chunks).bytes()).unwrap();
        let mut reading = Reading::default();
        let taken = String::from_utf8(plain.to_vec()).unwrap().split_terminator("\n\n").try_for_each(|event| {
            let data = event.strip_prefix("data: ").expect("one line of data per event");
            reading.take(&serde_json::from_str(data).expect("data is JSON"), &mut |_| {})
        });
        let end = tap.lock().unwrap().end.clone();
        (taken.map(|()| reading.assembly.finish()), end)
    }

    fn client() -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
    }

    const STREAM: &str = "\u{feff}: hello\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Grüße \"}}]}\r\n\r\n\
        event: ping\ndata: {}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":\ndata: [{\"index\":0,\"id\":\"a\",\
        \"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":\\\"é\\\"}\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE] \n\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_split_of_a_stream_gives_the_same_answer(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let (answer, end) = read(cut(STREAM.as_bytes(), &cuts));
            let answer = answer.unwrap();
            prop_assert_eq!(answer.text, "Grüße ");
            prop_assert_eq!(&answer.calls[0].arguments, "{\"x\":\"é\"}");
            prop_assert_eq!(end, Some(End::Done));
        }

        #[test]
        fn no_damage_to_a_stream_and_no_cut_makes_it_panic(
            junk in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in any::<prop::sample::Index>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut bytes = STREAM.as_bytes().to_vec();
            for (at, byte) in junk {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            prop_assert_eq!(read(cut(&bytes, &cuts)), read(vec![bytes]));
        }
    }
}
