//! What the entries of a run tell whoever takes it up again, beyond its state: what lies in the box, what was said, how
//! long it was driven.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::delay::Delay;
use super::state::State;
use crate::context::{History, Situation};
use crate::domain::{
    BoxFacts, BoxReturn, Checkpoint, CheckpointId, CheckpointReason, Decision, Entry, Event, ExitReason, SessionName,
    ToolCall,
};
use crate::journal::{Blobs, RequestReader};

/// The folds over the entries so far, and what only matters at such a moment.
pub(super) struct Past {
    pub(super) state: State,
    pub(super) history: History,
    pub(super) situation: Situation,
    /// The ids of all calls.
    pub(super) call_ids: HashSet<String>,
    /// Messages that were recorded, by the names under which they lay in the inbox.
    pub(super) mail: HashSet<String>,
    /// For how long drivers have driven it.
    pub(super) driven: Duration,
    /// When the last entry was recorded.
    pub(super) last: Timestamp,
    /// How it ended, if that was recorded.
    pub(super) end: Option<(ExitReason, String)>,
    /// The box, if one was recorded and not its end.
    pub(super) sandbox: Option<BoxFacts>,
    /// The sessions that are open, each with the last command that was given to it.
    pub(super) sessions: BTreeMap<SessionName, Option<String>>,
    /// Up to where outputs were shown, by log.
    pub(super) shown: BTreeMap<String, u64>,
    /// The checkpoint from which the files have come to be what they are.
    base: Option<CheckpointId>,
    /// What was brought out for the end that is under way: its path in the box, and where it is stored.
    pub(super) collected: BTreeMap<String, String>,
    /// Where all that was ever brought out is stored.
    pub(super) stored: BTreeSet<String>,
    /// How the model's server stood.
    pub(super) delay: Delay,
    /// The last request, as it was sent.
    pub(super) request: Vec<u8>,
    began: Timestamp,
    has_had_box: bool,
}

impl Past {
    /// Folds all of them. None for a transcript without its beginning.
    pub(super) fn of(entries: &[Entry], blobs: &Blobs) -> Option<Self> {
        let (first, rest) = entries.split_first()?;
        let Event::RunStarted { spec, .. } = &first.event else { return None };
        let mut past = Self {
            state: State::new(spec.clone()),
            history: History::default(),
            situation: Situation::default(),
            call_ids: HashSet::new(),
            mail: HashSet::new(),
            driven: Duration::ZERO,
            last: first.time,
            end: None,
            sandbox: None,
            sessions: BTreeMap::new(),
            shown: BTreeMap::new(),
            base: None,
            collected: BTreeMap::new(),
            stored: BTreeSet::new(),
            delay: Delay::default(),
            request: last_request(entries, blobs),
            began: first.time,
            has_had_box: false,
        };
        past.fold(first);
        rest.iter().for_each(|entry| past.take(entry));
        past.driven += between(past.began, past.last);
        Some(past)
    }

    fn fold(&mut self, entry: &Entry) {
        self.state.apply(entry);
        self.history.apply(entry);
        self.situation.apply(entry);
        self.delay.apply(entry);
    }

    fn take(&mut self, entry: &Entry) {
        match &entry.event {
            Event::RunResumed { found, .. } => {
                self.driven += between(self.began, self.last);
                self.began = entry.time;
                if self.end.take().is_some() {
                    self.collected.clear();
                }
                if matches!(found, BoxReturn::Restored | BoxReturn::Lost | BoxReturn::None) {
                    self.leave_box();
                }
            }
            Event::RunForked { .. } => {
                self.driven = Duration::ZERO;
                self.began = entry.time;
                self.end = None;
                self.leave_box();
            }
            Event::BoxOpened { facts } => {
                self.sandbox = Some(facts.clone());
                self.has_had_box = true;
            }
            Event::BoxClosed { removed: true, .. } => self.leave_box(),
            Event::SessionOpened { session, .. } => drop(self.sessions.insert(session.clone(), None)),
            Event::SessionClosed { session, .. } => drop(self.sessions.remove(session)),
            Event::UserSaid { mail: Some(mail), .. } | Event::QuestionAnswered { mail: Some(mail), .. } => {
                self.mail.insert(mail.clone());
            }
            Event::ModelAnswered { calls, .. } => self.call_ids.extend(calls.iter().map(|call| call.id.clone())),
            Event::ToolStarted { call } => {
                if let Some(session) = session_of_command(call) {
                    self.sessions.insert(session, Some(format!("c{}", entry.seq)));
                }
            }
            Event::DecisionMade { decision } if decision.chosen.is_try() => self.begins_again(decision),
            Event::ToolEnded { outcome, .. } | Event::AttemptFailed { outcome, .. } => {
                if let Some(output) = &outcome.output {
                    let shown = self.shown.entry(output.log.clone()).or_default();
                    *shown = (*shown).max(output.offset + output.size_bytes);
                }
            }
            // What is kept of a state that is left behind is not where the run goes on.
            Event::CheckpointTaken { checkpoint } if checkpoint.reason != CheckpointReason::Restore => {
                self.base = Some(checkpoint.id);
            }
            Event::CheckpointRestored { checkpoint, .. } => self.base = Some(*checkpoint),
            Event::RestoreStarted { .. } => self.leave_box(),
            Event::ArtifactCollected { path, stored, .. } => {
                self.stored.insert(stored.clone());
                self.collected.insert(path.clone(), stored.clone());
            }
            Event::RunEnded { reason, why, .. } => self.end = Some((*reason, why.clone())),
            _ => {}
        }
        self.fold(entry);
        self.last = entry.time;
    }

    /// The session of the call that failed gets its command once more.
    fn begins_again(&mut self, decision: &Decision) {
        let is_it = |call: &&ToolCall| decision.call_id.as_ref() == Some(&call.id);
        let Some(call) = self.state.open_calls().iter().find(is_it) else { return };
        if let Some(session) = session_of_command(call) {
            self.sessions.insert(session, self.state.work_of(&call.id));
        }
    }

    fn leave_box(&mut self) {
        self.sandbox = None;
        self.sessions.clear();
    }

    /// Whether it ever had a box that was recorded.
    pub(super) fn had_box(&self) -> bool {
        self.has_had_box
    }

    /// The checkpoint that a box is made from when the old one is gone: the one whose restore was begun, or the last one on
    /// the way to where the run stands, or, where that was deleted, the newest.
    pub(super) fn way_back(&self) -> Option<&Checkpoint> {
        let checkpoints = self.state.checkpoints();
        let kept = |id: CheckpointId| checkpoints.kept().find(|record| record.checkpoint.id == id);
        let found = checkpoints.restoring().or(self.base).and_then(kept).or_else(|| checkpoints.newest());
        found.map(|record| &record.checkpoint)
    }
}

/// The session to which a call gives a command.
fn session_of_command(call: &ToolCall) -> Option<SessionName> {
    let arguments: Value = serde_json::from_str(&call.arguments).ok().filter(|_| call.name == "shell")?;
    arguments.get("command")?.as_str()?;
    let session = arguments.get("session").and_then(Value::as_str).unwrap_or("main");
    SessionName::new(session).ok()
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// The last request that can be put together from what is stored; empty where it can't: then the next one is stored whole.
fn last_request(entries: &[Entry], blobs: &Blobs) -> Vec<u8> {
    let mut reader = RequestReader::default();
    let mut last = Vec::new();
    for entry in entries {
        let (Event::ModelRequested { sha256, kept_bytes, rest, .. }
        | Event::SummaryRequested { sha256, kept_bytes, rest }) = &entry.event
        else {
            continue;
        };
        let rest = blobs.get(rest).ok();
        let request = rest.and_then(|rest| reader.next(sha256, *kept_bytes, &rest).map(<[u8]>::to_vec));
        last = request.unwrap_or_default();
    }
    last
}
