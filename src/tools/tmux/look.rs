//! Looking: what is new, the screen, pages of the log, a search, the list.

use std::time::Duration;

use super::{Call, Done, Stop, failed, malformed};
use crate::domain::{Outcome, Status};
use crate::guest::SessionInfo;
use crate::terminal::{GrepSpec, LogPage, LogRange, Look, Pattern, PatternCase, Screen, Terminal};
use crate::tools::facts::{duration, grouped, size};

const DEFAULT_LINES: u64 = 200;
const MOST_LINES: u64 = 5_000;
const DEFAULT_BYTES: u64 = 8 << 10;
const MOST_BYTES: u64 = 64 << 10;

/// Most text of a screen.
const LARGEST_SCREEN: usize = 12 << 10;

impl Call<'_> {
    pub(super) async fn read(&self) -> Done {
        let info = self.session().await?;
        let look = self.terminal.look(&info.session).await?;
        let new = self.terminal.unseen(&info.session).await?;
        let bytes = new.bytes.end - new.bytes.start;
        let news = match bytes {
            0 => "nothing new".to_owned(),
            _ => format!("new: {}, from byte {} of its log", size(bytes), new.bytes.start),
        };
        let first = format!("[session {} · {} · {news}]", info.session, foreground_in_words(&look));
        Ok(with_text(first, &new.excerpt.text))
    }

    pub(super) async fn screen(&self) -> Done {
        let info = self.session().await?;
        let look = self.terminal.look(&info.session).await?;
        let screen = self.terminal.screen(&info.session).await?;
        let (column, row) = (screen.cursor.0 + 1, screen.cursor.1 + 1);
        let kind = if screen.alternate { " · alternate screen" } else { "" };
        let (cols, rows) = (screen.size.cols, screen.size.rows);
        let now = foreground_in_words(&look);
        let first =
            format!("[session {} · {now} · {cols}×{rows}{kind} · cursor in row {row}, column {column}]", info.session);
        Ok(with_text(first, &screen_text(&screen)))
    }

    pub(super) async fn log(&self) -> Done {
        let info = self.session().await?;
        let range = self.range()?;
        let page = self.terminal.log_page(&info.session, range).await?;
        if page.bytes.is_empty() {
            return Err(failed(nothing_there(&info, range, &page)));
        }
        Ok(with_text(heading(&info, &page), &page.text))
    }

    fn range(&self) -> Result<LogRange, Stop> {
        let args = self.args;
        match (args.from_line, args.from_byte) {
            (Some(_), Some(_)) => Err(malformed("give from_line or from_byte, not both")),
            (None, Some(from)) => {
                Ok(LogRange::Bytes { from, count: Self::count("bytes", args.bytes, DEFAULT_BYTES, MOST_BYTES)? })
            }
            (Some(0), None) => Err(malformed("from_line: lines are counted from 1, or from -1 backwards from the end")),
            (Some(from), None) => {
                Ok(LogRange::Lines { from, count: Self::count("lines", args.lines, DEFAULT_LINES, MOST_LINES)? })
            }
            (None, None) => {
                let count = Self::count("lines", args.lines, DEFAULT_LINES, MOST_LINES)?;
                Ok(LogRange::Lines { from: -i64::try_from(count).unwrap_or(i64::MAX), count })
            }
        }
    }

    pub(super) async fn grep(&self) -> Done {
        let info = self.session().await?;
        let Some(pattern) = &self.args.pattern else { return Err(malformed("pattern: is missing")) };
        let case = match self.args.ignore_case {
            Some(true) => PatternCase::Ignored,
            Some(false) | None => PatternCase::Significant,
        };
        let pattern = Pattern::new(pattern, case).map_err(|why| malformed(format!("pattern: {why}")))?;
        let context = match self.args.context.map(usize::try_from) {
            None => 0,
            Some(Ok(context)) => context,
            Some(Err(_)) => return Err(malformed("context: must not be negative")),
        };
        let from_byte = match self.args.from_byte.map(u64::try_from) {
            None => 0,
            Some(Ok(from)) => from,
            Some(Err(_)) => return Err(malformed("from_byte: must not be negative for a search")),
        };
        if from_byte > info.log_size {
            let all = size(info.log_size);
            return Err(failed(format!("from_byte: the log of session {} has only {all}", info.session)));
        }
        let spec = GrepSpec { pattern, context, from_byte };
        let report = tokio::select! {
            report = self.terminal.grep(&info.session, &spec) => report?,
            () = self.attention.cancelled() => {
                return Ok(Outcome::words(Status::Cancelled, "the search was interrupted"));
            }
        };
        let mut first = format!(
            "[{} of {} lines match in {} of session {}",
            grouped(report.matches),
            grouped(report.lines),
            size(info.log_size - from_byte),
            info.session
        );
        if report.long_lines > 0 {
            first.push_str(&format!(" · {} very long lines were searched at their beginning", report.long_lines));
        }
        if from_byte > 0 {
            first.push_str(" · lines are counted from there");
        }
        first.push(']');
        Ok(with_text(first, &report.text))
    }

    pub(super) async fn list(&self) -> Done {
        let sessions = self.terminal.sessions().await?;
        if sessions.is_empty() {
            return Ok(Outcome::words(Status::Ok, "no session is open; `open` opens one, and so does `shell`"));
        }
        let lines: Vec<_> = sessions.iter().map(|info| line_of(info, self.terminal)).collect();
        Ok(Outcome::words(Status::Ok, lines.join("\n")))
    }
}

fn line_of(info: &SessionInfo, terminal: &Terminal) -> String {
    let mut facts = vec![info.session.to_string()];
    match &info.command {
        Some(command) => {
            let job = terminal.board().of_work(&command.id).map_or(String::new(), |job| format!("{}: ", job.id));
            facts.push(format!("{job}`{}` for {}", command.title, duration(Duration::from_millis(command.elapsed_ms))));
        }
        None if info.ready => facts.push("idle".to_owned()),
        None => facts.push("its shell is starting".to_owned()),
    }
    facts.extend(info.cwd.clone());
    facts.push(format!("{}×{}", info.size.cols, info.size.rows));
    let new = info.log_size.saturating_sub(terminal.seen(&info.session));
    facts.push(format!("log {}, {} new", size(info.log_size), size(new)));
    facts.extend(info.note.clone());
    facts.join(" · ")
}

/// What stands in the foreground and what it wants.
pub(super) fn foreground_in_words(look: &Look) -> String {
    let foreground = &look.foreground;
    match &look.input {
        _ if foreground.at_prompt => "the shell is at its prompt".to_owned(),
        Some((kind, prompt)) if prompt.trim().is_empty() => {
            format!("`{}` waits for {}", foreground.program, kind.words())
        }
        Some((kind, prompt)) => format!("`{}` waits for {}: {}", foreground.program, kind.words(), prompt.trim()),
        None => format!("`{}` runs", foreground.program),
    }
}

/// The rows of a screen, without the empty ones at its end.
pub(super) fn screen_text(screen: &Screen) -> String {
    let used = screen.lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let rows = &screen.lines[..used.max((screen.cursor.1 + 1).min(screen.lines.len()))];
    let text = rows.join("\n");
    if text.len() <= LARGEST_SCREEN {
        return text;
    }
    // A screen this large is a wall; its end is where things happen.
    let from = (text.len() - LARGEST_SCREEN..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("[… the first {from} bytes of the screen are left out …]\n{}", &text[from..])
}

fn heading(info: &SessionInfo, page: &LogPage) -> String {
    let mut facts = vec![format!("session {}", info.session)];
    if let Some(first) = page.first_line {
        let last = first + page.lines.max(1) - 1;
        let of = page.size_lines.map_or(String::new(), |lines| format!(" of {}", grouped(lines)));
        facts.push(format!("lines {} to {}{of}", grouped(first), grouped(last)));
    }
    facts.push(format!("bytes {} to {} of {}", page.bytes.start, page.bytes.end, page.size_bytes));
    if page.cut {
        facts.push(match page.next {
            Some(LogRange::Lines { from, .. }) => format!("cut: go on with from_line {from}"),
            Some(LogRange::Bytes { from, .. }) => format!("cut: go on with from_byte {from}"),
            None => "cut: ask for less at once".to_owned(),
        });
    }
    format!("[{}]", facts.join(" · "))
}

fn nothing_there(info: &SessionInfo, range: LogRange, page: &LogPage) -> String {
    let lines = page.size_lines.map_or(String::new(), |lines| format!("{} lines, ", grouped(lines)));
    let has = format!("the log of session {} has {lines}{} bytes", info.session, page.size_bytes);
    match range {
        _ if page.size_bytes == 0 => format!("the log of session {} is empty", info.session),
        LogRange::Lines { from, .. } => format!("there is no line {from}: {has}"),
        LogRange::Bytes { from, .. } => format!("there is nothing at byte {from}: {has}"),
    }
}

fn with_text(first: String, text: &str) -> Outcome {
    let text = text.trim_end_matches('\n');
    let text = if text.trim().is_empty() { first } else { format!("{first}\n{text}") };
    Outcome::words(Status::Ok, text)
}
