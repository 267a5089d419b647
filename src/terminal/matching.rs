//! Looking for a line of output that matches, as it comes.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::board::Source;
use super::lines::LineReader;
use crate::clock::Clock;
use crate::guest::{Client, GuestError, Phase};

/// Output is looked at this often at most while it pours.
const PACE: Duration = Duration::from_millis(10);

/// Most bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// A search in the output of a job, from what was last shown on.
pub(super) struct Matching {
    client: Client,
    clock: Arc<dyn Clock>,
    source: Source,
    reader: LineReader,
    at: u64,
}

impl Matching {
    /// Begins at `from` in the job's log.
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>, source: Source, from: u64) -> Self {
        Self { client, clock, source, reader: LineReader::new(), at: from }
    }

    /// The first line that matches. None when the job's output has ended without one; waits while it may go on.
    pub(super) async fn first(&mut self, pattern: &Regex) -> Result<Option<String>, GuestError> {
        if self.source.end.is_none() {
            self.begins().await?;
        }
        loop {
            if self.source.end.is_some_and(|end| self.at >= end) {
                return Ok(self.reader.rest().filter(|line| pattern.is_match(line)));
            }
            if self.source.end.is_none() && !self.grows().await? {
                // A prompt has no line feed: the beginning of a line counts when nothing follows at once.
                if let Some(line) = self.reader.rest().filter(|line| pattern.is_match(line)) {
                    return Ok(Some(line));
                }
                self.client.growth(&self.source.log, self.at).await?;
            }
            let most = self.source.end.map_or(PIECE, |end| PIECE.min(end - self.at));
            let piece = self.client.read_log(&self.source.log, self.at, most).await?;
            if piece.is_empty() {
                return Ok(None);
            }
            self.at += piece.len() as u64;
            let lines = self.reader.feed(&piece);
            if let Some(line) = lines.into_iter().find(|line| pattern.is_match(&line.text)) {
                return Ok(Some(line.text));
            }
        }
    }

    /// Waits until the session's shell has begun with the command, whose text it shows before.
    async fn begins(&mut self) -> Result<(), GuestError> {
        loop {
            let state = self.client.command(&self.source.work).await?;
            if !matches!(state.phase, Phase::Queued) {
                self.at = self.at.max(state.offset);
                return Ok(());
            }
            self.client.growth(&self.source.log, state.log_size).await?;
        }
    }

    /// Waits for more output; false when a line has begun and nothing follows for a moment.
    async fn grows(&self) -> Result<bool, GuestError> {
        if !self.reader.has_rest() {
            self.client.growth(&self.source.log, self.at).await?;
            return Ok(true);
        }
        tokio::select! {
            biased;
            grown = self.client.growth(&self.source.log, self.at) => grown.map(|_| true),
            () = self.clock.sleep(PACE) => Ok(false),
        }
    }
}
