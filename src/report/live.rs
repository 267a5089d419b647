//! Shows a run while it goes: the lines of the timeline, the model's words as they come, and below them, on a terminal,
//! the last lines of the command at work.

use std::io::{self, Write};

use super::style::{Style, one_line};
use super::timeline::{Detail, TEXT, Timeline, TimelineOptions};
use super::{Totals, visible};
use crate::domain::{Entry, Event, Observer, Progress};

/// Lines of a running command that are shown on a terminal.
const TAIL: usize = 3;
/// Width taken where the terminal does not tell.
const NARROW: usize = 80;

/// How a run is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveOptions {
    /// Colour may be used.
    pub colour: bool,
    /// The writer is a terminal, so that lines may be taken back.
    pub terminal: bool,
    /// Columns of that terminal, where known.
    pub columns: Option<u16>,
}

/// Prints progress to a writer. Never fails: a writer that is gone is written to no more.
pub struct Live<W> {
    out: W,
    options: LiveOptions,
    timeline: Timeline,
    /// What of the current answer has been printed.
    streamed: String,
    /// Lines of a command's tail on the screen, below all else.
    tail: usize,
    gone: bool,
}

impl<W: Write + Send> Live<W> {
    /// A live view on `out`.
    pub fn new(out: W, options: LiveOptions) -> Self {
        let timeline = Timeline::new(TimelineOptions { colour: options.colour, detail: Detail::Live });
        Self { out, options, timeline, streamed: String::new(), tail: 0, gone: false }
    }

    /// The numbers so far.
    pub fn totals(&self) -> &Totals {
        self.timeline.totals()
    }

    fn write(&mut self, text: &str) {
        if self.gone || text.is_empty() {
            return;
        }
        let written: io::Result<()> = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.gone = written.is_err();
    }

    fn stream(&mut self, text: &str) {
        let mut shown = self.take_back_tail();
        let text = if self.streamed.is_empty() { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        if self.streamed.is_empty() {
            shown.push_str(&self.timeline.gutter());
            shown.push_str(&self.timeline.speaker("model"));
        }
        self.streamed.push_str(text);
        shown.push_str(&visible(text).replace('\n', &format!("\n{:TEXT$}", "")));
        self.write(&shown);
    }

    /// Ends the line of streamed words. Tells whether `answer` is what was streamed.
    fn end_stream(&mut self, answer: &str) -> bool {
        let streamed = std::mem::take(&mut self.streamed);
        if !streamed.is_empty() {
            self.write("\n");
        }
        !streamed.is_empty() && streamed.trim() == answer.trim()
    }

    fn show_tail(&mut self, tail: &str) {
        if !self.options.terminal || !self.streamed.is_empty() {
            return;
        }
        let mut shown = self.take_back_tail();
        let style = Style { colour: self.options.colour };
        let width = self.options.columns.map_or(NARROW, usize::from).saturating_sub(12).max(16);
        let lines: Vec<&str> = tail.trim_end().lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)).filter(|_| !tail.trim().is_empty()) {
            shown.push_str(&format!("{:9}{}\n", "", style.dim(&format!("| {}", fitting(line, width)))));
            self.tail += 1;
        }
        self.write(&shown);
    }

    /// Takes back the tail's own lines, and nothing else.
    fn take_back_tail(&mut self) -> String {
        "\u{1b}[1A\u{1b}[2K".repeat(std::mem::take(&mut self.tail))
    }
}

impl<W: Write + Send> Observer for Live<W> {
    fn entry(&mut self, entry: &Entry) {
        let mut shown = self.take_back_tail();
        if let Event::ModelAnswered { text, .. } = &entry.event {
            let same = self.end_stream(text);
            let rendered = self.timeline.entry(entry);
            if !same {
                shown.push_str(&rendered);
            }
        } else {
            self.end_stream("");
            shown.push_str(&self.timeline.entry(entry));
        }
        self.write(&shown);
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Text(text) => self.stream(text),
            Progress::Output { tail, .. } => self.show_tail(tail),
            // Reasoning is in the transcript; patience is recorded and shown as an entry.
            Progress::Reasoning(_) | Progress::Patience { .. } => {}
        }
    }
}

/// A line that takes at most `width` columns, wide characters counted twice.
fn fitting(line: &str, width: usize) -> String {
    let safe = one_line(line, width * 2).into_owned();
    let mut columns = 0;
    let fits = |c: &char| {
        columns += if u32::from(*c) < 0x1100 { 1 } else { 2 };
        columns <= width
    };
    safe.chars().take_while(fits).collect()
}
