//! The wire between a client and its guest: frames out, answers and events in.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::error::GuestError;
use super::facts::Event;
use super::frame::{FrameReader, encode};
use super::protocol::{Ask, Hello, Request, Tell, VERSION, Welcome};

const OUTGOING: usize = 64;

/// An open channel: numbers requests and brings each answer to whom it belongs.
#[derive(Debug)]
pub(super) struct Channel {
    /// What the guest said of itself.
    pub(super) welcome: Welcome,
    outgoing: mpsc::Sender<Bytes>,
    waiting: Mutex<Waiting>,
    events: broadcast::Sender<(Event, Bytes)>,
    gone: watch::Sender<bool>,
    reader: tokio::task::AbortHandle,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The channel was closed before it left.
    Unsent,
    /// The channel was closed after that: whether it arrived is not known.
    Sent,
}

/// An answer: its value and its payload.
pub(super) type Answer = Result<(serde_json::Value, Bytes), GuestError>;

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    closed: bool,
    calls: HashMap<u64, oneshot::Sender<Answer>>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A call under way; tells the guest when nobody waits for its answer any more.
struct Call<'a> {
    channel: &'a Channel,
    id: u64,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let pending = self.channel.lock().calls.remove(&self.id).is_some();
        if pending && !self.answered {
            let forget = Ask { id: 0, request: Request::Forget { request: self.id } };
            if let Ok(frame) = encode(&forget, b"") {
                let _ = self.channel.outgoing.try_send(frame);
            }
        }
    }
}

impl Channel {
    /// Hears the guest's welcome, then serves the channel in the background until either side closes it. What the guest
    /// tells unasked goes to `events`.
    ///
    /// # Errors
    /// [`GuestError::NotWelcome`] when the guest hangs up, [`GuestError::Version`] when it is another program's.
    pub(super) async fn open<R, W>(
        reader: R,
        writer: W,
        events: broadcast::Sender<(Event, Bytes)>,
    ) -> Result<Arc<Self>, GuestError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let mut reader = FrameReader::new(reader, BytesMut::new());
        let first = reader.next::<Tell>().await.map_err(|_| GuestError::NotWelcome)?;
        let Some(Tell::Welcome(welcome)) = first.map(|frame| frame.header) else { return Err(GuestError::NotWelcome) };
        if welcome.version != VERSION {
            return Err(GuestError::Version { guest: welcome.version, host: VERSION });
        }
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let (start, started) = oneshot::channel::<std::sync::Weak<Channel>>();
        let reading = tokio::spawn(async move {
            if let Ok(channel) = started.await {
                receive(reader, &channel).await;
                if let Some(channel) = channel.upgrade() {
                    channel.close();
                }
            }
        });
        let channel = Arc::new(Channel {
            welcome,
            outgoing,
            waiting: Mutex::default(),
            events,
            gone: watch::Sender::new(false),
            reader: reading.abort_handle(),
        });
        tokio::spawn(send(writer, queue, Arc::downgrade(&channel)));
        let _ = start.send(Arc::downgrade(&channel));
        Ok(channel)
    }

    /// Whether it is closed, now and later.
    pub(super) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// Sends a request and waits for its answer. Dropping the future gives the answer up.
    ///
    /// # Errors
    /// [`Unanswered`] at once when the channel closes; within the answer [`GuestError::Refused`].
    pub(super) async fn ask(&self, request: Request, payload: &[u8]) -> Result<Answer, Unanswered> {
        let (id, answer) = self.register()?;
        let mut call = Call { channel: self, id, answered: false };
        let frame = match encode(&Ask { id, request }, payload) {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(GuestError::Protocol(error))),
        };
        self.outgoing.send(frame).await.map_err(|_| Unanswered::Unsent)?;
        let answer = answer.await.map_err(|_| Unanswered::Sent);
        call.answered = true;
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) -> Result<(u64, oneshot::Receiver<Answer>), Unanswered> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Unanswered::Unsent);
        }
        waiting.next += 1;
        let id = waiting.next;
        waiting.calls.insert(id, sender);
        Ok((id, receiver))
    }

    fn answer(&self, id: u64, answer: Answer) {
        let call = self.lock().calls.remove(&id);
        if let Some(call) = call {
            let _ = call.send(answer);
        }
    }

    fn close(&self) {
        let calls = {
            let mut waiting = self.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.calls)
        };
        // Whoever waits for an answer learns by this that none will come.
        drop(calls);
        self.gone.send_replace(true);
    }
}

async fn receive<R: AsyncRead + Unpin>(mut reader: FrameReader<R>, channel: &std::sync::Weak<Channel>) {
    while let Ok(Some(frame)) = reader.next::<Tell>().await {
        let Some(channel) = channel.upgrade() else { return };
        match frame.header {
            Tell::Welcome(_) => {}
            Tell::Done(id, value) => channel.answer(id, Ok((value, frame.payload))),
            Tell::Refused(id, refusal) => channel.answer(id, Err(refusal.into())),
            Tell::Event(event) => {
                let _ = channel.events.send((event, frame.payload));
            }
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Bytes>,
    channel: std::sync::Weak<Channel>,
) {
    while let Some(frame) = queue.recv().await {
        let written = async {
            writer.write_all(&frame).await?;
            if queue.is_empty() { writer.flush().await } else { Ok(()) }
        };
        if written.await.is_err() {
            if let Some(channel) = channel.upgrade() {
                channel.close();
            }
            return;
        }
    }
    let _ = writer.shutdown().await;
}

/// Says hello, with the directory for logs if there is one.
pub(super) fn send_hello(stream: &UnixStream, token: &str, logs: Option<OwnedFd>) -> io::Result<()> {
    let hello = encode(&Hello { version: VERSION, token: token.to_owned() }, b"")?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = logs.as_ref().map(|logs| [logs.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&hello)], &mut control, SendFlags::NOSIGNAL)?;
    io::Write::write_all(&mut &*stream, &hello[sent..])
}
