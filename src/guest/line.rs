//! The tie between a client and its guest: one channel at a time, made again when it breaks.
//!
//! A guest outlives its connections, so a broken one says nothing about it. What was asked and not answered is asked
//! again where that does no harm; the rest fails, and the error says that nobody knows whether it took effect.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::channel::{Answer, Channel, Unanswered, send_hello};
use super::error::GuestError;
use super::facts::Event;
use super::frame::encode;
use super::protocol::{Hello, Request, VERSION, Welcome};

/// How long a broken connection is tried to be made again where the connector does not say otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one try may take to be greeted.
const GREETING: Duration = Duration::from_secs(10);
/// The pause after the first try that failed; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

const EVENTS: usize = 1024;

/// A fresh way to a guest, on which nothing has been said yet.
pub enum Ends {
    /// A socket, over which a descriptor of the directory for logs can travel.
    Socket {
        /// Connected to the guest's.
        stream: UnixStream,
        /// The directory.
        logs: Option<OwnedFd>,
    },
    /// A pair of pipes, such as a relay's.
    Pipes {
        /// What the guest says.
        reader: Box<dyn AsyncRead + Send + Unpin>,
        /// What it is told.
        writer: Box<dyn AsyncWrite + Send + Unpin>,
    },
}

/// Why there is no way to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWay {
    /// The guest has ended: no later try will do.
    Dead,
    /// It may be there, in words why it was not reached; a later try may do.
    Later(String),
}

/// Makes new ways to one guest.
#[async_trait::async_trait]
pub trait Connector: Send + Sync {
    /// Makes one. May be cancelled.
    async fn connect(&self) -> Result<Ends, NoWay>;

    /// How long to try after the connection broke.
    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// A connection that broke and was made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mended {
    /// How long there was none.
    pub after: Duration,
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.after.as_secs_f64();
        write!(f, "the connection to the box broke and was made again after {seconds:.1} s; what runs there went on")
    }
}

/// A client's side of the tie. Dropped, it closes the channel.
pub(super) struct Line {
    /// What the guest said of itself at first.
    pub(super) welcome: Welcome,
    /// What it tells unasked, over whichever channel.
    pub(super) events: broadcast::Sender<(Event, Bytes)>,
    /// Tells of each time the channel was made again.
    pub(super) mended: broadcast::Sender<Mended>,
    token: String,
    connector: OnceLock<Arc<dyn Connector>>,
    tie: watch::Sender<Tie>,
    closing: AtomicBool,
    keeper: OnceLock<AbortHandle>,
}

#[derive(Debug, Clone)]
enum Tie {
    Whole(Arc<Channel>),
    /// Being made again.
    Broken,
    /// For good; with a reason where it is more than the guest's end.
    Gone(Option<String>),
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("tie", &*self.tie.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl Line {
    /// Greets the guest at the other end. Must be called within a runtime.
    ///
    /// # Errors
    /// [`GuestError::NotWelcome`] when the guest hangs up, [`GuestError::Version`] when it is another program's.
    pub(super) async fn open(ends: Ends, token: &str) -> Result<Arc<Self>, GuestError> {
        let (events, _) = broadcast::channel(EVENTS);
        let channel = greet(ends, token, events.clone()).await?;
        let gone = channel.gone();
        let line = Arc::new(Self {
            welcome: channel.welcome.clone(),
            events,
            mended: broadcast::channel(16).0,
            token: token.to_owned(),
            connector: OnceLock::new(),
            tie: watch::Sender::new(Tie::Whole(channel)),
            closing: AtomicBool::new(false),
            keeper: OnceLock::new(),
        });
        let keeper = tokio::spawn(keep(Arc::downgrade(&line), gone));
        let _ = line.keeper.set(keeper.abort_handle());
        Ok(line)
    }

    /// From now on a broken channel is made again by `connector`. The first one stays.
    pub(super) fn mend_by(&self, connector: Arc<dyn Connector>) {
        let _ = self.connector.set(connector);
    }

    /// From now on a broken channel stays so.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Waits until the guest is gone, or given up.
    pub(super) async fn gone(&self) {
        // The sender lives as long as `self`.
        let _ = self.tie.subscribe().wait_for(|tie| matches!(tie, Tie::Gone(_))).await;
    }

    /// Asks, and asks again over a new channel where that does no harm.
    pub(super) async fn ask(&self, request: &Request, payload: &[u8]) -> Answer {
        loop {
            let channel = self.whole().await?;
            match channel.ask(request.clone(), payload).await {
                Ok(answer) => return answer,
                Err(Unanswered::Unsent) => self.left(&channel).await,
                Err(Unanswered::Sent) if request.may_be_repeated() => self.left(&channel).await,
                Err(Unanswered::Sent) => {
                    self.left(&channel).await;
                    // A guest that is gone is the greater news.
                    self.whole().await?;
                    return Err(GuestError::Unanswered);
                }
            }
        }
    }

    /// The channel, as soon as there is one.
    async fn whole(&self) -> Result<Arc<Channel>, GuestError> {
        let mut tie = self.tie.subscribe();
        let settled = tie.wait_for(|tie| !matches!(tie, Tie::Broken)).await;
        match settled.as_deref() {
            Ok(Tie::Whole(channel)) => Ok(channel.clone()),
            Ok(Tie::Gone(Some(why))) => Err(GuestError::Lost { why: why.clone() }),
            Ok(Tie::Gone(None) | Tie::Broken) | Err(_) => Err(GuestError::Gone),
        }
    }

    /// Waits until this channel is no longer the one.
    async fn left(&self, old: &Arc<Channel>) {
        let is_other = |tie: &Tie| !matches!(tie, Tie::Whole(channel) if Arc::ptr_eq(channel, old));
        let _ = self.tie.subscribe().wait_for(is_other).await;
    }

    /// The channel has broken: by whom it can be made again, if by anybody.
    fn broke(&self) -> Option<Arc<dyn Connector>> {
        let connector = self.connector.get().filter(|_| !self.closing.load(Ordering::Acquire)).cloned();
        self.tie.send_replace(if connector.is_some() { Tie::Broken } else { Tie::Gone(None) });
        connector
    }
}

/// Watches over the channel and makes it again, until the guest is gone or nobody needs it.
async fn keep(line: Weak<Line>, mut gone: watch::Receiver<bool>) {
    loop {
        // An error is a channel that was dropped, and so as gone.
        let _ = gone.wait_for(|gone| *gone).await;
        let began = Instant::now();
        let (mending, connector) = {
            let Some(line) = line.upgrade() else { return };
            let Some(connector) = line.broke() else { return };
            (Mending { token: line.token.clone(), life: line.welcome.life, events: line.events.clone() }, connector)
        };
        let made = mending.until(&*connector, began + connector.patience()).await;
        let Some(line) = line.upgrade() else { return };
        match made {
            Ok(channel) => {
                gone = channel.gone();
                line.tie.send_replace(Tie::Whole(channel));
                // Nobody may be listening.
                let _ = line.mended.send(Mended { after: began.elapsed() });
            }
            Err(why) => {
                line.tie.send_replace(Tie::Gone(why));
                return;
            }
        }
    }
}

/// What it takes to be greeted as the same host by the same guest.
struct Mending {
    token: String,
    life: u64,
    events: broadcast::Sender<(Event, Bytes)>,
}

impl Mending {
    /// Tries until it works, until it never will, or until the deadline. Neither a socket nor an engine tells when it
    /// can be reached again, so this has to try from time to time.
    async fn until(&self, connector: &dyn Connector, deadline: Instant) -> Result<Arc<Channel>, Option<String>> {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match timeout(GREETING, self.once(connector)).await {
                Ok(Ok(channel)) if channel.welcome.life == self.life => return Ok(channel),
                Ok(Ok(_)) => return Err(Some("it was started anew, and what ran in it is gone".to_owned())),
                Ok(Err(NoWay::Dead)) => return Err(None),
                Ok(Err(NoWay::Later(why))) => why,
                Err(_) => "it does not greet".to_owned(),
            };
            tracing::debug!(why, "the channel to the guest is not there yet");
            if Instant::now() + pause > deadline {
                return Err(Some(format!("the connection broke and could not be made again: {why}")));
            }
            sleep(pause).await;
            pause = LAST_PAUSE.min(pause * 2);
        }
    }

    async fn once(&self, connector: &dyn Connector) -> Result<Arc<Channel>, NoWay> {
        let ends = connector.connect().await?;
        // A guest that hangs up is going down, or the way to it is cut once more: the next try will tell.
        greet(ends, &self.token, self.events.clone()).await.map_err(|error| NoWay::Later(error.to_string()))
    }
}

/// Says hello and hears the welcome.
async fn greet(ends: Ends, token: &str, events: broadcast::Sender<(Event, Bytes)>) -> Result<Arc<Channel>, GuestError> {
    match ends {
        Ends::Socket { stream, logs } => {
            stream.set_nonblocking(false).map_err(GuestError::Protocol)?;
            send_hello(&stream, token, logs).map_err(|_| GuestError::NotWelcome)?;
            stream.set_nonblocking(true).map_err(GuestError::Protocol)?;
            let stream = tokio::net::UnixStream::from_std(stream).map_err(GuestError::Protocol)?;
            let (reader, writer) = stream.into_split();
            Channel::open(reader, writer, events).await
        }
        Ends::Pipes { reader, mut writer } => {
            let hello = Hello { version: VERSION, token: token.to_owned() };
            let hello = encode(&hello, b"").map_err(GuestError::Protocol)?;
            writer.write_all(&hello).await.map_err(|_| GuestError::NotWelcome)?;
            writer.flush().await.map_err(|_| GuestError::NotWelcome)?;
            Channel::open(reader, writer, events).await
        }
    }
}
