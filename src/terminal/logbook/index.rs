//! Where the lines of a log begin: counted once, remembered sparsely.

use memchr::memchr_iter;

use super::each_piece;
use crate::guest::{Client, GuestError};

/// A mark is set about every so many bytes.
const STEP: u64 = 4 << 20;

/// How many line feeds stand before some positions of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct LineIndex {
    marks: Vec<Mark>,
    last: Mark,
    open_line: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    position: u64,
    feeds: u64,
}

impl LineIndex {
    /// How far it has counted.
    pub(super) fn counted(&self) -> u64 {
        self.last.position
    }

    /// Lines so far, one without an end included.
    pub(super) fn lines(&self) -> u64 {
        self.last.feeds + u64::from(self.open_line)
    }

    /// Counts on to `end`.
    pub(super) async fn count(&mut self, client: &Client, log: &str, end: u64) -> Result<(), GuestError> {
        each_piece(client, log, self.last.position..end, &mut |_, piece| {
            self.take(piece);
            true
        })
        .await
    }

    fn take(&mut self, piece: &[u8]) {
        self.last.feeds += memchr_iter(b'\n', piece).count() as u64;
        self.last.position += piece.len() as u64;
        self.open_line = piece.last().is_some_and(|last| *last != b'\n');
        if self.last.position - self.marks.last().map_or(0, |mark| mark.position) >= STEP {
            self.marks.push(self.last);
        }
    }

    /// The last mark for which this holds, else the beginning.
    fn mark(&self, holds: impl Fn(&Mark) -> bool) -> Mark {
        self.marks[..self.marks.partition_point(holds)].last().copied().unwrap_or_default()
    }

    /// Where a line begins, from 1; None beyond the last.
    pub(super) async fn line(&self, client: &Client, log: &str, number: u64) -> Result<Option<u64>, GuestError> {
        if number > self.lines() {
            return Ok(None);
        }
        let Some(before) = number.checked_sub(1).filter(|before| *before > 0) else { return Ok(Some(0)) };
        let mark = self.mark(|mark| mark.feeds < before);
        let mut left = before - mark.feeds;
        let mut found = None;
        each_piece(client, log, mark.position..self.last.position, &mut |at, piece| {
            let nth = usize::try_from(left - 1).unwrap_or(usize::MAX);
            let mut feeds = memchr_iter(b'\n', piece);
            match feeds.nth(nth) {
                Some(feed) => found = Some(at + feed as u64 + 1),
                None => left -= memchr_iter(b'\n', piece).count() as u64,
            }
            found.is_none()
        })
        .await?;
        Ok(found)
    }

    /// The number of the line at a position.
    pub(super) async fn number_at(&self, client: &Client, log: &str, position: u64) -> Result<u64, GuestError> {
        let mark = self.mark(|mark| mark.position <= position);
        let mut feeds = mark.feeds;
        each_piece(client, log, mark.position..position, &mut |_, piece| {
            feeds += memchr_iter(b'\n', piece).count() as u64;
            true
        })
        .await?;
        Ok(feeds + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_sparse_and_a_line_without_end_counts() {
        let mut index = LineIndex::default();
        for _ in 0..40 {
            index.take(&b"0123456\n".repeat(32 << 10));
        }
        index.take(b"open");
        assert_eq!((index.lines(), index.counted()), (40 * (32 << 10) + 1, (10 << 20) + 4));
        assert_eq!(index.marks.len(), 2);
        assert_eq!(index.mark(|mark| mark.position <= 5 << 20), Mark { position: 4 << 20, feeds: (4 << 20) / 8 });
        assert_eq!(index.mark(|mark| mark.feeds < 3), Mark::default());
    }
}
