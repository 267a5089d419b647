//! `agent do` in containers of Docker and Podman: the main job, and what is left of it, however it ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use longhaul::domain::RunId;

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN};
use crate::goal::{MAIN_JOB, finish, main_job, main_job_went_well, server_of, shell, until};
use crate::model_server::ModelServer;
use crate::stage::{Ran, Stage, contents};

/// The program with an engine and an image.
fn in_container(stage: &Stage, server: &ModelServer, args: &[&str], engine: Engine, image: &str) -> Command {
    let mut program = stage.asking(server, &[args, &["--image", image]].concat());
    program.env("DOCKER_HOST", format!("unix://{}", engine.socket));
    program
}

/// The newest run's id.
fn run_of(stage: &Stage) -> RunId {
    RunId::new(stage.run_dir().file_name().unwrap().to_str().unwrap().to_owned()).unwrap()
}

#[track_caller]
fn does_the_main_job(engine: Engine, image: &str) {
    if !engine.is_there() {
        return;
    }
    let (stage, server) = (Stage::new(), main_job());
    let before = contents(&stage.project());
    let ran = Ran::of(&in_container(&stage, &server, &MAIN_JOB, engine, image).output().unwrap());
    main_job_went_well(&stage, ran, &server);
    assert_eq!(contents(&stage.project()), before);
    assert_eq!(engine.left_of(&run_of(&stage)), [""; 0]);
}

#[test]
fn the_main_job_works_in_debian_in_docker() {
    does_the_main_job(DOCKER, DEBIAN);
}

#[test]
fn the_main_job_works_in_busybox_in_docker() {
    does_the_main_job(DOCKER, BUSYBOX);
}

#[test]
fn the_main_job_works_in_debian_in_podman() {
    does_the_main_job(PODMAN, DEBIAN);
}

/// A run whose only command has begun and does not end.
fn stuck(stage: &Stage, server: &ModelServer, engine: Option<Engine>) -> Child {
    let mut program = match engine {
        Some(engine) => in_container(stage, server, &["do", "sleep"], engine, BUSYBOX),
        None => stage.asking(server, &["do", "sleep", "--sandbox", "local"]),
    };
    let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_requests(1);
    let journal = stage.run_dir().join("journal.jsonl");
    until(|| std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("tool_started")));
    child
}

/// Everything on this machine that names this run or its state directory, but for the directory itself: processes, mounts, control groups.
pub(crate) fn traces(state: &Path, run: &RunId) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = state.to_str().unwrap();
    let names = |text: &str| text.contains(run.as_str()) || text.contains(dir);
    let mut found: Vec<String> = mounts.lines().filter(|line| names(line)).map(str::to_owned).collect();
    for process in std::fs::read_dir("/proc").unwrap().map_while(Result::ok) {
        let read = |part: &str| std::fs::read(process.path().join(part)).unwrap_or_default();
        let about = [read("cmdline"), read("environ")].concat();
        if names(&String::from_utf8_lossy(&about)) {
            found.push(format!("process {}", process.file_name().to_string_lossy()));
        }
    }
    let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{run}*")]).output().unwrap();
    found.extend(String::from_utf8_lossy(&groups.stdout).lines().map(str::to_owned));
    found
}

#[test]
fn a_signal_in_the_middle_leaves_nothing_of_any_box() {
    for (engine, signal, code) in [(Some(DOCKER), "INT", 130), (Some(DOCKER), "TERM", 143), (None, "TERM", 143)] {
        if engine.is_some_and(|engine| !engine.is_there()) {
            continue;
        }
        let (stage, server) = (Stage::new(), server_of(vec![shell("sleep 600"), finish("never")]));
        let child = stuck(&stage, &server, engine);
        let refused = stage.run(&["runs", "rm", "last"]).exits_with(2);
        let driven = format!("is driven by process {}", child.id());
        assert!(refused.stderr.contains(&driven) && refused.stderr.contains("hint: "), "{}", refused.stderr);
        Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap()).exits_with(code);
        let run = run_of(&stage);
        assert_eq!(stage.events_of("box_closed")[0]["removed"], true, "{}", ran.stderr);
        assert_eq!(traces(&stage.state(), &run), [""; 0]);
        assert!(engine.is_none_or(|engine| engine.left_of(&run).is_empty()));
        stage.verifies();
    }
}

#[test]
fn removing_a_run_whose_driver_was_killed_removes_its_box() {
    for engine in [Some(DOCKER), None] {
        if engine.is_some_and(|engine| !engine.is_there()) {
            continue;
        }
        let (stage, server) = (Stage::new(), server_of(vec![shell("sleep 600"), finish("never")]));
        let mut child = stuck(&stage, &server, engine);
        let run = run_of(&stage);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut remove = stage.agent(&["runs", "rm", "last"]);
        if let Some(engine) = engine {
            remove.env("DOCKER_HOST", format!("unix://{}", engine.socket));
        }
        Ran::of(&remove.output().unwrap()).exits_with(0);
        assert!(!stage.state().join("runs").join(run.as_str()).exists());
        assert_eq!(traces(&stage.state(), &run), [""; 0]);
        assert!(engine.is_none_or(|engine| engine.left_of(&run).is_empty()));
    }
}
