//! What people type and set wrongly, from end to end: each a clear message, the documented exit code, nothing left over.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use longhaul::domain::RunId;

use crate::small_disk::SmallDisk;
use crate::stage::{Ran, Stage, contents};

/// A script whose only answer looks at the project's file, and then the end.
const SCRIPT: &str = r#"
[[turn]]
say = "I look."
[[turn.call]]
tool = "shell"
arguments = { command = "cat data.txt; echo changed > data.txt; seq 1 1000" }

[[turn]]
expect = ["three"]
[[turn.call]]
tool = "finish"
arguments = { summary = "All done." }
"#;

/// A stage with [`SCRIPT`], and the value of `--model` that plays it.
fn with_script() -> (Stage, String) {
    let stage = Stage::new();
    let file = stage.home().join("look.toml");
    fs::write(&file, SCRIPT).unwrap();
    let model = format!("script:{}", file.display());
    (stage, model)
}

/// The program with a key and a server that nobody is to ask.
fn unasked(stage: &Stage, args: &[&str]) -> Command {
    let mut program = stage.agent(args);
    program.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1").env("LONGHAUL_MODEL", "fake");
    program
}

fn ran(mut program: Command) -> Ran {
    Ran::of(&program.output().unwrap())
}

/// Fails the test unless standard error says all of these, as what, because, hint, and standard output nothing.
#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    assert!(ran.stdout.is_empty(), "{ran:?}");
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    for part in parts {
        assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
    }
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors_and_begin_no_run() {
    let stage = Stage::new();
    let file = stage.home().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    fs::write(stage.home().join("binary"), b"goal \xff\xfe").unwrap();
    fs::write(stage.home().join("large"), vec![b'a'; (10 << 20) + 1]).unwrap();
    fs::write(stage.home().join("blank"), " \n\t\n").unwrap();
    fs::write(stage.home().join("no.toml"), "this is no script\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--frobnicate"], &["--frobnicate", "--help"]),
        (&["frobnicate"], &["unrecognized subcommand 'frobnicate'", "--help"]),
        (&["do"], &["<GOAL>", "--help"]),
        (&["do", ""], &["the goal is empty", "hint: "]),
        (&["do", " \n\t"], &["the goal is empty", "hint: "]),
        (&["do", "-"], &["the goal is empty", "hint: "]),
        (&["do", "-f", "../home/blank"], &["the goal is empty", "hint: "]),
        (&["do", "-f", "nowhere"], &["cannot read the goal from", "nowhere", "because: No such file", "hint: "]),
        (&["do", "-f", ".."], &["cannot read the goal from", "because: Is a directory", "hint: "]),
        (&["do", "-f", "../home/large"], &["the goal is larger than 10 MiB", "hint: "]),
        (&["do", "-f", "../home/binary"], &["is not text", "because: it is not UTF-8 at byte 5", "hint: "]),
        (&["do", "x", "--sandbox", "nonsense"], &["`--sandbox nonsense`", "because: it must be auto, docker"]),
        (&["do", "x", "--memory", "1"], &["`--memory 1`", "because: it must be a size", "32MiB at least"]),
        (&["do", "x", "--cpus", "0"], &["`--cpus 0`", "because: it must be a number above zero"]),
        (&["do", "x", "--pids", "1"], &["`--pids 1`", "because: it must be a whole number, and 16 at least"]),
        (&["do", "x", "--max-turns", "0"], &["`--max-turns 0`", "because: it must be a whole number above zero"]),
        (&["do", "x", "--network", "some"], &["`--network some`", "because: it must be open or none"]),
        (&["do", "x", "--output-format", "xml"], &["`--output-format xml`", "because: it must be text, json"]),
        (&["do", "x", "--base-url", "gopher://x"], &["`--base-url gopher://x`", "because: it must be a URL"]),
        (&["do", "x", "--sandbox", "local", "--image", "debian"], &["an image is named", "because: `local`", "hint: "]),
        (&["do", "x", "-C", "/"], &["cannot work in /", "because: the root", "hint: "]),
        (&["do", "x", "-C", "nowhere"], &["cannot work in", "because: No such file"]),
        (&["do", "x", "-C", file], &["cannot work in", "because: it is no directory"]),
        (&["do", "x", "--model", "script:nowhere"], &["the script nowhere", "because: No such file", "hint: "]),
        (&["do", "x", "--model", "script:../home/no.toml"], &["no.toml:1: this is no script", "because: ", "hint: "]),
        (&["replay"], &["there are no runs yet", "hint: "]),
        (&["replay", "01NONE"], &["there is no run `01NONE`", "hint: "]),
        (&["verify", "-"], &["cannot verify standard input", "hint: "]),
        (&["verify", "./nowhere"], &["cannot read", "because: No such file", "hint: "]),
        (&["verify", ".."], &["is a directory without a transcript", "hint: "]),
        (&["replay", ".."], &["is a directory without a transcript", "hint: "]),
        (&["runs", "rm", "last"], &["there are no runs yet", "hint: "]),
        (&["tools", "frobnicate"], &["frobnicate", "hint: "]),
    ];
    for (args, parts) in cases {
        let ran = ran(unasked(&stage, args));
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        says(&ran, parts);
    }
    let runs = stage.state().join("runs");
    assert!(!runs.exists() || fs::read_dir(runs).unwrap().next().is_none(), "no run was begun");
}

#[test]
fn a_goal_from_standard_input_is_measured_too() {
    let stage = Stage::new();
    for (goal, part) in
        [(vec![b'a'; (10 << 20) + 1], "larger than 10 MiB"), (b"\xc3(".to_vec(), "standard input is not text")]
    {
        let mut program = unasked(&stage, &["do", "-"]);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may well go before it has read all.
        let _ = child.stdin.take().unwrap().write_all(&goal);
        let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(2);
        says(&ran, &[part, "hint: "]);
    }
}

#[test]
fn without_key_and_server_the_ways_to_one_are_named() {
    let stage = Stage::new();
    for args in [&["do", "x"][..], &["chat"], &[]] {
        let ran = stage.run(args).exits_with(2);
        says(&ran, &["no key and no model server", "because: ", "OPENAI_API_KEY", "Ollama", "vLLM", "agent demo"]);
    }
}

#[test]
fn without_a_home_the_state_directory_must_be_named() {
    let stage = Stage::new();
    let mut program = unasked(&stage, &["do", "x"]);
    program.env_remove("HOME").env_remove("LONGHAUL_STATE_DIR");
    says(&ran(program).exits_with(2), &["cannot tell where runs are kept", "HOME", "hint: set LONGHAUL_STATE_DIR"]);
    let (stage, model) = with_script();
    let mut program = stage.agent(&["do", "x", "--model", &model]);
    program.env_remove("HOME");
    ran(program).exits_with(0);
    stage.verifies();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named_before_anything_begins() {
    let stage = Stage::new();
    let file = stage.home().join("file");
    fs::write(&file, "").unwrap();
    for args in [&["do", "x"][..], &["runs", "ls"], &["replay", "last"]] {
        let mut program = unasked(&stage, args);
        program.env("LONGHAUL_STATE_DIR", &file);
        says(&ran(program).exits_with(2), &["file", "because: Not a directory", "hint: set LONGHAUL_STATE_DIR"]);
    }
    if !rustix::process::geteuid().is_root() {
        return; // Who is no user but root can't become another one.
    }
    let agent = stage.home().join("agent");
    fs::copy(env!("CARGO_BIN_EXE_agent"), &agent).unwrap();
    let mut program = Command::new("setpriv");
    program.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "--inh-caps=-all", "--"]).arg(&agent);
    let mut program = stage.as_it_is(program, &["do", "x"]);
    program.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1").env("LONGHAUL_MODEL", "fake");
    says(&ran(program).exits_with(2), &["cannot write to the state directory", "because: Permission denied", "hint: "]);
}

#[test]
fn configuration_that_makes_no_sense_is_named_with_file_and_line() {
    let stage = Stage::new();
    let file = stage.home().join(".config/longhaul/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (text, part) in [
        ("\nmodle = 'x'\n", "config.toml:2:1: there is no setting `modle`; did you mean `model`?"),
        ("max_turns = 'many'\n", "config.toml:1:1: `max_turns` must be a whole number above zero"),
        ("model = \n", "config.toml:1: "),
    ] {
        fs::write(&file, text).unwrap();
        says(
            &ran(unasked(&stage, &["do", "x"])).exits_with(2),
            &["the configuration makes no sense", "because: ", part],
        );
    }
}

#[test]
fn a_project_can_narrow_what_a_run_may_do_and_not_widen_it() {
    let (stage, model) = with_script();
    fs::create_dir(stage.project().join(".longhaul")).unwrap();
    let widening = "base_url = 'http://127.0.0.1:1/v1'\nimage = 'evil'\nsandbox = 'host'\napi_key_env = 'HOME'\n\
                    model = 'evil'\nmax_turns = 100000\nnetwork = 'open'\n";
    fs::write(stage.project().join(".longhaul/config.toml"), widening).unwrap();
    let ran = stage.run(&["do", "x", "--model", &model, "--network", "none"]).exits_with(0);
    for key in ["base_url", "image", "sandbox", "api_key_env", "model"] {
        let warning = format!("warning: `{key}` in ");
        assert!(ran.stderr.contains(&warning), "`{warning}` is not in:\n{}", ran.stderr);
    }
    assert_ne!(stage.events_of("box_opened")[0]["facts"]["kind"], "host");
    assert_eq!(fs::read_to_string(stage.project().join("data.txt")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn an_image_of_the_configuration_gives_way_to_a_box_without_one_that_was_typed() {
    let (stage, model) = with_script();
    fs::create_dir_all(stage.home().join(".config/longhaul")).unwrap();
    fs::write(stage.home().join(".config/longhaul/config.toml"), "image = 'nowhere:1'\n").unwrap();
    stage.run(&["do", "x", "--model", &model, "--sandbox", "local"]).exits_with(0);
}

#[test]
fn what_is_no_transcript_is_refused_with_the_reason() {
    let stage = Stage::new();
    let file = |name: &str, text: &str| {
        let path = stage.home().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let newer = "{\"v\":9,\"event\":{\"type\":\"run_started\",\"format_major\":9,\"format_minor\":1}}\n";
    let newer = file("newer", newer);
    let says_newer = stage.run(&["replay", &newer]).exits_with(3);
    for part in ["error: ", "because: ", "9.1", "hint: use the version of longhaul that wrote it"] {
        assert!(says_newer.stderr.contains(part), "{}", says_newer.stderr);
    }
    let verified = stage.run(&["verify", &newer]).exits_with(3);
    assert!(verified.stdout.contains("does NOT verify") && verified.stdout.contains("newer format"), "{verified:?}");
    let text = file("text", "Dear diary,\n");
    let ran = stage.run(&["replay", &text]).exits_with(3);
    assert!(ran.stderr.contains("because: ") && ran.stderr.contains("hint: "), "{}", ran.stderr);
    let ran = stage.run(&["verify", &text]).exits_with(3);
    assert!(ran.stdout.contains("line 1"), "{}", ran.stdout);
    let ran = stage.run(&["replay", &file("empty", "")]).exits_with(3);
    assert!(ran.stderr.contains("the transcript is empty"), "{}", ran.stderr);
}

#[test]
fn without_a_terminal_or_with_a_poor_one_no_escape_is_printed() {
    let (stage, model) = with_script();
    let args = ["do", "x", "--model", &model];
    let colours: [&[(&str, &str)]; 3] = [&[], &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")], &[("TERM", "dumb")]];
    for vars in colours {
        let mut program = stage.agent(&args);
        program.envs(vars.iter().copied());
        let ran = ran(program).exits_with(0);
        assert!(!ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'), "{vars:?}: {ran:?}");
    }
    let ran = stage.run(&["replay", "--step", "last"]).exits_with(2);
    says(&ran, &["without a terminal", "hint: "]);
}

#[test]
fn a_full_disk_stops_the_run_loudly_and_leaves_what_was_recorded() {
    let Some(disk) = SmallDisk::mount() else { return };
    let stage = Stage::new();
    let file = stage.home().join("flood.toml");
    let flood = "head -c 600000 /dev/urandom | base64";
    fs::write(&file, SCRIPT.replace("cat data.txt;", &format!("{flood};"))).unwrap();
    let model = format!("script:{}", file.display());
    let on_disk = |args: &[&str]| {
        let mut program = stage.agent(args);
        program.env("LONGHAUL_STATE_DIR", &disk.path);
        ran(program)
    };
    let stopped = on_disk(&["do", "x", "--model", &model, "--sandbox", "local"]).exits_with(1);
    let told = stopped.stderr.rsplit("\nerror: ").next().unwrap();
    for part in
        ["the disk is full\n", "  because: No space left", "\nhint: make room with `agent runs du`", "`agent resume "]
    {
        assert!(told.contains(part), "`{part}` is not in:\n{}", stopped.stderr);
    }
    let verified = on_disk(&["verify", "last"]).exits_with(0);
    assert!(verified.stdout.contains("note: the run has not ended"), "{}", verified.stdout);
    let run = fs::read_dir(disk.path.join("runs")).unwrap().next().unwrap().unwrap().file_name();
    let run = RunId::new(run.into_string().unwrap()).unwrap();
    let state = disk.path.join("runs");
    assert_eq!(crate::containers::traces(&state, &run), [""; 0]);
    on_disk(&["runs", "rm", "last"]).exits_with(0);
    let small = SCRIPT.replace("seq 1 1000", "true");
    fs::write(&file, small).unwrap();
    on_disk(&["do", "x", "--model", &model, "--sandbox", "local"]).exits_with(0);
}

/// Runs a line of shell in which `$AGENT` is the program.
fn sh(stage: &Stage, model: &str, line: &str) -> Ran {
    let mut program = stage.as_it_is(Command::new("bash"), &["-c", line]);
    program.env("AGENT", env!("CARGO_BIN_EXE_agent")).env("LONGHAUL_MODEL", model);
    ran(program)
}

#[test]
fn streams_that_are_closed_or_go_away_do_not_end_a_run() {
    let (stage, model) = with_script();
    for line in [
        "\"$AGENT\" do x >&-",
        "\"$AGENT\" do x 2>&-",
        "\"$AGENT\" do x <&- >&- 2>&-",
        "\"$AGENT\" do x --output-format json >&-",
        "set -o pipefail; \"$AGENT\" do x --output-format stream-json | head -1",
        "set -o pipefail; \"$AGENT\" do x 2>&1 >/dev/null | head -1",
    ] {
        let ran = sh(&stage, &model, line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert_eq!(stage.events_of("run_ended")[0]["verdict"], "unverified", "{line}");
        assert_eq!(stage.events_of("box_closed")[0]["removed"], true, "{line}");
        stage.verifies();
    }
    let ran = sh(&stage, &model, "\"$AGENT\" do x > /dev/full").exits_with(1);
    for part in ["error: the run is over", "because: No space left", "hint: read it in "] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    stage.verifies();
    for line in ["runs ls", "tools --json", "replay last", "verify last", "completions bash", "man", "runs show"] {
        let line = format!("set -o pipefail; \"$AGENT\" {line} | head -c 1 >/dev/null");
        let ran = sh(&stage, &model, &line);
        assert!(ran.code == 0 && ran.stderr.is_empty(), "{line}: {ran:?}");
    }
}

#[test]
fn a_project_may_have_any_name() {
    let (stage, model) = with_script();
    let names = ["a b", "it's", "say \"x\"", "a:b", "a,b", "grüße✓", "back\\slash", "-n", "$(date)", "new\nline", "%s"];
    let all = names.concat();
    let local = ["--sandbox", "local"];
    let mut cases: Vec<(&str, [&str; 2])> = names.iter().map(|name| (*name, local)).collect();
    cases.push((&all, local));
    if crate::engines::DOCKER.is_there() {
        cases.push((&all, ["--image", crate::engines::BUSYBOX]));
    }
    for (name, kind) in cases {
        let dir: PathBuf = stage.project().join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("data.txt"), "one\ntwo\nthree\n").unwrap();
        let before = contents(&dir);
        let mut program = stage.agent(&[&["do", "x", "--model", &model][..], &kind].concat());
        program.current_dir(&dir);
        let ran = ran(program).exits_with(0);
        assert_eq!(ran.stdout, "All done.\n", "{name} in {kind:?}");
        assert_eq!(contents(&dir), before, "{name} in {kind:?}");
    }
    stage.verifies();
}

#[test]
fn an_engine_or_image_that_is_not_there_is_named_with_what_to_do() {
    let (stage, model) = with_script();
    let addresses = [
        ("unix:///nowhere.sock", "because: unix:///nowhere.sock: no such file"),
        ("tcp://127.0.0.1:9", "because: tcp://127.0.0.1:9: nothing listens there"),
        ("nonsense", "DOCKER_HOST"),
    ];
    for (address, because) in addresses {
        let mut program = stage.agent(&["do", "x", "--model", &model, "--sandbox", "docker"]);
        program.env("DOCKER_HOST", address);
        let ran = ran(program).exits_with(7);
        let told = ran.stderr.split("\nerror: ").last().unwrap();
        assert!(told.contains(because) && told.contains("hint: "), "{}", ran.stderr);
        assert!(stage.events_of("box_opened").is_empty());
        stage.verifies();
    }
    if !crate::engines::DOCKER.is_there() {
        return;
    }
    let ran = stage.run(&["do", "x", "--model", &model, "--image", "longhaul.invalid/nowhere:1"]).exits_with(7);
    for part in ["error: there is no image `longhaul.invalid/nowhere:1`", "because: ", "hint: bring it in with"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    stage.verifies();
}
