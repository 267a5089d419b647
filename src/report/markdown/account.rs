//! The parts of the report that an account tells: what to know before anything else, and what stands behind the result.

use super::super::account::{Account, CheckRow, Standing};
use super::super::style::{count, duration};
use super::super::totals::tokens;
use super::text::{add, code, list, plain, table};
use crate::domain::{AnsweredAt, QuestionEnd, TurnedOut, Usage, money_words};

/// What an engineer has to know in order to trust the run or not.
pub(super) fn in_short(out: &mut String, account: &Account) {
    let lines = [checks(account), requirements(account), protected(account)]
        .into_iter()
        .flatten()
        .chain(account.doubts.iter().map(|doubt| format!("doubt: {}", plain(doubt))))
        .chain([trouble(account), people(account), Some(price(account))].into_iter().flatten());
    add(out, "## In short");
    add(out, &list(&lines.collect::<Vec<_>>()));
}

fn checks(account: &Account) -> Option<String> {
    let all = account.checks.len() as u64;
    let number = |is: fn(&CheckRow) -> bool| account.checks.iter().filter(|check| is(check)).count();
    let passed = number(|check| check.last == Standing::Passed);
    match all {
        0 => Some("no check was given: nothing but the model's word stands behind the result".to_owned()),
        all => Some(format!(
            "{passed} of {} passed, {} of them prove something",
            count(all, "check"),
            number(|check| check.proves)
        )),
    }
}

fn requirements(account: &Account) -> Option<String> {
    let verified = account.requirements.iter().filter(|row| row.verified).count();
    let all = account.requirements.len() as u64;
    (all > 0).then(|| format!("{}, {verified} of them proved by a check", count(all, "requirement")))
}

fn protected(account: &Account) -> Option<String> {
    let state = if account.protected.changed.is_empty() { "as they were" } else { "not all as they were" };
    let files = account.protected.files as u64;
    (files > 0).then(|| format!("{} protected: {state}", count(files, "file")))
}

fn trouble(account: &Account) -> Option<String> {
    let times: u32 = account.failures.iter().map(|failure| failure.times).sum();
    let worked = account.decisions.iter().filter(|decision| decision.turned_out == TurnedOut::Worked).count();
    let kinds = count(account.failures.len() as u64, "kind");
    (times > 0).then(|| {
        let (failures, decisions) =
            (count(u64::from(times), "failure"), count(account.decisions.len() as u64, "decision"));
        format!(
            "{failures} of {kinds}, {decisions}, {worked} of them helped; run again by the harness: {}",
            account.attempts.len()
        )
    })
}

fn people(account: &Account) -> Option<String> {
    let (asked, did) = (account.questions.len() as u64, account.interventions.len() as u64);
    (asked + did > 0).then(|| {
        let waited = duration(account.time.people_ms);
        format!("people: {} (open for {waited}), {}", count(asked, "question"), count(did, "intervention"))
    })
}

fn price(account: &Account) -> String {
    let time = &account.time;
    let waiting = time.waits_ms + time.server_ms + time.people_ms;
    let mut words = format!(
        "{} in all, {} at work, {} waiting",
        duration(time.wall_ms),
        duration(time.active_ms),
        duration(waiting)
    );
    if account.tokens != Usage::default() {
        words.push_str(&format!("; {}", tokens(account.tokens)));
    }
    if let Some(cost) = account.cost_micro_usd {
        words.push_str(&format!("; {}", money_words(cost)));
    }
    words
}

/// What was asked, point by point.
pub(super) fn requirement_table(out: &mut String, account: &Account) {
    if account.requirements.is_empty() {
        return;
    }
    let row = |row: &super::super::account::RequirementRow| {
        let state = match (row.verified, row.check) {
            (true, Some(check)) => format!("verified by check {check}"),
            (true, None) => "verified".to_owned(),
            (false, _) if row.notes.is_empty() => "unverified".to_owned(),
            (false, _) => format!("unverified: {}", plain(&row.notes.join("; "))),
        };
        [plain(&row.requirement), state, plain(&row.evidence)]
    };
    let rows: Vec<[String; 3]> = account.requirements.iter().map(row).collect();
    add(out, "## Requirements");
    add(out, &table(&["requirement", "stands", "evidence"], &rows));
    if !account.unnamed_checks.is_empty() {
        let numbers: Vec<String> = account.unnamed_checks.iter().map(ToString::to_string).collect();
        add(out, &format!("Checks that no requirement names: {}.", numbers.join(", ")));
    }
}

/// What was decided about failures, and how that turned out.
pub(super) fn decision_table(out: &mut String, account: &Account) {
    if account.decisions.is_empty() {
        return;
    }
    let row = |row: &super::super::account::DecisionRow| {
        let outcome = match row.turned_out {
            TurnedOut::Worked => "worked",
            TurnedOut::Failed => "did not help",
            TurnedOut::Changed => "another failure",
            TurnedOut::Unknown => "not seen",
        };
        let [class, chosen] = [row.class.name(), row.chosen.as_str()].map(plain);
        [row.id.clone(), class, chosen, row.confidence.name().to_owned(), outcome.to_owned(), plain(&row.expected)]
    };
    let rows: Vec<[String; 6]> = account.decisions.iter().map(row).collect();
    add(out, "## Decisions");
    add(out, &table(&["decision", "failure", "chosen", "confidence", "turned out", "expected"], &rows));
    let told = account.predictions.iter().map(|row| {
        format!(
            "confidence {}: {} made, {} worked, {} did not",
            row.confidence.name(),
            row.made,
            row.worked,
            row.failed
        )
    });
    add(out, &list(&told.collect::<Vec<_>>()));
}

/// What people were asked, and what they did by themselves.
pub(super) fn people_list(out: &mut String, account: &Account) {
    if account.questions.is_empty() && account.interventions.is_empty() {
        return;
    }
    let asked = account.questions.iter().map(|row| {
        let came = match (&row.answer, row.at, row.over) {
            (Some(answer), Some(AnsweredAt::Terminal), _) => format!("{}, in the run's terminal", plain(answer)),
            (Some(answer), _, _) => format!("{}, from another terminal", plain(answer)),
            (None, _, Some(QuestionEnd::Timeout)) => "nobody answered".to_owned(),
            (None, _, Some(QuestionEnd::Withdrawn)) => "withdrawn".to_owned(),
            (None, _, None) => "open".to_owned(),
        };
        format!("{}: {} — {came} (after {})", row.id, plain(&row.text), duration(row.open_ms))
    });
    let lines: Vec<String> = asked.chain(account.interventions.iter().map(|what| plain(what))).collect();
    add(out, "## People");
    add(out, &list(&lines));
}

/// What the runbook might say from now on.
pub(super) fn learned(out: &mut String, account: &Account, run_dir: &str) {
    if account.learned.is_empty() {
        return;
    }
    add(out, "## For the runbook");
    let lines: Vec<String> = account.learned.iter().map(|line| plain(line.trim_start_matches("- "))).collect();
    add(out, &list(&lines));
    let command = code(&format!("patch -p1 < {run_dir}/runbook.patch"));
    add(out, &format!("Look at it first; {command} in the project adds this to its RUNBOOK.md."));
}
