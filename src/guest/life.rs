//! The life of a session: reads its terminal, waits for its shell's end, starts the next one.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::marks::MarkScanner;
use super::pty::{HUNG_UP, Pty};
use super::session::{Born, Session};
use crate::domain::Exit;

/// Bytes that are taken from a terminal before they go to the log.
const PIECE: usize = 64 << 10;

/// The first look at a silent shell comes after this time, the next ones after twice the time each.
const FIRST_LOOK: Duration = Duration::from_millis(120);

/// The longest time between two looks.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Starts the shell and everything that belongs to it.
pub(super) fn begin(session: Rc<Session>, typed: mpsc::Receiver<Bytes>) {
    tokio::task::spawn_local(type_in(session.clone(), typed));
    tokio::task::spawn_local(live(session));
}

async fn live(session: Rc<Session>) {
    loop {
        let exit = match session.start_shell() {
            Ok(born) => follow(&session, born).await,
            // What a shell itself says of a program that can't be started.
            Err(_) => Exit::Code(126),
        };
        if !session.shell_ended(exit) {
            return;
        }
    }
}

async fn type_in(session: Rc<Session>, mut typed: mpsc::Receiver<Bytes>) {
    while let Some(keys) = typed.recv().await {
        if let Some(pty) = session.pty() {
            // A terminal that is gone takes nothing.
            let _ = pty.write_all(&keys).await;
        }
    }
}

async fn follow(session: &Session, born: Born) -> Exit {
    let Born { pty, mut exit, nonce } = born;
    let scanner = MarkScanner::new(nonce, session.log.seen());
    let mut intake = Intake { session, scanner, queries: CursorQueries::default(), buffer: vec![0; PIECE] };
    let mut patience = FIRST_LOOK;
    let mut look = std::pin::pin!(sleep(patience));
    let mut hung_up = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut exit => {
                intake.drain(&pty).await;
                return ended.unwrap_or(Exit::Code(-1));
            }
            read = intake.read(&pty), if !hung_up => {
                hung_up = read.is_none();
                // A terminal that is flooded has its turn, then the others have theirs.
                tokio::task::yield_now().await;
                session.give_way(read.unwrap_or(0)).await;
                patience = FIRST_LOOK;
                look.as_mut().reset(tokio::time::Instant::now() + patience);
            }
            () = session.wake.notified() => {
                patience = FIRST_LOOK;
                look.as_mut().reset(tokio::time::Instant::now() + patience);
            }
            () = &mut look, if session.is_watched() => {
                session.look();
                patience = LAST_LOOK.min(patience * 2);
                look.as_mut().reset(tokio::time::Instant::now() + patience);
            }
        }
    }
}

struct Intake<'a> {
    session: &'a Session,
    scanner: MarkScanner,
    queries: CursorQueries,
    buffer: Vec<u8>,
}

impl Intake<'_> {
    /// Waits for output and takes what is there: so many bytes, `None` once the terminal is closed.
    async fn read(&mut self, pty: &Pty) -> Option<usize> {
        // What is not read stays in the terminal, whose writer then waits.
        self.session.log.ready().await;
        match pty.read(&mut self.buffer).await {
            Ok(HUNG_UP) | Err(_) => None,
            Ok(read) => Some(self.fill(pty, read)),
        }
    }

    /// Takes everything that was written before the shell's end.
    async fn drain(&mut self, pty: &Pty) {
        // Bounded, because a process that outlives the shell may go on writing.
        for _ in 0..1024 {
            self.session.log.ready().await;
            match pty.try_read(&mut self.buffer) {
                Ok(Some(HUNG_UP) | None) | Err(_) => return,
                Ok(Some(read)) => {
                    self.fill(pty, read);
                }
            }
        }
    }

    fn fill(&mut self, pty: &Pty, mut filled: usize) -> usize {
        // A terminal gives 4 KiB at a time.
        while filled + 4096 <= self.buffer.len() {
            match pty.try_read(&mut self.buffer[filled..]) {
                Ok(Some(HUNG_UP) | None) | Err(_) => break,
                Ok(Some(read)) => filled += read,
            }
        }
        let bytes = &self.buffer[..filled];
        self.session.log.append(bytes, Instant::now());
        let session = self.session;
        self.scanner.feed(bytes, |found| session.marked(found));
        if let Some(behind) = self.queries.feed(bytes) {
            session.cursor_query((bytes.len() - behind) as u64);
        }
        filled
    }
}

/// Finds the question where the cursor is, wherever the output is cut.
#[derive(Debug, Default)]
struct CursorQueries {
    matched: usize,
}

impl CursorQueries {
    const QUERY: &[u8] = b"\x1b[6n";

    /// Where in `bytes` the last question ends.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut found = None;
        for (at, &byte) in bytes.iter().enumerate() {
            self.matched = match byte {
                _ if byte == Self::QUERY[self.matched] => self.matched + 1,
                0x1b => 1,
                _ => 0,
            };
            if self.matched == Self::QUERY.len() {
                found = Some(at + 1);
                self.matched = 0;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::CursorQueries;

    #[test]
    fn a_question_is_found_wherever_it_is_cut() {
        let text = b"$ \x1b[\x1b[6n rest";
        for cut in 0..text.len() {
            let mut queries = CursorQueries::default();
            let found = (queries.feed(&text[..cut]), queries.feed(&text[cut..]));
            assert!(
                matches!(found, (Some(8), None)) || found == (None, Some(8 - cut.min(8))),
                "cut at {cut}: {found:?}"
            );
            assert_eq!(queries.feed(b"\x1b[6;1n"), None);
        }
    }
}
