//! What people and programs are shown of a transcript: `agent replay`, `agent verify`, `agent runs`, live view, JSON,
//! the report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args as _, Command, FromArgMatches as _, Subcommand as _};
use longhaul::cli::{Failure, GraphArgs, Place, ReplayArgs, RunsCommand, ValidateArgs, VerifyArgs};
use longhaul::domain::{Check, Entry, Event, ExitReason, Observer as _, Progress};
use longhaul::journal::{Reader, Recorder, RunDir, RunStore, verify};
use longhaul::report::{Closing, JsonMode, JsonOutput, Live, LiveOptions, Recording, markdown};
use longhaul::telemetry::Redactor;

use crate::small_disk::SmallDisk;
use crate::story::{RUN, call, clock, events, ran, record, redactor, spec};

fn place(state_dir: &Path) -> Place {
    let vars = BTreeMap::from([(OsString::from("LONGHAUL_STATE_DIR"), state_dir.as_os_str().to_owned())]);
    Place { vars, cwd: state_dir.to_owned(), stdin_tty: false, stdout_tty: false, stderr_tty: false }
}

/// Runs one of the reading commands as if typed after `agent`.
pub(crate) fn agent(state_dir: &Path, args: &[&str]) -> (Result<ExitReason, Failure>, String) {
    let mut out = Vec::new();
    let result = agent_to(state_dir, args, &mut out);
    (result, String::from_utf8(out).expect("text"))
}

fn agent_to(state_dir: &Path, args: &[&str], out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let place = place(state_dir);
    let parse = |command: Command| command.try_get_matches_from(args).expect("arguments");
    match args[0] {
        "replay" => {
            let matches = parse(ReplayArgs::augment_args(Command::new("replay")));
            ReplayArgs::from_arg_matches(&matches).expect("arguments").run(&place, out)
        }
        "verify" => {
            let matches = parse(VerifyArgs::augment_args(Command::new("verify")));
            VerifyArgs::from_arg_matches(&matches).expect("arguments").run(&place, out)
        }
        "validate" => {
            let matches = parse(ValidateArgs::augment_args(Command::new("validate")));
            ValidateArgs::from_arg_matches(&matches).expect("arguments").run(&place, out)
        }
        "graph" => {
            let matches = parse(GraphArgs::augment_args(Command::new("graph")));
            GraphArgs::from_arg_matches(&matches).expect("arguments").run(&place, out)
        }
        _ => {
            let matches = parse(RunsCommand::augment_subcommands(Command::new("runs")));
            RunsCommand::from_arg_matches(&matches).expect("arguments").run(&place, out)
        }
    }
}

pub(crate) fn entries(run: &RunDir) -> Vec<Entry> {
    Reader::open(run.path()).expect("a run").collect::<Result<_, _>>().expect("a sound transcript")
}

fn recordings() -> Vec<Recording> {
    let recording = |session: &str, missing: Option<&str>| Recording {
        session: session.to_owned(),
        path: format!("sessions/{session}.cast"),
        missing: missing.map(str::to_owned),
    };
    vec![recording("main", None), recording("train", Some("its log is larger than 64 MiB"))]
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transcript-1.0")
}

/// What text may hold that goes to a terminal without colours.
pub(crate) fn assert_harmless(text: &str) {
    for c in text.chars() {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}');
        assert!(c == '\n' || !(c.is_control() || hidden), "{c:?} in {text:?}");
    }
}

#[test]
fn the_golden_transcript_reads_and_verifies_for_ever() {
    let report = verify(&golden()).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.entries, report.requests, report.artifacts), (28, 3, 1));
    let read: Vec<Event> = Reader::open(&golden()).unwrap().map(|entry| entry.unwrap().event).collect();
    let unknown: Vec<&str> = read.iter().filter(|event| matches!(event, Event::Other(_))).map(Event::kind).collect();
    assert_eq!(unknown, ["moon_rose"]);
    let (result, text) = agent(Path::new("/"), &["replay", golden().to_str().unwrap()]);
    assert_eq!(result, Ok(ExitReason::Done));
    insta::assert_snapshot!("replay_of_the_golden_transcript", text);
}

#[test]
fn replay_shows_everything_when_asked() {
    let (result, text) = agent(Path::new("/"), &["replay", "--full", "--no-pager", golden().to_str().unwrap()]);
    assert_eq!(result, Ok(ExitReason::Done));
    insta::assert_snapshot!("replay_in_full", text);
}

#[test]
fn the_report_says_all_that_matters() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let closing = Closing {
        run_dir: "/state/runs/X".into(),
        head_seq: 27,
        head_hash: "ab".repeat(32),
        learned: Vec::new(),
        recordings: recordings(),
        keeps_changes: true,
    };
    insta::assert_snapshot!("report", markdown(&entries(&run), &closing));
}

#[test]
fn json_is_one_object_per_line_and_ends_with_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let closing = Closing {
        run_dir: "/state/runs/X".into(),
        head_seq: 27,
        head_hash: "ab".repeat(32),
        learned: Vec::new(),
        recordings: recordings(),
        keeps_changes: true,
    };
    let print = |mode| {
        let mut out = Vec::new();
        let mut json = JsonOutput::new(&mut out, mode);
        entries(&run).iter().for_each(|entry| json.entry(entry));
        json.end(Some(&closing));
        drop(json);
        String::from_utf8(out).unwrap()
    };
    let stream = print(JsonMode::Stream);
    insta::assert_snapshot!("stream_json", stream);
    let last = stream.lines().last().unwrap();
    assert_eq!(print(JsonMode::Single).trim_end(), last);
    let documented = include_str!("../../docs/OUTPUT.md");
    let kinds: Vec<&str> = documented
        .lines()
        .take_while(|line| !line.starts_with("### "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(kind, _)| kind))
        .collect();
    for line in stream.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["schema_version"], 1);
        assert!(kinds.contains(&object["type"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn a_failure_before_the_run_is_still_a_result() {
    let mut out = Vec::new();
    let mut json = JsonOutput::new(&mut out, JsonMode::Stream);
    json.failure(ExitReason::SandboxUnavailable, "no box", &["no engine".into()], &["start one".into()]);
    json.end(None);
    drop(json);
    let text = String::from_utf8(out).unwrap();
    let [error, result] = text.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(error.contains(r#""type":"error""#) && error.contains("no engine"));
    assert!(result.contains(r#""exit_code":7"#) && result.contains(r#""verdict":"error""#), "{result}");
}

/// A run whose every text is an attack on the terminal.
fn hostile_run(state_dir: &Path) -> RunDir {
    let attack = "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}]0;title\u{7}\u{1b}]8;;http://x\u{7}\r\u{1b}[2K\u{1b}[1A\u{9b}2J\u{90}q\u{202e}\u{2066}\u{200b}\u{e0041}\u{2028}\u{1b}[8m\u{1b}[c\u{1b}[201~\u{0}\u{7f}\u{8}|```\n# heading\n";
    let mut spec = spec(RUN);
    (spec.title, spec.goal, spec.model) = (attack.into(), attack.into(), attack.into());
    (spec.checks, spec.workspace) = (vec![Check::Command(attack.into())], attack.into());
    let run = RunStore::new(state_dir).create(&spec, &redactor()).expect("a run");
    let mut recorder = Recorder::create(&run, clock(), redactor()).expect("a recorder");
    let blobs = run.blobs(redactor());
    recorder.append(Event::RunStarted { format_major: 1, format_minor: 0, spec }).expect("recorded");
    for event in events(&blobs).into_iter().skip(1) {
        recorder.append(hostile(event, attack)).expect("recorded");
    }
    run
}

fn hostile(event: Event, attack: &str) -> Event {
    match event {
        Event::BoxOpened { mut facts } => {
            (facts.why, facts.workspace_mode, facts.image) = (attack.into(), attack.into(), Some(attack.into()));
            facts.capabilities[0].missing = Some(attack.into());
            Event::BoxOpened { facts }
        }
        Event::BoxClosed { removed, .. } => Event::BoxClosed { notes: vec![attack.into()], removed },
        Event::UserSaid { mail, .. } => Event::UserSaid { text: attack.into(), mail },
        Event::HarnessSaid { .. } => Event::HarnessSaid { text: attack.into() },
        Event::ModelDelayed { turn, wait_ms, .. } => Event::ModelDelayed { turn, wait_ms, why: attack.into() },
        Event::ModelFailed { turn, reason, .. } => Event::ModelFailed { turn, reason, why: attack.into() },
        Event::ToolStarted { call: old } => Event::ToolStarted { call: call(&old.id, attack, attack) },
        Event::ToolEnded { call_id, outcome } => Event::ToolEnded {
            call_id,
            outcome: ran(outcome.exit.unwrap_or(longhaul::domain::Exit::Signal(9)), attack),
        },
        Event::FinishClaimed { mut claim } => {
            claim.summary = attack.into();
            Event::FinishClaimed { claim }
        }
        Event::CheckEnded { mut result } => {
            result.outcome.text = attack.into();
            Event::CheckEnded { result }
        }
        Event::ArtifactRefused { .. } => Event::ArtifactRefused { path: attack.into(), why: attack.into() },
        Event::JobStarted { mut job } => {
            (job.command, job.cwd, job.log) = (attack.into(), Some(attack.into()), attack.into());
            Event::JobStarted { job }
        }
        Event::JobNoted { job, .. } => {
            let (metric, line) = (attack.into(), attack.into());
            Event::JobNoted { job, finding: longhaul::domain::Finding::Diverged { metric, line } }
        }
        Event::JobEnded { job, mut end } => {
            end.note = Some(attack.into());
            Event::JobEnded { job, end }
        }
        Event::Waited { mut wait } => {
            wait.what = attack.into();
            Event::Waited { wait }
        }
        Event::SessionClosed { session, .. } => Event::SessionClosed { session, why: attack.into() },
        Event::BoxMeasured { mut usage } => {
            usage.gpus[0].name = attack.into();
            Event::BoxMeasured { usage }
        }
        Event::Noticed { kind, .. } => Event::Noticed { kind, text: attack.into() },
        Event::Other(_) => Event::Other(serde_json::json!({ "type": attack, attack: attack })),
        Event::StopAsked { reason, .. } => Event::StopAsked { reason, why: attack.into() },
        Event::RunEnded { verdict, reason, .. } => {
            Event::RunEnded { verdict, reason, why: attack.into(), answer: attack.into() }
        }
        other => other,
    }
}

/// The headings of a Markdown text: lines in fenced blocks are none.
fn headings(text: &str) -> Vec<&str> {
    let mut fence: Option<usize> = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let ticks = line.chars().take_while(|c| *c == '`').count();
        match fence {
            Some(open) if ticks >= open && line.len() == ticks => fence = None,
            None if ticks >= 3 => fence = Some(ticks),
            None if line.starts_with('#') => found.push(line),
            _ => {}
        }
    }
    found
}

#[test]
fn a_hostile_transcript_emits_no_control_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let run = hostile_run(dir.path());
    for args in [
        &["replay", "last"][..],
        &["replay", "--full", "last"],
        &["verify", "last"],
        &["verify", "--json", "last"],
        &["runs", "ls"],
        &["runs", "ls", "--json"],
        &["runs", "show"],
        &["runs", "show", "--json"],
        &["runs", "du"],
    ] {
        let (result, text) = agent(dir.path(), args);
        assert!(result.is_ok(), "{args:?}: {result:?}");
        assert!(!text.is_empty());
        assert_harmless(&text);
    }
    let entries = entries(&run);
    let closing = Closing {
        run_dir: "x".into(),
        head_seq: 1,
        head_hash: "y".into(),
        learned: Vec::new(),
        recordings: recordings(),
        keeps_changes: true,
    };
    let report = markdown(&entries, &closing);
    assert_harmless(&report);
    assert_eq!(headings(&report).iter().filter(|line| line.starts_with("# ")).count(), 1);
    assert!(headings(&report).contains(&"## Proof"), "{report}");
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, LiveOptions::default());
    for entry in &entries {
        live.progress(&Progress::Text("\u{1b}[2J\r\u{202e}".into()));
        live.entry(entry);
    }
    drop(live);
    assert_harmless(&String::from_utf8(out).unwrap());
    let mut out = Vec::new();
    let mut json = JsonOutput::new(&mut out, JsonMode::Stream);
    entries.iter().for_each(|entry| json.entry(entry));
    json.end(None);
    drop(json);
    assert!(!String::from_utf8(out).unwrap().chars().any(|c| c != '\n' && c.is_control()));
}

#[test]
fn reading_commands_change_nothing_on_a_disk_that_cannot_be_written() {
    let Some(disk) = SmallDisk::mount() else { return };
    record(&disk.path);
    disk.make_read_only();
    for args in [&["replay", "last"][..], &["verify", "last"], &["runs", "ls"], &["runs", "show"], &["runs", "du"]] {
        let (result, text) = agent(&disk.path, args);
        assert_eq!(result, Ok(ExitReason::Done), "{args:?}");
        assert!(!text.is_empty());
    }
    let failure = agent(&disk.path, &["runs", "rm", "last"]).0.unwrap_err();
    assert_eq!(failure.reason, ExitReason::Usage);
}

#[test]
fn verify_names_what_is_wrong_and_exits_3() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let (result, text) = agent(dir.path(), &["verify", "last"]);
    assert_eq!(result, Ok(ExitReason::Done));
    assert!(text.starts_with("verified: ") && text.contains("entries    62 ("), "{text}");
    let journal = fs::read_to_string(run.journal()).unwrap();
    fs::write(run.journal(), journal.replace("Use awk only", "Use sed only")).unwrap();
    let (result, text) = agent(dir.path(), &["verify", "last"]);
    assert_eq!(result, Ok(ExitReason::Failed));
    assert!(text.contains("problem: line 4: edited line: "), "{text}");
    let (result, text) = agent(dir.path(), &["verify", "--json", "last"]);
    assert_eq!(result, Ok(ExitReason::Failed));
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&object["verified"], &object["problems"][0]["line"]), (&false.into(), &4.into()));
    let (result, text) = agent(dir.path(), &["replay", "last"]);
    let failure = result.unwrap_err();
    assert_eq!(failure.what, "the transcript cannot be read from line 4 on");
    assert!(text.contains("box       local"), "{text}");
}

#[test]
fn runs_are_listed_shown_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(agent(dir.path(), &["runs", "ls"]).1.starts_with("no runs in "));
    record(dir.path());
    let (_, text) = agent(dir.path(), &["runs", "ls"]);
    insta::assert_snapshot!("runs_ls", text);
    let (_, json) = agent(dir.path(), &["runs", "ls", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&list[0]["state"], &list[0]["verdict"]), (&"ended".into(), &"verified".into()));
    let (_, json) = agent(dir.path(), &["runs", "show", "last", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(object["path"].as_str().unwrap().ends_with(RUN) && object["disk"]["size_bytes"].as_u64() > Some(0));
    assert_eq!(agent(dir.path(), &["runs", "rm", RUN]).1, format!("removed {RUN}\n"));
    let failure = agent(dir.path(), &["runs", "show", "last"]).0.unwrap_err();
    assert_eq!((failure.reason, failure.what.as_str()), (ExitReason::Usage, "there are no runs yet"));
}

#[test]
fn what_is_no_transcript_is_told_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("empty.jsonl"), "").unwrap();
    fs::write(dir.path().join("text"), "hello\n").unwrap();
    for (name, reason, what) in [
        ("folder", ExitReason::Usage, "a directory without a transcript"),
        ("./none", ExitReason::Usage, "cannot read"),
        ("empty.jsonl", ExitReason::Failed, "the transcript is empty"),
        ("text", ExitReason::Failed, "cannot be read from line 1 on"),
        ("01ABC", ExitReason::Usage, "there is no run `01ABC`"),
    ] {
        let failure = agent(dir.path(), &["replay", name]).0.unwrap_err();
        assert_eq!(failure.reason, reason, "{name}");
        assert!(failure.what.contains(what), "{name}: {}", failure.what);
    }
    let failure = agent(dir.path(), &["replay", "--step", "last"]).0.unwrap_err();
    assert_eq!(failure.reason, ExitReason::Usage);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    for args in [&["replay", "last"][..], &["verify", "last"], &["runs", "ls"]] {
        assert_eq!(agent_to(dir.path(), args, &mut Gone), Ok(ExitReason::Done), "{args:?}");
    }
}

#[test]
fn playing_with_pauses_shows_the_same() {
    let golden = golden();
    let path = golden.to_str().unwrap();
    let (result, text) = agent(Path::new("/"), &["replay", "--speed", "10000", path]);
    assert_eq!(result, Ok(ExitReason::Done));
    assert_eq!(text, agent(Path::new("/"), &["replay", path]).1);
}

#[test]
fn a_redactor_leaves_the_story_as_it_is() {
    let journal = fs::read_to_string(golden().join("journal.jsonl")).unwrap();
    assert_eq!(Redactor::new(&[]).redact(&journal), journal);
}
