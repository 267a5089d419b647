//! A driver that is killed before each of its system calls that change something, and a run that is then taken up: each
//! command has run exactly once, the chain is whole, the verdict is the same, nothing that was recorded is lost.
//!
//! Once in a box that writes through to the project, and once in one with files of its own, of which a checkpoint is
//! taken and gone back to: there every point is tried. In a container, and of drivers that take a killed run up and are
//! killed themselves, a sample is; where the conversation outgrows its window, the points around that.
//! `LONGHAUL_KILL_SWEEP=120` tries one point, `LONGHAUL_KILL_SWEEP=100-140` some.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use longhaul::domain::RunId;

use crate::containers::traces;
use crate::engines::{BUSYBOX, DOCKER};
use crate::killer::{End, kill_at};
use crate::stage::Stage;

/// Points that are tried at the same time: a driver waits more than it works.
const AT_ONCE: usize = 4;
/// A sweep gives up after so many points that went wrong.
const MOST_WRONG: usize = 3;

/// What the box's files are.
#[derive(Debug, Clone, Copy)]
enum Files {
    /// Those of the project.
    Through,
    /// Its own.
    Own,
    /// Its own, in a container.
    Contained,
    /// Those of the project, and the conversation outgrows the model's window.
    Crowded,
}

const SCRIPT: &str = r#"
[script]
goal = "count"

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo x >> f" }

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "sleep 0.3; echo j >> job", session = "job", yield_s = 0 }
[[turn.call]]
tool = "write_file"
arguments = { path = "wrote", content = "w\n" }

[[turn]]
[[turn.call]]
tool = "wait"
arguments = { all = ["j1"], deadline_s = 60 }
{KEPT}
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo y >> f" }

[[turn]]
[[turn.call]]
tool = "finish"
arguments = { summary = "counted", artifacts = ["f", "job", "wrote"] }
"#;

/// What comes before the last command where the box's files are its own.
const KEPT: &str = r#"
[[turn]]
[[turn.call]]
tool = "checkpoint"
arguments = { do = "create", checkpoint = "good" }

[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo bad >> f; rm job" }

[[turn]]
[[turn.call]]
tool = "checkpoint"
arguments = { do = "restore", checkpoint = "good" }
"#;

/// What comes before the last command where the window is to become full.
const CROWDING: &str = r#"
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "seq 1 1500" }
"#;

/// Where a sweep goes, and for how long.
struct Sweep {
    files: Files,
    /// The point at which a driver has been killed before: then it is the next one's calls that are counted.
    first: Option<usize>,
    /// The points, and how far it is from one to the next.
    points: RangeInclusive<usize>,
    step: usize,
    patience: Duration,
}

/// What came of a sweep.
#[derive(Default)]
struct Swept {
    /// Points at which a driver was killed, by what it was about to do.
    points: BTreeMap<&'static str, usize>,
    /// Calls that a driver makes that is left alone, where one was.
    calls: usize,
    wrong: Vec<Box<dyn Any + Send>>,
}

/// Runs the script up to a point, and takes it up; what the driver was about to do, or how many calls it made where it
/// came to its end before.
#[track_caller]
fn killed_at(files: Files, first: Option<usize>, nth: usize) -> Result<&'static str, usize> {
    let stage = Stage::new();
    let mut end = kill_at(the_script(&stage, files), first.unwrap_or(nth)).unwrap();
    if first.is_some() {
        assert!(matches!(end.0, End::Killed(_)), "{files:?} {first:?}: {end:?}");
        let mut program = in_engine(stage.agent(&["resume", "last"]));
        program.stdout(Stdio::null()).stderr(fs::File::create(stage.home().join("said")).unwrap());
        end = kill_at(program, nth).unwrap();
    }
    let place = format!("{files:?} {first:?} {nth} {end:?}");
    match end {
        (End::Exited(0), calls) => {
            has_come_to_its_end(&stage, files, &place);
            Err(calls)
        }
        (End::Killed(call), _) => {
            goes_on(&stage, files, &place);
            Ok(call)
        }
        (End::Exited(_) | End::Signalled(_), _) => {
            panic!("{place}: {}", fs::read_to_string(stage.home().join("said")).unwrap())
        }
    }
}

fn the_script(stage: &Stage, files: Files) -> Command {
    let (kept, place) = match files {
        Files::Through => ("", &["--sandbox", "local", "--workspace", "bind"][..]),
        Files::Own => (KEPT, &["--sandbox", "local", "--workspace", "overlay"][..]),
        Files::Contained => (KEPT, &["--image", BUSYBOX, "--workspace", "overlay"][..]),
        Files::Crowded => (CROWDING, &["--sandbox", "local", "--workspace", "bind", "--window", "20000"][..]),
    };
    fs::write(stage.home().join("script.toml"), SCRIPT.replace("{KEPT}", kept)).unwrap();
    let model = format!("script:{}/script.toml", stage.home().display());
    let check = "test \"$(cat job wrote f)\" = \"$(printf 'j\\nw\\nx\\ny')\"";
    let mut program = in_engine(stage.agent(&["do", "count", "--model", &model, "--check", check]));
    let said = fs::File::create(stage.home().join("said")).unwrap();
    program.args(place).stdout(Stdio::null()).stderr(said);
    program
}

/// Takes the run up that a killed driver has left.
#[track_caller]
fn goes_on(stage: &Stage, files: Files, place: &str) {
    let begun = fs::read_dir(stage.state().join("runs")).is_ok_and(|mut runs| runs.next().is_some());
    let has_journal = begun && fs::metadata(stage.run_dir().join("journal.jsonl")).is_ok_and(|file| file.len() > 0);
    if !has_journal {
        assert!(!stage.project().join("f").exists(), "{place}: something was done without a record");
        return;
    }
    let before = fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
    if stage.events_of("run_ended").is_empty() {
        let resumed = in_engine(stage.agent(&["resume", "last"])).output().unwrap();
        let told = String::from_utf8_lossy(&resumed.stderr);
        assert_eq!(resumed.status.code(), Some(0), "{place}\n{told}\n{before}");
    }
    let after = fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap();
    let whole = before.rfind('\n').map_or("", |end| &before[..=end]);
    assert!(after.starts_with(whole), "{place}: what was recorded is lost");
    has_come_to_its_end(stage, files, &format!("{place}\n{after}"));
}

/// Everything was done once, and the verdict is that of a run that nobody killed.
#[track_caller]
fn has_come_to_its_end(stage: &Stage, files: Files, place: &str) {
    let artifacts = stage.run_dir().join("artifacts");
    for (file, content) in [("f", "x\ny\n"), ("job", "j\n"), ("wrote", "w\n")] {
        let (own, through) = (artifacts.join(file), stage.project().join(file));
        let path = if matches!(files, Files::Through | Files::Crowded) { through } else { own };
        assert_eq!(fs::read_to_string(path).unwrap_or_default(), content, "{file} {place}");
    }
    if matches!(files, Files::Own | Files::Contained) {
        assert_eq!(fs::read_dir(stage.project()).unwrap().count(), 1, "the project was changed: {place}");
        let taken = stage.events_of("checkpoint_taken");
        let good = taken.iter().filter(|event| event["checkpoint"]["name"] == "good").count();
        assert_eq!((good, stage.events_of("checkpoint_restored").len()), (1, 1), "{place}");
    }
    if matches!(files, Files::Crowded) {
        assert!(!stage.events_of("conversation_reduced").is_empty(), "nothing had to be left out: {place}");
    }
    let ended = stage.events_of("run_ended");
    assert_eq!((ended.len(), ended[0]["verdict"].as_str()), (1, Some("verified")), "{place}");
    let mut started = BTreeMap::<String, usize>::new();
    for event in stage.events_of("tool_started") {
        *started.entry(event["call"]["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(started.values().all(|&times| times == 1), "{started:?} {place}");
    let verified = stage.run(&["verify", "last"]);
    assert_eq!(verified.code, 0, "{place}\n{}{}", verified.stdout, verified.stderr);
    let run = stage.run_dir().file_name().and_then(|name| RunId::new(name.to_str()?).ok()).unwrap();
    assert_eq!(traces(&stage.state(), &run), Vec::<String>::new(), "{place}");
}

fn in_engine(mut program: Command) -> Command {
    program.env("DOCKER_HOST", format!("unix://{}", DOCKER.socket));
    program
}

/// The points that somebody asked for; all where nobody did.
fn wanted() -> RangeInclusive<usize> {
    let asked = std::env::var("LONGHAUL_KILL_SWEEP").ok().filter(|asked| asked != "all");
    let Some(asked) = asked else { return 1..=usize::MAX };
    let (from, to) = asked.split_once('-').unwrap_or((&asked, &asked));
    from.parse().unwrap()..=to.parse().unwrap()
}

#[expect(clippy::print_stderr, reason = "how many points there were belongs to the result")]
fn sweep(sweep: &Sweep) -> Swept {
    let (begun, range) = (Instant::now(), sweep.points.clone());
    let (next, last) = (AtomicUsize::new(*range.start()), AtomicUsize::new(*range.end()));
    let swept = Mutex::new(Swept::default());
    let one_after_another = || {
        while begun.elapsed() < sweep.patience {
            let nth = next.fetch_add(sweep.step, Ordering::Relaxed);
            if nth > last.load(Ordering::Relaxed) {
                return;
            }
            let came = catch_unwind(AssertUnwindSafe(|| killed_at(sweep.files, sweep.first, nth)));
            let mut swept = swept.lock().unwrap();
            match came {
                Ok(Ok(call)) => *swept.points.entry(call).or_default() += 1,
                Ok(Err(calls)) => {
                    last.fetch_min(nth, Ordering::Relaxed);
                    swept.calls = calls;
                }
                Err(wrong) => {
                    swept.wrong.push(wrong);
                    if swept.wrong.len() >= MOST_WRONG {
                        last.store(0, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one_after_another);
        }
    });
    let mut swept = swept.into_inner().unwrap();
    let (points, took) = (swept.points.values().sum::<usize>(), begun.elapsed().as_secs());
    let of = if swept.calls == 0 { String::new() } else { format!(" of {} calls", swept.calls) };
    let after = sweep.first.map_or(String::new(), |first| format!(" after {first}"));
    eprintln!("{:?}{after}: {points} points{of} in {took} s: {:?}", sweep.files, swept.points);
    if let Some(wrong) = swept.wrong.pop() {
        std::panic::resume_unwind(wrong);
    }
    swept
}

/// Whether all points were to be tried.
fn is_whole() -> bool {
    wanted() == (1..=usize::MAX)
}

#[test]
fn a_driver_that_is_killed_before_any_call_that_changes_something_is_followed_by_one_that_comes_to_the_same_end() {
    let swept =
        sweep(&Sweep { files: Files::Through, first: None, points: wanted(), step: 1, patience: Duration::MAX });
    assert!(!is_whole() || swept.points.values().sum::<usize>() > 250, "{:?}", swept.points);
}

#[test]
fn so_it_is_where_a_checkpoint_is_taken_and_gone_back_to() {
    let swept = sweep(&Sweep { files: Files::Own, first: None, points: wanted(), step: 1, patience: Duration::MAX });
    assert!(!is_whole() || swept.points.values().sum::<usize>() > 500, "{:?}", swept.points);
}

#[test]
fn so_it_is_where_the_driver_that_takes_the_run_up_is_killed_as_well() {
    // While the box is made, the job runs, the checkpoint is taken, the checkpoint is gone back to.
    for first in [60, 170, 270, 450] {
        sweep(&Sweep {
            files: Files::Own,
            first: Some(first),
            points: wanted(),
            step: 29,
            patience: Duration::from_secs(10),
        });
    }
}

#[test]
fn so_it_is_in_a_container() {
    if DOCKER.is_there() {
        sweep(&Sweep {
            files: Files::Contained,
            first: None,
            points: wanted(),
            step: 37,
            patience: Duration::from_secs(40),
        });
    }
}

#[test]
fn so_it_is_where_the_conversation_outgrows_the_window() {
    let reduces_before = |nth: usize| {
        let stage = Stage::new();
        let (end, calls) = kill_at(the_script(&stage, Files::Crowded), nth).unwrap();
        let begun = fs::read_dir(stage.state().join("runs")).is_ok_and(|mut runs| runs.next().is_some());
        let journal = begun.then(|| fs::read_to_string(stage.run_dir().join("journal.jsonl")).unwrap_or_default());
        let is_there = journal.is_some_and(|journal| journal.contains("conversation_reduced"));
        if matches!(end, End::Killed(_)) {
            goes_on(&stage, Files::Crowded, &format!("looking at {nth}"));
        }
        (is_there, calls)
    };
    let (reduced, calls) = reduces_before(usize::MAX);
    assert!(reduced, "nothing had to be left out");
    let (mut without, mut with) = (1, calls);
    while with - without > 1 {
        let middle = without.midpoint(with);
        match reduces_before(middle).0 {
            true => with = middle,
            false => without = middle,
        }
    }
    let points = with.saturating_sub(12)..=with + 12;
    sweep(&Sweep { files: Files::Crowded, first: None, points, step: 1, patience: Duration::MAX });
}
