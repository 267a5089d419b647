//! What `recall` tells, and what it refuses, of steps that are made up here.

use super::*;
use crate::domain::{Exit, Job, JobEnd, JobId, OutputFacts, SessionName, ToolCall};

/// Steps in memory, their logs in a directory.
struct Kept {
    steps: Vec<PastStep>,
    dir: tempfile::TempDir,
}

impl Memory for Kept {
    fn count(&mut self) -> Result<u64, String> {
        Ok(self.steps.len() as u64)
    }

    fn step(&mut self, number: u64) -> Result<PastStep, String> {
        Ok(self.steps[usize::try_from(number).unwrap() - 1].clone())
    }

    fn number_of(&mut self, call_id: &str) -> Result<Option<u64>, String> {
        Ok(self.steps.iter().find(|step| step.call.id == call_id).map(|step| step.number))
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn step(number: u64, command: &str, code: i32, text: &str) -> PastStep {
    let arguments = serde_json::json!({ "command": command }).to_string();
    let call = ToolCall { id: format!("call-{number}"), name: "shell".to_owned(), arguments };
    let status = if code == 0 { Status::Ok } else { Status::Failed };
    let outcome = Outcome {
        exit: Some(Exit::Code(code)),
        duration_ms: 2_300,
        cwd: Some("/work".to_owned()),
        ..Outcome::words(status, text)
    };
    let asked = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    PastStep { number, call, asked, outcome: Some(outcome), job: None }
}

fn kept(steps: Vec<PastStep>) -> Kept {
    Kept { steps, dir: tempfile::tempdir().unwrap() }
}

fn three() -> Kept {
    let mut under_way = step(3, "sleep 9", 0, "");
    under_way.outcome = None;
    kept(vec![
        step(1, "make -j4\nmake test", 2, "[exit 2]\nerror: no rule"),
        step(2, "ls", 0, "[exit 0]\na.txt"),
        under_way,
    ])
}

fn ask(memory: &mut Kept, arguments: Value) -> (Status, String) {
    let outcome = recall(&serde_json::from_value(arguments).unwrap(), memory);
    (outcome.status, outcome.text)
}

macro_rules! ask {
    ($memory:expr, $($arguments:tt)+) => { ask($memory, serde_json::json!($($arguments)+)) };
}

#[test]
fn a_step_is_told_with_its_exact_command_exit_and_directory() {
    let (status, text) = ask!(&mut three(), { "step": "1" });
    assert_eq!(status, Status::Ok);
    insta::assert_snapshot!(text, @r#"
    [step 1 · shell · exit 2 · 2.3 s · /work · 2023-11-14 22:13:20 UTC · call call-1]
    arguments: {"command":"make -j4\nmake test"}
    command:
    make -j4
    make test
    result, as it was told:
    [exit 2]
    error: no rule
    "#);
    for same in ["-3", "call-1", "step 1", " 1 "] {
        assert_eq!(ask!(&mut three(), { "step": same }).1, text, "{same}");
    }
}

#[test]
fn steps_are_listed_a_line_each_and_the_list_says_where_it_goes_on() {
    insta::assert_snapshot!(ask!(&mut three(), {}).1, @r"
    [steps 1 to 3 of 3]
    1 · shell · exit 2 · 2.3 s · make -j4 …
    2 · shell · exit 0 · 2.3 s · ls
    3 · shell · under way · sleep 9
    ");
    let mut many = kept((1..=900).map(|number| step(number, &format!("echo {number}"), 0, "")).collect());
    let (_, last) = ask!(&mut many, {});
    assert!(
        last.starts_with("[steps 701 to 900 of 900]")
            && last.ends_with("[those before: {\"step\": \"1\", \"until\": 700}]")
    );
    let (_, first) = ask!(&mut many, { "step": "1", "until": 700 });
    assert!(first.ends_with("[on with {\"step\": \"201\", \"until\": 700}]"), "{first}");
    assert!(ask!(&mut many, { "step": "899", "until": 10_000 }).1.starts_with("[steps 899 to 900 of 900]\n899"));
    let mut long = kept((1..=900).map(|number| step(number, &"é".repeat(5_000), 0, "")).collect());
    assert!(ask!(&mut long, {}).1.len() < LISTED_BYTES + 1_000);
}

#[test]
fn what_fits_a_pattern_is_found_in_calls_and_results() {
    insta::assert_snapshot!(ask!(&mut three(), { "search": "^make|txt$" }).1, @r"
    [steps 1 to 3: 2 steps]
    1 · shell · exit 2 · 2.3 s · make -j4 …
      asked: make -j4
      asked: make test
    2 · shell · exit 0 · 2.3 s · ls
      told: a.txt
    ");
    assert!(ask!(&mut three(), { "search": "sleep" }).1.contains("nothing fits"), "the step that asks is no find");
    assert!(ask!(&mut three(), { "search": "make", "step": "2" }).1.contains("steps 2 to 2: nothing fits"));
    let mut many = kept((1..=900).map(|number| step(number, "grep x", 0, &"x y z\n".repeat(50))).collect());
    let (_, text) = ask!(&mut many, { "search": "x" });
    assert!(text.starts_with("[steps 1 to 900: 900 steps, the last 30 of them shown"), "{text}");
    assert!(text.len() < 16 << 10, "{}", text.len());
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |arguments: Value| ask(&mut three(), arguments);
    let cases = [
        (serde_json::json!({ "step": "0" }), Status::Malformed, "step: counts from 1, or from -1 for the last"),
        (serde_json::json!({ "step": "4" }), Status::Failed, "there is no step 4: the run has 3 so far"),
        (serde_json::json!({ "step": "-4" }), Status::Failed, "there is no step -4: the run has 3 so far"),
        (serde_json::json!({ "step": i64::MIN.to_string() }), Status::Failed, "there is no step -9223372036854775808"),
        (serde_json::json!({ "step": "no-such" }), Status::Failed, "no call has the id `no-such`"),
        (serde_json::json!({ "step": "2", "until": 1 }), Status::Malformed, "until: 1 is before step 2"),
        (serde_json::json!({ "search": "(" }), Status::Malformed, "search: regex parse error"),
        (serde_json::json!({ "search": "" }), Status::Malformed, "search: is empty"),
        (serde_json::json!({ "search": "(a{1000}){1000}" }), Status::Malformed, "search: "),
        (serde_json::json!({ "from_line": 1 }), Status::Malformed, "from_line and lines go with one step"),
        (serde_json::json!({ "step": "1", "from_line": 0 }), Status::Malformed, "from_line counts from 1"),
        (serde_json::json!({ "step": "1", "from_line": 5 }), Status::Failed, "step 1 has no output of a command"),
    ];
    for (arguments, status, words) in cases {
        let (got, text) = refused(arguments.clone());
        assert_eq!(got, status, "{arguments}: {text}");
        assert!(text.starts_with(words), "{arguments}: {text}");
    }
}

/// A step whose output is that, in a log with something before and after it.
fn with_log(output: &str) -> Kept {
    let mut memory = three();
    std::fs::create_dir(memory.dir.path().join("sessions")).unwrap();
    let log = format!("before\n{output}after\n");
    std::fs::write(memory.dir.path().join("sessions/main.log"), log).unwrap();
    let facts = OutputFacts {
        size_bytes: output.len() as u64,
        omitted_bytes: 9,
        log: "sessions/main.log".to_owned(),
        offset: "before\n".len() as u64,
    };
    memory.steps[0].outcome.as_mut().unwrap().output = Some(facts);
    memory
}

#[test]
fn an_output_is_paged_from_its_log() {
    let lines: String = (1..=30_000).map(|n| format!("\x1b[1mline {n}\x1b[0m\n")).collect();
    let mut memory = with_log(&lines);
    let (_, page) = ask!(&mut memory, { "step": "1", "from_line": 29_999 });
    assert_eq!(
        page,
        format!(
            "[step 1 · 30,000 lines, {} · lines 29999 to 30000]\n29999: line 29999\n30000: line 30000",
            size(lines.len() as u64)
        )
    );
    let (_, page) = ask!(&mut memory, { "step": "1", "from_line": -3, "lines": 1 });
    assert!(page.ends_with("lines 29998 to 29998]\n29998: line 29998\n[on with \"from_line\": 29999]"), "{page}");
    let (_, page) = ask!(&mut memory, { "step": "1", "lines": 2_000 });
    assert!(page.contains("1: line 1\n") && page.contains("[cut: too much at once; on with \"from_line\": "), "{page}");
    assert!(page.len() < 40 << 10);
    assert!(ask!(&mut memory, { "step": "1", "from_line": 30_001 }).1.ends_with("nothing from line 30001]"));
    let (_, told) = ask!(&mut memory, { "step": "1" });
    assert!(told.contains("in sessions/main.log from byte 7, 9 bytes of it not shown; from_line shows it"), "{told}");
}

#[test]
fn an_output_whose_log_is_gone_or_no_log_of_the_run_is_not_made_up() {
    let mut memory = with_log("some\n");
    std::fs::write(memory.dir.path().join("sessions/main.log"), "bef").unwrap();
    let (status, text) = ask!(&mut memory, { "step": "1", "from_line": 1 });
    assert!(status == Status::Failed && text.contains("the log is shorter than it was"), "{text}");
    std::fs::remove_file(memory.dir.path().join("sessions/main.log")).unwrap();
    assert!(ask!(&mut memory, { "step": "1", "from_line": 1 }).1.contains("cannot be had from sessions/main.log"));
    for log in ["../../etc/passwd", "/etc/passwd", "sessions/../../x", ""] {
        memory.steps[0].outcome.as_mut().unwrap().output.as_mut().unwrap().log = log.to_owned();
        assert_eq!(ask!(&mut memory, { "step": "1", "from_line": 1 }).0, Status::Failed, "{log}");
    }
}

#[test]
fn what_became_of_a_job_is_told_with_the_step_that_began_it() {
    let mut memory = with_log("one\ntwo\nthree\n");
    let job = Job {
        id: JobId(4),
        work: "c9".to_owned(),
        session: SessionName::new("train").unwrap(),
        command: "make".to_owned(),
        cwd: None,
        expected_s: None,
        service: false,
        readiness: None,
        log: "sessions/main.log".to_owned(),
        offset: 7,
    };
    let end = JobEnd {
        exit: Some(Exit::Signal(9)),
        duration_ms: 7_200_000,
        size_bytes: 14,
        cpu_ms: None,
        memory_peak_bytes: None,
        note: None,
        failure: None,
    };
    let outcome = memory.steps[0].outcome.as_mut().unwrap();
    (outcome.exit, outcome.status) = (None, Status::Running);
    outcome.output.as_mut().unwrap().size_bytes = 4;
    memory.steps[0].job = Some((job.clone(), Some(end)));
    let (_, told) = ask!(&mut memory, { "step": "1" });
    assert!(told.contains("[job j4, session train: killed by SIGKILL after 2 h 00 min, 14 bytes]"), "{told}");
    assert!(
        ask!(&mut memory, { "step": "1", "until": 1 })
            .1
            .contains("1 · shell · still running, job j4 killed by SIGKILL")
    );
    let (_, page) = ask!(&mut memory, { "step": "1", "from_line": 1 });
    assert!(page.contains("3: three"), "its whole output, not only that of the call: {page}");
    memory.steps[0].job = Some((job, None));
    assert!(ask!(&mut memory, { "step": "1" }).1.contains("runs, or was never seen to end"));
}
