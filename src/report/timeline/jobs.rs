//! Jobs, waits and what was noticed, in the timeline.

use super::super::outcome::WIDEST;
use super::super::style::{duration, elapsed, one_line};
use super::{Detail, LABEL, TEXT, Timeline};
use crate::domain::{
    BoxUsage, Event, Exit, Finding, Job, JobEnd, JobId, SessionName, WaitRecord, WakeCause, seconds_words,
};

impl Timeline {
    pub(super) fn job_started(&self, job: &Job) -> String {
        let command = match self.detail {
            // It stands right above.
            Detail::Live => String::new(),
            Detail::Normal | Detail::Full => {
                format!(": {}", one_line(job.command.lines().next().unwrap_or_default(), 80))
            }
        };
        let what = if job.service { "service" } else { "job" };
        let expected = job.expected_s.and_then(seconds_words);
        let expected = expected.map(|expected| format!(", expected {expected}")).unwrap_or_default();
        self.line("job", &format!("{} runs on as a {what} in session {}{expected}{command}", job.id, job.session))
    }

    pub(super) fn job_noted(&self, job: JobId, finding: &Finding) -> String {
        let words = format!("{}: {}", self.job_name(job), one_line(&finding.words(), WIDEST));
        if finding.is_problem() { self.trouble("job", &words) } else { self.line("job", &words) }
    }

    pub(super) fn job_ended(&self, job: JobId, end: &JobEnd) -> String {
        let expected = self.totals.jobs.get(job).and_then(|record| record.expected());
        let expected = expected.map(|expected| format!(" (expected {expected})")).unwrap_or_default();
        let mut words = format!("{}: {}{expected}", self.job_name(job), end.words());
        if let Some(note) = &end.note {
            words.push_str(&format!("; {}", one_line(note, WIDEST)));
        }
        match end.exit.is_some_and(Exit::is_success) {
            true => self.line("job", &words),
            false => self.trouble("job", &words),
        }
    }

    /// What woke the model, and when.
    pub(super) fn waited(&mut self, wait: &WaitRecord) -> String {
        self.waited.push(wait.call_id.clone());
        let mut words = format!("{} after {}", one_line(&wait.what, WIDEST), duration(wait.waited_ms));
        if wait.suspended_ms > 0 {
            words.push_str(&format!(", and {} suspended", duration(wait.suspended_ms)));
        }
        if let Some(expected) = wait.expected_s.and_then(seconds_words) {
            words.push_str(&format!(" (expected {expected})"));
        }
        match wait.cause {
            // These say by themselves what they are.
            WakeCause::Condition | WakeCause::JobEnded | WakeCause::Person => self.line("wait", &words),
            WakeCause::Deadline | WakeCause::Problem | WakeCause::Budget => {
                self.line("wait", &format!("{}: {words}", wait.cause.words()))
            }
        }
    }

    /// A line that says how a wait stands that has gone on for so long since the last entry.
    pub(in super::super) fn heartbeat(&self, waited_ms: u64, standing: &str) -> String {
        let gutter = self.style.dim(&format!("{:>7}  ", elapsed(self.totals.wall_ms + waited_ms)));
        self.page.paragraph(&format!("{gutter}{:<LABEL$}", "waiting"), TEXT, standing)
    }

    /// Whether what goes on goes on beside this event: it is no step of the run's own work.
    pub(in super::super) fn is_beside(&self, event: &Event) -> bool {
        matches!(
            event,
            Event::JobStarted { .. }
                | Event::JobNoted { .. }
                | Event::JobEnded { .. }
                | Event::PersonTyped { .. }
                | Event::SessionClosed { .. }
                | Event::Noticed { .. }
        )
    }

    pub(super) fn person_typed(&self, session: &SessionName) -> String {
        self.line("you", &format!("typed into session {session}"))
    }

    pub(super) fn session_closed(&self, session: &SessionName, why: &str) -> String {
        match self.detail {
            Detail::Live => String::new(),
            Detail::Normal | Detail::Full => {
                self.line("session", &format!("{session} closed: {}", one_line(why, WIDEST)))
            }
        }
    }

    pub(super) fn measured(&self, usage: &BoxUsage) -> String {
        let words = usage.words();
        match self.detail {
            Detail::Full if !words.is_empty() => {
                self.line("usage", &format!("{} in {}", one_line(&words, WIDEST), duration(usage.over_ms)))
            }
            Detail::Live | Detail::Normal | Detail::Full => String::new(),
        }
    }

    /// `j1 train`: the job and its session.
    fn job_name(&self, job: JobId) -> String {
        match self.totals.jobs.get(job) {
            Some(record) => format!("{job} {}", record.job.session),
            None => job.to_string(),
        }
    }
}
