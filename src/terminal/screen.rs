//! A session's screen as it stands now, drawn from the end of its log.

use avt::{ScreenKind, Terminal as Emulator};
use memchr::memmem;

use super::{Terminal, TerminalError};
use crate::domain::SessionName;
use crate::guest::{Client, GuestError, Refusal, RefusalKind, SessionInfo, TermSize};

/// How much of the log is drawn to find out what the screen shows.
const LOOK_BACK: u64 = 256 << 10;

/// How far back the switch to the screen of full-screen programs is looked for.
const SWITCH_BACK: u64 = 8 << 20;

const PIECE: u64 = 1 << 20;

/// What switches to the alternate screen.
const SWITCHES_ON: [&str; 3] = ["\x1b[?1049h", "\x1b[?1047h", "\x1b[?47h"];

/// What switches back.
const SWITCHES_OFF: [&str; 4] = ["\x1b[?1049l", "\x1b[?1047l", "\x1b[?47l", "\x1bc"];

/// The longest of the switches.
const LONGEST_SWITCH: u64 = 8;

/// A session's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    /// Its rows from the top, without blanks at their ends and without control characters.
    pub lines: Vec<String>,
    /// Column and row of the cursor, from 0.
    pub cursor: (usize, usize),
    /// Whether it is the alternate screen, the one of full-screen programs.
    pub alternate: bool,
    /// Whether the program asked for the other codes of the arrow keys.
    pub application_keys: bool,
    /// The terminal's size.
    pub size: TermSize,
}

impl Terminal {
    /// The screen of a session as it stands now.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn screen(&self, session: &SessionName) -> Result<Screen, TerminalError> {
        let info = self.session_info(session).await?;
        Ok(read(self.guest(), &info).await?)
    }

    /// What is known of an open session.
    pub(super) async fn session_info(&self, session: &SessionName) -> Result<SessionInfo, TerminalError> {
        info_of(self.guest(), session).await
    }
}

/// The screen of a session as it stands now.
///
/// # Errors
/// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
pub(super) async fn screen_of(client: &Client, session: &SessionName) -> Result<Screen, TerminalError> {
    let info = info_of(client, session).await?;
    Ok(read(client, &info).await?)
}

async fn info_of(client: &Client, session: &SessionName) -> Result<SessionInfo, TerminalError> {
    let known = client.sessions().await?.into_iter().find(|info| info.session == *session);
    let unknown = || Refusal { kind: RefusalKind::Unknown, what: format!("there is no session `{session}`") };
    known.ok_or_else(|| GuestError::Refused(unknown()).into())
}

async fn read(client: &Client, info: &SessionInfo) -> Result<Screen, GuestError> {
    let from = info.log_size.saturating_sub(LOOK_BACK);
    let raw = client.read_log(&info.log, from, info.log_size - from).await?;
    let began_alternate = last_switch(&raw).is_none() && switched_before(client, &info.log, from).await?;
    Ok(draw(&raw, info.size, began_alternate))
}

/// Whether the alternate screen was on where the drawing begins.
async fn switched_before(client: &Client, log: &str, end: u64) -> Result<bool, GuestError> {
    let first = end.saturating_sub(SWITCH_BACK);
    let mut at = end;
    while at > first {
        let from = at.saturating_sub(PIECE).max(first);
        // A switch that is cut by the end of a piece is found in the one before it.
        let piece = client.read_log(log, from, (at - from + LONGEST_SWITCH).min(end - from)).await?;
        if let Some(on) = last_switch(&piece) {
            return Ok(on);
        }
        at = from;
    }
    Ok(false)
}

/// Whether the last switch among these bytes is one to the alternate screen; None without any.
fn last_switch(bytes: &[u8]) -> Option<bool> {
    let last = |switches: &[&str]| switches.iter().filter_map(|switch| memmem::rfind(bytes, switch.as_bytes())).max();
    match (last(&SWITCHES_ON), last(&SWITCHES_OFF)) {
        (None, None) => None,
        (on, off) => Some(on > off),
    }
}

fn draw(raw: &[u8], size: TermSize, began_alternate: bool) -> Screen {
    let (cols, rows) = (size.cols.clamp(10, 1000).into(), size.rows.clamp(2, 500).into());
    let mut terminal = Emulator::new(cols, rows).expect("columns and rows are not zero");
    if began_alternate {
        terminal.feed(SWITCHES_ON[0]);
    }
    terminal.feed(String::from_utf8_lossy(raw).as_ref());
    let cursor = terminal.cursor();
    let lines = terminal.screen().visible_lines().map(|line| plain(&line.text())).collect();
    Screen {
        lines,
        cursor: (cursor.col, cursor.row),
        alternate: terminal.active_screen_kind() == ScreenKind::Alternate,
        application_keys: terminal.cursor_key_app_mode(),
        size,
    }
}

fn plain(line: &str) -> String {
    line.trim_end().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TermSize = TermSize { cols: 20, rows: 3 };

    #[test]
    fn the_screen_is_what_a_person_would_see() {
        let screen = draw(b"one\r\ntwo\r\nthree\r\n\x1b[31mfour: \x1b[0m\x07", SIZE, false);
        assert_eq!(screen.lines, ["two", "three", "four:"]);
        assert_eq!((screen.cursor, screen.alternate), ((6, 2), false));
    }

    #[test]
    fn a_full_screen_program_is_told_from_the_shell() {
        let menu = draw(b"$ menu\r\n\x1b[?1049h\x1b[2J\x1b[2;3Hpick", SIZE, false);
        assert_eq!(
            (menu.lines, menu.cursor, menu.alternate),
            (vec!["".into(), "  pick".into(), "".into()], (6, 1), true)
        );
        assert!(draw(b"\x1b[2J\x1b[2;3Hpick", SIZE, true).alternate);
        assert!(!draw(b"\x1b[?1049h\x1b[?1049l$ ", SIZE, false).alternate);
    }

    #[test]
    fn the_last_switch_decides() {
        assert_eq!(last_switch(b"text"), None);
        assert_eq!(last_switch(b"\x1b[?1049h x \x1b[?1049l"), Some(false));
        assert_eq!(last_switch(b"\x1b[?1049l\x1b[?47hx"), Some(true));
        assert_eq!(last_switch(b"\x1b[?1049hx\x1bc"), Some(false));
    }
}
