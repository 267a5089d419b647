//! Shows a run while it goes: the lines of the timeline, the model's words as they come, and below them, on a terminal,
//! the last lines of the command at work and how a wait stands. Without a terminal a wait says now and then that it goes on.

use std::io::{self, Write};

use super::page::{Flow, fitting};
use super::style::{Style, one_line};
use super::timeline::{Detail, TEXT, Timeline, TimelineOptions};
use super::waiting::standing;
use super::{Totals, visible};
use crate::domain::{Entry, Event, Observer, Progress, Questions, WaitProgress};

/// Lines of a running command that are shown on a terminal.
const TAIL: usize = 3;
/// Columns before a line of that tail.
const MARGIN: usize = 11;
/// Width taken where the terminal does not tell.
const NARROW: usize = 80;
/// Without a terminal a wait is told of this often.
const HEARTBEAT_MS: u64 = 30_000;
/// Begins a terminal's line anew: what its driver has echoed there, such as `^C`, goes.
const ANEW: &str = "\r\u{1b}[K";
/// Goes a line up and clears it.
const LINE_BACK: &str = "\u{1b}[1A\u{1b}[2K";

/// How a run is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveOptions {
    /// Colour may be used.
    pub colour: bool,
    /// The writer is a terminal, so that lines may be taken back.
    pub terminal: bool,
    /// Tells the columns to wrap at, if any: asked whenever something is shown, since windows are resized.
    pub columns: Option<fn() -> Option<u16>>,
    /// The answer is printed where this is shown, once the run is over.
    pub answer_follows: bool,
    /// What stopped the run, if anything did, is printed where this is shown, with what to do about it.
    pub trouble_follows: bool,
}

/// Prints progress to a writer. Never fails: a writer that is gone is written to no more.
pub struct Live<W> {
    out: W,
    options: LiveOptions,
    timeline: Timeline,
    /// What of the current answer has been printed.
    streamed: String,
    flow: Flow,
    /// Lines that wait for the end of the answer that is being printed.
    held: String,
    /// The model's words that were printed last.
    last_words: String,
    /// Lines of a command's tail on the screen, below all else, how a wait stands among them.
    tail: usize,
    /// The command's last lines, as they are shown.
    last_lines: String,
    /// How a wait stands, as it is shown.
    status: String,
    /// When the wait that goes on is told of next, where no line can be taken back.
    next_beat_ms: u64,
    /// What waits for a person to have typed, while one does.
    waiting: Option<String>,
    gone: bool,
}

impl<W: Write + Send> Live<W> {
    /// A live view on `out`.
    pub fn new(out: W, options: LiveOptions) -> Self {
        let LiveOptions { colour, answer_follows, trouble_follows, .. } = options;
        let timeline = TimelineOptions { colour, detail: Detail::Live, width: None, answer_follows, trouble_follows };
        Self {
            out,
            options,
            timeline: Timeline::new(timeline),
            streamed: String::new(),
            flow: Flow::default(),
            held: String::new(),
            last_words: String::new(),
            tail: 0,
            last_lines: String::new(),
            status: String::new(),
            next_beat_ms: HEARTBEAT_MS,
            waiting: None,
            gone: false,
        }
    }

    /// The numbers so far.
    pub fn totals(&self) -> &Totals {
        self.timeline.totals()
    }

    /// Takes in what happened before anybody looked; shows only whose run it is, and the question that it waits with.
    pub fn catch_up(&mut self, entries: &[Entry]) {
        let mut questions = Questions::default();
        for (nth, entry) in entries.iter().enumerate() {
            questions.apply(entry);
            let text = self.timeline.entry(entry);
            if nth == 0 {
                self.write(&text);
            }
        }
        for record in questions.open().filter(|record| record.question.subject.stops_the_run()) {
            self.write(&self.timeline.asked(&record.question));
        }
    }

    /// Shows nothing until [`Live::go_on`]: a person is typing, and what they see there is to stay.
    pub fn hold(&mut self) {
        let anew = self.begin_lines();
        self.write(&anew);
        self.waiting.get_or_insert_default();
    }

    /// Shows what has waited, and what comes.
    pub fn go_on(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.write(&waiting);
        }
    }

    /// Whether the model's last words that were shown are this text.
    pub fn has_shown(&self, text: &str) -> bool {
        !self.gone && !text.trim().is_empty() && self.last_words.trim() == text.trim()
    }

    /// Says something that is no part of the run, above what stands below all else.
    pub fn say(&mut self, text: &str) {
        let line = format!("{:9}{}\n", "", one_line(text, 400));
        if self.streamed.is_empty() {
            let shown = self.begin_lines() + &line;
            self.write(&shown);
            self.draw_below();
        } else {
            self.held.push_str(&line);
        }
    }

    /// The writer is another one now, and no terminal.
    pub fn leave_terminal(&mut self) {
        self.options = LiveOptions { colour: false, terminal: false, columns: None, ..self.options };
        self.timeline.set_plain();
        self.tail = 0;
        self.gone = false;
    }

    fn write(&mut self, text: &str) {
        if self.gone || text.is_empty() {
            return;
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.push_str(text);
            return;
        }
        let written: io::Result<()> = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.gone = written.is_err();
    }

    fn columns(&self) -> Option<usize> {
        self.options.columns.and_then(|columns| columns()).map(usize::from)
    }

    fn stream(&mut self, text: &str) {
        let text = if self.streamed.is_empty() { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        let mut shown = String::new();
        if self.streamed.is_empty() {
            shown.push_str(&self.begin_lines());
            shown.push_str(&self.timeline.gutter());
            shown.push_str(&self.timeline.speaker("model"));
            self.flow = Flow::new(self.timeline.page(), TEXT);
        }
        self.streamed.push_str(text);
        shown.push_str(&self.flow.push(&visible(text)));
        self.write(&shown);
    }

    /// Ends the line of streamed words. Tells whether `answer` is what was streamed.
    fn end_stream(&mut self, answer: &str) -> bool {
        let streamed = std::mem::take(&mut self.streamed);
        if streamed.is_empty() {
            return false;
        }
        let rest = std::mem::take(&mut self.flow).end();
        self.write(&format!("{rest}\n"));
        streamed.trim() == answer.trim()
    }

    fn show_tail(&mut self, tail: &str) {
        tail.clone_into(&mut self.last_lines);
        self.draw_below();
    }

    /// Shows how a wait stands: in place on a terminal, else as a line from time to time.
    fn show_waiting(&mut self, wait: &WaitProgress) {
        if self.options.terminal {
            // What the command printed last may stand above.
            let last_line = if self.last_lines.is_empty() { wait.last_line.clone() } else { String::new() };
            self.status = standing(&WaitProgress { last_line, ..wait.clone() }, Some(self.room()));
            self.draw_below();
        } else if wait.waited_ms >= self.next_beat_ms {
            self.next_beat_ms = wait.waited_ms - wait.waited_ms % HEARTBEAT_MS + HEARTBEAT_MS;
            let line = self.timeline.heartbeat(wait.waited_ms, &standing(wait, None));
            self.write(&line);
        }
    }

    /// Columns that a line below all else may take.
    fn room(&self) -> usize {
        self.columns().unwrap_or(NARROW).saturating_sub(MARGIN + 1).max(16)
    }

    /// Draws what stands below all else anew.
    fn draw_below(&mut self) {
        if !self.options.terminal || !self.streamed.is_empty() {
            return;
        }
        let mut shown = self.begin_lines();
        let style = Style { colour: self.options.colour };
        let width = self.room();
        let lines: Vec<&str> = self.last_lines.trim_end().lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(TAIL)).filter(|_| !self.last_lines.trim().is_empty());
        let last = last.map(|line| format!("| {}", fitting(&one_line(line, width), width)));
        let status = (!self.status.is_empty()).then(|| format!("~ {}", self.status));
        for line in last.chain(status) {
            shown.push_str(&format!("{:9}{}\n", "", style.dim(line.trim_end())));
            self.tail += 1;
        }
        self.write(&shown);
    }

    /// Nothing stands below any more: something else happens.
    fn clear_below(&mut self) {
        self.last_lines.clear();
        self.status.clear();
        self.next_beat_ms = HEARTBEAT_MS;
    }

    /// The lines go below the box's own, which may be waiting for the model's words to end.
    fn show_ways_in(&mut self, commands: &[String]) {
        let style = Style { colour: self.options.colour };
        let lines = commands
            .iter()
            .map(|command| format!("{:9}{}\n", "", style.dim(&format!("look in   {}", one_line(command, 400)))));
        let lines: String = lines.collect();
        if self.streamed.is_empty() {
            let shown = self.begin_lines() + &lines;
            self.write(&shown);
        } else {
            self.held.push_str(&lines);
        }
    }

    /// What brings the cursor to where lines can be printed: takes back the tail's own lines, and nothing else. Follows
    /// the window's width.
    fn begin_lines(&mut self) -> String {
        let columns = self.columns();
        self.timeline.set_width(columns);
        let tail = LINE_BACK.repeat(std::mem::take(&mut self.tail));
        if self.options.terminal { format!("{ANEW}{tail}") } else { tail }
    }

    /// Whether an entry may come while the model speaks, without ending that: the box is made at the same time.
    fn waits(&self, event: &Event) -> bool {
        !self.streamed.is_empty() && matches!(event, Event::BoxOpened { .. })
    }

    /// Whether the person has this on the screen already, having typed it there.
    fn is_echo(&self, event: &Event) -> bool {
        self.options.terminal && matches!(event, Event::UserSaid { mail: None, .. })
    }
}

impl<W: Write + Send> Observer for Live<W> {
    fn entry(&mut self, entry: &Entry) {
        if self.waits(&entry.event) {
            let held = self.timeline.entry(entry);
            self.held.push_str(&held);
            return;
        }
        let answer = match &entry.event {
            Event::ModelAnswered { text, .. } => text.as_str(),
            _ => "",
        };
        let was_streamed = self.end_stream(answer);
        if !answer.trim().is_empty() {
            self.last_words = answer.to_owned();
        }
        let mut shown = self.begin_lines();
        let goes_on = self.timeline.is_beside(&entry.event);
        if !goes_on {
            self.clear_below();
        }
        let rendered = self.timeline.entry(entry);
        if !was_streamed && !self.is_echo(&entry.event) {
            shown.push_str(&rendered);
        }
        shown.push_str(&std::mem::take(&mut self.held));
        self.write(&shown);
        if goes_on && !(self.last_lines.is_empty() && self.status.is_empty()) {
            self.draw_below();
        }
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Text(text) => self.stream(text),
            Progress::Output { tail, .. } => self.show_tail(tail),
            Progress::Waiting(wait) => self.show_waiting(wait),
            Progress::LookIn(commands) => self.show_ways_in(commands),
            // Reasoning is in the transcript; patience is recorded and shown as an entry.
            Progress::Reasoning(_) | Progress::Patience { .. } => {}
        }
    }
}
