//! `agent replay`: shows a run again, from its transcript alone. No network, no engine, no process, nothing written.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rustix::termios;

use super::output::{Stop, finished};
use super::target::{Target, of_read};
use super::{Failure, Place, view};
use crate::domain::ExitReason;
use crate::journal::Reader;
use crate::report::{Detail, Timeline, TimelineOptions};

/// The longest pause that is played, at any speed.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Show what happened in a run, from its transcript alone.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The beginning of a run's id, `last`, a journal.jsonl file, a run's directory, or `-` for standard input.
    #[arg(default_value = "last")]
    run: String,
    /// Play with the recorded pauses, N times as fast; pauses are cut to 2 s.
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// Show one step at a time: Enter or Space goes on, q quits.
    #[arg(long, conflicts_with = "speed")]
    step: bool,
    /// Show all output and reasoning that the transcript holds.
    #[arg(long)]
    full: bool,
    /// Accepted for scripts: no pager is ever started.
    #[arg(long)]
    no_pager: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|speed| (0.01..=10_000.0).contains(speed)).ok_or("a number from 0.01 to 10000".to_owned())
}

impl ReplayArgs {
    /// Prints the timeline to `out`.
    ///
    /// # Errors
    /// Where there is no such transcript, or it is damaged; what comes before the damage is shown.
    pub fn run(self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        if self.step && !(place.stdin_tty && place.stdout_tty) {
            return Err(Failure::new(ExitReason::Usage, "cannot go step by step without a terminal")
                .hint("play it with its pauses instead: `agent replay --speed 10 last`"));
        }
        let played = match Target::find(&self.run, place)?.path() {
            Some(path) => {
                let reader = Reader::open(&path).map_err(|error| of_read(&error))?;
                self.play(reader, place, out)
            }
            None => self.play(Reader::new(BufReader::new(io::stdin())), place, out),
        };
        finished(played)
    }

    fn play(self, mut reader: Reader<impl BufRead>, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
        let detail = if self.full { Detail::Full } else { Detail::Normal };
        let colour = place.colour(place.stdout_tty);
        let mut timeline = Timeline::new(TimelineOptions {
            colour,
            detail,
            width: view::width_of_stdout(place),
            ..TimelineOptions::default()
        });
        let keys = self.step.then(Keys::new).transpose()?;
        if keys.is_some() {
            view::say("(Enter or Space goes on, q quits)\n", place);
        }
        let mut last: Option<Timestamp> = None;
        for entry in &mut reader {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    out.flush()?;
                    return Err(of_read(&error).into());
                }
            };
            if let Some(speed) = self.speed {
                let passed = last.map_or(Duration::ZERO, |last| entry.time.duration_since(last).unsigned_abs());
                // The pause that was recorded is what is played.
                std::thread::sleep(passed.div_f64(speed).min(LONGEST_PAUSE));
            }
            last = Some(entry.time);
            let text = timeline.entry(&entry);
            out.write_all(text.as_bytes())?;
            if self.speed.is_some() || self.step {
                out.flush()?;
            }
            if !text.is_empty() && keys.as_ref().is_some_and(|keys| keys.next() == Key::Quit) {
                return Ok(ExitReason::Done);
            }
        }
        out.write_all(timeline.end().as_bytes())?;
        if let Some(torn) = reader.torn() {
            writeln!(out, "note: line {} is cut in the middle and left out", torn.line)?;
        } else if reader.lines() == 0 {
            return Err(of_read(&crate::journal::ReadError::Empty).into());
        }
        out.flush()?;
        Ok(ExitReason::Done)
    }
}

#[derive(PartialEq, Eq)]
enum Key {
    Next,
    Quit,
}

/// Single keys from the terminal; its settings are put back when this is dropped.
struct Keys {
    before: termios::Termios,
}

impl Keys {
    fn new() -> io::Result<Self> {
        let before = termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(termios::LocalModes::ICANON | termios::LocalModes::ECHO | termios::LocalModes::ISIG);
        termios::tcsetattr(rustix::stdio::stdin(), termios::OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }

    /// Waits for a key that means something.
    fn next(&self) -> Key {
        let mut key = [0];
        loop {
            match io::stdin().read(&mut key) {
                Ok(1) if matches!(key[0], b'\n' | b'\r' | b' ') => return Key::Next,
                Ok(1) if !matches!(key[0], b'q' | b'Q' | CTRL_C | CTRL_D) => {}
                _ => return Key::Quit,
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), termios::OptionalActions::Now, &self.before);
    }
}
