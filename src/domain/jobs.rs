//! The jobs of a run, folded from its entries: which are alive, how the others ended, what was noticed about them.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::words::{duration_words, seconds_words};
use super::{Entry, Event, FailureClass, Finding, Job, JobEnd, JobId};

/// The fold. What makes no sense in a transcript, such as the end of a job that never began, changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Jobs {
    by_id: BTreeMap<JobId, JobRecord>,
    /// When the calls that are under way were started, by the name under which the box knows their work.
    calls: HashMap<String, (String, Timestamp)>,
    turn: u32,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job as it was recorded.
    pub job: Job,
    /// When its command was started.
    pub started: Timestamp,
    /// What was noticed about it, in order.
    pub findings: Vec<Finding>,
    /// What became of it.
    pub fate: Fate,
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It runs.
    Alive,
    /// It has ended.
    Ended {
        /// How.
        end: JobEnd,
        /// When that was recorded.
        at: Timestamp,
        /// The model request that had been made last.
        turn: u32,
    },
    /// It ended with its box, and how was not seen.
    WithBox,
}

impl Jobs {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            // The driver names work after the entry that announces it.
            Event::ToolStarted { call } => {
                self.calls.insert(call.id.clone(), (format!("c{}", entry.seq), entry.time));
            }
            Event::ToolEnded { call_id, .. } => drop(self.calls.remove(call_id)),
            Event::ModelRequested { turn, .. } => self.turn = *turn,
            Event::JobStarted { job } => {
                let call = self.calls.values().find(|(work, _)| work == job.call_work());
                let started = call.map_or(entry.time, |(_, started)| *started);
                let record = || JobRecord { job: job.clone(), started, findings: Vec::new(), fate: Fate::Alive };
                self.by_id.entry(job.id).or_insert_with(record);
            }
            Event::JobNoted { job, finding } => {
                if let Some(record) = self.by_id.get_mut(job) {
                    record.findings.push(finding.clone());
                }
            }
            Event::JobEnded { job, end } => {
                let turn = self.turn;
                if let Some(record) = self.by_id.get_mut(job).filter(|record| record.is_alive()) {
                    record.fate = Fate::Ended { end: end.clone(), at: entry.time, turn };
                }
            }
            Event::BoxClosed { removed: true, .. } | Event::RestoreStarted { .. } | Event::RunForked { .. } => {
                self.end_with_box();
            }
            _ => {}
        }
    }

    fn end_with_box(&mut self) {
        let alive = self.by_id.values_mut().filter(|record| record.is_alive());
        alive.for_each(|record| record.fate = Fate::WithBox);
    }

    /// All of them, by id.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.by_id.values()
    }

    /// Those that run, by id.
    pub fn alive(&self) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.all().filter(|record| record.is_alive())
    }

    /// Those that end with the run: all that run, but for services where these are kept.
    pub fn ending(&self, keep_services: bool) -> impl Iterator<Item = &JobRecord> {
        self.alive().filter(move |record| !(keep_services && record.job.service))
    }

    /// The job of that id.
    pub fn get(&self, id: JobId) -> Option<&JobRecord> {
        self.by_id.get(&id)
    }

    /// At most `most` jobs that ended within the last `turns` model requests, the latest first.
    pub fn ended_lately(&self, turns: u32, most: usize) -> Vec<&JobRecord> {
        let lately = |record: &&JobRecord| match &record.fate {
            Fate::Ended { turn, .. } => turn + turns > self.turn,
            Fate::Alive | Fate::WithBox => false,
        };
        let mut ended: Vec<&JobRecord> = self.all().filter(lately).collect();
        ended.sort_by_key(|record| match &record.fate {
            Fate::Ended { at, .. } => std::cmp::Reverse(Some(*at)),
            Fate::Alive | Fate::WithBox => std::cmp::Reverse(None),
        });
        ended.truncate(most);
        ended
    }
}

impl JobRecord {
    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.fate == Fate::Alive
    }

    /// How it ended; None while it runs and where nobody saw it.
    pub fn end(&self) -> Option<&JobEnd> {
        match &self.fate {
            Fate::Ended { end, .. } => Some(end),
            Fate::Alive | Fate::WithBox => None,
        }
    }

    /// Whether its probe has passed; None where it has none, or none that was decided yet.
    pub fn is_ready(&self) -> Option<bool> {
        self.findings.iter().rev().find_map(|finding| match finding {
            Finding::Ready { .. } => Some(true),
            Finding::NotReady { .. } => Some(false),
            Finding::Stalled { .. }
            | Finding::Diverged { .. }
            | Finding::RepeatedErrors { .. }
            | Finding::DiskFilling { .. }
            | Finding::NeedsInput { .. } => None,
        })
    }

    /// How long the model thought that it would take, in words.
    pub fn expected(&self) -> Option<String> {
        self.job.expected_s.and_then(seconds_words)
    }

    /// What became of it in words: `runs`, `runs, ready`, `exit 1 after 2 min 03 s`.
    pub fn fate_words(&self) -> String {
        match &self.fate {
            Fate::Alive => match (self.job.readiness.is_some(), self.is_ready()) {
                (_, Some(true)) => "runs, ready".to_owned(),
                (_, Some(false)) => "runs, not ready in time".to_owned(),
                (true, None) => "runs, not ready yet".to_owned(),
                (false, None) => "runs".to_owned(),
            },
            Fate::Ended { end, .. } => end.words(),
            Fate::WithBox => "ended with the box".to_owned(),
        }
    }
}

impl JobEnd {
    /// The exit and the time in words, and what it comes from where that is known: `exit 1 after 2 min 03 s (oom: …)`.
    pub fn words(&self) -> String {
        let exit = self.exit.map_or_else(|| "ended, exit unknown,".to_owned(), |exit| exit.to_string());
        let words = format!("{exit} after {}", duration_words(self.duration_ms));
        match self.failure.as_deref().filter(|failure| failure.class != FailureClass::Unknown) {
            Some(failure) => format!("{words} ({}: {})", failure.class, failure.evidence),
            None => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Exit, SessionName, ToolCall};

    fn job(id: u32, work: &str) -> Job {
        Job {
            id: JobId(id),
            work: work.to_owned(),
            session: SessionName::new("train").expect("a name"),
            command: "./train".to_owned(),
            cwd: None,
            expected_s: Some(3600.0),
            service: false,
            readiness: None,
            log: "sessions/train.log".to_owned(),
            offset: 0,
        }
    }

    fn end(code: i32) -> JobEnd {
        JobEnd {
            exit: Some(Exit::Code(code)),
            duration_ms: 1_000,
            size_bytes: 0,
            cpu_ms: None,
            memory_peak_bytes: None,
            note: None,
            failure: None,
        }
    }

    fn fold(events: Vec<Event>) -> Jobs {
        let mut jobs = Jobs::default();
        for (seq, event) in events.into_iter().enumerate() {
            let time = Timestamp::from_second(1_700_000_000 + i64::try_from(seq).expect("small")).expect("in range");
            jobs.apply(&Entry { seq: seq as u64, time, event });
        }
        jobs
    }

    fn requested(turn: u32) -> Event {
        let rest = crate::domain::BlobRef { sha256: String::new(), size_bytes: 0 };
        Event::ModelRequested { turn, sha256: String::new(), kept_bytes: 0, rest }
    }

    #[test]
    fn a_job_began_when_its_call_was_started() {
        let call = ToolCall { id: "a".to_owned(), name: "shell".to_owned(), arguments: "{}".to_owned() };
        let jobs = fold(vec![
            requested(1),
            Event::ToolStarted { call },
            requested(2),
            Event::JobStarted { job: job(1, "c1") },
        ]);
        let record = jobs.get(JobId(1)).expect("known");
        assert_eq!(record.started.as_second(), 1_700_000_001);
        assert_eq!(record.fate_words(), "runs");
        assert_eq!(record.expected().as_deref(), Some("1 h"));
    }

    #[test]
    fn the_first_end_of_a_job_is_its_end() {
        let ended = |id, code| Event::JobEnded { job: JobId(id), end: end(code) };
        let jobs =
            fold(vec![ended(1, 9), Event::JobStarted { job: job(1, "c9") }, ended(1, 3), ended(1, 4), ended(7, 5)]);
        assert_eq!(jobs.all().count(), 1);
        assert_eq!(jobs.get(JobId(1)).expect("known").end(), Some(&end(3)));
        assert_eq!(jobs.alive().count(), 0);
    }

    #[test]
    fn what_ended_lately_is_forgotten_after_some_requests_and_what_lives_never() {
        let ended = |id| Event::JobEnded { job: JobId(id), end: end(0) };
        let started = |id| Event::JobStarted { job: job(id, "x") };
        let mut events = vec![requested(1), started(1), started(2), started(3), ended(2), requested(2), ended(1)];
        assert_eq!(fold(events.clone()).ended_lately(2, 5).len(), 2);
        assert_eq!(fold(events.clone()).ended_lately(2, 1)[0].job.id, JobId(1), "the latest first");
        events.push(requested(3));
        assert_eq!(fold(events.clone()).ended_lately(2, 5)[0].job.id, JobId(1));
        events.extend((4..200).map(requested));
        let jobs = fold(events);
        assert_eq!((jobs.ended_lately(2, 5).len(), jobs.alive().count()), (0, 1));
    }

    #[test]
    fn a_box_that_is_removed_takes_its_jobs_along() {
        let started = Event::JobStarted { job: job(1, "x") };
        let closed = |removed| Event::BoxClosed { notes: Vec::new(), removed };
        assert_eq!(fold(vec![started.clone(), closed(true)]).get(JobId(1)).expect("known").fate, Fate::WithBox);
        assert!(fold(vec![started, closed(false)]).get(JobId(1)).expect("known").is_alive());
    }

    #[test]
    fn the_last_word_on_readiness_counts() {
        let noted = |finding| Event::JobNoted { job: JobId(1), finding };
        let mut events = vec![
            Event::JobStarted { job: job(1, "x") },
            noted(Finding::NotReady { why: "refused".to_owned() }),
            noted(Finding::Stalled { silent_ms: 1, usual_ms: 1 }),
        ];
        assert_eq!(fold(events.clone()).get(JobId(1)).expect("known").is_ready(), Some(false));
        events.push(noted(Finding::Ready { after_ms: 5 }));
        assert_eq!(fold(events).get(JobId(1)).expect("known").fate_words(), "runs, ready");
    }
}
