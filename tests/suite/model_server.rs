//! A Chat Completions server that does as it is told: replies from a queue or a closure, faults of every kind.
//!
//! It listens on 127.0.0.1 in a thread of its own, so that it serves plain and async tests alike, and ends when dropped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use futures_util::stream;
use serde_json::{Value, json};

const UNPOISONED: &str = "no closure that makes replies has panicked";

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The path, such as `/v1/chat/completions`.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes.
    pub(crate) raw: Vec<u8>,
    /// The body as JSON; null where it is none.
    pub(crate) body: Value,
}

impl Seen {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The text of the last message.
    pub(crate) fn last_text(&self) -> &str {
        let messages = self.body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

/// A piece of a reply's body.
#[derive(Debug, Clone)]
enum Step {
    Bytes(Vec<u8>),
    Pause(Duration),
    /// Says nothing more until the client goes.
    Hang,
    /// Says this again and again, with a pause each time, until the client goes.
    Repeat(Vec<u8>, Duration),
    /// Breaks the connection.
    Abort,
}

/// What the server is to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
    /// Not even headers are sent until the client goes.
    mute: bool,
}

impl Reply {
    /// An answer of words, streamed word by word.
    pub(crate) fn text(text: &str) -> Self {
        Self::answer(text, &[])
    }

    /// An answer that calls one tool.
    pub(crate) fn call(tool: &str, arguments: &Value) -> Self {
        Self::answer("", &[(tool, arguments.to_string())])
    }

    /// An answer that calls several tools at once.
    pub(crate) fn calls(calls: &[(&str, Value)]) -> Self {
        let calls: Vec<_> = calls.iter().map(|(tool, arguments)| (*tool, arguments.to_string())).collect();
        Self::answer("", &calls)
    }

    /// Words and calls, whose arguments are sent as they stand, be they JSON or not; ids are unique in the process.
    pub(crate) fn answer(text: &str, calls: &[(&str, String)]) -> Self {
        static IDS: AtomicUsize = AtomicUsize::new(1);
        let mut chunks = vec![json!({"role": "assistant", "content": ""})];
        chunks.extend(text.split_inclusive(' ').map(|word| json!({"content": word})));
        for (index, (tool, arguments)) in calls.iter().enumerate() {
            let id = format!("call_{}", IDS.fetch_add(1, Ordering::Relaxed));
            let function = json!({"name": tool, "arguments": ""});
            chunks.push(json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}));
            let (head, tail) = arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2));
            for part in [head, tail] {
                chunks.push(json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]}));
            }
        }
        let mut steps: Vec<_> =
            chunks.into_iter().map(|delta| data(&json!({"choices": [{"index": 0, "delta": delta}]}))).collect();
        let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
        steps.push(data(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})));
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        steps.push(data(&json!({"choices": [], "usage": usage})));
        steps.push(Step::Bytes(b"data: [DONE]\n\n".to_vec()));
        Self::stream(steps)
    }

    /// The same, its prompt said to have been so many tokens.
    #[must_use]
    pub(crate) fn counted(mut self, prompt_tokens: u64) -> Self {
        let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": 10});
        let at = self.steps.len() - 2;
        self.steps[at] = data(&json!({"choices": [], "usage": usage}));
        self
    }

    /// A stream of exactly these bytes.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::stream(vec![Step::Bytes(bytes.into())])
    }

    /// A status with an empty body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), steps: Vec::new(), mute: false }
    }

    /// Accepts the request and never answers.
    pub(crate) fn mute() -> Self {
        Self { mute: true, ..Self::status(200) }
    }

    fn stream(steps: Vec<Step>) -> Self {
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        Self { status: 200, headers, steps, mute: false }
    }

    /// Adds or replaces a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Appends a JSON body.
    #[must_use]
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Appends bytes to the body.
    #[must_use]
    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Bytes(bytes.into()));
        self
    }

    /// Waits this long before each piece of the body.
    #[must_use]
    pub(crate) fn paced(mut self, pause: Duration) -> Self {
        self.steps = self.steps.into_iter().flat_map(|step| [Step::Pause(pause), step]).collect();
        self
    }

    /// Sends only the first `pieces` of the body and then breaks the connection.
    #[must_use]
    pub(crate) fn abort_after(mut self, pieces: usize) -> Self {
        self.steps.truncate(pieces);
        self.steps.push(Step::Abort);
        self
    }

    /// Sends only the first `pieces` of the body and then nothing, with the connection open.
    #[must_use]
    pub(crate) fn stall_after(mut self, pieces: usize) -> Self {
        self.steps.truncate(pieces);
        self.steps.push(Step::Hang);
        self
    }

    /// Sends only the first `pieces` of the body and then ends it properly, but without `[DONE]`.
    #[must_use]
    pub(crate) fn end_after(mut self, pieces: usize) -> Self {
        self.steps.truncate(pieces);
        self
    }

    /// Sends only the first `pieces` of the body, and then these bytes for ever, with a pause before each time.
    #[must_use]
    pub(crate) fn endless_after(mut self, pieces: usize, bytes: impl Into<Vec<u8>>, pause: Duration) -> Self {
        self.steps.truncate(pieces);
        self.steps.push(Step::Repeat(bytes.into(), pause));
        self
    }

    fn into_response(self, gone: Gone) -> Response {
        let steps = VecDeque::from(self.steps);
        let body = stream::unfold((steps, gone), |(mut steps, gone)| async move {
            loop {
                match steps.pop_front() {
                    Some(Step::Bytes(bytes)) => return Some((Ok(Bytes::from(bytes)), (steps, gone))),
                    Some(Step::Pause(pause)) => tokio::time::sleep(pause).await,
                    Some(Step::Hang) => std::future::pending().await,
                    Some(Step::Repeat(bytes, pause)) => {
                        tokio::time::sleep(pause).await;
                        steps.push_front(Step::Repeat(bytes.clone(), pause));
                        return Some((Ok(Bytes::from(bytes)), (steps, gone)));
                    }
                    Some(Step::Abort) => {
                        // What was said before is sent before the line goes dead.
                        tokio::task::yield_now().await;
                        return Some((Err(std::io::Error::other("told to abort")), (steps, gone)));
                    }
                    None => {
                        gone.served();
                        return None;
                    }
                }
            }
        });
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from_stream(body)).expect("status and headers are legal")
    }
}

fn data(chunk: &Value) -> Step {
    let mut chunk = chunk.clone();
    chunk["id"] = json!("chatcmpl-1");
    chunk["object"] = json!("chat.completion.chunk");
    chunk["created"] = json!(1);
    chunk["model"] = json!("fake");
    Step::Bytes(format!("data: {chunk}\n\n").into_bytes())
}

type Answerer = Box<dyn FnMut(&Seen) -> Reply + Send>;

struct Shared {
    answerer: Mutex<Answerer>,
    seen: Mutex<Vec<Seen>>,
    seen_more: Condvar,
    left: Mutex<usize>,
    left_more: Condvar,
    connections: AtomicUsize,
}

/// Notes a client that went before it was served.
struct Gone {
    shared: Arc<Shared>,
    is_served: bool,
}

impl Gone {
    fn served(mut self) {
        self.is_served = true;
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if !self.is_served {
            *self.shared.left.lock().expect(UNPOISONED) += 1;
            self.shared.left_more.notify_all();
        }
    }
}

/// The server, up from [`ModelServer::start`] until it is dropped.
pub(crate) struct ModelServer {
    shared: Arc<Shared>,
    queue: Arc<Mutex<VecDeque<Reply>>>,
    base_url: String,
    stop: Option<tokio::sync::oneshot::Sender<Infallible>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ModelServer {
    /// Starts a server that answers from the queue ([`ModelServer::push`]); 418 once that is empty.
    pub(crate) fn start() -> Self {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        let replies = Arc::clone(&queue);
        let mut server = Self::replying(move |_| {
            let empty = || Reply::status(418).json(&json!({"error": {"message": "the queue of replies is empty"}}));
            replies.lock().expect(UNPOISONED).pop_front().unwrap_or_else(empty)
        });
        server.queue = queue;
        server
    }

    /// Starts a server whose replies a closure makes from the request.
    pub(crate) fn replying(answerer: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            answerer: Mutex::new(Box::new(answerer)),
            seen: Mutex::default(),
            seen_more: Condvar::new(),
            left: Mutex::default(),
            left_more: Condvar::new(),
            connections: AtomicUsize::new(0),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<Infallible>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("it is bound"));
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, state) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { shared, queue: Arc::default(), base_url, stop: Some(stop), thread: Some(thread) }
    }

    /// What `OPENAI_BASE_URL` is to be.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Adds a reply to the queue.
    pub(crate) fn push(&self, reply: Reply) {
        self.queue.lock().expect(UNPOISONED).push_back(reply);
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect(UNPOISONED).clone()
    }

    /// Waits until this many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Seen> {
        let seen = self.shared.seen.lock().expect(UNPOISONED);
        let limit = Duration::from_secs(60);
        let (seen, late) =
            self.shared.seen_more.wait_timeout_while(seen, limit, |seen| seen.len() < count).expect(UNPOISONED);
        assert!(!late.timed_out(), "{count} requests wanted, {} came", seen.len());
        seen.clone()
    }

    /// Waits until this many clients have left before they were served.
    pub(crate) fn wait_for_leavers(&self, count: usize) {
        let left = self.shared.left.lock().expect(UNPOISONED);
        let limit = Duration::from_secs(60);
        let (left, late) =
            self.shared.left_more.wait_timeout_while(left, limit, |left| *left < count).expect(UNPOISONED);
        assert!(!late.timed_out(), "{count} clients should have left, {left} did");
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let failed = self.shared.answerer.is_poisoned() && !std::thread::panicking();
        assert!(!failed, "the closure that makes the replies panicked");
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket");
    let counted = Arc::clone(&shared);
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket").tap_io(move |stream| {
        let _ = stream.set_nodelay(true);
        counted.connections.fetch_add(1, Ordering::SeqCst);
    });
    axum::serve(listener, axum::Router::new().fallback(answer).with_state(shared))
        .await
        .expect("it serves until dropped");
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let raw = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default().to_vec();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let seen = Seen {
        path: parts.uri.path().to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: serde_json::from_slice(&raw).unwrap_or_default(),
        raw,
    };
    shared.seen.lock().expect(UNPOISONED).push(seen.clone());
    shared.seen_more.notify_all();
    let reply = (shared.answerer.lock().expect(UNPOISONED))(&seen);
    let gone = Gone { shared: Arc::clone(&shared), is_served: false };
    if reply.mute {
        std::future::pending::<()>().await;
    }
    reply.into_response(gone)
}
