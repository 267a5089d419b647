//! How the model is told what came of a wait.

use super::super::facts::{duration, in_words, size};
use super::Args;
use crate::domain::{Outcome, Status, WaitRecord, WakeCause};
use crate::terminal::wait::{JobNews, WaitReport};
use crate::terminal::{JobView, ReadyState};

/// The outcome of a wait, and its record.
pub(super) fn outcome(args: &Args, call: &str, report: &WaitReport) -> (Outcome, WaitRecord) {
    let fired = &report.fired;
    let (waited, suspended) = (report.waited(), report.suspended());
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let record = WaitRecord {
        call_id: call.to_owned(),
        cause: fired.cause,
        what: fired.what.clone(),
        waited_ms,
        suspended_ms: u64::try_from(suspended.as_millis()).unwrap_or(u64::MAX),
        expected_s: args.expected_s,
    };
    let mut lines = vec![first_line(args, report)];
    if !suspended.is_zero() {
        let text = format!(
            "[the machine was suspended for {} meanwhile; it is now {}]",
            duration(suspended),
            report.ended.wall.strftime("%Y-%m-%d %H:%M UTC")
        );
        lines.push(text);
    }
    for news in &report.watched {
        lines.push(heading(&news.view));
        lines.push(new_output(news));
    }
    if !report.others.is_empty() {
        lines.push("[other jobs]".to_owned());
        lines.extend(report.others.iter().map(heading));
    }
    let mut outcome = Outcome::words(status(report), lines.join("\n"));
    outcome.exit = fired.exit;
    outcome.duration_ms = waited_ms;
    (outcome, record)
}

fn status(report: &WaitReport) -> Status {
    let fired = &report.fired;
    if fired.failed {
        return Status::Failed;
    }
    match fired.cause {
        WakeCause::Condition | WakeCause::JobEnded => Status::Ok,
        WakeCause::Deadline | WakeCause::Problem | WakeCause::Person | WakeCause::Budget => Status::Running,
    }
}

fn first_line(args: &Args, report: &WaitReport) -> String {
    let fired = &report.fired;
    let why = match fired.cause {
        WakeCause::Condition | WakeCause::JobEnded => "",
        WakeCause::Deadline => "deadline: ",
        WakeCause::Problem => "maybe a problem: ",
        WakeCause::Person => "a person: ",
        WakeCause::Budget => "the run's limit: ",
    };
    let waited = report.ended.since(&report.begun);
    let estimate = args.expected_s.map_or(String::new(), |expected| {
        format!(", expected {}", duration(std::time::Duration::from_secs_f64(expected)))
    });
    let at = report.ended.wall.strftime("%H:%M:%S UTC");
    format!("[{why}{} · at {at} · waited {}{estimate}]", fired.what, duration(waited))
}

/// A job in one line.
pub(in crate::tools) fn heading(view: &JobView) -> String {
    let state = match &view.end {
        Some(end) => end.exit.map_or("exit unknown".to_owned(), in_words),
        None => "runs".to_owned(),
    };
    let mut facts = vec![format!("{} in session {}: {state}", view.job.id, view.job.session), duration(view.elapsed)];
    if let Some(expected) = view.job.expected_s {
        facts[1].push_str(&format!(" of {} expected", duration(std::time::Duration::from_secs_f64(expected))));
    }
    match &view.ready {
        Some(ReadyState::Trying) => facts.push("not ready yet".to_owned()),
        Some(ReadyState::Ready { .. }) => facts.push("ready".to_owned()),
        Some(ReadyState::NotReady { .. }) => facts.push("not ready in time".to_owned()),
        None => {}
    }
    facts.extend(view.progress.clone());
    if let Some(note) = view.end.as_ref().and_then(|end| end.note.clone()) {
        facts.push(note);
    }
    format!("[{}]", facts.join(" · "))
}

/// What is new of a job's output.
pub(in crate::tools) fn new_output(news: &JobNews) -> String {
    if news.new_bytes == 0 {
        return "[no new output]".to_owned();
    }
    let mut text = format!("[new output, {} of {}:]\n", size(news.new_bytes), news.view.job.log);
    text.push_str(news.excerpt.text.trim_end_matches('\n'));
    text
}
