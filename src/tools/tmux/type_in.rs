//! Typing: text and keys, and what the session says to them.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Call, Done, Stop, failed, keys, malformed};
use crate::domain::{InputKind, Outcome, SessionName, Status};
use crate::guest::{Actor, SessionInfo};
use crate::terminal::{Look, TerminalError};

/// Output has settled when it has not grown for this long.
const SETTLED: Duration = Duration::from_millis(150);

/// Output that does not settle is not waited for longer.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);

/// Most bytes of one text.
const LONGEST_TEXT: usize = 64 << 10;

/// A terminal that hands over whole lines drops what is beyond this of one.
const LONGEST_LINE: usize = 4095;

impl Call<'_> {
    pub(super) async fn send(&self) -> Done {
        let info = self.session().await?;
        let Some(text) = &self.args.text else {
            return Err(malformed("text: is missing; for keys without text use the action keys"));
        };
        let enter = self.args.enter != Some(false);
        let look = self.may_type(&info).await?;
        let typed = typed(text, enter, look.foreground.lines)?;
        if typed.is_empty() {
            return Err(malformed("text: is empty, and enter is false: that types nothing"));
        }
        // A shell that has just been started is about to show its prompt.
        let is_idle = look.foreground.at_prompt || !info.ready;
        let by_hand = is_idle && enter && !text.trim().is_empty();
        let note = by_hand.then_some("the shell ran this as typed by hand; `shell` would have told its exit code");
        self.type_in(&info, &typed, note).await
    }

    pub(super) async fn keys(&self) -> Done {
        let info = self.session().await?;
        let Some(names) = &self.args.keys else { return Err(malformed("keys: is missing")) };
        let application_keys = self.terminal.screen(&info.session).await?.application_keys;
        let typed = keys::bytes(names, application_keys).map_err(malformed)?;
        // Ctrl-C and the like end a program that asks for a password; what could be one is a person's.
        if !matches!(typed.as_slice(), [3 | 4 | 0x1a | 0x1c]) {
            self.may_type(&info).await?;
        }
        self.type_in(&info, &typed, None).await
    }

    /// What stands in the foreground, unless it asks for a password.
    async fn may_type(&self, info: &SessionInfo) -> Result<Look, Stop> {
        let session = &info.session;
        let look = self.terminal.look(session).await?;
        if let Some((InputKind::Password, prompt)) = &look.input {
            return Err(failed(format!(
                "not typed: `{}` asks for a password ({prompt}), and only a person types passwords. A person can do \
                 that with: agent attach {} {session} --write. Until then wait with the tool wait, or end the program \
                 with signal.",
                look.foreground.program, self.run
            )));
        }
        Ok(look)
    }

    async fn type_in(&self, info: &SessionInfo, typed: &[u8], note: Option<&str>) -> Done {
        self.terminal.guest().type_keys(&info.session, typed, Actor::Model).await?;
        self.settle(info).await?;
        let (facts, shown) = self.after_typing(&info.session).await?;
        let mut text = format!("[typed {} bytes into session {} · {facts}]", typed.len(), info.session);
        if let Some(note) = note {
            text.push_str(&format!("\n[{note}]"));
        }
        if !shown.is_empty() {
            text.push('\n');
            text.push_str(shown.trim_end_matches('\n'));
        }
        Ok(Outcome::words(Status::Ok, text))
    }

    /// Waits until the output has stopped growing, for a moment at most: so that no second call is needed to see what
    /// typing led to. In the time of the machine, since it is a program on it that is waited for.
    async fn settle(&self, info: &SessionInfo) -> Result<(), TerminalError> {
        let until = Instant::now() + LONGEST_SETTLING;
        let mut size = info.log_size;
        loop {
            let quiet = (Instant::now() + SETTLED).min(until);
            tokio::select! {
                grown = timeout_at(quiet, self.terminal.guest().growth(&info.log, size)) => match grown {
                    Ok(grown) => size = grown?,
                    Err(_) => return Ok(()),
                },
                () = self.attention.cancelled() => return Ok(()),
            }
        }
    }

    /// What the session shows now: what is new, or the screen of a full-screen program.
    async fn after_typing(&self, session: &SessionName) -> Result<(String, String), TerminalError> {
        let look = self.terminal.look(session).await?;
        let now = super::look::foreground_in_words(&look);
        let screen = self.terminal.screen(session).await?;
        if screen.alternate {
            self.terminal.saw_all(session).await?;
            return Ok((format!("{now} · its screen:"), super::look::screen_text(&screen)));
        }
        let new = self.terminal.unseen(session).await?;
        let facts = match new.excerpt.text.trim().is_empty() {
            true => format!("{now} · no new output"),
            false => format!("{now} · new output:"),
        };
        Ok((facts, new.excerpt.text))
    }
}

fn typed(text: &str, enter: bool, whole_lines: bool) -> Result<Vec<u8>, Stop> {
    if text.contains('\0') {
        return Err(malformed("text: NUL can't be typed"));
    }
    if text.len() > LONGEST_TEXT {
        let size = text.len();
        return Err(malformed(format!("text: {size} bytes are more than {LONGEST_TEXT}; write a file instead")));
    }
    // Enter sends a return; that is what programs wait for at the end of a line.
    let text = text.replace("\r\n", "\n").replace('\n', "\r");
    let longest = text.split('\r').map(str::len).max().unwrap_or(0);
    if whole_lines && longest > LONGEST_LINE {
        let text = format!("text: a line of {longest} bytes; the terminal takes {LONGEST_LINE}. Write a file instead");
        return Err(malformed(text));
    }
    let mut bytes = text.into_bytes();
    if enter {
        bytes.push(b'\r');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, enter: bool) -> Option<Vec<u8>> {
        typed(text, enter, true).ok()
    }

    #[test]
    fn text_is_typed_with_returns() {
        assert_eq!(taken("y", true).unwrap(), b"y\r");
        assert_eq!(taken("a\r\nb\nc", false).unwrap(), b"a\rb\rc");
        assert_eq!(taken("", true).unwrap(), b"\r");
    }

    #[test]
    fn what_a_terminal_would_drop_is_refused() {
        assert!(taken("a\0b", true).is_none());
        assert!(taken(&"x".repeat(LONGEST_LINE + 1), true).is_none());
        assert!(typed(&"x".repeat(LONGEST_LINE + 1), true, false).is_ok());
        assert!(taken(&"x\n".repeat(LONGEST_TEXT), true).is_none());
    }
}
