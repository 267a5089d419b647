//! What was decided about failures so far, folded from the entries: how often what was tried for which failure, how it
//! turned out, and what has shown itself and is not recorded yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::failures::{LABEL, NOTE};
use super::fingerprint::shape;
use crate::domain::{
    CheckpointId, Decision, DecisionId, Entry, Event, Failure, FailureClass, Outcome, Reaction, Status, TurnedOut,
};

/// So many of the last lines of an output are compared.
const COMPARED: usize = 40;

/// The fold.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    made: BTreeMap<DecisionId, Made>,
    /// The shapes of the commands of calls without an outcome, by call.
    running: HashMap<String, String>,
    /// What the output of the last failure of each mark came to, and whether that was another than before.
    seen: HashMap<String, (u64, bool)>,
    due: Vec<Judged>,
    /// What was said of names that could not be resolved since a command has last succeeded.
    unresolved: HashSet<String>,
}

/// A decision that has shown how it turned out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which.
    pub decision: DecisionId,
    /// How.
    pub turned_out: TurnedOut,
    /// What shows it, in words.
    pub why: String,
}

#[derive(Debug, Clone)]
struct Made {
    fingerprint: String,
    chosen: Reaction,
    call_id: Option<String>,
    /// The shape of the command that failed.
    shape: String,
    turned_out: Option<TurnedOut>,
    is_due: bool,
    /// Whether the same failure came from another place next: it got further.
    led_on: bool,
}

impl Made {
    /// Whether the harness acts by it, so that the next result of the same call shows how it turned out.
    fn is_act(&self) -> bool {
        self.chosen.is_try()
    }

    /// Whether the outcome of the same call is that of another try.
    fn is_same_again(&self) -> bool {
        matches!(self.chosen, Reaction::RetryAsIs { .. } | Reaction::Park { .. })
    }
}

impl Decisions {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ToolStarted { call } => {
                if let Some(command) = command_of(&call.name, &call.arguments) {
                    self.running.insert(call.id.clone(), shape(&command));
                }
            }
            Event::AttemptFailed { call_id, outcome, .. } => {
                if let Some(shape) = self.running.get(call_id).cloned() {
                    self.take(&shape, outcome, None);
                }
            }
            Event::ToolEnded { call_id, outcome } => {
                if let Some(shape) = self.running.remove(call_id) {
                    self.take(&shape, outcome, Some(call_id));
                }
            }
            Event::DecisionMade { decision } => self.decide(decision),
            Event::DecisionJudged { decision, turned_out, .. } => {
                self.due.retain(|due| due.decision != *decision);
                if let Some(made) = self.made.get_mut(decision) {
                    made.turned_out = Some(*turned_out);
                }
            }
            // What was decided before is another run's, and its calls end elsewhere.
            Event::RunForked { .. } => self.due.clear(),
            _ => {}
        }
    }

    fn decide(&mut self, decision: &Decision) {
        let call_id = decision.call_id.clone();
        let shape = call_id.as_ref().and_then(|call| self.running.get(call)).cloned().unwrap_or_default();
        let made = Made {
            fingerprint: decision.fingerprint.clone(),
            chosen: decision.chosen.clone(),
            call_id,
            shape,
            turned_out: None,
            is_due: false,
            led_on: false,
        };
        self.made.insert(decision.id, made);
    }

    /// A command of this shape has come to this; `ended` is its call, where that is over with it.
    fn take(&mut self, shape: &str, outcome: &Outcome, ended: Option<&str>) {
        let has_succeeded = outcome.status == Status::Ok && outcome.exit.is_none_or(|exit| exit.is_success());
        let failure = outcome.failure.as_deref();
        if has_succeeded && failure.is_none() {
            self.unresolved.clear();
        } else if let Some(failure) = failure.filter(|failure| is_of_names(failure)) {
            self.unresolved.insert(failure.evidence.clone());
        }
        let moved = failure.is_some_and(|failure| self.has_moved(failure, &outcome.text));
        let mut due = Vec::new();
        for (id, made) in
            self.made.iter_mut().filter(|(_, made)| made.shape == shape && made.turned_out.is_none() && !made.is_due)
        {
            let is_own = ended.is_some() && made.call_id.as_deref() == ended;
            let (turned_out, why) = match failure {
                None if has_succeeded => (TurnedOut::Worked, "the command has succeeded since".to_owned()),
                None => continue,
                // Its own outcome is what it was decided about.
                Some(_) if is_own && !made.is_same_again() => continue,
                Some(failure) if failure.fingerprint != made.fingerprint => {
                    (TurnedOut::Changed, format!("{} came in its place", failure.class))
                }
                Some(_) if moved && !made.is_act() => {
                    made.led_on = true;
                    (TurnedOut::Changed, "the same failure came with other words around it".to_owned())
                }
                Some(_) => (TurnedOut::Failed, "the same failure came again".to_owned()),
            };
            made.is_due = true;
            due.push(Judged { decision: *id, turned_out, why });
        }
        self.due.extend(due);
        if let Some(failure) = failure {
            self.seen.insert(failure.fingerprint.clone(), (residue(&outcome.text), moved));
        }
    }

    /// Whether a failure that came before with the same mark comes from another place now; it is not taken in yet.
    pub fn has_moved(&self, failure: &Failure, text: &str) -> bool {
        self.seen.get(&failure.fingerprint).is_some_and(|(before, _)| *before != residue(text))
    }

    /// The same of the last failure that was taken in.
    pub fn had_moved(&self, failure: &Failure) -> bool {
        self.seen.get(&failure.fingerprint).is_some_and(|(_, moved)| *moved)
    }

    /// What has shown itself and is to be recorded, in order.
    pub fn due(&self) -> &[Judged] {
        &self.due
    }

    /// Those that nothing has shown yet, in order.
    pub fn open(&self) -> impl Iterator<Item = DecisionId> {
        self.made.iter().filter(|(_, made)| made.turned_out.is_none() && !made.is_due).map(|(id, _)| *id)
    }

    /// The name that the next one gets.
    pub fn next_id(&self) -> DecisionId {
        DecisionId(self.made.last_key_value().map_or(1, |(id, _)| id.0 + 1))
    }

    /// How often a reaction was chosen for a failure; tries within one call count as one. Those that it got further by do not
    /// count, nor, where it has `moved`, those before that.
    pub fn tried(&self, fingerprint: &str, action: &str, moved: bool) -> u32 {
        let counts = |made: &&Made| {
            made.fingerprint == fingerprint && made.chosen.name() == action && !made.led_on && (!moved || made.is_act())
        };
        let counted = self.made.iter().filter(|(_, made)| counts(made));
        // The tries of one call are one series.
        let names = counted.map(|(id, made)| match (&made.chosen, &made.call_id) {
            (Reaction::RetryAsIs { .. } | Reaction::Park { .. }, Some(call)) => call.clone(),
            _ => id.to_string(),
        });
        u32::try_from(names.collect::<HashSet<_>>().len()).unwrap_or(u32::MAX)
    }

    /// Whether a reaction to a failure was chosen in this call before.
    pub fn is_tried_in(&self, call_id: Option<&str>, fingerprint: &str, action: &str) -> bool {
        let is_it = |made: &Made| {
            made.call_id.as_deref() == call_id && made.fingerprint == fingerprint && made.chosen.name() == action
        };
        call_id.is_some() && self.made.values().any(is_it)
    }

    /// How often the harness has run this call again as it was.
    pub fn retries_of(&self, call_id: &str) -> u32 {
        let is_retry = |made: &&Made| {
            made.call_id.as_deref() == Some(call_id) && matches!(made.chosen, Reaction::RetryAsIs { .. })
        };
        u32::try_from(self.made.values().filter(is_retry).count()).unwrap_or(u32::MAX)
    }

    /// How often the harness has run a call again.
    pub fn retries(&self) -> u32 {
        u32::try_from(self.made.values().filter(|made| made.is_act()).count()).unwrap_or(u32::MAX)
    }

    /// How often a reaction to a failure was seen to work, of how often it was seen to end one way or the other.
    pub fn worked(&self, fingerprint: &str, action: &str) -> (u32, u32) {
        let of = |made: &&Made| made.fingerprint == fingerprint && made.chosen.name() == action;
        let known = self.made.values().filter(of).filter_map(|made| made.turned_out);
        known
            .filter(|turned_out| *turned_out != TurnedOut::Unknown)
            .fold((0, 0), |(worked, all), turned_out| (worked + u32::from(turned_out == TurnedOut::Worked), all + 1))
    }

    /// How many kinds of reactions have failed to help against this failure.
    pub fn ways_failed(&self, fingerprint: &str) -> usize {
        let failed = self.made.values().filter(|made| made.fingerprint == fingerprint);
        let failed = failed.filter(|made| made.turned_out == Some(TurnedOut::Failed) && !made.is_act());
        failed.map(|made| made.chosen.name()).collect::<HashSet<_>>().len()
    }

    /// The checkpoint from which this failure is being mended.
    pub fn snapshot_of(&self, fingerprint: &str) -> Option<CheckpointId> {
        let of = self.made.values().filter(|made| made.fingerprint == fingerprint);
        let mended = of.filter(|made| !made.led_on);
        mended.rev().find_map(|made| match made.chosen {
            Reaction::FixForward { from } => from,
            Reaction::RollBack { to } => Some(to),
            Reaction::RetryAsIs { .. }
            | Reaction::RetryChanged { .. }
            | Reaction::Park { .. }
            | Reaction::Ask
            | Reaction::Abort => None,
        })
    }

    /// Whether names were not to be resolved before, and no command has got through since.
    pub fn names_failed(&self) -> bool {
        !self.unresolved.is_empty()
    }
}

/// Whether a name could not be resolved.
pub(super) fn is_of_names(failure: &Failure) -> bool {
    const SIGNS: [&str; 8] = [
        "could not resolve",
        "name resolution",
        "temporary failure resolving",
        "name or service not known",
        "name does not resolve",
        "unable to resolve host",
        "eai_again",
        "enotfound",
    ];
    let evidence = failure.evidence.to_ascii_lowercase();
    failure.class == FailureClass::Network && SIGNS.iter().any(|sign| evidence.contains(sign))
}

/// What of an output is the same when the same fails in the same place: times and addresses differ each time.
fn residue(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let lines: Vec<&str> =
        text.lines().skip(1).filter(|line| !line.starts_with(LABEL) && !line.starts_with(NOTE)).collect();
    for line in &lines[lines.len().saturating_sub(COMPARED)..] {
        for word in line.split_whitespace() {
            let is_time = word.contains(':')
                || word.trim_end_matches(['s', 'm', ')', ',']).parse::<f64>().is_ok_and(|n| n.fract() != 0.0);
            let is_address = word.starts_with("0x") || word.contains("/tmp/");
            if !is_time && !is_address {
                word.hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

fn command_of(tool: &str, arguments: &str) -> Option<String> {
    let arguments: Value = serde_json::from_str(arguments).ok().filter(|_| tool == "shell")?;
    Some(arguments.get("command")?.as_str()?.to_owned())
}
