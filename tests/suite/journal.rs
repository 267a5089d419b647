//! Transcripts on a real disk: what was recorded reads back, and whatever was changed since is found.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use longhaul::domain::{AskedNew, BoxReturn, Event, RunId};
use longhaul::journal::{
    AppendError, DiskUse, Head, LockError, ReadError, ReadProblem, Reader, Recorder, ReopenError, RunState, RunStore,
    RunSummary, StoreError, new_run_id, verify,
};
use longhaul::telemetry::{Redactor, Secret};
use proptest::prelude::*;

use crate::small_disk::SmallDisk;
use crate::story::{RUN, clock, events, record, redactor, spec};

/// The story's transcript, recorded once.
fn story() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        fs::read(record(dir.path()).journal()).expect("a transcript")
    })
}

fn problems(path: &Path) -> Vec<(Option<u64>, &'static str)> {
    verify(path).expect("readable").problems.into_iter().map(|problem| (problem.line, problem.name)).collect()
}

/// Entries read before the first error or the end, the error, and whether the last line is torn.
fn read(bytes: &[u8]) -> (usize, Option<ReadError>, bool) {
    let mut reader = Reader::new(bytes);
    let mut entries = 0;
    for entry in &mut reader {
        match entry {
            Ok(_) => entries += 1,
            Err(error) => return (entries, Some(error), false),
        }
    }
    (entries, None, reader.torn().is_some())
}

fn lines() -> Vec<&'static [u8]> {
    story().split_inclusive(|b| *b == b'\n').collect()
}

#[test]
fn the_story_has_an_event_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunStore::new(dir.path()).create(&spec(RUN), &redactor()).unwrap();
    let events = events(&run.blobs(redactor()));
    for kind in Event::KINDS {
        assert!(events.iter().any(|event| event.kind() == *kind), "{kind}");
        assert!(events.iter().filter(|event| event.kind() == *kind).all(|event| !matches!(event, Event::Other(_))));
    }
}

#[test]
fn what_was_recorded_reads_back_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let told = events(&run.blobs(redactor()));
    let read: Vec<Event> = Reader::open(run.path()).unwrap().map(|entry| entry.unwrap().event).collect();
    assert_eq!(read, told);
    let report = verify(run.path()).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!((report.entries, report.requests, report.artifacts), (told.len() as u64, 4, 1));
    assert_eq!(report.head, Some(report.last));
    assert!(report.ended && report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn every_prefix_is_a_shorter_transcript_or_has_a_torn_tail() {
    let story = story();
    let ends: Vec<usize> = story.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    for length in 0..=story.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        let (entries, error, torn) = read(&story[..length]);
        assert!(error.is_none(), "{length}: {error:?}");
        assert_eq!(entries, whole);
        assert_eq!(torn, length > 0 && !ends.contains(&length), "{length}");
    }
}

#[test]
fn a_removed_line_and_swapped_lines_are_found() {
    let lines = lines();
    for place in 0..lines.len() - 1 {
        let mut without = lines.clone();
        without.remove(place);
        let (entries, error, _) = read(&without.concat());
        assert_eq!(entries, place);
        assert!(matches!(error, Some(ReadError::Line { problem: ReadProblem::Gap { .. }, .. })), "{place}: {error:?}");
        let mut swapped = lines.clone();
        swapped.swap(place, place + 1);
        let (_, error, _) = read(&swapped.concat());
        assert!(matches!(error, Some(ReadError::Line { line, .. }) if line == place as u64 + 1));
    }
    let doubled = [lines[0], lines[0]].concat();
    assert!(matches!(read(&doubled).1, Some(ReadError::Line { line: 2, problem: ReadProblem::Gap { .. } })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_found(at in 0_usize..1 << 20, change in 1_u8..=255) {
        let mut bytes = story().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= change;
        let (entries, error, torn) = read(&bytes);
        prop_assert!(error.is_some() || torn, "byte {at} ^ {change}: {entries} entries read");
    }

    #[test]
    fn any_cut_out_stretch_is_found_where_more_follows(at in 0_usize..1 << 20, length in 1_usize..5_000) {
        let story = story();
        let at = at % (story.len() - 1);
        let end = (at + length).min(story.len() - 1);
        let bytes = [&story[..at], &story[end..]].concat();
        let (_, error, torn) = read(&bytes);
        prop_assert!(story.starts_with(&bytes) || error.is_some() || torn);
    }
}

#[test]
fn a_cut_tail_is_told_by_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let lines = lines();
    for left in [lines.len() - 1, 3] {
        fs::write(run.journal(), lines[..left].concat()).unwrap();
        assert_eq!(problems(run.path()), [(Some(left as u64 + 1), "cut tail")]);
        assert_eq!(problems(&run.journal()), [(Some(left as u64 + 1), "cut tail")]);
    }
    fs::write(run.journal(), "").unwrap();
    assert_eq!(problems(run.path()), [(Some(1), "cut tail")]);
    assert!(matches!(Recorder::reopen(&run, clock(), redactor(), &mut drop), Err(ReopenError::CutTail)));
}

#[test]
fn a_torn_last_line_is_named_and_cut_off_when_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let whole = fs::read(run.journal()).unwrap();
    fs::write(run.journal(), [&whole, b"{\"seq\":99,\"ti".as_slice()].concat()).unwrap();
    let line = lines().len() as u64 + 1;
    assert_eq!(problems(run.path()), [(Some(line), "torn last line")]);
    let mut told = Vec::new();
    let reopened = Recorder::reopen(&run, clock(), redactor(), &mut |entry| told.push(entry.event)).unwrap();
    assert_eq!(told, events(&run.blobs(redactor())));
    let (mut recorder, torn) = (reopened.recorder, reopened.torn);
    assert_eq!((recorder.epoch(), reopened.lost), (2, 0));
    assert_eq!(torn.map(|torn| torn.line), Some(line));
    assert_eq!(fs::read(run.journal()).unwrap(), whole);
    let (found, notes) = (BoxReturn::None, Vec::new());
    let resumed = Event::RunResumed { epoch: 2, away_ms: 1, found, notes, asked: AskedNew::default() };
    let entry = recorder.append(resumed).unwrap();
    assert_eq!(entry.seq, line - 1);
    drop(recorder);
    assert!(verify(run.path()).unwrap().is_sound());
}

#[test]
fn every_damage_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = lines().iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let damaged = |place: usize, line: String| {
        let path = dir.path().join("t.jsonl");
        let mut all = lines.clone();
        all[place] = line;
        fs::write(&path, all.concat()).unwrap();
        problems(&path)
    };
    let third = &lines[2];
    assert_eq!(damaged(2, third.replace("bash", "dash")), [(Some(3), "edited line")]);
    assert_eq!(damaged(2, "{\"a\":\n".into()), [(Some(3), "damaged line")]);
    assert_eq!(damaged(2, "{}\n".into()), [(Some(3), "not a transcript line")]);
    assert_eq!(damaged(2, third.replace("\"seq\":2", "\"seq\": 2")), [(Some(3), "not a transcript line")]);
    assert_eq!(damaged(2, rehashed(third, "bash", "dash")), [(Some(4), "broken chain")]);
    assert_eq!(damaged(2, rehashed(third, "\"shell\"", "\"shall\"")), [(Some(3), "impossible line")]);
    assert_eq!(damaged(0, rehashed(&lines[0], "run_started", "run_stirred")), [(Some(1), "impossible line")]);
    assert_eq!(damaged(0, rehashed(&lines[0], "_major\":1", "_major\":2")), [(Some(1), "newer format")]);
    let last = lines.len() - 1;
    assert_eq!(damaged(last, lines[last].trim_end().into()), [(Some(last as u64 + 1), "torn last line")]);
}

/// A line with something changed in it and its hash made anew, as a careful forger would.
fn rehashed(line: &str, from: &str, to: &str) -> String {
    let changed = line.trim_end().replacen(from, to, 1);
    assert_ne!(changed, line.trim_end());
    let (before, rest) = changed.split_once("\"hash\":\"").expect("a hash");
    let bare = format!("{before}{}", &rest[66..]);
    format!("{before}\"hash\":\"{}\",{}\n", crate::story::hex(bare.as_bytes()), &rest[66..])
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let newer = r#"{"v":3,"event":{"type":"run_started","format_major":3,"format_minor":1}}"#.to_owned() + "\n";
    let error = read(newer.as_bytes()).1.unwrap();
    let ReadError::Line { line: 1, problem } = error else { panic!("{error:?}") };
    assert_eq!(problem.to_string(), "written in transcript format 3.1; this program reads format 1");
}

#[test]
fn what_lies_beside_the_transcript_is_proved_too() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    fs::write(run.artifacts().join("model.txt"), "w 0.6\n").unwrap();
    assert_eq!(problems(run.path()).iter().map(|p| p.1).collect::<Vec<_>>(), ["changed artefact"]);
    fs::remove_file(run.artifacts().join("model.txt")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", run.artifacts().join("model.txt")).unwrap();
    assert_eq!(problems(run.path()).iter().map(|p| p.1).collect::<Vec<_>>(), ["missing artefact"]);
    fs::remove_dir_all(run.path().join("blobs")).unwrap();
    let names: Vec<_> = problems(run.path()).iter().map(|p| p.1).collect();
    assert_eq!(names.iter().filter(|name| **name == "missing blob").count(), 7);
    fs::remove_file(run.path().join("head")).unwrap();
    assert!(problems(run.path()).contains(&(None, "no head")));
    fs::write(run.path().join("head"), "{\"seq\":28,\"hash\":\"00\"}").unwrap();
    assert!(problems(run.path()).contains(&(None, "no head")));
    let json = fs::read_to_string(run.path().join("run.json")).unwrap();
    fs::write(run.path().join("run.json"), json.replace("classifier on", "rocket on")).unwrap();
    assert!(problems(run.path()).contains(&(None, "edited run.json")));
    fs::remove_dir_all(run.sessions()).unwrap();
    let notes = verify(run.path()).unwrap().notes;
    assert_eq!(notes, ["the session log sessions/main.raw is not there"]);
}

#[test]
fn the_head_names_the_last_entry_after_each_append() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunStore::new(dir.path()).create(&spec(RUN), &redactor()).unwrap();
    let mut recorder = Recorder::create(&run, clock(), redactor()).unwrap();
    for event in events(&run.blobs(redactor())).into_iter().take(4) {
        let entry = recorder.append(event).unwrap();
        let head = Head::read(run.path()).unwrap();
        assert_eq!((head.seq, &head), (Some(entry.seq), recorder.head()));
    }
}

#[test]
fn one_run_has_one_driver_and_one_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::new(dir.path());
    let run = store.create(&spec(RUN), &redactor()).unwrap();
    let recorder = Recorder::create(&run, clock(), redactor()).unwrap();
    let pid = std::process::id();
    let second = Recorder::create(&run, clock(), redactor());
    assert!(matches!(second, Err(ReopenError::Lock(LockError::Held { pid: Some(held) })) if held == pid));
    assert!(store.is_driven(run.id()));
    assert!(matches!(store.remove(&run), Err(StoreError::Driven { pid: Some(_), .. })));
    assert!(matches!(RunSummary::read(&run).state, RunState::Running { .. }));
    drop(recorder);
    assert!(!store.is_driven(run.id()));
    assert!(matches!(Recorder::create(&run, clock(), redactor()), Err(ReopenError::Exists)));
    store.remove(&run).unwrap();
    assert!(!run.path().exists());
}

#[test]
fn no_secret_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Secret { name: "KEY".into(), value: "hunter2 \"quoted\"".into() };
    let redactor = std::sync::Arc::new(Redactor::new(std::slice::from_ref(&secret)));
    let mut spec = spec(RUN);
    spec.goal = format!("log in with {}", secret.value);
    let run = RunStore::new(dir.path()).create(&spec, &redactor).unwrap();
    let mut recorder = Recorder::create(&run, clock(), redactor.clone()).unwrap();
    recorder.append(Event::RunStarted { format_major: 1, format_minor: 0, spec }).unwrap();
    let entry = recorder.append(Event::UserSaid { text: format!("use {}", secret.value), mail: None }).unwrap();
    assert_eq!(entry.event, Event::UserSaid { text: "use [REDACTED:rule=KEY,len=16]".into(), mail: None });
    let blobs = run.blobs(redactor);
    let blob = blobs.put(serde_json::to_string(&secret.value).unwrap().as_bytes()).unwrap();
    assert!(!String::from_utf8(blobs.get(&blob).unwrap()).unwrap().contains("hunter2"));
    for file in ["journal.jsonl", "run.json"] {
        assert!(!fs::read_to_string(run.path().join(file)).unwrap().contains("hunter2"), "{file}");
    }
    assert!(verify(run.path()).unwrap().is_sound());
}

#[test]
fn runs_are_found_by_any_unique_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::new(dir.path());
    assert!(matches!(store.find("last"), Err(StoreError::NoRuns)));
    let time = |text: &str| text.parse().unwrap();
    let ids: Vec<RunId> = [("2026-01-01T00:00:00Z", 7), ("2026-01-01T00:00:00Z", 1 << 70), ("2026-06-01T00:00:00Z", 3)]
        .map(|(at, random)| new_run_id(time(at), random))
        .into();
    for id in &ids {
        store.create(&spec(id.as_str()), &redactor()).unwrap();
    }
    fs::create_dir(dir.path().join("runs/not-a-run")).unwrap();
    assert_eq!(store.find("last").unwrap().id(), &ids[2]);
    for id in &ids {
        assert_eq!(store.find(id.as_str()).unwrap().id(), id);
    }
    assert_eq!(store.find(&ids[2].as_str()[..8].to_ascii_lowercase()).unwrap().id(), &ids[2]);
    let Err(StoreError::Ambiguous { candidates, .. }) = store.find(&ids[0].as_str()[..9]) else { panic!() };
    assert_eq!(candidates, [ids[1].to_string(), ids[0].to_string()]);
    assert!(matches!(store.find("7Z"), Err(StoreError::NoSuchRun(_))));
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.path().join("runs")).unwrap());
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_list_says_how_it_stands_with_every_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = record(dir.path());
    let store = RunStore::new(dir.path());
    let [one] = store.list().unwrap().try_into().unwrap();
    assert_eq!((one.title.as_str(), one.turns, one.usage.input_tokens), ("Train a classifier", 2, 2_400));
    assert_eq!(one.duration_ms, 61 * 1_250);
    assert!(matches!(one.state, RunState::Ended { .. }));
    fs::write(run.journal(), lines()[..5].concat()).unwrap();
    assert_eq!(store.list().unwrap()[0].state, RunState::Interrupted);
    fs::write(run.journal(), "no transcript\n").unwrap();
    let broken = &store.list().unwrap()[0];
    assert!(matches!(broken.state, RunState::Broken { .. }) && broken.title == "Train a classifier");
    assert!(DiskUse::of(run.path()).size_bytes > 0);
}

#[test]
fn a_directory_without_a_run_is_no_transcript() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(ReadError::NoRun(_))));
    assert!(matches!(Reader::open(&dir.path().join("none")), Err(ReadError::Open { .. })));
    assert!(matches!(verify(dir.path()), Err(ReadError::NoRun(_))));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let store = RunStore::new(dir.path().join("file/state"));
    assert!(matches!(store.create(&spec(RUN), &redactor()), Err(StoreError::NotWritable { .. })));
}

#[test]
fn a_full_disk_ends_the_recording_and_leaves_a_whole_transcript() {
    let Some(disk) = SmallDisk::mount() else { return };
    let run = RunStore::new(&disk.path).create(&spec(RUN), &redactor()).unwrap();
    let mut recorder = Recorder::create(&run, clock(), redactor()).unwrap();
    let mut told = events(&run.blobs(redactor())).into_iter();
    recorder.append(told.next().unwrap()).unwrap();
    let mut recorded = 1;
    let error = loop {
        match recorder.append(Event::UserSaid { text: "x".repeat(10_000), mail: None }) {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 1_000, "a disk of {} bytes never fills", SmallDisk::SIZE);
    };
    assert!(matches!(error, AppendError::Full(_)), "{error:?}");
    let again = recorder.append(Event::UserSaid { text: "small".into(), mail: None });
    assert!(matches!(again, Err(AppendError::Closed)));
    assert!(run.blobs(redactor()).put(&incompressible()).is_err());
    let report = verify(run.path()).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.entries, recorded);
}

/// Bytes that no compressor makes smaller.
fn incompressible() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).expect("eight bits")
    };
    std::iter::repeat_with(&mut next).take(1 << 20).collect()
}
