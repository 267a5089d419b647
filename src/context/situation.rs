//! How things stand, as the last words of a request: rendered by code from the run's entries, never part of the history,
//! so that what was sent before stays as it is, byte for byte.

use std::time::Duration;

use jiff::Timestamp;

use super::Prompt;
use super::attempts::Attempts;
use crate::domain::{
    ActMode, CheckpointRecord, Checkpoints, Entry, Event, Fate, JobRecord, Jobs, NoticeKind, QuestionRecord, Questions,
    duration_words,
};

/// Jobs that have ended are told of for so many requests.
const LATELY: u32 = 8;
/// So many of them at most; those that live are all told of.
const MOST_ENDED: usize = 5;
/// So many checkpoints at most, the newest; the tool lists them all.
const MOST_CHECKPOINTS: usize = 5;
/// Characters of a command, and of what was found, that are shown.
const WIDEST: usize = 100;

/// What is new beside the jobs, until the model has answered a request that told of it.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    mode: ActMode,
    attempts: Attempts,
    /// Not told yet.
    new: Vec<String>,
    /// Told in a request that has no answer yet.
    told: Vec<String>,
}

impl Situation {
    /// Takes the next entry in.
    pub fn apply(&mut self, entry: &Entry) {
        self.attempts.apply(entry);
        match &entry.event {
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => self.mode = spec.rules.mode,
            Event::RunResumed { asked, .. } => {
                self.mode = asked.rules.as_ref().map_or(self.mode, |rules| rules.mode);
            }
            Event::PersonTyped { session } => {
                self.add(format!("A person has typed into session {session} since your last answer."));
            }
            Event::SessionClosed { session, why } => self.add(format!("Session {session} is closed: {}.", cut(why))),
            Event::Noticed { kind, text } => match kind {
                NoticeKind::Reconnected
                | NoticeKind::OutputLost
                | NoticeKind::ClockJumped
                | NoticeKind::CheckpointFailed => {
                    self.add(format!("Noticed: {}.", cut(text)));
                }
                NoticeKind::Headless
                | NoticeKind::ServicesKept
                | NoticeKind::BudgetNear
                | NoticeKind::DocLeftOut
                | NoticeKind::TokensMissing
                | NoticeKind::NothingProtected
                | NoticeKind::NothingToReduce
                | NoticeKind::AnswerUnused
                | NoticeKind::LessonsLost => {}
            },
            Event::SidecarStopped { name, why } => self.add(format!("Sidecar {name} is gone: {}.", cut(why))),
            Event::ModelRequested { .. } => self.told.append(&mut self.new),
            Event::ModelAnswered { .. } => self.told.clear(),
            _ => {}
        }
    }

    /// How freely the run acts, where that is not as usual.
    fn mode_words(&self) -> Option<String> {
        let prompt = match self.mode {
            ActMode::Plan => Prompt::ModePlan,
            ActMode::Ask => Prompt::ModeAsk,
            ActMode::Auto => return None,
        };
        Some(prompt.render(&[]).expect("the template is fixed and tested"))
    }

    fn add(&mut self, line: String) {
        if !self.new.contains(&line) {
            self.new.push(line);
        }
    }

    /// The words, if there is anything to say: the jobs, the questions, the checkpoints, what is new, and `left` of the run's time if that
    /// has a limit, and how it stands with the `budget` if there is one.
    pub fn words(
        &self,
        (jobs, checkpoints, questions): (&Jobs, &Checkpoints, &Questions),
        now: Timestamp,
        left: Option<Duration>,
        budget: Option<String>,
    ) -> Option<String> {
        let mut lines: Vec<String> = self.mode_words().into_iter().collect();
        let alive: Vec<String> = jobs.alive().map(|job| alive_words(job, now)).collect();
        if !alive.is_empty() {
            lines.push("Jobs that run:".to_owned());
            lines.extend(alive);
        }
        let ended = jobs.ended_lately(LATELY, MOST_ENDED);
        if !ended.is_empty() {
            lines.push("Jobs that ended lately:".to_owned());
            lines.extend(ended.into_iter().map(ended_words));
        }
        lines.extend(questions.open().map(|record| question_words(record, now)));
        lines.extend(checkpoint_words(checkpoints, now));
        lines.extend(self.attempts.lines());
        for line in self.told.iter().chain(&self.new) {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        lines.extend(left.map(|left| {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            format!("Time left for this run: {}.", duration_words(left))
        }));
        lines.extend(budget.map(|budget| format!("Budget spent: {budget}.")));
        if lines.is_empty() {
            return None;
        }
        let now = now.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let values = [("now", now.as_str()), ("lines", &lines.join("\n"))];
        Some(Prompt::State.render(&values).expect("the template is fixed and tested"))
    }
}

/// `- j1 · session train · runs, for 2 h 03 min, expected 6 h · python train.py · stalled: …`.
fn alive_words(record: &JobRecord, now: Timestamp) -> String {
    let elapsed = u64::try_from(now.duration_since(record.started).as_millis()).unwrap_or(0);
    let service = if record.job.service { "service " } else { "" };
    let mut parts = vec![
        format!("- {}", record.job.id),
        format!("session {}", record.job.session),
        format!("{service}{}, for {}", record.fate_words(), duration_words(elapsed)),
    ];
    if let Some(expected) = record.expected() {
        parts.last_mut().expect("just made").push_str(&format!(", expected {expected}"));
    }
    parts.push(cut(&record.job.command));
    parts.extend(record.findings.last().map(|finding| cut(&finding.words())));
    parts.join(" · ")
}

/// `Question q2, put 4 min ago, waits for an answer: Which way?`
fn question_words(record: &QuestionRecord, now: Timestamp) -> String {
    let age = u64::try_from(now.duration_since(record.asked).as_millis()).unwrap_or(0);
    let (id, text) = (record.question.id, cut(&record.question.text));
    format!("Question {id}, put {} ago, waits for an answer: {text}", duration_words(age))
}

/// `Checkpoints: k3 `good` (4 min ago), k2 (1 h ago); 1 older.`
fn checkpoint_words(checkpoints: &Checkpoints, now: Timestamp) -> Option<String> {
    let one = |record: &CheckpointRecord| {
        let age = u64::try_from(now.duration_since(record.taken).as_millis()).unwrap_or(0);
        format!("{} ({} ago)", record.checkpoint.label(), duration_words(age))
    };
    let newest: Vec<String> = checkpoints.kept().rev().take(MOST_CHECKPOINTS).map(one).collect();
    let older = match checkpoints.kept().count() - newest.len() {
        0 => String::new(),
        older => format!("; {older} older"),
    };
    (!newest.is_empty()).then(|| format!("Checkpoints that can be restored: {}{older}.", newest.join(", ")))
}

fn ended_words(record: &JobRecord) -> String {
    let note = match &record.fate {
        Fate::Ended { end, .. } => end.note.as_deref().map(cut),
        Fate::Alive | Fate::WithBox => None,
    };
    let parts = [
        format!("- {}", record.job.id),
        format!("session {}", record.job.session),
        record.fate_words(),
        cut(&record.job.command),
    ];
    parts.into_iter().chain(note).collect::<Vec<_>>().join(" · ")
}

/// The first line, and not too much of it.
fn cut(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if text.trim().lines().nth(1).is_some() => format!("{line} …"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Exit, Finding, Job, JobEnd, JobId, SessionName};

    const START: i64 = 1_700_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).expect("in range")
    }

    fn job(id: u32, command: &str) -> Event {
        let job = Job {
            id: JobId(id),
            work: format!("c{id}0"),
            session: SessionName::new("train").expect("a name"),
            command: command.to_owned(),
            cwd: None,
            expected_s: Some(21_600.0),
            service: id == 2,
            readiness: None,
            log: "sessions/train.log".to_owned(),
            offset: 0,
        };
        Event::JobStarted { job }
    }

    fn ended(id: u32, code: i32) -> Event {
        let end = JobEnd {
            exit: Some(Exit::Code(code)),
            duration_ms: 123_000,
            size_bytes: 0,
            cpu_ms: None,
            memory_peak_bytes: None,
            note: None,
            failure: None,
        };
        Event::JobEnded { job: JobId(id), end }
    }

    fn requested(turn: u32) -> Event {
        let rest = crate::domain::BlobRef { sha256: String::new(), size_bytes: 0 };
        Event::ModelRequested { turn, sha256: String::new(), kept_bytes: 0, rest }
    }

    fn answered(turn: u32) -> Event {
        Event::ModelAnswered {
            turn,
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish_reason: String::new(),
            usage: None,
            response: crate::domain::BlobRef { sha256: String::new(), size_bytes: 0 },
            duration_ms: 0,
            opaque: None,
        }
    }

    fn words(events: Vec<Event>, left: Option<Duration>) -> Option<String> {
        let (mut jobs, mut checkpoints, mut questions) =
            (Jobs::default(), Checkpoints::default(), Questions::default());
        let mut situation = Situation::default();
        for (seq, event) in events.into_iter().enumerate() {
            let entry = Entry { seq: seq as u64, time: at(0), event };
            jobs.apply(&entry);
            checkpoints.apply(&entry);
            questions.apply(&entry);
            situation.apply(&entry);
        }
        situation.words((&jobs, &checkpoints, &questions), at(7_380), left, None)
    }

    #[test]
    fn nothing_is_said_where_there_is_nothing_to_say() {
        assert_eq!(words(vec![requested(1), answered(1), requested(2)], None), None);
    }

    #[test]
    fn jobs_persons_and_the_time_left_are_told() {
        let stalled = Finding::Stalled { silent_ms: 600_000, usual_ms: 2_000 };
        let events = vec![
            requested(1),
            job(1, "python train.py\nsecond line"),
            job(2, &"x".repeat(500)),
            job(3, "make"),
            Event::JobNoted { job: JobId(1), finding: stalled },
            ended(3, 2),
            Event::PersonTyped { session: SessionName::new("train").expect("a name") },
            Event::PersonTyped { session: SessionName::new("train").expect("a name") },
        ];
        let text = words(events, Some(Duration::from_secs(90))).expect("there is something to say");
        insta::assert_snapshot!(text.replace(&"x".repeat(100), "x..."), @r"
        [harness] How things stand at 2023-11-15 00:16 UTC, told by the harness before every request; nobody said this.
        Jobs that run:
        - j1 · session train · runs, for 2 h 03 min, expected 6 h · python train.py … · stalled: silent for 10 min 00 s without working, 2.0 s at most before
        - j2 · session train · service runs, for 2 h 03 min, expected 6 h · x...…
        Jobs that ended lately:
        - j3 · session train · exit 2 after 2 min 03 s · make
        A person has typed into session train since your last answer.
        Time left for this run: 1 min 30 s.
        ");
    }

    #[test]
    fn a_question_is_told_until_it_is_answered() {
        let question = crate::domain::Question {
            id: crate::domain::QuestionId(1),
            subject: crate::domain::Subject::Stuck,
            text: "Which way?".to_owned(),
            background: String::new(),
            evidence: Vec::new(),
            options: Vec::new(),
            recommended: None,
            silence: crate::domain::Silence::default(),
        };
        let asked = Event::QuestionAsked { question };
        let text = words(vec![asked.clone()], None).expect("it is open");
        assert!(text.contains("Question q1, put 2 h 03 min ago, waits for an answer: Which way?"), "{text}");
        let closed = Event::QuestionClosed {
            question: crate::domain::QuestionId(1),
            end: crate::domain::QuestionEnd::Withdrawn,
            why: "x".to_owned(),
        };
        assert_eq!(words(vec![asked, closed], None), None);
    }

    #[test]
    fn what_is_new_is_told_until_the_model_has_answered() {
        let typed = Event::PersonTyped { session: SessionName::new("main").expect("a name") };
        let told = |events| words(events, None).is_some_and(|text| text.contains("session main"));
        assert!(told(vec![typed.clone(), requested(1)]), "a request that failed is sent again");
        assert!(!told(vec![typed.clone(), requested(1), answered(1)]));
        assert!(told(vec![requested(1), typed, answered(1)]), "it came while the model answered");
    }

    #[test]
    fn a_job_that_lives_is_never_left_out() {
        let mut events: Vec<Event> = (1..=40).map(|id| job(id, "sleep 9")).collect();
        events.extend((1..=300).flat_map(|turn| [requested(turn), answered(turn)]));
        let text = words(events, None).expect("jobs run");
        assert_eq!(text.matches("\n- j").count(), 40);
    }
}
