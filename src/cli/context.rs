//! `agent context`: how full the model's window is, and of what; `agent compact`: has the conversation made smaller.
//! Looking reads only the transcript, also that of a run that is driven.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{CompactArgs, ContextArgs};
use super::output::{Stop, finished};
use super::target::{Target, of_read, of_store, store};
use super::{Failure, Place};
use crate::agent::State;
use crate::clock::{Clock as _, SystemClock};
use crate::context::{History, Meter, Part, Situation, Window, shares};
use crate::domain::{Entry, Event, ExitReason, Reduction, Usage};
use crate::journal::{Order, PostError, Reader, RunDir, post_order};
use crate::model::{Gauge, Message, Size, Tokens, ToolSpec};
use crate::report::{visible_json, visible_line};
use crate::tools::Registry;

/// Runs `agent context`.
pub(super) fn run(args: &ContextArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let path = Target::find(&args.run, place)?.path().ok_or_else(|| {
        Failure::new(ExitReason::Usage, "cannot look at a conversation on standard input").hint("name a run or a file")
    })?;
    let seen = Seen::read(&path)?;
    finished(if args.json { seen.print_json(out) } else { seen.print(out) })
}

/// Runs `agent compact`.
pub(super) fn compact(args: &CompactArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let run = store(place)?.find(&args.run).map_err(|error| of_store(&error))?;
    ask_to_compact(&run)?;
    let id = run.id();
    let told = writeln!(out, "asked for: run {id} does it as soon as the calls that are under way have ended");
    finished(told.and_then(|()| out.flush()).map(|()| ExitReason::Done).map_err(Stop::from))
}

/// Asks the driver of a run to make its conversation smaller.
pub(super) fn ask_to_compact(run: &RunDir) -> Result<(), Failure> {
    post_order(run, Order::Compact, SystemClock::new().now(), fastrand::u128(..)).map_err(|error| match error {
        PostError::NotDriven(_) => Failure::new(ExitReason::Usage, "the conversation can't be made smaller now")
            .because(error.to_string())
            .hint(format!("go on with it: `agent resume {}`", run.id())),
        error => Failure::new(ExitReason::Internal, error.to_string()).because_of_source(&error),
    })
}

/// Prints how full the window of the run in a directory is.
pub(super) fn print_of(path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    finished(Seen::read(path)?.print(out)).map(drop)
}

/// What a transcript says of the conversation as it is at its end.
struct Seen {
    model: String,
    window: Option<u64>,
    estimate: u64,
    parts: Vec<(Part, u64)>,
    last: Option<(u32, Usage)>,
    reductions: Vec<(u64, Reduction)>,
    /// Steps in all, the number of the first that is shown, and how many of the shown have their result left out.
    steps: (u64, Option<u64>, u64),
}

/// What is folded of a transcript.
struct Folded {
    state: State,
    history: History,
    situation: Situation,
    tools: Vec<ToolSpec>,
}

impl Folded {
    fn begin(first: &Entry) -> Option<Self> {
        let Event::RunStarted { spec, .. } = &first.event else { return None };
        let registry = Registry::for_mode(spec.mode);
        let tools = registry.tools().iter().map(|tool| ToolSpec {
            name: tool.name.to_owned(),
            description: tool.manual.to_owned(),
            parameters: tool.parameters.clone(),
            strict: tool.strict,
        });
        let tools = tools.collect();
        Some(Self {
            state: State::new(spec.clone()),
            history: History::default(),
            situation: Situation::default(),
            tools,
        })
    }

    fn apply(&mut self, entry: &Entry) {
        self.state.apply(entry);
        self.history.apply(entry);
        self.situation.apply(entry);
    }

    /// How things stand, as it is told with each request.
    fn standing(&self, entry: &Entry) -> Option<String> {
        let folds = (self.state.jobs(), self.state.checkpoints(), self.state.questions());
        let budget = self.state.spec().budget.standing(self.state.spent());
        self.situation.words(folds, entry.time, None, budget)
    }

    fn size(&self, parts: &[(Part, u64)]) -> Size {
        let message = |message: &Message| match message {
            Message::System(text) | Message::User(text) | Message::Tool { text, .. } => text.len(),
            Message::Assistant { text, calls, .. } => {
                text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
            }
        };
        let bytes = self.history.messages().iter().map(message).sum::<usize>();
        Size { bytes: bytes as u64, tokens: Some(parts.iter().map(|(_, tokens)| tokens).sum()) }
    }
}

impl Seen {
    fn read(path: &Path) -> Result<Self, Failure> {
        let entries: Result<Vec<Entry>, _> = Reader::open(path).map_err(|error| of_read(&error))?.collect();
        let entries = entries.map_err(|error| of_read(&error))?;
        let nothing = || Failure::new(ExitReason::Failed, "the transcript does not say what was asked");
        let (first, last) = entries.first().zip(entries.last()).ok_or_else(nothing)?;
        let mut folded = Folded::begin(first).ok_or_else(nothing)?;
        let model = model_of(&entries);
        let tokens = Tokens::of_model(&model);
        let (mut meter, mut gauge) = (Meter::new(move |text| tokens.count(text)), Gauge::new(tokens));
        let reported = last_report(&entries);
        for entry in &entries {
            if let Some((seq, _, usage)) = reported.filter(|(seq, ..)| *seq == entry.seq) {
                debug_assert_eq!(seq, entry.seq);
                let parts = shares(&folded.history, &folded.tools, folded.standing(entry).as_deref(), &mut meter);
                gauge.report(folded.size(&parts), usage.input_tokens);
            }
            folded.apply(entry);
            if matches!(entry.event, Event::ConversationReduced { .. }) {
                gauge.rewritten();
            }
        }
        let parts = shares(&folded.history, &folded.tools, folded.standing(last).as_deref(), &mut meter);
        let size = folded.size(&parts);
        let counted = size.tokens.unwrap_or(0).max(1);
        let estimate = gauge.estimate(size.bytes, counted);
        let scaled = |tokens: u64| {
            u64::try_from(u128::from(tokens) * u128::from(estimate) / u128::from(counted)).unwrap_or(u64::MAX)
        };
        let parts = parts.into_iter().map(|(part, tokens)| (part, scaled(tokens))).collect();
        let reductions = entries.iter().filter_map(|entry| match &entry.event {
            Event::ConversationReduced { reduction } => Some((entry.seq, reduction.clone())),
            _ => None,
        });
        Ok(Self {
            window: Window::of(&model, folded.state.spec().window_tokens, &folded.history).map(|window| window.tokens),
            model,
            estimate,
            parts,
            last: reported.map(|(_, turn, usage)| (turn, usage)),
            reductions: reductions.collect(),
            steps: steps_of(&entries, &folded.history),
        })
    }

    /// The size from which on the conversation is made smaller.
    fn trigger(&self) -> Option<u64> {
        let reduced_to = self.reductions.last().map(|(_, reduction)| reduction.after_tokens);
        Some(Window { tokens: self.window? }.trigger(reduced_to))
    }

    fn share(&self, tokens: u64) -> Option<u64> {
        let share = u128::from(tokens) * 100 / u128::from(self.window?.max(1));
        u64::try_from(share).ok()
    }

    fn print_json(&self, out: &mut dyn Write) -> Result<ExitReason, Stop> {
        let parts: Vec<Value> =
            self.parts.iter().map(|(part, tokens)| json!({ "part": part, "tokens": tokens })).collect();
        let reductions: Vec<Value> =
            self.reductions.iter().map(|(seq, reduction)| json!({ "seq": seq, "reduction": reduction })).collect();
        let (steps, first, left_out) = self.steps;
        let object = json!({
            "model": self.model,
            "window_tokens": self.window,
            "reduced_from_tokens": self.trigger(),
            "estimate_tokens": self.estimate,
            "share_percent": self.share(self.estimate),
            "parts": parts,
            "last_request": self.last.map(|(turn, usage)| json!({ "turn": turn, "usage": usage })),
            "reductions": reductions,
            "steps": steps,
            "first_step_shown": first,
            "results_left_out": left_out,
        });
        writeln!(out, "{}", visible_json(&object))?;
        out.flush()?;
        Ok(ExitReason::Done)
    }

    fn print(&self, out: &mut dyn Write) -> Result<ExitReason, Stop> {
        let model = visible_line(&self.model).into_owned();
        match (self.window, self.trigger()) {
            (Some(window), Some(trigger)) => {
                writeln!(
                    out,
                    "window    {} tokens ({model}), made room in from {} on",
                    grouped(window),
                    grouped(trigger)
                )?;
            }
            _ => writeln!(out, "window    without a limit ({model})")?,
        }
        let share = self.share(self.estimate).map(|share| format!(", {share} % of the window")).unwrap_or_default();
        writeln!(out, "next      about {} tokens{share}", grouped(self.estimate))?;
        for (part, tokens) in &self.parts {
            let percent = u128::from(*tokens) * 100 / u128::from(self.estimate.max(1));
            writeln!(out, "  {:<16} {:>11}  {percent:>3} %", part.words(), grouped(*tokens))?;
        }
        if let Some((turn, usage)) = self.last {
            let (input, cached) = (grouped(usage.input_tokens), grouped(usage.cached_tokens));
            writeln!(out, "last      {input} tokens in request {turn} as the server counted, {cached} of them cached")?;
        }
        for (seq, reduction) in &self.reductions {
            writeln!(out, "reduced   at entry {seq}: {}", reduction.words())?;
        }
        let (steps, first, left_out) = self.steps;
        let shown = match first {
            None if steps == 0 => "no step yet".to_owned(),
            None => format!("none of {steps} steps; the model can recall them"),
            Some(1) => format!("all of {steps} steps"),
            Some(first) => format!("steps {first} to {steps}; the model can recall those before"),
        };
        let left_out = match left_out {
            0 => String::new(),
            some => format!(", {some} of them without their results"),
        };
        writeln!(out, "shown     {shown}{left_out}")?;
        out.flush()?;
        Ok(ExitReason::Done)
    }
}

/// The model that answers last.
fn model_of(entries: &[Entry]) -> String {
    let said = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::ModelSwitched { to, .. } => Some(to.clone()),
        Event::RunResumed { asked, .. } => asked.model.clone(),
        Event::RunForked { spec } | Event::RunStarted { spec, .. } => Some(spec.model.clone()),
        _ => None,
    });
    said.unwrap_or_default()
}

/// The last request whose tokens the server told: its entry, its turn, its tokens.
fn last_report(entries: &[Entry]) -> Option<(u64, u32, Usage)> {
    let (turn, usage) = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::ModelAnswered { turn, usage: Some(usage), .. } => Some((*turn, *usage)),
        _ => None,
    })?;
    let is_it = |entry: &&Entry| matches!(&entry.event, Event::ModelRequested { turn: asked, .. } if *asked == turn);
    entries.iter().rev().find(is_it).map(|entry| (entry.seq, turn, usage))
}

fn steps_of(entries: &[Entry], history: &History) -> (u64, Option<u64>, u64) {
    let calls = entries.iter().map(|entry| match &entry.event {
        Event::ModelAnswered { calls, .. } => calls.len() as u64,
        _ => 0,
    });
    let shown = history.units().iter().flat_map(|unit| &unit.steps);
    let first = shown.map(|step| step.number).min();
    let left_out = history.units().iter().map(|unit| unit.left_out() as u64).sum();
    (calls.sum(), first, left_out)
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
