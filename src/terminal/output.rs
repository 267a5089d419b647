//! Fetches what is needed of a command's output and makes an excerpt of it, with a bounded memory.

use bytes::Bytes;

use super::excerpt::{Excerpt, ExcerptBudget, Omitted, head_of, of_lines, put_together, tail_of};
use super::render::lines;
use super::scan::Scan;
use crate::guest::{Client, GuestError, TermSize};

/// Output up to this size is rendered whole. Of many short lines that takes some thirty times as much memory.
const RENDERED: u64 = 512 << 10;

/// How much of the beginning of larger output is rendered.
const HEAD: u64 = 64 << 10;

/// How much of its end.
const TAIL: u64 = 256 << 10;

const PIECE: u64 = 1 << 20;

/// Where an output lies.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// The guest's name for the log.
    pub(super) log: &'a str,
    /// Where it begins.
    pub(super) offset: u64,
    /// Where it ends.
    pub(super) end: u64,
    /// How a reader is told where the log is.
    pub(super) shown_log: &'a str,
    /// Whether it is all there, so that a copy for the box is worth making.
    pub(super) is_final: bool,
}

/// The excerpt of an output; `known` are its bytes if they came along.
pub(super) async fn excerpt(
    client: &Client,
    place: &Place<'_>,
    known: Option<Bytes>,
    size: TermSize,
    budget: ExcerptBudget,
) -> Result<Excerpt, GuestError> {
    let len = place.end.saturating_sub(place.offset);
    if len == 0 {
        return Ok(Excerpt::default());
    }
    let shown = (budget.head_bytes + budget.tail_bytes + budget.error_bytes) as u64;
    let whole = if len > shown { whole(client, place).await? } else { String::new() };
    if let Some(raw) = known.filter(|raw| raw.len() as u64 == len) {
        return Ok(of_lines(&lines(&raw, size), budget, &whole));
    }
    if len <= RENDERED {
        let raw = fetch(client, place.log, place.offset, place.end).await?;
        // Seconds of work in the worst case, so not on a thread that others wait for.
        let made = tokio::task::spawn_blocking(move || of_lines(&lines(&raw, size), budget, &whole)).await;
        return Ok(made.unwrap_or_default());
    }
    of_large(client, place, size, budget, &whole).await
}

/// Where all of an output can be read: in a copy inside the box once it has ended, else only in the run's record.
async fn whole(client: &Client, place: &Place<'_>) -> Result<String, GuestError> {
    let in_record = format!("byte {} of {} in the run's record", place.offset, place.shown_log);
    if !place.is_final {
        return Ok(in_record);
    }
    match client.keep_output(place.log, place.offset, place.end).await {
        Ok(kept) if kept.complete => Ok(kept.path),
        Ok(kept) => Ok(format!("{} (its beginning; the rest: {in_record})", kept.path)),
        // A box without room for a copy.
        Err(GuestError::Refused(_)) => Ok(in_record),
        Err(gone) => Err(gone),
    }
}

/// The last lines of an output as it is now, for people who watch.
pub(super) async fn last_lines(
    client: &Client,
    place: &Place<'_>,
    size: TermSize,
    count: usize,
) -> Result<String, GuestError> {
    let from = place.offset.max(place.end.saturating_sub(8 << 10));
    let raw = fetch(client, place.log, from, place.end).await?;
    let lines = lines(&raw, size);
    let text: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
    Ok(text[text.len().saturating_sub(count)..].join("\n"))
}

async fn of_large(
    client: &Client,
    place: &Place<'_>,
    size: TermSize,
    budget: ExcerptBudget,
    whole: &str,
) -> Result<Excerpt, GuestError> {
    let (head_end, tail_begin) = (place.offset + HEAD, place.end - TAIL);
    let raw_head = fetch(client, place.log, place.offset, head_end).await?;
    let raw_tail = fetch(client, place.log, tail_begin, place.end).await?;
    let mut scan = Scan::new(0);
    scan.feed(&raw_head);
    let mut at = head_end;
    while at < tail_begin {
        let piece = client.read_log(place.log, at, PIECE.min(tail_begin - at)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        scan.feed(&piece);
    }
    let lines_before_tail = scan.lines;
    scan.feed(&raw_tail);
    let head = head_of(&lines(&raw_head, size), budget.head_bytes);
    let tail_lines = lines(&raw_tail, size);
    // The first line of the tail is most likely the rest of one.
    let tail = tail_of(tail_lines.get(1..).filter(|lines| !lines.is_empty()).unwrap_or(&tail_lines), budget.tail_bytes);
    let shown_lines = (head.whole_lines + tail.whole_lines) as u64;
    let omitted = Omitted {
        bytes: (place.end - place.offset).saturating_sub((head.text.len() + tail.text.len()) as u64),
        lines: scan.lines.max(lines_before_tail).saturating_sub(shown_lines),
        errors: &scan.errors,
        whole,
    };
    let text = put_together(&head.text, &omitted, &tail.text, budget);
    Ok(Excerpt { text, omitted_bytes: omitted.bytes, lines: scan.lines })
}

/// Part of a log, in pieces.
pub(super) async fn fetch(client: &Client, log: &str, from: u64, to: u64) -> Result<Vec<u8>, GuestError> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        let piece = client.read_log(log, at, PIECE.min(to - at)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
