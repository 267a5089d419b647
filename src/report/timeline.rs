//! A transcript as text for people, entry by entry. The live view prints the same lines.

mod calls;
mod checkpoints;
mod decisions;
mod end;
mod jobs;
mod questions;

use std::collections::HashMap;

use super::outcome::{Room, WIDEST, cut};
use super::page::Page;
use super::style::{Style, duration, elapsed, one_line, size};
use super::totals::{Totals, tokens};
use super::visible;
use crate::domain::{BoxFacts, Entry, Event, ExitReason, RunMode, RunSpec, SandboxKind, ToolCall};

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// As it happens: of output the ends, no answer (it goes to standard output).
    Live,
    /// Output cut to a readable length.
    #[default]
    Normal,
    /// Everything that the transcript holds, reasoning included.
    Full,
}

/// How a timeline looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimelineOptions {
    /// Colour may be used.
    pub colour: bool,
    /// How much is shown.
    pub detail: Detail,
    /// Columns to wrap at; none: lines are as long as they are.
    pub width: Option<usize>,
    /// The answer is printed below the timeline, so that a live view need not show the summary of a claim.
    pub answer_follows: bool,
    /// What stopped the run is printed below the timeline, so that a live view need not say it.
    pub trouble_follows: bool,
}

/// Renders entries in order; what it renders has no control character but line feeds and its own colours.
#[derive(Default)]
pub struct Timeline {
    style: Style,
    page: Page,
    detail: Detail,
    answer_follows: bool,
    trouble_follows: bool,
    /// What stopped the run has come and is told below the timeline.
    told_below: bool,
    totals: Totals,
    /// Calls that have no outcome yet, by id.
    open: HashMap<String, ToolCall>,
    /// The call whose line is the last that was shown.
    last_started: Option<String>,
    /// Calls that waited, of which their waits have told already.
    waited: Vec<String>,
    /// What the last claim to be done said.
    claimed: String,
}

/// Width of the column with the time.
const GUTTER: usize = 9;
/// Width of the column with the label.
const LABEL: usize = 10;
/// Where text begins.
pub(super) const TEXT: usize = GUTTER + LABEL;
/// Width of the names in the header, blanks around them included.
const FIELD: usize = 12;

impl Timeline {
    /// A timeline that has seen nothing yet.
    pub fn new(options: TimelineOptions) -> Self {
        let TimelineOptions { colour, detail, width, answer_follows, trouble_follows } = options;
        Self {
            style: Style { colour },
            page: Page { width },
            detail,
            answer_follows,
            trouble_follows,
            ..Self::default()
        }
    }

    /// The numbers so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Wraps what comes at another width: the window was resized.
    pub(super) fn set_width(&mut self, width: Option<usize>) {
        self.page.width = width;
    }

    /// Colours nothing from now on.
    pub(super) fn set_plain(&mut self) {
        self.style = Style { colour: false };
    }

    /// How text is laid out.
    pub(super) fn page(&self) -> Page {
        self.page
    }

    /// The text of the next entry: whole lines, or nothing where there is nothing to see.
    pub fn entry(&mut self, entry: &Entry) -> String {
        self.totals.add(entry);
        let text = self.render(entry);
        if !text.is_empty() {
            self.last_started = match &entry.event {
                Event::ToolStarted { call } => Some(call.id.clone()),
                _ => None,
            };
        }
        text
    }

    fn render(&mut self, entry: &Entry) -> String {
        match &entry.event {
            Event::RunStarted { spec, .. } => self.header(spec, entry),
            Event::BoxOpened { facts } => self.line("box", &self.box_words(facts)),
            Event::BoxClosed { notes, .. } => notes.iter().map(|note| self.line("box", &visible(note))).collect(),
            Event::SessionOpened { .. } if self.detail != Detail::Full => String::new(),
            Event::SessionOpened { session, shell, log } => {
                self.line("session", &format!("{session}, {}, {}", visible(shell), visible(log)))
            }
            Event::UserSaid { text, .. } => self.said("you", text),
            Event::HarnessSaid { text } => self.said("harness", text),
            Event::ModelRequested { .. } | Event::SummaryRequested { .. } | Event::SummaryAnswered { .. } => {
                String::new()
            }
            Event::ModelDelayed { why, wait_ms, .. } => {
                self.line("waiting", &format!("{} ({})", duration(*wait_ms), visible(why)))
            }
            Event::ModelAnswered { turn, text, reasoning, calls, usage, duration_ms, .. } => {
                self.open.extend(calls.iter().map(|call| (call.id.clone(), call.clone())));
                let tokens = usage.map(|usage| format!(", {}", tokens(usage))).unwrap_or_default();
                self.answered(text, reasoning, &format!("turn {turn}, {}{tokens}", duration(*duration_ms)))
            }
            Event::ModelFailed { why, .. } => self.model_failed(why),
            Event::LimitsRaised { asked } => self.line("limit", &format!("raised: {}", asked.limits_words())),
            Event::ModelSwitched { from, to, why } => {
                self.line("model", &visible(&format!("{to} answers from here on, not {from}: {why}")))
            }
            Event::SummaryFailed { why } => self.line("summary", &visible(&format!("none from the model: {why}"))),
            Event::ConversationReduced { reduction } => self.line("context", &reduction.words()),
            Event::ToolStarted { call } => self.started(call),
            Event::ToolEnded { call_id, outcome } => self.ended(call_id, outcome),
            Event::FinishClaimed { claim } => self.claimed(claim),
            Event::CheckStarted { round: 0, .. } if self.detail != Detail::Full => String::new(),
            Event::CheckStarted { check, round, .. } => {
                self.line(&format!("check {}", check + 1), &self.check_words(*check, *round))
            }
            Event::CheckEnded { result } if result.round == 0 => self.checked_before(result),
            Event::CheckEnded { result } => self.checked(result),
            Event::TurnInterrupted { turn } => self.line("stopped", &format!("turn {turn}, by Ctrl-C")),
            Event::StopAsked { reason, why } => self.stop_asked(*reason, why),
            Event::ArtifactCollected { path, size_bytes, sha256, .. } => self.collected(path, *size_bytes, sha256),
            Event::ArtifactRefused { path, why } => {
                self.trouble("file", &format!("{} left: {}", visible(self.totals.inside(path)), visible(why)))
            }
            Event::AttemptFailed { attempt, outcome, .. } => self.attempt_failed(*attempt, outcome),
            Event::QuestionAsked { question } => self.asked(question),
            Event::QuestionAnswered { question, reply, .. } => self.replied(*question, reply),
            Event::QuestionClosed { question, end, why } => self.question_closed(*question, *end, why),
            Event::DecisionMade { decision } => self.decided(decision),
            Event::DecisionJudged { decision, turned_out, why } => self.decision_judged(*decision, *turned_out, why),
            Event::BoxGrown { memory_bytes, why } => self.box_grown(*memory_bytes, why),
            Event::ProtectedSeen { files, .. } => self.protected_seen(files),
            Event::ProtectedChanged { paths, programs } => self.protected_changed(paths, programs),
            Event::ChecksOutdated { paths, running, .. } => self.checks_outdated(paths, running),
            Event::JobStarted { job } => self.job_started(job),
            Event::JobNoted { job, finding } => self.job_noted(*job, finding),
            Event::JobEnded { job, end } => self.job_ended(*job, end),
            Event::Waited { wait } => self.waited(wait),
            Event::PersonTyped { session } => self.person_typed(session),
            Event::SessionClosed { session, why } => self.session_closed(session, why),
            Event::BoxMeasured { usage } => self.measured(usage),
            Event::Noticed { text, .. } => self.line("noticed", &visible(text)),
            Event::RunResumed { away_ms, found, notes, .. } => self.resumed(*away_ms, *found, notes),
            Event::RunForked { spec } => self.forked(spec),
            Event::CheckpointTaken { checkpoint } => self.checkpoint_taken(checkpoint),
            Event::RestoreStarted { checkpoint, saved } => self.restore_started(*checkpoint, *saved),
            Event::CheckpointRestored { checkpoint, notes, .. } => self.checkpoint_restored(*checkpoint, notes),
            Event::CheckpointDeleted { checkpoint } => self.line("deleted", &format!("checkpoint {checkpoint}")),
            Event::SidecarStarted { name, image, .. } => self.sidecar_started(name, image.as_deref()),
            Event::SidecarStopped { name, why } => self.line("sidecar", &visible(&format!("{name} is gone: {why}"))),
            Event::ImageSaved { name, left_out, .. } => self.image_saved(name, left_out),
            Event::RunEnded { .. } => self.banner(),
            Event::Other(value) => self.line("unknown", &one_line(&value.to_string(), WIDEST)),
        }
    }

    /// The column with the time, as wide as it always is.
    pub(super) fn gutter(&self) -> String {
        self.style.dim(&format!("{:>7}  ", elapsed(self.totals.wall_ms)))
    }

    /// Who speaks, as wide as every label.
    pub(super) fn speaker(&self, who: &str) -> String {
        self.style.bold(&format!("{who:<LABEL$}"))
    }

    /// A labelled paragraph: `text` is safe, its further lines are indented.
    fn line(&self, label: &str, text: &str) -> String {
        self.paragraph(&format!("{label:<LABEL$}"), text)
    }

    /// As `line`, of something that went wrong.
    fn trouble(&self, label: &str, text: &str) -> String {
        self.paragraph(&self.style.bad(&format!("{label:<LABEL$}")), text)
    }

    fn said(&self, who: &str, text: &str) -> String {
        self.paragraph(&self.speaker(who), &cut(text, self.room()))
    }

    fn paragraph(&self, label: &str, text: &str) -> String {
        self.page.paragraph(&format!("{}{label}", self.gutter()), TEXT, text)
    }

    /// Dim text without a time.
    fn note(&self, words: &str) -> String {
        self.page.line(&" ".repeat(GUTTER), GUTTER, words, |piece| self.style.dim(piece))
    }

    /// How much of a text is shown.
    fn room(&self) -> Option<Room> {
        match self.detail {
            Detail::Live => Some((3, 8)),
            Detail::Normal => Some((16, 8)),
            Detail::Full => None,
        }
    }

    fn header(&self, spec: &RunSpec, entry: &Entry) -> String {
        // The title of a goal is its beginning.
        let title = match spec.goal.trim_start().starts_with(spec.title.trim_end_matches('…')) {
            true => String::new(),
            false => one_line(&spec.title, WIDEST).into_owned(),
        };
        let lead = format!("{} {}  ", self.style.bold("run"), spec.run);
        let mut out = self.page.line(&lead, FIELD, &title, |piece| self.style.bold(piece));
        let mut field = |name: &str, text: &str| {
            let lead = format!("  {} ", self.style.dim(&format!("{name:<9}")));
            out.push_str(&self.page.paragraph(&lead, FIELD, text));
        };
        match spec.mode {
            RunMode::Goal => field("goal", &cut(spec.goal.trim_end(), self.room())),
            RunMode::Chat => field("mode", "chat"),
        }
        for check in &spec.checks {
            field("check", &visible(&check.to_string()));
        }
        let server = if spec.base_url.is_empty() { String::new() } else { format!(" at {}", spec.base_url) };
        field("model", &visible(&format!("{}{server}", spec.model)));
        field("workspace", &visible(&spec.workspace));
        field("started", &format!("{:.0}, longhaul {}", entry.time, visible(&spec.version)));
        out.push('\n');
        out
    }

    fn box_words(&self, facts: &BoxFacts) -> String {
        let kind = match facts.kind {
            SandboxKind::Docker => "docker",
            SandboxKind::Local => "local",
            SandboxKind::Host => "host (no box)",
        };
        let image = facts.image.as_ref().map(|image| format!(", image {image}")).unwrap_or_default();
        let changes = match (facts.kind, facts.workspace_mode.as_str()) {
            (SandboxKind::Host, _) => "what is done is done to this machine".to_owned(),
            (_, "bind") => "changes to the project reach it at once".to_owned(),
            (_, "overlay" | "copy") => "changes to the project stay in the box".to_owned(),
            (_, other) => format!("workspace by {other}"),
        };
        let mut words = visible(&format!("{kind}{image} ({}); {changes}", facts.why)).into_owned();
        for capability in facts.capabilities.iter().filter(|_| self.detail == Detail::Full) {
            let state = capability.missing.as_ref().map_or("yes".to_owned(), |missing| format!("no: {missing}"));
            words.push_str(&visible(&format!("\n{}: {state}", capability.name)));
        }
        words
    }

    fn answered(&self, text: &str, reasoning: &str, numbers: &str) -> String {
        let mut out = String::new();
        if self.detail == Detail::Full && !reasoning.trim().is_empty() {
            out.push_str(&self.line("thought", &visible(reasoning.trim())));
        }
        if !text.trim().is_empty() {
            out.push_str(&self.said("model", text.trim()));
        }
        if self.detail != Detail::Live {
            out.push_str(&self.note(numbers));
        }
        out
    }

    fn model_failed(&mut self, why: &str) -> String {
        // It ends a run with a goal; a chat may go on.
        self.told_below =
            self.trouble_follows && self.totals.spec.as_ref().is_some_and(|spec| spec.mode == RunMode::Goal);
        match self.detail {
            Detail::Live if self.told_below => String::new(),
            Detail::Live | Detail::Normal => self.trouble("model", &first_line(why)),
            Detail::Full => self.trouble("model", &visible(why)),
        }
    }

    fn stop_asked(&mut self, reason: ExitReason, why: &str) -> String {
        self.told_below = self.trouble_follows && is_trouble(reason);
        match self.detail {
            Detail::Live if self.told_below => String::new(),
            Detail::Live | Detail::Normal => self.line("stop", &first_line(why)),
            Detail::Full => self.line("stop", &visible(why)),
        }
    }

    fn collected(&self, path: &str, size_bytes: u64, sha256: &str) -> String {
        let digits = if self.detail == Detail::Full { sha256.len() } else { 12 };
        let sha256: String = sha256.chars().take(digits).collect();
        let path = visible(self.totals.inside(path));
        self.line("file", &format!("{path} ({}, sha256 {})", size(size_bytes), visible(&sha256)))
    }
}

/// Whether a run that is asked to stop for this reason met trouble, which has causes and remedies to be told.
fn is_trouble(reason: ExitReason) -> bool {
    match reason {
        ExitReason::Internal
        | ExitReason::Usage
        | ExitReason::Refused
        | ExitReason::SandboxUnavailable
        | ExitReason::ProviderUnavailable
        | ExitReason::Auth => true,
        ExitReason::Done
        | ExitReason::Failed
        | ExitReason::NeedsHuman
        | ExitReason::Budget
        | ExitReason::Unverified
        | ExitReason::Interrupted
        | ExitReason::Terminated => false,
    }
}

/// The first line of recorded words, safe to print; says where there is more.
fn first_line(text: &str) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let more = if rest.trim().is_empty() { "" } else { " [...]" };
    format!("{}{more}", one_line(first, WIDEST))
}
