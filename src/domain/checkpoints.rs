//! The checkpoints of a run, folded from its entries.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Checkpoint, CheckpointId, Entry, Event, Job};

/// The fold. What makes no sense in a transcript, such as the deletion of what was never taken, changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoints {
    by_id: BTreeMap<CheckpointId, CheckpointRecord>,
    /// Whether something may have changed in the box since the last one.
    changed: bool,
    /// The restore that has begun and not ended.
    restoring: Option<CheckpointId>,
    /// The commands of the `shell` calls that are under way, by call; with the name under which the box knows them.
    calls: HashMap<String, (String, String)>,
    /// The whole commands of services, by the name under which the box knows them.
    services: HashMap<String, String>,
}

/// What is known of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRecord {
    /// It.
    pub checkpoint: Checkpoint,
    /// When it was recorded.
    pub taken: Timestamp,
    /// The place of its entry.
    pub entry: u64,
    /// Whether it was deleted.
    pub deleted: bool,
}

impl Checkpoints {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ToolStarted { call } => {
                self.changed |= may_change(&call.name);
                if let Some(command) = command_of(&call.name, &call.arguments) {
                    // The driver names work after the entry that announces it.
                    self.calls.insert(call.id.clone(), (format!("c{}", entry.seq), command));
                }
            }
            Event::ToolEnded { call_id, .. } => drop(self.calls.remove(call_id)),
            Event::JobStarted { job } if job.service => {
                let known = self.calls.values().find(|(work, _)| work == job.call_work());
                let command = known.map_or_else(|| job.command.clone(), |(_, command)| command.clone());
                self.services.insert(job.work.clone(), command);
            }
            Event::CheckpointTaken { checkpoint } => {
                self.changed = false;
                let record = CheckpointRecord {
                    checkpoint: checkpoint.clone(),
                    taken: entry.time,
                    entry: entry.seq,
                    deleted: false,
                };
                self.by_id.insert(checkpoint.id, record);
            }
            Event::CheckpointDeleted { checkpoint } => {
                if let Some(record) = self.by_id.get_mut(checkpoint) {
                    record.deleted = true;
                }
            }
            Event::RestoreStarted { checkpoint, .. } => self.restoring = Some(*checkpoint),
            Event::CheckpointRestored { .. } => {
                self.restoring = None;
                self.changed = false;
            }
            Event::PersonTyped { .. } => self.changed = true,
            _ => {}
        }
    }

    /// Those that have not been deleted, by id.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &CheckpointRecord> {
        self.by_id.values().filter(|record| !record.deleted)
    }

    /// All that there ever were, by id.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &CheckpointRecord> {
        self.by_id.values()
    }

    /// The newest that has not been deleted.
    pub fn newest(&self) -> Option<&CheckpointRecord> {
        self.kept().next_back()
    }

    /// The id of the next one.
    pub fn next_id(&self) -> CheckpointId {
        CheckpointId(self.by_id.keys().next_back().map_or(1, |last| last.0.saturating_add(1)))
    }

    /// Finds one by its id, or the newest of that name.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn find(&self, wanted: &str) -> Result<&CheckpointRecord, String> {
        let by_id = wanted.parse().ok().and_then(|id: CheckpointId| self.by_id.get(&id));
        let is_named = |record: &&CheckpointRecord| record.checkpoint.name.as_deref() == Some(wanted);
        let by_name = || self.kept().rfind(is_named).or_else(|| self.all().rfind(is_named));
        match by_id.or_else(by_name) {
            Some(record) if record.deleted => Err(format!("checkpoint {} was deleted", record.checkpoint.label())),
            Some(record) => Ok(record),
            None => {
                let known: Vec<String> = self.kept().map(|record| record.checkpoint.label()).collect();
                let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
                Err(format!("this run has no checkpoint `{wanted}`; there are: {known}"))
            }
        }
    }

    /// Whether something may have changed in the box since the last one, or there is none yet.
    pub fn is_behind(&self) -> bool {
        self.changed || self.newest().is_none()
    }

    /// The checkpoint whose restore has begun and not ended.
    pub fn restoring(&self) -> Option<CheckpointId> {
        self.restoring
    }

    /// The job with its whole command, where that is known.
    pub fn with_whole_command(&self, job: &Job) -> Job {
        let command = self.services.get(&job.work).unwrap_or(&job.command).clone();
        Job { command, ..job.clone() }
    }
}

/// Whether a call of this tool may change files.
fn may_change(tool: &str) -> bool {
    !matches!(tool, "read_file" | "wait" | "finish" | "checkpoint" | "recall" | "ask_human")
}

fn command_of(tool: &str, arguments: &str) -> Option<String> {
    let arguments: serde_json::Value = (tool == "shell").then(|| serde_json::from_str(arguments).ok())??;
    arguments.get("command")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CheckpointReason, Consistency, SandboxKind, Snapshot, ToolCall};

    fn taken(id: u32, name: Option<&str>) -> Event {
        let snapshot = Snapshot {
            kind: SandboxKind::Local,
            layers: Vec::new(),
            image: None,
            consistency: Consistency::Stopped,
            took_ms: 1,
            new_files: 0,
            new_bytes: 0,
            left_out: Vec::new(),
        };
        let checkpoint = Checkpoint {
            id: CheckpointId(id),
            name: name.map(str::to_owned),
            reason: CheckpointReason::Model,
            seq: 0,
            snapshot,
            sessions: Vec::new(),
            jobs: Vec::new(),
            sha256: String::new(),
        };
        Event::CheckpointTaken { checkpoint }
    }

    fn started(tool: &str) -> Event {
        let call = ToolCall { id: "a".to_owned(), name: tool.to_owned(), arguments: "{}".to_owned() };
        Event::ToolStarted { call }
    }

    fn fold(events: Vec<Event>) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        for (seq, event) in events.into_iter().enumerate() {
            let time = Timestamp::from_second(1_700_000_000).expect("in range");
            checkpoints.apply(&Entry { seq: seq as u64, time, event });
        }
        checkpoints
    }

    #[test]
    fn a_checkpoint_is_found_by_id_and_the_newest_by_name() {
        let checkpoints = fold(vec![taken(1, Some("good")), taken(2, None), taken(3, Some("good"))]);
        let found = |wanted| checkpoints.find(wanted).map(|record| record.checkpoint.id.0);
        assert_eq!((found("k1"), found("k2"), found("good")), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(found("k9"), Err("this run has no checkpoint `k9`; there are: k1 `good`, k2, k3 `good`".to_owned()));
        assert_eq!(checkpoints.next_id(), CheckpointId(4));
    }

    #[test]
    fn a_deleted_one_is_known_as_deleted_and_its_id_is_not_used_again() {
        let checkpoints = fold(vec![taken(1, Some("x")), Event::CheckpointDeleted { checkpoint: CheckpointId(1) }]);
        assert_eq!(checkpoints.find("x").map(|_| ()), Err("checkpoint k1 `x` was deleted".to_owned()));
        assert_eq!((checkpoints.kept().count(), checkpoints.next_id()), (0, CheckpointId(2)));
    }

    #[test]
    fn looking_changes_nothing_and_acting_may() {
        assert!(fold(vec![]).is_behind(), "there is none yet");
        assert!(!fold(vec![started("shell"), taken(1, None), started("read_file"), started("wait")]).is_behind());
        assert!(fold(vec![taken(1, None), started("write_file")]).is_behind());
    }

    #[test]
    fn a_restore_is_open_until_it_has_ended() {
        let begun = Event::RestoreStarted { checkpoint: CheckpointId(1), saved: None };
        let ended = Event::CheckpointRestored { checkpoint: CheckpointId(1), sessions: Vec::new(), notes: Vec::new() };
        assert_eq!(fold(vec![taken(1, None), begun.clone()]).restoring(), Some(CheckpointId(1)));
        assert_eq!(fold(vec![taken(1, None), begun, ended]).restoring(), None);
    }
}
