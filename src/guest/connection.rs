//! One host's connection: greets it, meets its requests, passes events on.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;

use super::check::{self, small_output};
use super::conditions::Watch;
use super::facts::{CommandState, Event, Phase, Refusal, RefusalKind, TermSize};
use super::frame::{Frame, FrameReader, decode, encode};
use super::log::RawLog;
use super::protocol::{Ask, Hello, LogSize, MAX_READ, PtyOpened, Request, Tell, VERSION, Welcome};
use super::pty::{HUNG_UP, Program, Pty};
use super::session::Session;
use super::supervisor::{Known, Supervisor, refusal_of, refuse, signal_group};
use super::{files, freeze, keep, strangers, survey, tmux, vitals};
use crate::domain::Exit;

/// How long a stranger may take to say who it is.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// Frames that may wait for a host that doesn't read; then it is waited for.
const OUTGOING: usize = 64;

/// A larger part of a log is read on another thread.
const SMALL_READ: u64 = 64 << 10;

/// Serves one connection to its end.
pub(super) async fn serve(boss: Rc<Supervisor>, stream: UnixStream) {
    let greeted = tokio::time::timeout(GREETING_TIME, greet(&boss, &stream)).await;
    // A stranger is told nothing.
    let Ok(Ok(read_ahead)) = greeted else { return };
    let connection = boss.freezer.connected(stream.peer_cred().ok().and_then(|peer| peer.pid()));
    let (reader, writer) = stream.into_split();
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let host = Rc::new(Host {
        boss,
        connection,
        outgoing,
        waits: RefCell::default(),
        ptys: RefCell::default(),
        next: Cell::new(1),
    });
    let events = tokio::task::spawn_local(pass_events(host.boss.events(), host.outgoing.clone()));
    let writing = tokio::task::spawn_local(write(writer, queue));
    let mut reader = FrameReader::new(reader, read_ahead);
    // What would stir a box that is held waits here, in order.
    let (mut thawed, held) = (host.boss.freezer.watch(), host.boss.freezer.watch());
    let mut waiting = VecDeque::new();
    loop {
        let next = tokio::select! {
            biased;
            _ = thawed.wait_for(|held| !held), if !waiting.is_empty() => waiting.pop_front(),
            frame = reader.next::<Ask>() => match frame {
                Ok(Some(frame)) if frame.header.request.stirs() && *held.borrow() => {
                    waiting.push_back(frame);
                    continue;
                }
                Ok(Some(frame)) => Some(frame),
                Ok(None) | Err(_) => None,
            },
        };
        let Some(Frame { header: Ask { id, request }, payload }) = next else { break };
        if host.meet(id, request, payload).await.is_err() {
            break;
        }
    }
    events.abort();
    writing.abort();
    host.hang_up();
}

/// A host that is connected.
struct Host {
    boss: Rc<Supervisor>,
    /// Its number.
    connection: u64,
    outgoing: mpsc::Sender<Bytes>,
    waits: RefCell<HashMap<u64, AbortHandle>>,
    ptys: RefCell<HashMap<u64, OpenPty>>,
    next: Cell<u64>,
}

struct OpenPty {
    pty: Rc<Pty>,
    pid: i32,
    keys: mpsc::Sender<Bytes>,
    tasks: [AbortHandle; 2],
}

type Answer = Result<(Value, Bytes), Refusal>;

/// The connection is closed.
struct Closed;

impl Host {
    async fn meet(self: &Rc<Self>, id: u64, request: Request, payload: Bytes) -> Result<(), Closed> {
        let answer = match request {
            Request::AwaitEnd { id: command } => return self.await_end(id, &command).await,
            Request::AwaitGrowth { log, beyond } => return self.await_growth(id, &log, beyond).await,
            Request::Forget { request } => {
                if let Some(wait) = self.waits.borrow_mut().remove(&request) {
                    wait.abort();
                }
                return Ok(());
            }
            Request::Shutdown => {
                self.boss.stop.send_replace(true);
                plain(Ok(()))
            }
            other => match self.in_time(id, other, payload) {
                Ok(None) => return Ok(()),
                Ok(Some(answer)) => Ok(answer),
                Err(refusal) => Err(refusal),
            },
        };
        self.answer(id, answer).await
    }

    /// Begins what takes time and is answered later (then the answer is None); answers the rest at once.
    fn in_time(self: &Rc<Self>, id: u64, request: Request, payload: Bytes) -> Result<Option<(Value, Bytes)>, Refusal> {
        let boss = self.boss.clone();
        match request {
            Request::Tmux => self.later(id, async move { plain(tmux::ensure(&boss).await) }),
            Request::Vitals => self.later(id, async move { plain(Ok(vitals::vitals(&boss).await)) }),
            Request::Mapped => self.later(id, async move { plain(Ok(freeze::mapped_files(boss).await)) }),
            Request::Hash { root, globs, most_files, most_bytes } => {
                let most = survey::Most { files: most_files, bytes: most_bytes };
                self.later(id, off_thread(move || survey::hashed(root.as_ref(), &globs, most)));
            }
            Request::HashPrograms { names, cwd } => {
                let path = boss.setup.base_env.get("PATH").cloned().unwrap_or_default();
                self.later(id, off_thread(move || Ok(survey::programs(names, cwd.as_ref(), &path))));
            }
            Request::Stirred { root, since_ns } => {
                self.later(id, async move { plain(Ok(survey::stirred(boss, root.into(), since_ns).await)) });
            }
            Request::Freeze => {
                // Goes on when nobody waits for it any more: what is stopped has to be known.
                let host = self.clone();
                tokio::task::spawn_local(async move {
                    let frozen = freeze::freeze(boss, host.connection).await;
                    let hold = frozen.as_ref().ok().map(|frozen| frozen.hold);
                    if let (Err(Closed), Some(hold)) = (host.answer(id, plain(frozen)).await, hold) {
                        host.boss.freezer.thaw(hold);
                    }
                });
            }
            Request::Await(condition) => {
                let watch = Watch::new(&boss, condition)?;
                self.later(id, async move { plain(watch.met(&boss).await) });
            }
            Request::Try(condition) => {
                let watch = Watch::new(&boss, condition)?;
                self.later(id, async move { plain(watch.tried().await) });
            }
            Request::Close { session } => {
                // Goes on when nobody waits for it any more.
                let closing = tokio::task::spawn_local(boss.session(&session)?.hang_up());
                self.later(id, async move { plain(Ok(closing.await.unwrap_or_default())) });
            }
            Request::EndOthers { keep } => {
                // Goes on when nobody waits for it any more.
                let ending = tokio::task::spawn_local(strangers::end_others(boss, keep));
                let given_up = || Err(refuse(RefusalKind::System, "it was given up"));
                self.later(id, async move { plain(ending.await.unwrap_or_else(|_| given_up())) });
            }
            Request::Keep { log, offset, end } => {
                let log = self.log(&log)?;
                self.later(id, async move { plain(keep::keep(&boss, log, offset, end).await) });
            }
            Request::ReadLog { log, offset, len } if len > SMALL_READ => {
                self.later(id, read_log(self.log(&log)?, offset, len.min(MAX_READ)));
            }
            other => return self.at_once(other, payload).map(Some),
        }
        Ok(None)
    }

    fn at_once(self: &Rc<Self>, request: Request, payload: Bytes) -> Answer {
        let boss = &self.boss;
        match request {
            Request::Open(open) => {
                let known = boss.session(&open.session).is_ok();
                let session = Session::open(boss, open)?;
                if !known {
                    tmux::show(boss);
                }
                plain(Ok(session.info()))
            }
            Request::Run(run) => plain(boss.session(&run.session)?.run(run, payload)),
            Request::Check(ask) => plain(check::start(boss, ask, &payload)),
            Request::Command { id } => plain(self.command(&id).map(|known| match known {
                Known::Live(command) => command.state(Instant::now()),
                Known::Recorded(state) => state,
            })),
            Request::ReadLog { log, offset, len } => {
                let log = self.log(&log)?;
                let bytes = log.read(offset, len.min(MAX_READ)).map_err(|error| refusal_of(&error, &log.name))?;
                with_bytes(LogSize { size: log.size() }, bytes)
            }
            Request::Sessions => {
                let sessions: Vec<_> = boss.sessions.borrow().values().map(|session| session.info()).collect();
                plain(Ok(sessions))
            }
            Request::Type { session, by } => plain(boss.session(&session)?.type_keys(payload, by)),
            Request::Signal { session, stop } => plain(boss.session(&session)?.signal(stop)),
            Request::Foreground { session } => plain(Ok(boss.session(&session)?.foreground())),
            Request::Resize { session, size } => {
                boss.session(&session)?.resize(size)?;
                tmux::resized(boss, &session, size);
                plain(Ok(()))
            }
            Request::OpenPty { argv, size } => plain(self.open_pty(&argv, size)),
            Request::PtyInput { pty } => {
                let sent = self.pty(pty, |open| open.keys.try_send(payload))?;
                plain(sent.map_err(|_| refuse(RefusalKind::Full, "nothing reads what is typed")))
            }
            Request::PtyResize { pty, size } => {
                plain(self.pty(pty, |open| open.pty.resize(size))?.map_err(|error| refusal_of(&error, "the terminal")))
            }
            Request::Rooms => plain(Ok(vitals::rooms(boss))),
            Request::Thaw { hold } => plain(Ok(boss.freezer.thaw(hold))),
            Request::Stat { path } => plain(files::stat(&path)),
            Request::ReadFile { path, offset, len } => {
                let (info, bytes) = files::read(&path, offset, len)?;
                with_bytes(info, bytes)
            }
            Request::WriteFile { path, mode } => plain(files::write(&path, &payload, mode)),
            Request::ListDir { path } => plain(files::list(&path)),
            Request::AwaitEnd { .. }
            | Request::Await(_)
            | Request::Try(_)
            | Request::Vitals
            | Request::Mapped
            | Request::Hash { .. }
            | Request::HashPrograms { .. }
            | Request::Stirred { .. }
            | Request::Freeze
            | Request::Close { .. }
            | Request::EndOthers { .. }
            | Request::AwaitGrowth { .. }
            | Request::Keep { .. }
            | Request::Tmux
            | Request::Forget { .. }
            | Request::Shutdown => Err(refuse(RefusalKind::Invalid, "not a request that is answered at once")),
        }
    }

    async fn await_end(self: &Rc<Self>, id: u64, command: &str) -> Result<(), Closed> {
        match self.command(command) {
            Err(refusal) => self.answer(id, Err(refusal)).await,
            Ok(Known::Recorded(state)) => self.answer(id, plain(Ok(state))).await,
            Ok(Known::Live(command)) => {
                self.later(id, async move {
                    command.ended().await;
                    let state = command.state(Instant::now());
                    let output = end_of(&state).map(|end| small_output(command.log(), state.offset, end));
                    with_bytes(state, output.unwrap_or_default())
                });
                Ok(())
            }
        }
    }

    async fn await_growth(self: &Rc<Self>, id: u64, log: &str, beyond: u64) -> Result<(), Closed> {
        let log = match self.log(log) {
            Ok(log) => log,
            Err(refusal) => return self.answer(id, Err(refusal)).await,
        };
        self.later(id, async move {
            let mut growth = log.growth();
            let size = growth.wait_for(|size| *size > beyond).await.map_or(beyond, |size| *size);
            plain(Ok(LogSize { size }))
        });
        Ok(())
    }

    fn command(&self, id: &str) -> Result<Known, Refusal> {
        self.boss.command(id).ok_or_else(|| refuse(RefusalKind::Unknown, format!("there is no command `{id}`")))
    }

    fn log(&self, name: &str) -> Result<Rc<RawLog>, Refusal> {
        self.boss.store().log(name).ok_or_else(|| refuse(RefusalKind::Unknown, format!("there is no log `{name}`")))
    }

    fn pty<T>(&self, number: u64, act: impl FnOnce(&OpenPty) -> T) -> Result<T, Refusal> {
        let ptys = self.ptys.borrow();
        let open = ptys.get(&number).ok_or_else(|| refuse(RefusalKind::Unknown, "that terminal is closed"))?;
        Ok(act(open))
    }

    fn open_pty(self: &Rc<Self>, argv: &[String], size: TermSize) -> Result<PtyOpened, Refusal> {
        let program = argv.first().ok_or_else(|| refuse(RefusalKind::Invalid, "no program is named"))?;
        let env: Vec<_> = self.boss.setup.base_env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let cwd = self.boss.setup.cwd.to_string_lossy();
        let (pty, pid) = Pty::spawn(&Program { argv, env: &env, cwd: &cwd }, size)
            .map_err(|error| refuse(RefusalKind::Missing, format!("{program}: {error}")))?;
        let exit = self.boss.watch_child(pid);
        let (pty, number) = (Rc::new(pty), self.next.replace(self.next.get() + 1));
        let (keys, mut typed) = mpsc::channel::<Bytes>(OUTGOING);
        let input = pty.clone();
        let typing = tokio::task::spawn_local(async move {
            while let Some(keys) = typed.recv().await {
                if input.write_all(&keys).await.is_err() {
                    return;
                }
            }
        });
        let (output, outgoing, host) = (pty.clone(), self.outgoing.clone(), Rc::downgrade(self));
        let showing = tokio::task::spawn_local(async move {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(read @ 1..) = output.read(&mut buffer).await {
                let frame = encode(&Tell::Event(Event::PtyOutput { pty: number }), &buffer[..read]);
                let Ok(frame) = frame else { return };
                if outgoing.send(frame).await.is_err() {
                    return;
                }
            }
            const { assert!(HUNG_UP == 0) };
            let exit = exit.await.unwrap_or(Exit::Code(-1));
            if let Some(host) = host.upgrade() {
                host.ptys.borrow_mut().remove(&number);
                if let Ok(frame) = encode(&Tell::Event(Event::PtyClosed { pty: number, exit }), b"") {
                    // The host may be gone.
                    let _ = outgoing.send(frame).await;
                }
            }
        });
        let tasks = [typing.abort_handle(), showing.abort_handle()];
        self.ptys.borrow_mut().insert(number, OpenPty { pty, pid, keys, tasks });
        Ok(PtyOpened { pty: number })
    }

    /// Answers when `answer` is there; until then other requests are met.
    fn later(self: &Rc<Self>, id: u64, answer: impl Future<Output = Answer> + 'static) {
        let host = self.clone();
        let task = tokio::task::spawn_local(async move {
            let answer = answer.await;
            host.waits.borrow_mut().remove(&id);
            // The connection may have been closed in the meantime.
            let _ = host.answer(id, answer).await;
        });
        if !task.is_finished() {
            self.waits.borrow_mut().insert(id, task.abort_handle());
        }
    }

    async fn answer(&self, id: u64, answer: Answer) -> Result<(), Closed> {
        let frame = match answer {
            Ok((value, payload)) => encode(&Tell::Done(id, value), &payload),
            Err(refusal) => encode(&Tell::Refused(id, refusal), b""),
        };
        let too_large = |error: io::Error| encode(&Tell::Refused(id, refusal_of(&error, "the answer")), b"");
        let frame = frame.or_else(too_large).map_err(|_| Closed)?;
        self.outgoing.send(frame).await.map_err(|_| Closed)
    }

    /// Gives up what only this host wanted. Sessions and commands go on.
    fn hang_up(&self) {
        self.boss.freezer.disconnected(self.connection);
        for (_, wait) in self.waits.borrow_mut().drain() {
            wait.abort();
        }
        for (_, open) in self.ptys.borrow_mut().drain() {
            signal_group(open.pid, rustix::process::Signal::HUP);
            for task in open.tasks {
                task.abort();
            }
        }
    }
}

/// Reads from a disk that may take its time, so on another thread.
async fn read_log(log: Rc<RawLog>, offset: u64, len: u64) -> Answer {
    let files = log.files();
    let read = tokio::task::spawn_blocking(move || files.read(offset, len)).await;
    let bytes = read.unwrap_or_else(|error| Err(io::Error::other(error)));
    with_bytes(LogSize { size: log.size() }, bytes.map_err(|error| refusal_of(&error, &log.name))?)
}

/// Looks at files that may be many or large, so on another thread.
async fn off_thread<T: Serialize + Send + 'static>(
    look: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Answer {
    let looked = tokio::task::spawn_blocking(look).await;
    plain(looked.unwrap_or_else(|error| Err(refuse(RefusalKind::System, error.to_string()))))
}

fn end_of(state: &CommandState) -> Option<u64> {
    match &state.phase {
        Phase::Ended(end) => Some(end.end),
        Phase::Queued | Phase::Running | Phase::Deaf { .. } | Phase::Lost => None,
    }
}

fn plain<T: Serialize>(answer: Result<T, Refusal>) -> Answer {
    with_bytes(answer?, Vec::new())
}

fn with_bytes(answer: impl Serialize, bytes: impl Into<Bytes>) -> Answer {
    let value = serde_json::to_value(answer).map_err(|error| refuse(RefusalKind::System, error.to_string()))?;
    Ok((value, bytes.into()))
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn pass_events(mut events: broadcast::Receiver<(Event, Bytes)>, outgoing: mpsc::Sender<Bytes>) {
    loop {
        let (event, payload) = match events.recv().await {
            Ok(event) => event,
            // A host that reads too slowly misses some; the records have them all.
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let Ok(frame) = encode(&Tell::Event(event), &payload) else { continue };
        if outgoing.send(frame).await.is_err() {
            return;
        }
    }
}

/// Hears who is there, takes the directory it may bring, says welcome; returns what it said beyond.
async fn greet(boss: &Rc<Supervisor>, stream: &UnixStream) -> io::Result<BytesMut> {
    let mut buffer = BytesMut::new();
    let mut logs = None;
    let hello: Hello = loop {
        let (read, descriptor) = stream.async_io(Interest::READABLE, || receive(stream, &mut buffer)).await?;
        if read == 0 || buffer.len() > 64 << 10 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        logs = descriptor.or(logs);
        if let Some(frame) = decode(&mut buffer)? {
            break frame.header;
        }
    };
    let version_fits = hello.version == VERSION;
    if !same_secret(hello.token.as_bytes(), boss.setup.token.as_bytes()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if version_fits {
        boss.keep_logs_in(logs)?;
    }
    let welcome = Welcome {
        version: VERSION,
        pid: std::process::id(),
        life: boss.life,
        shell: boss.shell.as_ref().map_or(String::new(), |shell| shell.path.to_string_lossy().into_owned()),
        tmux: boss.tmux.program(),
        logs_on_host: boss.logs_on_host(),
        runtime_dir: boss.setup.runtime_dir.to_string_lossy().into_owned(),
    };
    let mut frame = encode(&Tell::Welcome(welcome), b"")?;
    while !frame.is_empty() {
        let written = stream.async_io(Interest::WRITABLE, || stream.try_write(&frame)).await?;
        let _ = frame.split_to(written);
    }
    if version_fits { Ok(buffer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn receive(stream: &UnixStream, buffer: &mut BytesMut) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    buffer.extend_from_slice(&bytes[..got.bytes]);
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last().or(descriptor);
        }
    }
    Ok((got.bytes, descriptor))
}

/// Compares without telling by its time how much is right.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}
