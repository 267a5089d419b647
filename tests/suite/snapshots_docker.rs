//! Containers that are kept, found again, and made from what was kept.

use std::process::Command;
use std::time::Duration;

use longhaul::sandbox::{Backend as _, Found, Sandbox, SandboxError};

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN, Project, run};

const PATIENCE: Duration = Duration::from_secs(10);

fn told(error: &SandboxError) -> String {
    format!("{error}: {:?}; {:?}", error.because, error.hint)
}

fn alive(found: Result<Found, SandboxError>) -> Box<dyn Sandbox> {
    match found {
        Ok(Found::Alive(sandbox)) => sandbox,
        Ok(Found::Restarted(_, why)) => panic!("restarted: {why}"),
        Ok(Found::Gone(why)) => panic!("gone: {why}"),
        Err(error) => panic!("{}", told(&error)),
    }
}

#[tokio::test]
async fn a_box_is_found_as_its_driver_left_it() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let first = project.backend().create(&spec).await.expect("a box");
        run(&*first, "echo here >made; (sleep 600 & echo $! >/tmp/pid)").await;
        let facts = first.facts().clone();
        drop(first);
        // A later driver draws another token.
        let later = longhaul::sandbox::BoxSpec { token: "another".to_owned(), ..spec.clone() };
        let again = alive(project.backend().find(&later).await);
        assert_eq!(*again.facts(), facts);
        assert_eq!(run(&*again, "cat made; kill -0 $(cat /tmp/pid) && echo lives").await.1, "here\nlives\n");
        assert!(again.guest().welcome().logs_on_host);
        assert_eq!(again.destroy(PATIENCE).await.left, Vec::<String>::new());
        assert_eq!(engine.left_of(&spec.run), [""; 0]);
        assert!(matches!(project.backend().find(&later).await, Ok(Found::Gone(_))));
    }
}

#[tokio::test]
async fn a_container_that_was_stopped_is_started_again_with_its_files() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let first = project.backend().create(&spec).await.expect("a box");
        run(&*first, "echo here >made; echo there >/etc/changed").await;
        let name = first.facts().id.clone();
        drop(first);
        assert!(Command::new(engine.program).args(["kill", &name]).output().expect("it runs").status.success());
        let Ok(Found::Restarted(again, why)) = project.backend().find(&spec).await else { panic!("not restarted") };
        assert_eq!(why, "it had ended with code 137");
        assert_eq!(run(&*again, "cat made /etc/changed").await.1, "here\nthere\n");
        again.destroy(PATIENCE).await;
        assert_eq!(engine.left_of(&spec.run), [""; 0]);
    }
}

#[tokio::test]
async fn what_is_not_there_or_half_made_or_held_is_told_apart() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let spec = project.spec(BUSYBOX);
    let nothing = project.backend().find(&spec).await;
    assert!(matches!(nothing, Ok(Found::Gone(why)) if why == "no container was made"));
    let first = project.backend().create(&spec).await.expect("a box");
    let name = first.facts().id.clone();
    drop(first);
    let docker = |words: &[&str]| {
        assert!(Command::new("docker").args(words).output().expect("it runs").status.success(), "{words:?}");
    };
    docker(&["pause", &name]);
    let held = alive(project.backend().find(&spec).await);
    assert_eq!(run(&*held, "echo goes on").await.1, "goes on\n");
    drop(held);
    docker(&["rm", "-f", "-v", &name]);
    let gone = project.backend().find(&spec).await;
    assert!(matches!(gone, Ok(Found::Gone(why)) if why.ends_with("is not there any more")));
    // Another's container of the same name is none of ours.
    docker(&["create", "--name", &name, BUSYBOX, "true"]);
    let others = project.backend().find(&spec).await;
    assert!(matches!(others, Ok(Found::Gone(why)) if why.ends_with("is another's")));
    docker(&["rm", "-f", &name]);
    project.backend().sweep(&|_| false).await;
    assert_eq!(DOCKER.left_of(&spec.run), [""; 0]);
}

/// Keeps a box as an image for people; what the image is like.
async fn is_saved(engine: Engine) {
    if !engine.is_there() {
        return;
    }
    let name = format!("lh-test-{}:1", ulid::Ulid::generate().to_string().to_lowercase());
    let project = Project::on(engine);
    let spec = project.spec(DEBIAN);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    run(&*sandbox, "echo tool >/usr/local/tool; echo work >made").await;
    let saved = sandbox.save_image(&name).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(saved.left_out, [format!("the workspace {}", spec.workspace.display())]);
    assert!(saved.id.starts_with("sha256:"), "{}", saved.id);
    // Its own again, so it may be made anew; the box goes on.
    run(&*sandbox, "echo more >>/usr/local/tool").await;
    sandbox.save_image(&name).await.expect("an image");
    for bad in ["longhaul/x:1", "Bad", DEBIAN] {
        let refused = sandbox.save_image(bad).await.expect_err("it is refused");
        assert!(refused.hint.is_some(), "{bad}: {}", told(&refused));
    }
    assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
    let of = |format: &str| {
        let done = Command::new(engine.program).args(["image", "inspect", "--format", format, &name]).output();
        String::from_utf8_lossy(&done.expect("it runs").stdout).trim().to_owned()
    };
    let (config, all) = (of("{{json .Config}}"), of("{{json .}}"));
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["Labels"]["longhaul.saved"], spec.run.as_str(), "{config}");
    assert!(config["Labels"]["longhaul.run"].as_str().is_none_or(str::is_empty), "{config}");
    assert!(!config["Entrypoint"].to_string().contains("longhaul"), "{config}");
    println!("{} {}", engine.program, all.contains("secret"));
    let next = project.spec(&name);
    let sandbox = project.backend().create(&next).await.expect("a box of it");
    assert_eq!(
        run(&*sandbox, "cat /usr/local/tool; ls made; env | grep LONGHAUL").await.1.lines().take(2).collect::<Vec<_>>(),
        ["tool", "more"]
    );
    sandbox.destroy(PATIENCE).await;
    let removed = Command::new(engine.program).args(["rmi", &name]).output().expect("it runs");
    assert!(removed.status.success());
}

#[tokio::test]
async fn a_docker_box_is_kept_as_an_image() {
    is_saved(DOCKER).await;
}

#[tokio::test]
async fn a_podman_box_is_kept_as_an_image() {
    is_saved(PODMAN).await;
}
