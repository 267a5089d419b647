//! Boxes of container engines, with real engines and real images.

use std::path::Path;
use std::time::Duration;

use longhaul::sandbox::{Backend as _, BoxSpec, Limits};
use tokio::net::{TcpListener, UnixStream};

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN, Project, run};
use crate::sandbox_contract::{self, Bench};

const PATIENCE: Duration = Duration::from_secs(10);

/// Holds a box of the image to the contract.
async fn holds(engine: Engine, image: &str) {
    if !engine.is_there() {
        return;
    }
    let bench = Bench::new();
    let spec = BoxSpec { image: Some(image.to_owned()), ..bench.spec() };
    sandbox_contract::holds(&engine.backend(bench.state_dir()), &bench, &spec).await;
    assert_eq!(engine.left_of(&spec.run), Vec::<String>::new());
}

#[tokio::test]
async fn a_docker_box_of_debian_holds() {
    holds(DOCKER, DEBIAN).await;
}

#[tokio::test]
async fn a_docker_box_of_bare_busybox_holds() {
    holds(DOCKER, BUSYBOX).await;
}

#[tokio::test]
async fn a_podman_box_of_debian_holds() {
    holds(PODMAN, DEBIAN).await;
}

/// Makes a box, works in it, removes it; what was there before is as it was, and nothing remains but the changes.
async fn leads_a_whole_life(engine: Engine, image: &str) {
    if !engine.is_there() {
        return;
    }
    let project = Project::on(engine);
    let spec = project.spec(image);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    assert_eq!(sandbox.facts().workspace_mode, "overlay");
    assert!(sandbox.guest().welcome().logs_on_host);

    let (code, said) = run(&*sandbox, "cat kept; echo changed >kept; echo new >made; pwd; exit 3").await;
    assert_eq!((code, said), (Some(3), format!("as it was{}\n", project.dir().display())));
    assert_eq!(sandbox.counters().await.oom_kills, Some(0));
    assert_eq!(engine.left_of(&spec.run).len(), if engine.program == "docker" { 2 } else { 1 });

    assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
    assert_eq!(engine.left_of(&spec.run), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(project.dir().join("kept")).expect("a file"), "as it was");
    assert!(!project.dir().join("made").exists());
    let upper = spec.run_dir.join("box/u/workspace");
    assert_eq!(std::fs::read_to_string(upper.join("kept")).expect("a file"), "changed\n");
    assert_eq!(std::fs::read_to_string(upper.join("made")).expect("a file"), "new\n");
}

#[tokio::test]
async fn a_docker_box_of_debian_leads_a_whole_life() {
    leads_a_whole_life(DOCKER, DEBIAN).await;
}

#[tokio::test]
async fn a_docker_box_of_bare_busybox_leads_a_whole_life() {
    leads_a_whole_life(DOCKER, BUSYBOX).await;
}

#[tokio::test]
async fn a_podman_box_of_debian_leads_a_whole_life() {
    leads_a_whole_life(PODMAN, DEBIAN).await;
}

#[tokio::test]
async fn a_podman_box_of_bare_busybox_leads_a_whole_life() {
    leads_a_whole_life(PODMAN, BUSYBOX).await;
}

#[tokio::test]
async fn a_box_has_the_least_rights_that_do() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let sandbox = project.backend().create(&project.spec(DEBIAN)).await.expect("a box");
        // One line each: capabilities, no new privileges, filtered system calls.
        let status = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'";
        let (_, said) = run(&*sandbox, status).await;
        let wanted = "CapEff:00000000000404fb\nCapBnd:00000000000404fb\nNoNewPrivs:1\nSeccomp:2\n";
        assert_eq!(said, wanted, "{}", engine.program);
        for denied in ["mknod /tmp/disk b 8 0", "mount -t tmpfs none /mnt", "cat /proc/1/environ"] {
            let (code, said) = run(&*sandbox, &format!("{denied} 2>&1")).await;
            assert_ne!((denied, code), (denied, Some(0)), "{}: {said}", engine.program);
        }
        // The guest can't be killed from inside: the next command still gets an answer.
        run(&*sandbox, "kill -9 1").await;
        let (_, said) = run(&*sandbox, "ls /sys/class/net; find / -xdev -name '*.sock' 2>/dev/null").await;
        assert_eq!(said.lines().next(), Some("lo"), "{}", engine.program);
        assert!(!said.contains("docker.sock") && !said.contains("podman.sock"), "{said}");
        sandbox.destroy(PATIENCE).await;
    }
}

#[tokio::test]
async fn state_and_secrets_below_the_workspace_are_not_shown() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let home = project.root();
        std::fs::create_dir(home.join(".ssh")).expect("a directory");
        std::fs::write(home.join(".ssh/id_ed25519"), "private").expect("a file");
        std::fs::write(home.join(".netrc"), "password").expect("a file");
        let mut spec = project.spec(DEBIAN);
        spec.workspace = home.to_owned();
        spec.home = Some(home.to_owned());
        let sandbox = project.backend().create(&spec).await.expect("a box");
        let (_, said) = run(&*sandbox, "cat project/kept .ssh/id_ed25519 .netrc; find state .ssh .netrc 2>&1").await;
        assert!(said.starts_with("as it was"), "{said}");
        assert!(!said.contains("private") && !said.contains("password") && !said.contains("state/"), "{said}");
        assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_far_engine_is_worked_with_through_its_api_alone() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        // Over TCP the engine could be anywhere.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let forwarder = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = UnixStream::connect(engine.socket).await.expect("the engine");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        let project = Project::at(format!("tcp://{address}"));
        let spec = project.spec(BUSYBOX);
        let sandbox = project.backend().create(&spec).await.expect("a box");
        assert_eq!(sandbox.facts().workspace_mode, "copy");
        assert!(!sandbox.guest().welcome().logs_on_host);
        let (code, said) = run(&*sandbox, "cat kept; echo new >made; exit 4").await;
        assert_eq!((code, said.as_str()), (Some(4), "as it was"), "{}", engine.program);
        assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
        assert_eq!(engine.left_of(&spec.run), Vec::<String>::new());
        assert!(!project.dir().join("made").exists());
        let saved = std::fs::File::open(spec.run_dir.join("box/u/workspace.tar")).expect("what was written");
        let mut saved = tar::Archive::new(saved);
        let names =
            saved.entries().expect("a tar").map(|entry| entry.expect("an entry").path().expect("a path").into_owned());
        assert!(names.collect::<Vec<_>>().contains(&Path::new("project/made").to_owned()), "{}", engine.program);
        forwarder.abort();
    }
}

#[tokio::test]
async fn paths_that_an_overlay_cannot_name_are_copied_and_long_ones_are_reached() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let mut spec = project.spec(BUSYBOX);
    spec.workspace = project.root().join("a, b: c");
    std::fs::rename(project.dir(), &spec.workspace).expect("another name");
    spec.run_dir = project.state().join("x".repeat(120));
    let sandbox = project.backend().create(&spec).await.expect("a box");
    assert_eq!(sandbox.facts().workspace_mode, "copy");
    let overlay = sandbox.facts().capabilities.iter().find(|one| one.name == "workspace overlay").expect("named");
    assert!(overlay.missing.is_some());
    assert_eq!(run(&*sandbox, "cat kept").await.1, "as it was");
    assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
}

#[tokio::test]
async fn a_bound_workspace_is_written_through() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let mut spec = project.spec(BUSYBOX);
        spec.bind_workspace = true;
        let sandbox = project.backend().create(&spec).await.expect("a box");
        assert_eq!(sandbox.facts().workspace_mode, "bind");
        run(&*sandbox, "echo new >made").await;
        assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(project.dir().join("made")).expect("a file"), "new\n");
    }
}

#[tokio::test]
async fn a_kill_for_want_of_memory_is_counted() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let mut spec = project.spec(BUSYBOX);
        spec.limits = Limits { memory_bytes: Some(64 << 20), pids: Some(100), cpus: Some(1.0), log_bytes: None };
        let sandbox = project.backend().create(&spec).await.expect("a box");
        // The shell that waits for it hides how it ended.
        let (code, _) = run(&*sandbox, "tail /dev/zero | cat").await;
        assert_eq!(code, Some(0));
        assert_eq!(sandbox.counters().await.oom_kills, Some(1), "{}", engine.program);
        sandbox.destroy(PATIENCE).await;
    }
}

#[tokio::test]
async fn what_no_run_drives_is_swept_and_what_others_made_is_not() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let (ours, others) = (Project::on(engine), Project::on(engine));
        let (driven, left, foreign) = (ours.spec(BUSYBOX), ours.spec(BUSYBOX), others.spec(BUSYBOX));
        // As if each had been made by a process that was killed since.
        for (project, spec) in [(&ours, &driven), (&ours, &left), (&others, &foreign)] {
            drop(project.backend().create(spec).await.expect("a box"));
        }
        let swept = ours.backend().sweep(&|run| *run == driven.run).await;
        assert!(swept.iter().all(|line| line.starts_with("removed ")), "{swept:?}");
        assert!(engine.left_of(&left.run).is_empty(), "{swept:?}");
        assert!(!engine.left_of(&driven.run).is_empty() && !engine.left_of(&foreign.run).is_empty());
        // A new driver of the same run finds the old box in its way and replaces it.
        let again = ours.backend().create(&driven).await.expect("a box in the old one's place");
        again.destroy(PATIENCE).await;
        others.backend().sweep(&|_| false).await;
        assert!(engine.left_of(&driven.run).is_empty() && engine.left_of(&foreign.run).is_empty());
    }
}

#[tokio::test]
async fn a_guest_that_dies_at_once_leaves_a_reason_and_nothing_else() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(DEBIAN);
        // Ends with code 1 and a complaint, whatever its arguments.
        let refused = project.backend_running(Path::new("/usr/bin/expr")).create(&spec).await.err().expect("no guest");
        assert_eq!(refused.what, format!("the guest does not come up in `{DEBIAN}`"));
        let because = refused.because.expect("a reason");
        assert!(because.starts_with("it ended with code "), "{because}");
        assert_eq!(engine.left_of(&spec.run), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_named_with_the_remedy() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let refused = project.backend().create(&project.spec("127.0.0.1:9/no/such:image")).await.err().expect("none");
        assert_eq!(refused.what, "there is no image `127.0.0.1:9/no/such:image` and it can't be pulled");
        let hint = refused.hint.expect("a remedy");
        assert!(hint.contains(&format!("`{} load -i FILE`", engine.program)) && hint.contains("`--image`"), "{hint}");
    }
}

#[tokio::test]
async fn a_person_can_look_in_with_the_engines_own_means() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let sandbox = project.backend().create(&project.spec(DEBIAN)).await.expect("a box");
    let tmux = sandbox.guest().tmux().await.expect("tmux");
    let line = sandbox.attach_line().expect("a line");
    assert_eq!(
        line,
        format!("docker exec -it {} {} -u -S {} attach-session", sandbox.facts().id, tmux.program, tmux.socket)
    );
    sandbox.destroy(PATIENCE).await;
    let sandbox = project.backend().create(&project.spec(BUSYBOX)).await.expect("a box");
    assert_eq!(sandbox.attach_line(), None);
    sandbox.destroy(PATIENCE).await;
}
