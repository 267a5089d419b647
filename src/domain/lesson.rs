//! What was learned about a failure: what was done about it, how often, and how often that helped.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DecisionId, Entry, Event, FailureClass, Reaction, RunId, Status, ToolCall, TurnedOut};

/// Most commands that are kept of the way from a failure to success; the last ones.
const MOST_COMMANDS: usize = 8;
/// Most characters that are kept of each.
const LONGEST_COMMAND: usize = 400;

/// What is remembered of one way to react to one failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// The failure's mark.
    pub fingerprint: String,
    /// What it comes from.
    pub class: FailureClass,
    /// What was done, as [`Reaction::name`] has it.
    pub action: String,
    /// How often that was done and seen to end one way or the other.
    pub tried: u32,
    /// How often what had failed has succeeded since.
    pub worked: u32,
    /// When it was done last, as far as it is known how that turned out.
    pub last: Timestamp,
    /// Where the model mended it: the commands that led from the failure to success the last time, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// One experience, as a run has recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experience {
    /// The run.
    pub run: RunId,
    /// The entry that tells how it turned out: it counts once.
    pub seq: u64,
    /// When that was recorded.
    pub time: Timestamp,
    /// The failure's mark.
    pub fingerprint: String,
    /// What it comes from.
    pub class: FailureClass,
    /// What was done, as [`Reaction::name`] has it.
    pub action: String,
    /// How that turned out; never [`TurnedOut::Unknown`].
    pub turned_out: TurnedOut,
    /// The commands that led to success, where the model has mended it.
    pub commands: Vec<String>,
}

/// Folds a run's entries into what can be learned from them.
#[derive(Debug, Clone, Default)]
pub struct Learning {
    run: Option<RunId>,
    /// The decisions that nobody has judged yet.
    open: BTreeMap<DecisionId, Open>,
    /// The commands of calls without an outcome, by the calls' ids.
    running: HashMap<String, String>,
}

#[derive(Debug, Clone)]
struct Open {
    fingerprint: String,
    class: FailureClass,
    action: &'static str,
    /// The commands that have succeeded since, where the model is to mend what failed.
    mended_by: Option<VecDeque<String>>,
}

impl Learning {
    /// Takes the next entry in; what is learned by it, if anything is.
    pub fn apply(&mut self, entry: &Entry) -> Option<Experience> {
        match &entry.event {
            Event::RunStarted { spec, .. } => self.run = Some(spec.run.clone()),
            // What came before it has taught the parent.
            Event::RunForked { spec } => *self = Self { run: Some(spec.run.clone()), ..Self::default() },
            Event::ToolStarted { call } => {
                if let Some(command) = command_of(call) {
                    self.running.insert(call.id.clone(), command);
                }
            }
            Event::ToolEnded { call_id, outcome } => {
                let command = self.running.remove(call_id);
                if let Some(command) = command.filter(|_| outcome.status == Status::Ok) {
                    self.open.values_mut().for_each(|open| open.went_well(&command));
                }
            }
            Event::DecisionMade { decision } => {
                let mends = matches!(decision.chosen, Reaction::FixForward { .. });
                let open = Open {
                    fingerprint: decision.fingerprint.clone(),
                    class: decision.class,
                    action: decision.chosen.name(),
                    mended_by: mends.then(VecDeque::new),
                };
                self.open.insert(decision.id, open);
            }
            Event::DecisionJudged { decision, turned_out, .. } => {
                let open = self.open.remove(decision)?;
                return open.taught(self.run.clone()?, entry, *turned_out);
            }
            _ => {}
        }
        None
    }
}

impl Open {
    fn went_well(&mut self, command: &str) {
        let Some(commands) = &mut self.mended_by else { return };
        if commands.back().is_some_and(|last| last == command) {
            return;
        }
        if commands.len() == MOST_COMMANDS {
            commands.pop_front();
        }
        commands.push_back(command.to_owned());
    }

    fn taught(self, run: RunId, entry: &Entry, turned_out: TurnedOut) -> Option<Experience> {
        let commands = match turned_out {
            TurnedOut::Unknown => return None,
            TurnedOut::Worked => self.mended_by.unwrap_or_default().into(),
            TurnedOut::Failed | TurnedOut::Changed => Vec::new(),
        };
        Some(Experience {
            run,
            seq: entry.seq,
            time: entry.time,
            fingerprint: self.fingerprint,
            class: self.class,
            action: self.action.to_owned(),
            turned_out,
            commands,
        })
    }
}

/// The command of a call that runs one, cut to what is kept.
fn command_of(call: &ToolCall) -> Option<String> {
    let arguments: serde_json::Value = serde_json::from_str(&call.arguments).ok().filter(|_| call.name == "shell")?;
    let command = arguments.get("command")?.as_str()?;
    Some(command.chars().take(LONGEST_COMMAND).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Confidence, Decision, Level, Outcome, RunMode, RunSpec};

    const RUN: &str = "01K00000000000000000000001";

    fn entries(events: Vec<Event>) -> impl Iterator<Item = Entry> {
        events.into_iter().zip(0..).map(|(event, seq)| Entry { seq, time: Timestamp::UNIX_EPOCH, event })
    }

    fn started() -> Event {
        let spec = RunSpec::new(RunId::new(RUN).unwrap(), RunMode::Goal, "x");
        Event::RunStarted { format_major: 1, format_minor: 4, spec }
    }

    fn decided(id: u32, chosen: Reaction) -> Event {
        let decision = Decision {
            id: DecisionId(id),
            call_id: None,
            class: FailureClass::Build,
            fingerprint: "build/make/1".to_owned(),
            evidence: Vec::new(),
            options: Vec::new(),
            chosen,
            confidence: Confidence { level: Level::High, signals: Vec::new() },
            expected: String::new(),
        };
        Event::DecisionMade { decision }
    }

    fn ran(id: &str, command: &str, status: Status) -> [Event; 2] {
        let arguments = serde_json::json!({ "command": command }).to_string();
        let call = ToolCall { id: id.to_owned(), name: "shell".to_owned(), arguments };
        [Event::ToolStarted { call }, Event::ToolEnded { call_id: id.to_owned(), outcome: Outcome::words(status, "x") }]
    }

    fn judged(id: u32, turned_out: TurnedOut) -> Event {
        Event::DecisionJudged { decision: DecisionId(id), turned_out, why: String::new() }
    }

    fn learned(events: Vec<Event>) -> Vec<Experience> {
        let mut learning = Learning::default();
        entries(events).filter_map(|entry| learning.apply(&entry)).collect()
    }

    #[test]
    fn what_succeeded_on_the_way_is_learned_with_what_worked() {
        let mut events = vec![started()];
        events.extend(ran("a", "make", Status::Failed));
        events.push(decided(1, Reaction::FixForward { from: None }));
        events.extend(ran("b", "sed -i s/x/y/ a.c", Status::Ok));
        events.extend(ran("c", "make -k", Status::Failed));
        events.extend(ran("d", "make", Status::Ok));
        events.push(judged(1, TurnedOut::Worked));
        let all = learned(events);
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!((one.run.as_str(), one.action.as_str(), one.seq), (RUN, "fix_forward", 10));
        assert_eq!(one.commands, ["sed -i s/x/y/ a.c", "make"]);
    }

    #[test]
    fn what_nobody_knows_and_what_a_parent_did_teaches_nothing() {
        let unknown = vec![started(), decided(1, Reaction::Ask), judged(1, TurnedOut::Unknown)];
        assert_eq!(learned(unknown), []);
        let spec = RunSpec::new(RunId::new("01K00000000000000000000002").unwrap(), RunMode::Goal, "x");
        let retry = || decided(1, Reaction::RetryAsIs { after_ms: 5 });
        let forked = vec![
            started(),
            retry(),
            Event::RunForked { spec },
            judged(1, TurnedOut::Worked),
            retry(),
            judged(1, TurnedOut::Failed),
        ];
        let all = learned(forked);
        assert_eq!(
            all.iter().map(|one| (one.run.as_str(), one.seq)).collect::<Vec<_>>(),
            [("01K00000000000000000000002", 5)]
        );
    }

    #[test]
    fn the_commands_that_are_kept_are_few_and_short() {
        let mut events = vec![started(), decided(1, Reaction::FixForward { from: None })];
        for at in 0..20 {
            events.extend(ran(&format!("c{at}"), &format!("{at} {}", "x".repeat(1000)), Status::Ok));
        }
        events.push(judged(1, TurnedOut::Worked));
        let commands = learned(events).remove(0).commands;
        assert_eq!(commands.len(), MOST_COMMANDS);
        assert!(commands.iter().all(|command| command.chars().count() == LONGEST_COMMAND));
        assert!(commands[0].starts_with("12 ") && commands[7].starts_with("19 "));
    }
}
