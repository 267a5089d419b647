//! The door for viewers inside the box: watch one session, type into it, nothing else.
//!
//! A viewer sends [`Look`] once, then keys as payloads of empty headers. It is sent plain bytes: the screen as it is,
//! then whatever the session prints, at the pace it can take.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

use super::frame::FrameReader;
use super::session::Session;
use super::sight::Actor;
use super::supervisor::Supervisor;
use crate::domain::SessionName;

/// How much of the log is drawn to find out what the screen shows.
const LOOK_BACK: u64 = 256 << 10;

const PIECE: u64 = 32 << 10;

/// The first thing a viewer says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Look {
    /// The session it wants to see.
    pub(super) session: SessionName,
}

/// Accepts viewers until the guest ends.
///
/// # Errors
/// When the socket can't be made.
pub(super) fn begin(boss: &Rc<Supervisor>) -> io::Result<()> {
    let path = boss.runtime_path("view.sock");
    // Left over from an earlier guest.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    let boss = boss.clone();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let boss = boss.clone();
            tokio::task::spawn_local(async move {
                // A viewer that fails takes only itself away.
                let _ = attend(&boss, stream).await;
            });
        }
    });
    Ok(())
}

async fn attend(boss: &Supervisor, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, BytesMut::new());
    let Some(look) = reader.next::<Look>().await? else { return Ok(()) };
    let Ok(session) = boss.session(&look.header.session) else {
        return writer.write_all(b"there is no such session\r\n").await;
    };
    let keys = async {
        while let Some(frame) = reader.next::<()>().await? {
            // What nothing reads is dropped, as a terminal does.
            let _ = session.type_keys(frame.payload, Actor::Person);
        }
        Ok(())
    };
    tokio::select! {
        ended = show(&session, &mut writer) => ended,
        ended = keys => ended,
    }
}

async fn show(session: &Session, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut growth = session.log.growth();
    let mut at = session.log.size();
    writer.write_all(screen(session, at)?.as_bytes()).await?;
    loop {
        while at < session.log.size() {
            let piece = session.log.read(at, PIECE)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            writer.write_all(&piece).await?;
        }
        tokio::select! {
            grown = growth.changed() => if grown.is_err() { return Ok(()) },
            () = session.closed() => return Ok(()),
        }
    }
}

/// What draws the screen as it is, so that questions to the terminal in old output are not answered again.
fn screen(session: &Session, size: u64) -> io::Result<String> {
    let from = size.saturating_sub(LOOK_BACK);
    let past = session.log.read(from, size - from)?;
    let terminal_size = session.size();
    let made = avt::Terminal::new(terminal_size.cols.max(10).into(), terminal_size.rows.max(2).into());
    let mut terminal = made.map_err(io::Error::other)?;
    terminal.feed(String::from_utf8_lossy(&past).as_ref());
    Ok(format!("\x1bc{}", terminal.dump()))
}
