//! The live view: what a person sees while a run goes.

use longhaul::domain::{Entry, Event, Observer as _, Outcome, Progress, Status, WaitProgress};
use longhaul::journal::RunDir;
use longhaul::report::{Live, LiveOptions};

use crate::replay::{assert_harmless, entries};
use crate::story::record;

/// Begins a terminal's line anew.
const ANEW: &str = "\r\u{1b}[K";

const TERMINAL: LiveOptions = LiveOptions {
    colour: false,
    terminal: true,
    columns: Some(|| Some(40)),
    answer_follows: true,
    trouble_follows: true,
};

#[test]
fn the_live_view_shows_words_as_they_come_and_the_same_lines() {
    let (_dir, entries) = story();
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, LiveOptions::default());
    for entry in entries {
        if matches!(entry.event, Event::ModelAnswered { .. }) {
            for text in ["I will ", "train it."].map(|text| Progress::Text(text.into())) {
                live.progress(&text);
            }
        }
        live.progress(&Progress::Output { call: "call_1".into(), tail: "never without a terminal".into() });
        live.entry(&entry);
    }
    drop(live);
    insta::assert_snapshot!("live", String::from_utf8(out).unwrap());
}

#[test]
fn on_a_terminal_the_live_view_takes_back_only_its_own_lines() {
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, TERMINAL);
    let tail = |tail: &str| Progress::Output { call: "1".into(), tail: tail.into() };
    live.progress(&tail("a\nb\nc\nd\n"));
    live.progress(&tail(&format!("{}\n\u{1b}[2J", "wide ".repeat(50))));
    live.progress(&Progress::Text(format!("hello {}", "again ".repeat(9))));
    drop(live);
    let text = String::from_utf8(out).unwrap();
    let up = "\u{1b}[1A\u{1b}[2K";
    assert_eq!(text.matches(up).count(), 5, "{text:?}");
    let text = text.replace(up, "").replace(ANEW, "");
    assert_harmless(&text);
    assert!(text.lines().all(|line| line.chars().count() < 40), "{text}");
}

fn story() -> (tempfile::TempDir, Vec<Entry>) {
    let dir = tempfile::tempdir().unwrap();
    let run: RunDir = record(dir.path());
    let entries = entries(&run);
    (dir, entries)
}

/// What a live view prints when all this passes by.
fn shown(options: LiveOptions, act: impl FnOnce(&mut Live<&mut Vec<u8>>)) -> String {
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, options);
    act(&mut live);
    drop(live);
    String::from_utf8(out).unwrap()
}

fn kind<'e>(entries: &'e [Entry], kind: &str) -> &'e Entry {
    entries.iter().find(|entry| entry.event.kind() == kind).unwrap()
}

#[test]
fn a_box_that_comes_up_while_the_model_speaks_does_not_cut_its_sentence() {
    let (_dir, entries) = story();
    let text = shown(LiveOptions::default(), |live| {
        live.progress(&Progress::Text("I will ".into()));
        live.entry(kind(&entries, "box_opened"));
        live.progress(&Progress::Text("train it.".into()));
        live.entry(kind(&entries, "model_answered"));
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].ends_with("model     I will train it.") && lines[1].contains("box       local"), "{text}");
}

#[test]
fn words_that_stream_in_are_wrapped_below_each_other() {
    let text = shown(TERMINAL, |live| {
        for word in "one two three four five six seven eight".split_inclusive(' ') {
            live.progress(&Progress::Text(word.into()));
        }
        live.progress(&Progress::Text("\n".into()));
    });
    insta::assert_snapshot!(text.replace(ANEW, ""), @r"
       0:00  model     one two three four
                       five six seven eight
    ");
}

#[test]
fn what_the_terminal_echoes_at_the_beginning_of_a_line_is_cleared() {
    let (_dir, entries) = story();
    let text = shown(TERMINAL, |live| live.entry(kind(&entries, "turn_interrupted")));
    assert_eq!(text, format!("{ANEW}   0:00  stopped   turn 2, by Ctrl-C\n"));
    let plain = shown(LiveOptions::default(), |live| live.entry(kind(&entries, "turn_interrupted")));
    assert_harmless(&plain);
}

#[test]
fn the_summary_of_a_claim_is_shown_only_where_the_answer_is_not() {
    let (_dir, entries) = story();
    for (answer_follows, times) in [(true, 0), (false, 1)] {
        let options = LiveOptions { answer_follows, ..LiveOptions::default() };
        let text = shown(options, |live| entries.iter().for_each(|entry| live.entry(entry)));
        assert_eq!(text.matches("Trained: 0.93.").count(), times, "{text}");
    }
}

#[test]
fn what_stopped_a_run_is_left_to_those_who_tell_it_below() {
    let (_dir, entries) = story();
    let end = [kind(&entries, "run_started"), kind(&entries, "model_failed"), kind(&entries, "run_ended")];
    let told = |trouble_follows| {
        let options = LiveOptions { trouble_follows, ..LiveOptions::default() };
        shown(options, |live| end.into_iter().for_each(|entry| live.entry(entry)))
    };
    assert!(told(true).contains("verified: what stopped the run is said below\n") && !told(true).contains("closed"));
    assert!(told(false).contains("model     the server closed the connection\n"), "{}", told(false));
}

#[test]
fn the_words_shown_last_are_known() {
    let (_dir, entries) = story();
    shown(LiveOptions::default(), |live| {
        assert!(!live.has_shown("") && !live.has_shown("I will train it."));
        live.entry(kind(&entries, "model_answered"));
        assert!(live.has_shown("I will train it.\n") && !live.has_shown("I will"));
    });
}

#[test]
fn a_command_that_went_well_leaves_its_last_lines() {
    let (_dir, mut entries) = story();
    let ended = entries.iter_mut().find(|entry| entry.event.kind() == "check_ended").unwrap();
    let Event::CheckEnded { result } = &mut ended.event else { panic!("a check has ended") };
    let lines: String = (1..=9).map(|n| format!("\nepoch {n}")).collect();
    let text = format!("[exit 0 · 1.23 s · 9 lines, 72 bytes]{lines}");
    result.outcome = Outcome { text, status: Status::Ok, ..result.outcome.clone() };
    let text = shown(LiveOptions::default(), |live| live.entry(kind(&entries, "check_ended")));
    insta::assert_snapshot!(text, @r"
         | [... 5 lines]
         | epoch 6
         | epoch 7
         | epoch 8
         | epoch 9
         passed, 1.2 s, 38 B
    ");
}

/// How a wait stands after so many seconds.
fn waiting(seconds: u64, last_line: &str) -> Progress {
    Progress::Waiting(WaitProgress {
        what: "the end of j1".into(),
        job: "j1 train".into(),
        waited_ms: seconds * 1_000,
        elapsed_ms: seconds * 1_000,
        lines: seconds,
        last_line: last_line.into(),
        progress: String::new(),
        wakes_in_ms: Some(3_600_000),
    })
}

#[test]
fn a_wait_on_a_terminal_is_one_line_that_is_gone_when_it_ends() {
    let (_dir, entries) = story();
    let text = shown(TERMINAL, |live| {
        live.progress(&waiting(1, "epoch 1"));
        live.progress(&waiting(2, &format!("epoch 2 \u{1b}[2J{}", "wide ".repeat(20))));
        live.entry(kind(&entries, "job_noted"));
        live.progress(&waiting(3, "epoch 3"));
        live.entry(kind(&entries, "waited"));
    });
    let up = "\u{1b}[1A\u{1b}[2K";
    let drawn: Vec<&str> = text.split(ANEW).filter(|drawn| !drawn.is_empty()).collect();
    assert_eq!(drawn[0], "         ~ j1 train · 1.0 s · 1 line\n");
    assert_eq!(drawn[1], format!("{up}         ~ j1 train · 2.0 s · 2 lines\n"));
    assert!(drawn[2].starts_with(up) && drawn[2].contains("job       j1: stalled"), "{drawn:?}");
    assert_eq!(drawn[3], "         ~ j1 train · 2.0 s · 2 lines\n", "it goes on below what was noticed");
    let last = drawn.last().unwrap();
    assert!(last.starts_with(up) && !last.contains('~') && last.contains("wait      j1 ended"), "{drawn:?}");
    let plain = text.replace(up, "").replace(ANEW, "");
    assert_harmless(&plain);
    assert!(plain.lines().all(|line| line.chars().count() < 40), "{plain}");
    let wide = LiveOptions { columns: Some(|| Some(80)), ..TERMINAL };
    let text = shown(wide, |live| live.progress(&waiting(65, "epoch 3 of 10, and more than there is room for")));
    assert_eq!(text, format!("{ANEW}         ~ j1 train · 1 min 05 s · 65 lines · wakes in 1 h 00 min at most\n"));
}

#[test]
fn a_wait_without_a_terminal_is_told_of_every_half_minute() {
    let (_dir, entries) = story();
    let text = shown(LiveOptions::default(), |live| {
        (0..100).for_each(|second| live.progress(&waiting(second, "epoch 1")));
        live.entry(kind(&entries, "waited"));
        (0..31).for_each(|second| live.progress(&waiting(second, "epoch 2")));
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(
        lines[0],
        "   0:30  waiting   j1 train · 30.0 s · 30 lines · wakes in 1 h 00 min at most · for the end of j1 · epoch 1"
    );
    assert!(lines[1].starts_with("   1:00  waiting") && lines[2].starts_with("   1:30  waiting"), "{text}");
    assert!(lines[3].contains("wait      j1 ended") && lines[4].contains("30.0 s"), "{text}");
}

#[test]
fn the_tail_of_a_long_command_stands_above_how_it_stands() {
    let text = shown(TERMINAL, |live| {
        live.progress(&Progress::Output { call: "1".into(), tail: "one\ntwo".into() });
        live.progress(&waiting(4, "two"));
    });
    assert!(text.ends_with("         | one\n         | two\n         ~ j1 train · 4.0 s · 4 lines\n"), "{text:?}");
}
