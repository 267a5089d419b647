//! The fixed, compact shape in which the model is told of results.

use std::time::Duration;

use crate::domain::{Exit, JobId, Outcome, OutputFacts, Status};
use crate::terminal::{CommandReport, ReportState};

/// The outcome of a command: a line of facts, then what is shown of its output.
pub(super) fn command_outcome(report: &CommandReport) -> Outcome {
    noted_outcome(report, None)
}

/// The same for a command that is a job now.
pub(super) fn job_outcome(report: &CommandReport, job: JobId) -> Outcome {
    noted_outcome(report, Some(format!("job {job}: it runs on; wait for it with wait")))
}

fn noted_outcome(report: &CommandReport, note: Option<String>) -> Outcome {
    let (status, exit, first, notes) = state_in_words(report);
    let mut facts = vec![first, duration(report.duration)];
    facts.extend(report.cwd.clone());
    facts.push(output_in_words(report));
    let mut text = format!("[{}]", facts.join(" · "));
    for note in note.into_iter().chain(notes) {
        text.push_str("\n[");
        text.push_str(&note);
        text.push(']');
    }
    if !report.excerpt.text.is_empty() {
        text.push('\n');
        text.push_str(report.excerpt.text.trim_end_matches('\n'));
    }
    Outcome {
        status,
        exit,
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        cwd: report.cwd.clone(),
        output: Some(OutputFacts {
            size_bytes: report.size_bytes,
            omitted_bytes: report.excerpt.omitted_bytes,
            log: report.log.clone(),
            offset: report.offset,
        }),
        failure: None,
        text,
    }
}

fn state_in_words(report: &CommandReport) -> (Status, Option<Exit>, String, Vec<String>) {
    match &report.state {
        ReportState::Ended { exit, timed_out, respawned } => {
            let success = exit.is_some_and(Exit::is_success) && !timed_out;
            let status = match exit {
                None => Status::Unknown,
                Some(_) if success => Status::Ok,
                Some(_) => Status::Failed,
            };
            let mut first = exit.map_or("exit unknown".to_owned(), in_words);
            if *timed_out {
                first.push_str(", killed: out of time");
            }
            (status, *exit, first, respawned.clone().into_iter().collect())
        }
        ReportState::Running { note } => {
            (Status::Running, None, "still running".to_owned(), note.clone().into_iter().collect())
        }
        ReportState::Busy { command, since } => {
            let first = format!("not started: `{command}` has been running in this session for {}", duration(*since));
            let other = "wait for it with wait, or use another session".to_owned();
            (Status::Failed, None, first, vec![other])
        }
    }
}

/// An exit as people say it.
pub(super) fn in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
    }
}

fn output_in_words(report: &CommandReport) -> String {
    if report.size_bytes == 0 {
        return "no output".to_owned();
    }
    let lines = report.excerpt.lines;
    let noun = if lines == 1 { "line" } else { "lines" };
    let mut text = format!("{} {noun}, {}", grouped(lines), size(report.size_bytes));
    if report.excerpt.omitted_bytes > 0 {
        text.push_str(&format!(", {} not shown", size(report.excerpt.omitted_bytes)));
    }
    text
}

/// A duration as people write it: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A size as people write it, in decimal units.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Excerpt;

    fn report(state: ReportState, text: &str, omitted_bytes: u64) -> CommandReport {
        CommandReport {
            id: "c1".to_owned(),
            title: "make".to_owned(),
            state,
            duration: Duration::from_millis(1_234),
            cwd: Some("/p".to_owned()),
            size_bytes: 5_100_000 * u64::from(!text.is_empty()),
            log: "sessions/main.raw".to_owned(),
            offset: 7,
            excerpt: Excerpt { text: text.to_owned(), omitted_bytes, lines: 48_211 },
        }
    }

    fn ended(exit: Exit) -> ReportState {
        ReportState::Ended { exit: Some(exit), timed_out: false, respawned: None }
    }

    #[test]
    fn the_line_of_facts_says_what_matters_first() {
        let outcome = command_outcome(&report(ended(Exit::Code(1)), "head\n…\ntail\n", 5_000_000));
        insta::assert_snapshot!(outcome.text, @r"
        [exit 1 · 1.23 s · /p · 48,211 lines, 5.1 MB, 5.0 MB not shown]
        head
        …
        tail
        ");
        assert_eq!(outcome.status, Status::Failed);
    }

    #[test]
    fn only_a_known_exit_of_zero_in_time_is_ok() {
        assert_eq!(command_outcome(&report(ended(Exit::Code(0)), "", 0)).status, Status::Ok);
        assert_eq!(command_outcome(&report(ended(Exit::Signal(9)), "", 0)).status, Status::Failed);
        let late = ReportState::Ended { exit: Some(Exit::Code(0)), timed_out: true, respawned: None };
        assert_eq!(command_outcome(&report(late, "", 0)).status, Status::Failed);
        let unknown = ReportState::Ended { exit: None, timed_out: false, respawned: None };
        assert_eq!(command_outcome(&report(unknown, "", 0)).status, Status::Unknown);
    }

    #[test]
    fn a_session_that_had_to_be_replaced_is_told_of() {
        let respawned = Some("the shell exited; a new one has taken its place".to_owned());
        let state = ReportState::Ended { exit: Some(Exit::Code(3)), timed_out: false, respawned };
        let outcome = command_outcome(&report(state, "", 0));
        insta::assert_snapshot!(outcome.text, @r"
        [exit 3 · 1.23 s · /p · no output]
        [the shell exited; a new one has taken its place]
        ");
    }

    #[test]
    fn durations_and_sizes_read_well() {
        let durations = [0, 420, 12_300, 245_000, 7_380_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(durations, ["0.00 s", "0.42 s", "12.3 s", "4 min 05 s", "2 h 03 min"]);
        assert_eq!([999, 1_500, 2_000_000, 3_200_000_000].map(size), ["999 bytes", "1.5 kB", "2.0 MB", "3.2 GB"]);
        assert_eq!([1, 1_000, 1_234_567].map(grouped), ["1", "1,000", "1,234,567"]);
    }
}
